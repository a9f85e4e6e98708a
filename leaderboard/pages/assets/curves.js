// The page of curves: what is shown, as the controls and the address say it.
(() => {
  "use strict";
  const { el, name, facet, readState } = self.codecbench;
  const { load, fixed, short, interval, fill, table, run, meta: read, among, DASH } = self.codecbenchViews;
  const charts = self.codecbenchCharts;
  const $ = (id) => document.getElementById(id);
  if (!$("meta")) { document.documentElement.dataset.ready = "curves"; return; }
  const root = document.body.dataset.root;
  const meta = read();
  const FRONTS = ["", "off", "tied", "on"];
  const ANCHOR = "classical", ALL = "all";
  const first = {
    data: meta.first, x: "kbps", y: (meta.metrics.find((metric) => metric.directed) ?? meta.metrics[0])?.key ?? "",
    track: ["official", "small"].find((track) => meta.tracks.includes(track)) ?? meta.tracks[0],
  };
  const keys = (list) => list.map(({ key }) => key);
  const spec = {
    data: { test: among(meta.sections.map(({ id }) => id)) }, x: { test: among(keys(meta.axes)) }, y: { test: among(keys(meta.metrics)) },
    track: { test: among([...meta.tracks, ALL]) }, system: { test: among(keys(meta.systems)), many: 1000 }, range: { test: among([ALL]) },
  };
  const systems = facet($("systems"), { key: "system", title: "Systems", values: meta.systems }, () => {});
  fill($("data"), meta.sections.map(({ id, title }) => ({ key: id, title })));
  fill($("x"), meta.axes);
  fill($("y"), meta.metrics);
  fill($("track"), [...meta.tracks.map((track) => ({ key: track, title: track })), { key: ALL, title: "all tracks" }]);

  function restore(state = readState(spec) ?? {}) {
    for (const id of ["data", "x", "y", "track"]) $(id).value = state[id]?.[0] ?? first[id];
    $("range").checked = Boolean(state.range);
    systems.chosen = state.system ?? [];
  }

  const state = () => [
    ...["data", "x", "y", "track"].map((id) => [id, $(id).value === first[id] ? "" : $(id).value]),
    ...systems.chosen.map((key) => ["system", key]), ["range", $("range").checked ? ALL : ""],
  ];

  // The points of the chosen axes, and of them those that are shown.
  function gather(data, axis, metric) {
    const { entries } = data.meta;
    const count = entries.length, x = data[`x.${axis.name}`], y = data[`y.${metric.name}`];
    const front = data[`front.${axis.name}.${metric.name}`];
    const track = $("track").value, chosen = systems.chosen;
    const found = [];
    for (let e = 0; e < count; e++) {
      const system = data.meta.systems[data.system[e]];
      if (Number.isNaN(x[e]) || Number.isNaN(y[e])) continue;
      const asked = chosen.length ? chosen.includes(system.key) : track === ALL || system.track === track;
      const anchor = !asked && system.track === ANCHOR;
      if (!asked && !anchor) continue;
      const why = data.meta.why[data[`why.${metric.name}`][e]];
      found.push({
        entry: entries[e], system, name: system.name, place: system.place, anchor, why: why === "no direction" ? "" : why,
        ok: data[`ok.${metric.name}`][e], n: data[`n.${metric.name}`][e],
        x: x[e], xLow: x[count + e], xHigh: x[2 * count + e], y: y[e], yLow: y[count + e], yHigh: y[2 * count + e],
        state: why && why !== "no direction" ? "unranked" : front ? FRONTS[front[e]] : "",
      });
    }
    return found;
  }

  // Of very many systems, those with the best scores.
  function limited(points, metric) {
    const sign = metric.direction === "lower" ? -1 : 1;
    const best = new Map();
    for (const point of points) best.set(point.name, Math.max(best.get(point.name) ?? -Infinity, sign * point.y));
    if (best.size <= meta.most || systems.chosen.length) return [points, 0];
    const kept = new Set([...best].sort((a, b) => b[1] - a[1]).slice(0, meta.most).map(([system]) => system));
    return [points.filter((point) => kept.has(point.name)), best.size - kept.size];
  }

  // The scores worth showing: those of ranked points, and half of their span to either side; the rest would squeeze them.
  function within(points) {
    const ranked = points.filter((point) => point.state !== "unranked");
    const values = (some) => some.flatMap((point) => [point.y, point.yLow, point.yHigh].filter((value) => !Number.isNaN(value)));
    if ($("range").checked) return charts.span(values(points), false, 0.06);
    const some = ranked.length ? ranked : points;
    const [low, high] = charts.span(values(some), false, 0);
    const reach = points.filter((point) => point.y >= low - (high - low) / 2 && point.y <= high + (high - low) / 2);
    return charts.span(values(reach), false, 0.06);
  }

  const position = (point) => ({ on: "on the front", tied: "tied with the front", off: "off the front", unranked: `not ranked: ${point.why}` })[point.state] ?? "";
  const utterances = (data, point, metric) => (data.meta.rows ? `${root}${data.meta.rows}#${new URLSearchParams({ entry: point.entry.key, sort: metric.name })}` : "");

  async function draw() {
    const section = meta.sections.find(({ id }) => id === $("data").value);
    const data = await load(section.file);
    const axis = data.meta.axes.find((candidate) => candidate.name === $("x").value);
    const metric = data.meta.metrics.find((candidate) => candidate.name === $("y").value);
    return () => show(section, data, axis, metric);
  }

  function show(section, data, axis, metric) {
    systems.count();
    chips();
    const title = (key, list) => list.find((candidate) => candidate.key === key).title;
    if (!axis || !metric) {
      const lacking = axis ? title($("y").value, meta.metrics) : title($("x").value, meta.axes);
      return nothing(`No entry has a value of “${lacking}” on ${section.title}.`);
    }
    const all = gather(data, axis, metric);
    if (!all.some((point) => !point.anchor) && !all.length) {
      return nothing(`No entry of what is chosen has both ${axis.title} and ${metric.title} on ${section.title}.`);
    }
    const [some, left] = limited(all, metric);
    const domain = within(some);
    const points = some.filter((point) => point.y >= domain[0] && point.y <= domain[1]);
    const outside = some.length - points.length;
    const digits = metric.digits;
    for (const point of points) {
      point.tip = [`${point.name} ${point.entry.point}`,
        `${metric.name}: ${fixed(point.y, digits)} (${interval(point.yLow, point.yHigh, (v) => fixed(v, digits))})`,
        `${axis.title}: ${short(point.x)} ${axis.unit}`.trim(), position(point), point.ok < point.n ? `${point.ok} of ${point.n} items` : ""];
      point.href = utterances(data, point, metric);
    }
    const tracks = [...new Set(points.filter((point) => !point.anchor).map((point) => point.system.track))];
    const fronts = metric.direction === "none" || !axis.lower ? [] : tracks.map((track) => points.filter((point) => point.state === "on" && !point.anchor && point.system.track === track));
    const unit = (facts) => (facts.unit ? ` (${facts.unit})` : "");
    charts.curves($("chart"), {
      points, fronts, domain, title: `${metric.title} over ${axis.title}, ${section.title}`,
      x: { log: axis.log, title: `${axis.title}${unit(axis)}${axis.log ? ", logarithmic" : ""} →` },
      y: { title: `${metric.arrow} ${metric.title.slice(0, 60)}${unit(metric)}, ${metric.better}` },
    });
    const ranked = points.some((point) => point.state === "on");
    $("key").replaceChildren(
      ranked ? "Filled: on the front of its track. Half filled: tied with it. Hollow: off it, another that costs no more is certainly better. " : "",
      points.some((point) => point.state === "unranked") ? "Dotted outline: not ranked. " : "",
      points.some((point) => point.anchor) ? "Thin and grey: classical codecs, to compare with. " : "",
      data.meta.frontless.some((track) => tracks.includes(track)) ? `No front is shown for ${data.meta.frontless.join(" and ")}: too many entries. ` : "",
      "Dashed lines join the points of one system.");
    const strong = new Set(points.filter((point) => !point.anchor).map((point) => point.name)).size;
    $("status").textContent = `${points.length} ${points.length === 1 ? "point" : "points"} of ${strong} ${strong === 1 ? "system" : "systems"}`
      + `${strong ? "" : ": none of this choice has both numbers, so only the classical codecs are drawn"}`
      + `${outside ? `; ${outside} far outside of the range ${outside === 1 ? "is" : "are"} in the table only` : ""}`
      + `${left ? `; ${left} more systems are not drawn: choose them under Systems` : ""}.`;
    $("about").textContent = `${section.title}: ${data.meta.utterances} utterances. ${data.meta.note}.`;
    numbers(section, data, axis, metric, some);
    return undefined;
  }

  function nothing(text) {
    $("chart").replaceChildren(el("p", { className: "empty", textContent: text }));
    $("key").replaceChildren();
    $("table").hidden = true;
    $("status").textContent = "Nothing to draw.";
    $("about").textContent = "";
  }

  function numbers(section, data, axis, metric, points) {
    $("table").hidden = false;
    const sorted = [...points].sort((a, b) => a.anchor - b.anchor || a.name.localeCompare(b.name) || a.x - b.x);
    const value = (v) => fixed(v, metric.digits);
    $("numbers").replaceChildren(table(`${metric.title} over ${axis.title}, ${section.title}`,
      [{ title: "Entry" }, { title: "Track" }, { title: axis.title, num: true }, { title: metric.name, num: true }, { title: "95 % interval", num: true }, { title: "Items", num: true }, { title: "Front" }],
      sorted.map((point) => {
        const href = utterances(data, point, metric);
        return [el("th", { scope: "row" }, name(point.name, root + point.system.href), el("small", {}, name(point.entry.point))), point.system.track,
          `${short(point.x)}${Number.isNaN(point.xLow) ? "" : ` [${short(point.xLow)}, ${short(point.xHigh)}]`}`,
          href ? el("a", { href, textContent: value(point.y) }) : value(point.y), interval(point.yLow, point.yHigh, value), `${point.ok} of ${point.n}`, position(point) || DASH];
      })));
  }

  function chips() {
    $("chips").replaceChildren(...systems.chosen.map((key) => {
      const { title } = meta.systems.find((system) => system.key === key);
      const button = el("button", { type: "button", "aria-label": `Do not show ${title}` }, el("bdi", { textContent: title }), " ×");
      button.addEventListener("click", () => { systems.chosen = systems.chosen.filter((other) => other !== key); $("x").dispatchEvent(new Event("change", { bubbles: true })); });
      return el("li", {}, button);
    }));
  }

  run({ read: restore, draw, state }).then((refresh) => charts.responsive($("chart"), () => refresh(true)));
})();
