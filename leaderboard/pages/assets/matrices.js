// The pages of matrices: differences in pairs, and BD-rates. A cell says what it is without colour (▲ better, ▼ worse,
// = a tie), and why where there is no number.
(() => {
  "use strict";
  const { el, name, readState } = self.codecbench;
  const { load, fixed, signed, interval, chance, showTip, hideTip, rove, fill, table, run, meta: read, among, DASH } = self.codecbenchViews;
  const $ = (id) => document.getElementById(id);
  const page = document.body.dataset.page;
  if (!$("meta")) { document.documentElement.dataset.ready = page; return; }
  const root = document.body.dataset.root;
  const meta = read();
  const sectionOf = () => meta.sections.find(({ id }) => id === $("data").value);
  const metricOf = () => sectionOf().metrics.find((metric) => metric.name === $("metric").value);
  const metricNames = meta.sections.flatMap(({ metrics }) => metrics.map((metric) => metric.name));
  const firstData = meta.sections.some(({ id }) => id === meta.first) ? meta.first : meta.sections[0].id;
  const SIGNIFICANT = 0.05;

  fill($("data"), meta.sections.map(({ id, title }) => ({ key: id, title })), firstData);

  // The metrics of the chosen data; the chosen one stays where it can.
  function fillMetrics(wanted = $("metric").value) {
    fill($("metric"), sectionOf().metrics.map((metric) => ({ key: metric.name, title: `${metric.title.slice(0, 100)} ${metric.arrow}` })), wanted);
  }

  // A square of `heads` by `heads`; `cell(row, column)` gives {node, tip} or null for the diagonal.
  function matrix(holder, caption, corner, heads, cell) {
    const walk = [], tips = new Map();
    const head = (h, scope) => el("th", { scope }, name(h.title, h.href ? root + h.href : undefined), h.detail && el("small", {}, name(h.detail)));
    const lines = heads.map((row, a) => el("tr", {}, head(row, "row"), ...heads.map((column, b) => {
      const found = cell(a, b);
      if (!found) { walk.push(null); return el("td", { className: "same", textContent: DASH }); }
      const control = found.node.firstElementChild;
      control.append(el("span", { className: "away", textContent: ` ${found.tip.filter(Boolean).join(", ")}` }));
      walk.push(control);
      tips.set(control, found.tip);
      return found.node;
    })));
    const region = el("div", { className: "scroll tall", tabIndex: 0, role: "region", "aria-label": caption },
      el("table", { className: "matrix" }, el("caption", { textContent: caption }),
        el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: corner }), ...heads.map((h) => head({ ...h, href: "" }, "col")))), el("tbody", {}, ...lines)));
    rove(region, walk, heads.length);
    const show = (event) => {
      const control = event.target.closest?.("td > a, td > button") ?? event.target.firstElementChild;
      if (tips.has(control)) showTip(tips.get(control), control.getBoundingClientRect());
    };
    region.addEventListener("focusin", show);
    region.addEventListener("pointerover", show);
    region.addEventListener("focusout", hideTip);
    region.addEventListener("pointerleave", hideTip);
    holder.replaceChildren(region);
  }

  // ---- differences in pairs ----------------------------------------------------------------------------------

  function startPairs() {
    const spec = { data: { test: among(meta.sections.map(({ id }) => id)) }, metric: { test: among(metricNames) }, band: { test: among(meta.bands) } };
    let wanted = "";

    function restore(state = readState(spec) ?? {}) {
      $("data").value = state.data?.[0] ?? firstData;
      fillMetrics(state.metric?.[0] ?? "");
      wanted = state.band?.[0] ?? "";
      $("band").replaceChildren();
    }

    async function draw() {
      fillMetrics();
      const section = sectionOf(), metric = metricOf();
      const data = await load(metric.file);
      return () => {
        const { bands } = data.meta;
        const fullest = bands.reduce((a, b) => (b.size > a.size ? b : a)).band;
        const chosen = $("band").value || wanted;
        fill($("band"), bands.map(({ band, title, size }) => ({ key: band, title: `${title} (${size})` })), bands.some(({ band }) => band === chosen) ? chosen : fullest);
        wanted = "";
        show(section, metric, data, bands.findIndex(({ band }) => band === $("band").value));
      };
    }

    function show(section, metric, data, b) {
      const facts = data.meta.bands[b], size = facts.size, { digits } = data.meta;
      const entries = data.meta.entries.slice(facts.start, facts.start + size);
      const column = (key) => data[`${b}.${key}`];
      const higher = metric.direction === "higher";
      // The numbers of row i against column j, whichever way round they are kept.
      function pair(i, j) {
        const [a, z] = i < j ? [i, j] : [j, i], turned = i > j;
        const k = a * size - (a * (a + 1)) / 2 + (z - a - 1);
        const sign = turned ? -1 : 1, better = column("better")[k], low = column("low")[k], high = column("high")[k];
        const verdict = better ? ((better === 1) !== turned ? "better" : "worse") : Number.isNaN(low) ? "unknown" : low > 0 || high < 0 ? "open" : "tie";
        return {
          difference: sign * column("difference")[k], low: turned ? -high : low, high: turned ? -low : high,
          p: column("p")[k], adjusted: column("adjusted")[k], wins: turned ? 1 - column("wins")[k] : column("wins")[k],
          items: column("items")[k], clusters: column("clusters")[k], verdict,
        };
      }
      const text = (value) => signed(value, digits);
      const label = (entry) => `${entry.system} ${entry.point}`;
      const words = { better: "certainly better", worse: "certainly worse", tie: "a tie: no certain difference", open: "not called better: the better one lacks items", unknown: "no interval" };
      const marks = { better: "▲ ", worse: "▼ ", tie: "= ", open: "≠ ", unknown: "" };
      function href(i, j) {
        const [x, y] = [entries[i], entries[j]];
        return data.meta.rows ? `${root}${data.meta.rows}#${new URLSearchParams({ entry: x.key, vs: y.key, of: metric.name, sort: "difference" })}`
          : `${root}index.html#${new URLSearchParams([["pin", x.key], ["pin", y.key]])}`;
      }
      function tip(i, j, of) {
        return [`${label(entries[i])} against ${label(entries[j])}`, Number.isNaN(of.difference) ? "no common item" : `${words[of.verdict]}: ${text(of.difference)} (${interval(of.low, of.high, text)})`,
          `p ${chance(of.p)}, after Holm ${chance(of.adjusted)}`, `better on ${Number.isNaN(of.wins) ? DASH : `${fixed(100 * of.wins, 0)} %`} of ${of.items} common items, ${of.clusters} clusters`,
          column("lacking")[i] || column("lacking")[j] ? `without a value: ${column("lacking")[i]} and ${column("lacking")[j]} of ${facts.expected}` : ""];
      }
      const heads = entries.map((entry) => ({ title: entry.system, href: entry.href, detail: `${entry.point} · ${entry.track}${entry.unranked && entry.unranked !== entry.track ? ", not ranked" : ""}` }));
      matrix($("matrix"), `${metric.title}, ${section.title}, ${facts.title}: the row’s entry minus the column’s, with its 95 % interval`, "minus", heads, (i, j) => {
        if (i === j) return null;
        const of = pair(i, j);
        const mark = Number.isNaN(of.difference) ? DASH : marks[of.verdict] + text(of.difference);
        const link = el("a", { href: href(i, j) }, el("span", { className: "v", textContent: mark }), el("small", { textContent: Number.isNaN(of.difference) ? "no common item" : interval(of.low, of.high, text) }));
        return { node: el("td", { className: `${of.verdict}${of.adjusted < SIGNIFICANT ? " firm" : ""}` }, link), tip: tip(i, j, of) };
      });
      const count = (size * (size - 1)) / 2;
      let ties = 0;
      for (let i = 0; i < size; i++) for (let j = i + 1; j < size; j++) ties += pair(i, j).verdict === "tie";
      $("status").textContent = `${size} entries, ${count} ${count === 1 ? "pair" : "pairs"}, ${ties} of them ${ties === 1 ? "a tie" : "ties"}${facts.left ? `; of ${size + facts.left} entries the ${meta.most} with the best means are compared` : ""}.`;
      $("warning").textContent = facts.warning ? `${facts.warning[0].toUpperCase()}${facts.warning.slice(1)}.` : "";
      $("warning").hidden = !facts.warning;
      $("about").textContent = `▲ the row is certainly better, ▼ certainly worse: the interval leaves out 0, and the better one lacks no item (≠: it lacks some). = a tie. Bold: p below ${SIGNIFICANT} after Holm’s adjustment for the ${count} pairs of this matrix. `
        + `${higher ? "Higher" : "Lower"} is better. ${facts.drawn} resampled; p from ${facts.exact ? "all" : ""} ${facts.swaps.toLocaleString("en")} swaps. ${data.meta.rows ? "A cell leads to the utterances of both, the largest differences first." : "A cell leads to the comparison of both."}`;
      $("table").hidden = false;
      const rows = [];
      for (let i = 0; i < size; i++) {
        for (let j = i + 1; j < size; j++) {
          const of = pair(i, j);
          rows.push([el("th", { scope: "row" }, name(entries[i].system), el("small", {}, name(entries[i].point))), label(entries[j]), el("a", { href: href(i, j), textContent: Number.isNaN(of.difference) ? DASH : text(of.difference) }),
            interval(of.low, of.high, text), chance(of.p), chance(of.adjusted), Number.isNaN(of.wins) ? DASH : `${fixed(100 * of.wins, 1)} %`, String(of.items), String(of.clusters), words[of.verdict]]);
        }
      }
      $("numbers").replaceChildren(table(`All pairs, ${metric.title}, ${section.title}, ${facts.title}`, [{ title: "First" }, { title: "Second" }, { title: "First − second", num: true }, { title: "95 % interval", num: true },
        { title: "p", num: true }, { title: "p (Holm)", num: true }, { title: "First better on", num: true }, { title: "Items", num: true }, { title: "Clusters", num: true }, { title: "The first is" }], rows));
    }

    run({ read: restore, draw, state: () => [["data", $("data").value === firstData ? "" : $("data").value], ["metric", $("metric").value], ["band", $("band").value]] });
  }

  // ---- BD-rates ----------------------------------------------------------------------------------------------

  function startRates() {
    const charts = self.codecbenchCharts;
    const spec = {
      data: { test: among(meta.sections.map(({ id }) => id)) }, metric: { test: among(metricNames) }, over: { test: among(meta.axes.map((axis) => axis.name)) },
      anchor: { test: among(meta.systems) }, test: { test: among(meta.systems) },
    };
    let anchor = "", test = "", refresh = null;
    fill($("over"), meta.axes.map((axis) => ({ key: axis.name, title: axis.title })));

    function restore(state = readState(spec) ?? {}) {
      $("data").value = state.data?.[0] ?? firstData;
      fillMetrics(state.metric?.[0] ?? "");
      $("over").value = state.over?.[0] ?? meta.axes[0].name;
      anchor = state.anchor?.[0] ?? "";
      test = state.test?.[0] ?? "";
      $("anchor").replaceChildren();
    }

    async function draw() {
      fillMetrics();
      const data = await load(metricOf().file);
      return () => {
        const systems = data.meta.axes[$("over").value].systems.map((title) => ({ title, ...data.meta.systems[title] }));
        const wanted = $("anchor").value || anchor;
        const usual = systems.find((system) => system.title === "opus") ?? systems.find((system) => system.track === "classical") ?? systems[0];
        fill($("anchor"), systems, systems.some((system) => system.key === wanted) ? wanted : usual?.key);
        anchor = "";
        show(data, systems);
      };
    }

    // One of the two deltas of an anchor and a test, as text.
    function delta(data, systems, which, a, t, text) {
      const over = $("over").value, k = a * systems.length + t, count = systems.length ** 2;
      const column = (key) => data[`${over}.${which}.${key}`];
      const [value, low, high] = [0, 1, 2].map((part) => column("value")[part * count + k]);
      const overlap = column("overlap")[k];
      return {
        value, low, high, overlap: Number.isNaN(overlap) ? "" : `${fixed(100 * overlap, 0)} %`, reason: data.meta.words[column("reason")[k]], note: data.meta.words[column("note")[k]],
        points: `${column("points")[2 * k]} and ${column("points")[2 * k + 1]}`, from: column("range")[2 * k], to: column("range")[2 * k + 1],
        text: Number.isNaN(value) ? "n/a" : text(value), interval: Number.isNaN(value) ? "" : interval(low, high, text),
        verdict: Number.isNaN(low) ? "unknown" : low > 0 ? "worse" : high < 0 ? "better" : "tie",
      };
    }
    const percent = (value) => `${signed(value, Math.abs(value) < 10 ? 1 : 0)} %`;

    function show(data, systems) {
      const section = sectionOf(), metric = metricOf(), axis = meta.axes.find(({ name: key }) => key === $("over").value);
      const { digits, axes } = data.meta, facts = axes[axis.name];
      const what = axis.name === "kbps" ? "bitrate" : "tokens";
      const at = systems.findIndex((system) => system.key === $("anchor").value);
      const empty = (id, text) => $(id).replaceChildren(el("p", { className: "empty", textContent: text }));
      $("faults").hidden = !facts.faults.length;
      $("faults").lastElementChild.replaceChildren(...facts.faults.map(({ reason }) => el("li", {}, el("bdi", { textContent: reason }))));
      $("about").textContent = `Interpolation: ${meta.method}, over the logarithm of the rate. A number needs three points of each curve, quality that rises with rate, and an overlap of at least 50 %. Intervals come from computing it anew in each resample.`;
      $("status").textContent = `${systems.length} of ${systems.length + facts.left + facts.faults.length} systems have a curve over ${axis.title}${facts.left ? `; the ${meta.most} with the most points are compared` : ""}.`;
      if (systems.length < 2) {
        const text = systems.length ? `Only ${systems[0].title} has a curve: there is nothing to compare it with.` : "No system has a curve: it takes three points of different rates.";
        empty("against", text);
        empty("matrix", text);
        $("difference").hidden = true;
        return;
      }
      const rate = (a, t) => delta(data, systems, "rate", a, t, percent);
      const value = (v) => signed(v, digits);
      const others = systems.map((_, t) => t).filter((t) => t !== at);
      $("against").replaceChildren(table(`${metric.title} on ${section.title}, against ${systems[at].title}`,
        [{ title: "System" }, { title: `BD-rate, ${what}`, num: true }, { title: "95 % interval", num: true }, { title: `${metric.name} at equal ${what}`, num: true }, { title: "95 % interval", num: true },
          { title: "Overlap", num: true }, { title: "Points", num: true }, { title: `Over ${metric.name}`, num: true }, { title: "Notes" }],
        others.map((t) => {
          const r = rate(at, t), q = delta(data, systems, "quality", at, t, value);
          const reason = (d) => (d.reason ? `n/a: ${d.reason}` : d.text);
          const cell = (d) => el("td", { className: `num ${d.reason ? "na" : ""}` }, el("bdi", { textContent: reason(d) }));
          return [el("th", { scope: "row" }, name(systems[t].title, root + systems[t].href)), cell(r), r.interval, cell(q), q.interval, r.overlap || DASH, r.points === "0 and 0" ? DASH : r.points,
            Number.isNaN(r.from) ? DASH : `${fixed(r.from, digits)} to ${fixed(r.to, digits)}`, r.note];
        })));
      matrix($("matrix"), `${metric.title}, ${section.title}: ${what} that the column’s system needs against the row’s`, "anchor", systems.map(({ title, href }) => ({ title, href })), (a, t) => {
        if (a === t) return null;
        const r = rate(a, t);
        const button = el("button", { type: "button", "aria-pressed": String(systems[a].key === systems[at].key && systems[t].key === test) },
          el("span", { className: "v", textContent: r.reason ? "n/a" : `${r.verdict === "tie" ? "= " : ""}${r.text}` }), el("small", {}, el("bdi", { textContent: r.reason || `${r.interval}` })), r.reason ? null : el("small", { textContent: `overlap ${r.overlap}` }));
        button.addEventListener("click", () => { $("anchor").value = systems[a].key; test = systems[t].key; refresh().then(() => $("difference").scrollIntoView({ block: "nearest" })); });
        return { node: el("td", { className: r.reason ? "na" : r.verdict }, button), tip: [`${systems[t].title} against ${systems[a].title}`, r.reason ? `n/a: ${r.reason}` : `${r.text} ${what} (${r.interval})`, r.reason ? "" : `overlap ${r.overlap}, ${r.points} points`, r.note] };
      });
      curve(data, systems, at, systems.findIndex((system) => system.key === test), metric, axis, what);
    }

    // Where along the curves the difference lies.
    function curve(data, systems, a, t, metric, axis, what) {
      const chosen = t >= 0 && t !== a;
      $("difference").hidden = !chosen;
      if (!chosen) return;
      $("difference-title").replaceChildren(name(systems[t].title), " against ", name(systems[a].title));
      const k = a * systems.length + t, n = data.meta.samples;
      const [from, to] = data[`${axis.name}.ends`].subarray(2 * k, 2 * k + 2);
      const found = data[`${axis.name}.difference`].subarray(k * n, (k + 1) * n);
      const r = delta(data, systems, "rate", a, t, percent);
      if (Number.isNaN(from)) {
        $("chart").replaceChildren(el("p", { className: "empty", textContent: `There is no curve of differences: ${r.reason || "no common range"}.` }));
        $("key").textContent = "";
        $("numbers").replaceChildren();
        return;
      }
      const points = Array.from(found, (y, i) => {
        const x = from + ((to - from) * i) / (n - 1);
        return { x, y, tip: [`${metric.name} ${fixed(x, data.meta.digits)}`, `${percent(y)} ${what}`] };
      });
      charts.difference($("chart"), { points, colour: charts.style(systems[t].place).colour, title: `Relative curve difference of ${systems[t].title} against ${systems[a].title}`,
        x: { log: false, title: `${metric.title.slice(0, 60)} →` }, y: { title: `${what} against the anchor in %, below 0 saves` } });
      $("key").textContent = `At each score that both reach: how much more ${what} ${systems[t].title} needs than ${systems[a].title}. Its mean is close to the BD-rate, ${r.text} (${r.interval}).`;
      $("numbers").replaceChildren(table("The relative curve difference", [{ title: metric.name, num: true }, { title: `${what} against the anchor`, num: true }], points.map((point) => [fixed(point.x, data.meta.digits), percent(point.y)])));
    }

    const state = () => [["data", $("data").value === firstData ? "" : $("data").value], ["metric", $("metric").value], ["over", $("over").value === meta.axes[0].name ? "" : $("over").value],
      ["anchor", $("anchor").value], ["test", $("difference").hidden ? "" : test]];
    run({ read: restore, draw, state }).then((again) => { refresh = again; charts.responsive($("chart"), () => again(true)); });
  }

  if (page === "pairs") startPairs(); else startRates();
})();
