// Drawings. This is the one file that knows the library (Observable Plot); it takes plain points and gives SVG that
// follows light, dark and print by the page's own colours, and whose points the keyboard reaches.
(() => {
  "use strict";
  const { showTip, hideTip, rove, short } = self.codecbenchViews;
  const SVG = "http://www.w3.org/2000/svg";
  const SYMBOLS = ["circle", "square", "triangle", "diamond", "star", "cross", "hexagon", "wye"];
  const GREY = "var(--soft)";
  const NEAR = 40; // pixels from the pointer to a point that it means
  const LINE = 15; // pixels between two labels

  // The same colour and symbol for a system wherever it is drawn; never two systems with both.
  const style = (place) => ({
    colour: place < 0 ? GREY : `var(--c${place % 8})`,
    symbol: place < 0 ? "circle" : SYMBOLS[(place + Math.floor(place / 8)) % 8],
  });

  function svg(tag, attributes, text = "") {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.textContent = text;
    return node;
  }

  function ticks([low, high], log, most) {
    const found = [];
    if (log) {
      for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) for (const step of [1, 2, 5]) found.push(step * 10 ** power);
      const inside = found.filter((value) => value >= low * 0.999 && value <= high * 1.001);
      const decades = inside.filter((value) => Math.abs(Math.log10(value) % 1) < 1e-9);
      if (inside.length > 2) return inside.length > most && decades.length > 2 ? decades : inside;
      found.length = 0;
    }
    const raw = (high - low) / Math.max(2, most);
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw);
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
    return found;
  }

  function span(values, log, margin) {
    const scale = log ? Math.log10 : (value) => value;
    let low = Math.min(...values.map(scale)), high = Math.max(...values.map(scale));
    const pad = (high - low) * margin || (log ? 0.15 : Math.abs(high) * 0.05 || 1);
    low -= pad; high += pad;
    return log ? [10 ** low, 10 ** high] : [low, high];
  }

  // Ascending places moved apart to at least `gap`, and kept below `end`.
  function spread(places, gap, end) {
    const out = [];
    for (const place of places) out.push(out.length ? Math.max(place, out.at(-1) + gap) : place);
    for (let k = out.length - 1, limit = end; k >= 0; k--) { out[k] = Math.min(out[k], limit); limit = out[k] - gap; }
    return out;
  }

  // A plot in `holder`, as wide as it is, with what both kinds of chart share.
  function plot(holder, { marks, x, y, height, right, label }) {
    const width = Math.max(260, Math.floor(holder.clientWidth));
    const axis = (scale, most) => ({ ticks: ticks(scale.domain, scale.log, most), text: short, tickSize: 4, label: null });
    const figure = self.Plot.plot({
      width, height, marginLeft: 52, marginTop: 30, marginBottom: 44, marginRight: right, className: "plot", ariaLabel: label,
      x: { type: x.log ? "log" : "linear", domain: x.domain }, y: { type: "linear", domain: y.domain },
      color: { type: "identity" }, symbol: { type: "identity" }, r: { type: "identity" },
      marks: [
        self.Plot.gridY(axis(y, Math.round(height / 70)).ticks, { stroke: "currentColor", strokeOpacity: 0.13 }),
        self.Plot.axisX({ ...axis(x, Math.round((width - right) / 80)), stroke: "currentColor" }),
        self.Plot.axisY({ ...axis(y, Math.round(height / 70)), stroke: "currentColor" }),
        ...marks,
      ],
    });
    figure.querySelectorAll("style").forEach((node) => node.remove()); // the page's sheet holds it: the policy allows no other
    figure.querySelectorAll("g[aria-label]").forEach((node) => node.setAttribute("role", "group"));
    figure.setAttribute("role", "group");
    const cut = (text) => (text.length > width / 6.6 ? `${text.slice(0, Math.floor(width / 6.6) - 1)}…` : text);
    figure.append(svg("text", { x: 4, y: 14, class: "axis-title", "text-anchor": "start" }, cut(y.title)), svg("text", { x: width - right, y: height - 8, class: "axis-title", "text-anchor": "end" }, cut(x.title)));
    const around = document.createElement("div"); // an SVG that listens for focus is a stop of the tab key in Chromium
    around.append(figure);
    holder.replaceChildren(around);
    return figure;
  }

  // `points` by node: a tip under the pointer and at the focus, and a way on where one has a link.
  function interact(figure, nodes, points) {
    nodes.forEach((node, k) => {
      node.setAttribute("role", "img");
      node.setAttribute("aria-label", points[k].tip.filter(Boolean).join(", "));
      node.addEventListener("focus", () => showTip(points[k].tip, node.getBoundingClientRect()));
      node.addEventListener("blur", hideTip);
      node.addEventListener("keydown", (event) => { if (event.key === "Enter" && points[k].href) location.href = points[k].href; });
    });
    rove(figure.parentNode, nodes);
    const box = figure.viewBox.baseVal;
    const nearest = (event) => {
      const rect = figure.getBoundingClientRect(), scale = rect.width / box.width;
      let best = -1, distance = NEAR;
      points.forEach((point, k) => {
        const away = Math.hypot(rect.left + point.px * scale - event.clientX, rect.top + point.py * scale - event.clientY);
        if (away < distance) { best = k; distance = away; }
      });
      return best;
    };
    let shown = -1;
    const move = (event) => {
      const k = nearest(event);
      if (k === shown) return;
      nodes[shown]?.classList.remove("hovered");
      shown = k;
      figure.classList.toggle("over", k >= 0);
      if (k < 0) { hideTip(); return; }
      nodes[k].classList.add("hovered");
      showTip(points[k].tip, nodes[k].getBoundingClientRect());
    };
    figure.addEventListener("pointermove", move);
    figure.addEventListener("pointerdown", move);
    figure.addEventListener("pointerleave", () => { nodes[shown]?.classList.remove("hovered"); shown = -1; hideTip(); });
    figure.addEventListener("click", (event) => {
      const k = nearest(event);
      if (k >= 0 && event.pointerType === "mouse" && points[k].href) location.href = points[k].href;
    });
  }

  // Names at the right of the last point of each system, moved apart, with a thin line to it.
  function label(figure, ends, { width, right, height }) {
    const longest = Math.floor((right - 18) / 6.6);
    const names = svg("g", { class: "labels", "aria-hidden": "true" });
    const sorted = ends.sort((a, b) => a.py - b.py);
    const places = spread(sorted.map((end) => end.py), LINE, height - 50);
    sorted.forEach((end, k) => {
      const text = end.name.length > longest ? `${end.name.slice(0, longest - 1)}…` : end.name;
      const from = width - right + 12;
      names.append(svg("path", { d: `M${end.px + 7},${end.py}L${from - 4},${places[k]}`, stroke: end.colour, class: "leader" }),
        svg("text", { x: from, y: places[k] + 4, fill: end.colour, "text-anchor": "start" }, text));
    });
    figure.append(names);
  }

  // Points {name, x, xLow, xHigh, y, yLow, yHigh, place, state, anchor, tip, href}, joined by name. `state` is "on", "tied",
  // "off", "unranked" or "" (no front); an anchor is drawn thin and grey. `fronts` are lists of points.
  function curves(holder, { points, fronts, x, y, domain, title }) {
    const { dot, line, ruleX, ruleY } = self.Plot;
    const room = holder.clientWidth;
    const names = [...new Set(points.map((point) => point.name))];
    const right = room < 560 ? 96 : 190;
    const height = Math.max(room < 560 ? 340 : 470, names.length * LINE + 90);
    const drawn = points.map((point) => {
      const { colour, symbol } = style(point.place);
      return { ...point, colour: point.anchor ? GREY : colour, symbol, r: point.anchor ? 3 : point.state === "on" ? 5.5 : 4.5 };
    }).sort((a, b) => a.name.localeCompare(b.name) || a.x - b.x);
    const xs = { ...x, domain: span(drawn.map((point) => point.x), x.log, 0.06) };
    const ys = { ...y, domain };
    const within = (value) => Math.min(domain[1], Math.max(domain[0], value));
    const strong = drawn.filter((point) => !point.anchor), weak = drawn.filter((point) => point.anchor);
    const bars = (some, strokeWidth) => ruleX(some.filter((point) => !Number.isNaN(point.yLow)), { x: "x", y1: (point) => within(point.yLow), y2: (point) => within(point.yHigh), stroke: "colour", strokeWidth, strokeOpacity: 0.75 });
    const wide = drawn.filter((point) => point.xHigh - point.xLow > 0.01 * point.x);
    const steps = fronts.filter((front) => front.length).map((front) => {
      const sorted = [...front].sort((a, b) => a.x - b.x);
      return line([...sorted, { ...sorted.at(-1), x: xs.domain[1] }], { x: "x", y: "y", curve: "step-after", stroke: "currentColor", strokeWidth: 6, strokeOpacity: 0.14 });
    });
    const fill = { on: "colour", tied: "colour", "": "colour", off: "var(--paper)", unranked: "var(--paper)" };
    const dots = ["unranked", "off", "tied", "", "on"].map((state) => [drawn.filter((point) => point.state === state), (some) => dot(some, {
      x: "x", y: "y", symbol: "symbol", r: "r", stroke: "colour", strokeWidth: 1.6, fill: fill[state], fillOpacity: state === "tied" ? 0.4 : 1,
      strokeDasharray: state === "unranked" ? "2 1.5" : undefined, sort: null,
    })]).filter(([some]) => some.length);
    const figure = plot(holder, { height, right, label: title, x: xs, y: ys, marks: [
      ...steps,
      line(weak, { x: "x", y: "y", z: "name", stroke: GREY, strokeWidth: 1, strokeDasharray: "4 3" }),
      line(strong, { x: "x", y: "y", z: "name", stroke: "colour", strokeWidth: 1.6, strokeDasharray: "6 3" }),
      bars(weak, 0.8), bars(strong, 1.3),
      ruleY(wide, { y: "y", x1: "xLow", x2: "xHigh", stroke: "colour", strokeOpacity: 0.75 }),
      ...dots.map(([some, make]) => make(some)),
    ] });
    const order = dots.flatMap(([some]) => some);
    const found = [...figure.querySelectorAll('g[aria-label="dot"] > *')];
    const [toX, toY] = [figure.scale("x"), figure.scale("y")];
    order.forEach((point) => { point.px = toX.apply(point.x); point.py = toY.apply(point.y); });
    const walk = order.map((point, k) => [point, found[k]]).sort(([a], [b]) => a.anchor - b.anchor || a.name.localeCompare(b.name) || a.x - b.x);
    interact(figure, walk.map(([, node]) => node), walk.map(([point]) => point));
    const ends = names.map((name) => order.filter((point) => point.name === name).reduce((a, b) => (b.x > a.x ? b : a)));
    label(figure, ends, { width: figure.viewBox.baseVal.width, right, height });
    return figure;
  }

  // A line of {x, y} with zero marked: how far one curve lies from another.
  function difference(holder, { points, x, y, title, colour }) {
    const { dot, line, ruleY } = self.Plot;
    const height = 300, right = 20;
    const xs = { ...x, domain: span(points.map((point) => point.x), false, 0.04) };
    const ys = { ...y, domain: span([0, ...points.map((point) => point.y)], false, 0.08) };
    const figure = plot(holder, { height, right, label: title, x: xs, y: ys, marks: [
      ruleY([0], { stroke: "currentColor", strokeWidth: 1 }),
      line(points, { x: "x", y: "y", stroke: colour, strokeWidth: 2 }),
      dot(points, { x: "x", y: "y", r: 3, fill: colour, stroke: colour }),
    ] });
    const [toX, toY] = [figure.scale("x"), figure.scale("y")];
    points.forEach((point) => { point.px = toX.apply(point.x); point.py = toY.apply(point.y); });
    interact(figure, [...figure.querySelectorAll('g[aria-label="dot"] > *')], points);
    return figure;
  }

  // Draws again when the room changes.
  function responsive(holder, draw) {
    let width = holder.clientWidth, waiting = 0;
    new ResizeObserver(() => {
      if (holder.clientWidth === width || !holder.clientWidth) return;
      width = holder.clientWidth;
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    }).observe(holder);
  }

  self.codecbenchCharts = { curves, difference, responsive, style, span };
})();
