// What the pages of charts and matrices share: data that is loaded when it is asked for, one tip, keys that walk.
(() => {
  "use strict";
  const { el, unpack, copy, writeState } = self.codecbench;
  const $ = (id) => document.getElementById(id);
  const root = document.body.dataset.root;
  const MINUS = "−", DASH = "–";

  delete document.documentElement.dataset.ready; // set again once the view is drawn

  // The columns of a file of the site, loaded once.
  const loaded = new Map();
  function load(path) {
    if (!loaded.has(path)) {
      loaded.set(path, new Promise((done, fail) => {
        const script = el("script", { src: root + path });
        script.addEventListener("load", () => {
          const packed = (self.codecbenchShards ?? []).find((shard) => shard.name === path);
          if (packed) unpack(packed).then(done, fail); else fail(new Error(`The file ${path} is damaged.`));
          script.remove();
        });
        script.addEventListener("error", () => { loaded.delete(path); fail(new Error(`The file ${path} is missing: it must stand beside the pages.`)); });
        document.head.append(script);
      }));
    }
    return loaded.get(path);
  }

  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
  };
  const signed = (value, digits) => (Number(value.toFixed(digits)) > 0 ? `+${fixed(value, digits)}` : fixed(value, digits));
  // Three significant digits, never an exponent.
  function short(value) {
    if (!Number.isFinite(value)) return DASH;
    if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(3))} M`;
    return String(Number(value.toPrecision(3))).replace("-", MINUS);
  }
  const interval = (low, high, text) => (Number.isNaN(low) || Number.isNaN(high) ? "no interval" : `${text(low)} to ${text(high)}`);
  const chance = (p) => (Number.isNaN(p) ? DASH : p < 0.001 ? "< 0.001" : fixed(p, 3));

  // ---- the tip -----------------------------------------------------------------------------------------------

  let box = null;
  // Lines of text near a place on the screen; the first one is the title.
  function showTip([title, ...lines], { left, top, right, bottom }) {
    if (!box) {
      document.body.append(box = el("div", { className: "tip", role: "tooltip" }));
      document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
      addEventListener("scroll", hideTip, { passive: true, capture: true });
    }
    box.replaceChildren(el("b", {}, el("bdi", { textContent: title.slice(0, 120) })), ...lines.filter(Boolean).map((line) => el("span", {}, el("bdi", { textContent: line.slice(0, 300) }))));
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const room = document.documentElement.clientWidth;
    const above = top - height - 8;
    box.style.left = `${Math.max(4, Math.min(room - width - 4, (left + right) / 2 - width / 2))}px`;
    box.style.top = `${above > 4 ? above : bottom + 8}px`;
  }
  function hideTip() { if (box) box.hidden = true; }

  // ---- keys --------------------------------------------------------------------------------------------------

  // One stop of the tab key for all of `nodes`; arrow keys walk among them. `columns` is the width of a grid, 0 for a list.
  function rove(holder, nodes, columns = 0) {
    let at = Math.max(0, nodes.findIndex((node) => node));
    nodes.forEach((node, k) => node?.setAttribute("tabindex", k === at ? "0" : "-1"));
    const go = (k) => {
      nodes[at]?.setAttribute("tabindex", "-1");
      at = k;
      nodes[at].setAttribute("tabindex", "0");
    };
    holder.addEventListener("focusin", (event) => { const k = nodes.indexOf(event.target); if (k >= 0) go(k); });
    holder.addEventListener("keydown", (event) => {
      if (!nodes.includes(event.target)) return;
      const down = columns || 1;
      const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: down, ArrowUp: -down }[event.key];
      let next = event.key === "Home" ? 0 : event.key === "End" ? nodes.length - 1 : step ? at + step : -1;
      while (next >= 0 && next < nodes.length && !nodes[next]) next += event.key === "Home" ? 1 : event.key === "End" ? -1 : step;
      if (!step && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      if (next < 0 || next >= nodes.length) return;
      go(next);
      nodes[next].focus();
    });
  }

  // ---- controls ----------------------------------------------------------------------------------------------

  // `options` are {key, title, disabled?}.
  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(({ key, title, disabled }) => el("option", { value: key, textContent: title, disabled: Boolean(disabled) })));
    select.value = options.some(({ key }) => key === chosen) ? chosen : options.find(({ disabled }) => !disabled)?.key ?? "";
  }

  function table(caption, heads, rows) {
    const cell = (value, k) => (value instanceof HTMLTableCellElement ? value : el("td", { className: heads[k].num ? "num" : "text" }, typeof value === "string" ? el("bdi", { textContent: value }) : value));
    return el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
      el("table", {}, el("caption", { textContent: caption }),
        el("thead", {}, el("tr", {}, ...heads.map(({ title, num }) => el("th", { scope: "col", className: num ? "num" : "", textContent: title })))),
        el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell))))));
  }

  // Runs a view: draws what the address says, again when a control or the address changes, and never an older choice
  // over a newer one. `read` puts the address into the controls, `draw` loads and draws, `state` gives the address.
  async function run({ read, draw, state }) {
    const form = $("controls");
    let turn = 0;
    async function refresh(quiet) {
      const mine = ++turn;
      const notice = $("notice");
      if (quiet !== true) notice.hidden = true;
      try {
        const put = await draw();
        if (mine !== turn) return;
        hideTip();
        put();
        if (quiet !== true || !location.hash || location.hash.includes("=")) writeState(state());
      } catch (problem) {
        if (mine !== turn) return;
        notice.textContent = `${problem.message} The tables of the datasets and the downloads hold the same numbers.`;
        notice.hidden = false;
        if (problem.name !== "Error") console.error(problem);
      }
    }
    form.addEventListener("change", refresh);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => { event.preventDefault(); read({}); refresh(); });
    $("share").addEventListener("click", ({ currentTarget }) => copy(location.href, currentTarget));
    addEventListener("hashchange", () => { read(); refresh(true); });
    form.hidden = false;
    read();
    await refresh(true);
    document.documentElement.dataset.ready = document.body.dataset.page;
    return refresh;
  }

  const meta = () => JSON.parse($("meta").textContent);
  const among = (values) => { const known = new Set(values); return (value) => known.has(value); };

  self.codecbenchViews = { load, fixed, signed, short, interval, chance, showTip, hideTip, rove, fill, table, run, meta, among, DASH };
})();
