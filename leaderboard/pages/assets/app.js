// The script of every page: theme, state in the address, tables, and the drill-down. All that matters for reading
// stands in the page without it. Text from results enters the page as text nodes only.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const all = (selector, node = document) => [...node.querySelectorAll(selector)];
  const page = document.body.dataset.page;
  const root = document.body.dataset.root;
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const words = (text) => fold(text).split(/\s+/).filter(Boolean);
  const collator = new Intl.Collator("en", { numeric: true });
  const MINUS = "−", DASH = "–";
  const LONGEST_ADDRESS = 8000; // characters of an address that are looked at
  const MOST_PINS = 6;
  const MOST_ROWS = 300; // a longer table holds only the rows in sight
  const MOST_PRINTED = 3000;
  const MOST_PIXELS = 8e6; // browsers clip elements that are much taller

  function el(tag, properties = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in node && name !== "list") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return node;
  }

  function name(text, href) {
    const bdi = el("bdi", { className: "name", textContent: text });
    if (text.length > 24) {
      bdi.title = text.slice(0, 200);
      if (!href) bdi.tabIndex = 0;
    }
    return href ? el("a", { href }, bdi) : bdi;
  }

  const fixed = (value, digits) => {
    const text = value.toFixed(digits);
    return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", MINUS);
  };

  // ---- theme -------------------------------------------------------------------------------------------------

  function startTheme() {
    const select = $("theme");
    const html = document.documentElement;
    select.value = html.dataset.theme || "";
    select.addEventListener("change", () => {
      if (select.value) html.dataset.theme = select.value;
      else delete html.dataset.theme;
      try {
        if (select.value) localStorage.setItem("codecbench-theme", select.value);
        else localStorage.removeItem("codecbench-theme");
      } catch { /* the choice then lasts for this page */ }
    });
    select.parentElement.hidden = false;
  }

  // ---- data --------------------------------------------------------------------------------------------------

  function bytesOf(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
    return bytes;
  }

  // Columns that `encode.py` packed: {name: typed array or value}.
  async function unpack(packed) {
    if (typeof DecompressionStream === "undefined") {
      throw new Error("This browser is too old to unpack the data of this page (it lacks DecompressionStream).");
    }
    const stream = new Blob([bytesOf(packed.data)]).stream().pipeThrough(new DecompressionStream("gzip"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    const columns = Object.create(null);
    let at = 0;
    for (const [key, dtype, count] of packed.layout) {
      const size = dtype === "json" ? 1 : Number(dtype[1]);
      const part = bytes.subarray(at, at + count * size);
      at += count * size;
      columns[key] = dtype === "json" ? JSON.parse(new TextDecoder().decode(part)) : typed(part, dtype, count);
    }
    return columns;
  }

  function typed(part, dtype, count) {
    if (dtype === "u1") return part;
    if (dtype === "u2") {
      const out = new Uint16Array(count);
      for (let k = 0; k < count; k++) out[k] = part[k] | (part[count + k] << 8);
      return out;
    }
    const out = new Uint32Array(count);
    for (let k = 0; k < count; k++) {
      out[k] = part[k] | (part[count + k] << 8) | (part[2 * count + k] << 16) | (part[3 * count + k] << 24);
    }
    return dtype === "f4" ? new Float32Array(out.buffer) : out;
  }

  async function loadShards() {
    const columns = Object.create(null);
    for (const packed of self.codecbenchShards ?? []) Object.assign(columns, await unpack(packed));
    if (!columns.meta) throw new Error("The data of this page is missing: the folder “data” must stand beside the pages.");
    return columns;
  }

  // ---- state in the address ----------------------------------------------------------------------------------

  // What the parts of a page keep in the address: of each key a test of its values, and whether it may repeat.
  const rules = Object.assign(Object.create(null), self.codecbenchKeys);

  // What the address says: {key: [values]} of what is known here, and the names of what is not.
  function parse() {
    const state = Object.create(null);
    const dropped = new Set(location.hash.length > LONGEST_ADDRESS ? ["its end"] : []);
    for (const [key, value] of new URLSearchParams(location.hash.slice(1, LONGEST_ADDRESS))) {
      const rule = rules[key];
      if (!rule || !rule.test(value) || (state[key] && (!rule.many || state[key].length >= rule.many))) dropped.add(key);
      else if (!state[key]?.includes(value)) (state[key] ??= []).push(value);
    }
    return [state, dropped];
  }

  // What is not known is left out, and said. An address that names a heading gives null.
  function readState(spec) {
    Object.assign(rules, spec);
    if (location.hash && !location.hash.includes("=")) return null;
    const [state, dropped] = parse();
    const names = [...dropped].map((key) => key.slice(0, 30)).slice(0, 5);
    note(names.length ? `Part of this link is not known here and was left out: ${names.join(", ")}.` : "");
    return state;
  }

  // Puts a part's pairs into the address, whose keys are those of `spec`, and leaves those of other parts as they are.
  function writeState(pairs, spec = rules) {
    const others = Object.entries(parse()[0]).filter(([key]) => !(key in spec)).flatMap(([key, values]) => values.map((value) => [key, value]));
    const own = pairs.filter(([, value]) => value !== "" && value !== null);
    const place = ([key]) => (others.length ? Object.keys(rules).indexOf(key) : 0); // whoever writes, one order
    const state = new URLSearchParams([...own, ...others].sort((x, y) => place(x) - place(y)));
    const text = String(state);
    try {
      history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
    } catch { /* the view works without an address */ }
    document.dispatchEvent(new Event("codecbench:address"));
  }

  function note(text) {
    const box = $("notice");
    if (box) { box.textContent = text; box.hidden = !text; }
  }

  // ---- copying and saving ------------------------------------------------------------------------------------

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1500);
    } catch {
      const field = el("textarea", { value: text, readOnly: true, rows: 4, "aria-label": "Text to copy" });
      const close = el("button", { type: "button", textContent: "Close" });
      const dialog = el("dialog", {}, el("p", { textContent: "The browser did not allow copying. Copy the text from here:" }), field, close);
      close.addEventListener("click", () => dialog.close());
      dialog.addEventListener("close", () => dialog.remove());
      document.body.append(dialog);
      dialog.showModal();
      field.select();
    }
  }

  function startCopying() {
    all("[data-copy]").forEach((node) => {
      const button = el("button", { type: "button", className: "copy", textContent: "Copy" });
      button.addEventListener("click", () => copy(node.textContent, button));
      node.after(button);
    });
  }

  function save(text, type, file) {
    const address = URL.createObjectURL(new Blob([text], { type }));
    const link = el("a", { href: address, download: file });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  // RFC 4180. Text that a spreadsheet would run as a formula gets an apostrophe; numbers are left alone.
  function csvCell(value) {
    if (value === null || value === undefined) return "";
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function startSaving(view) {
    const comment = () => [`codecbench: ${document.title}`, `view: ${location.href}`, ...view().notes];
    $("csv").addEventListener("click", () => {
      const { heads, rows } = view();
      const lines = [heads, ...rows].map((row) => row.map(csvCell).join(","));
      save([...comment().map((line) => `# ${line.replace(/[\r\n]/g, " ")}`), ...lines, ""].join("\r\n"), "text/csv", "codecbench.csv");
    });
    $("json").addEventListener("click", () => {
      const { heads, rows } = view();
      const records = rows.map((row) => Object.fromEntries(row.map((value, k) => [heads[k], value ?? null])));
      save(JSON.stringify({ about: comment(), rows: records }, null, 1), "application/json", "codecbench.json");
    });
    $("copy").addEventListener("click", (event) => copy(location.href, event.currentTarget));
  }

  // ---- sorting -----------------------------------------------------------------------------------------------

  // Rows sorted by whole numbers below `levels`, -1 for none; stable, and those without one are last either way.
  function sortByLevel(rows, level, levels, descending) {
    const starts = new Uint32Array(levels + 2);
    const keys = new Uint32Array(rows.length);
    for (let k = 0; k < rows.length; k++) {
      const value = level(rows[k]);
      keys[k] = value < 0 ? levels : descending ? levels - 1 - value : value;
      starts[keys[k] + 1]++;
    }
    for (let k = 1; k < starts.length; k++) starts[k] += starts[k - 1];
    const out = new Uint32Array(rows.length);
    for (let k = 0; k < rows.length; k++) out[starts[keys[k]]++] = rows[k];
    return out;
  }

  function sortByNumber(rows, value, descending) {
    const sign = descending ? -1 : 1;
    return rows.slice().sort((a, b) => {
      const x = value(a), y = value(b);
      const none = Number.isNaN(x) - Number.isNaN(y);
      return none || (Number.isNaN(x) ? 0 : sign * (x - y)) || a - b;
    });
  }

  // The place of each of some values in their order.
  function ranks(values, compare) {
    const order = values.map((_, k) => k).sort((a, b) => compare(values[a], values[b]) || a - b);
    const out = new Int32Array(values.length);
    let rank = -1;
    order.forEach((k, n) => {
      if (n === 0 || compare(values[order[n - 1]], values[k]) !== 0) rank = n;
      out[k] = rank;
    });
    return out;
  }

  // A test of the values of an address: whether they are among these.
  const among = (values) => { const known = new Set(values); return (value) => known.has(value); };
  const ORDERS = among(["ascending", "descending"]);
  const sorted = (column, sort) => (column ? `, sorted by ${column.title.replace(/ [↑↓]$/, "")}, ${sort.order}` : "");
  const flip = (order) => (order === "ascending" ? "descending" : "ascending");

  // ---- tables of any length ----------------------------------------------------------------------------------

  // A table that keeps in the document only the rows in sight once there are many. A column is {key, title, first,
  // detail?, hint?, about?, cell(row), sort(rows, descending)}; `group(row)` numbers the group of a row, by `titles`.
  class Grid {
    constructor(holder, { label, caption, single = false, onSort, starts = null }) {
      Object.assign(this, { onSort, starts });
      this.head = el("thead");
      this.table = el("table", { className: single ? "scores single" : "scores" }, el("caption", { textContent: caption }), this.head);
      this.region = el("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": label }, this.table);
      this.region.addEventListener("scroll", () => {
        if (this.virtual) this.pending ??= requestAnimationFrame(() => { this.pending = null; this.draw(); });
      }, { passive: true });
      this.region.addEventListener("keydown", (event) => this.turn(event));
      addEventListener("resize", () => { if (this.virtual) this.draw(); });
      addEventListener("beforeprint", () => this.printing(true));
      addEventListener("afterprint", () => this.printing(false));
      holder.replaceChildren(this.region);
    }

    columns(columns, sort) {
      this.shown = columns;
      this.sort = sort;
      const focus = this.head.contains(document.activeElement) ? document.activeElement.closest("th").dataset.key : null;
      this.head.replaceChildren(el("tr", {}, ...columns.map((column) => this.heading(column))));
      if (focus) all("th", this.head).find((th) => th.dataset.key === focus)?.querySelector("button")?.focus({ preventScroll: true });
      this.height = 0;
    }

    heading(column) {
      const button = column.fixed ? el("span", { textContent: column.title }) : el("button", { type: "button", textContent: column.title, title: column.hint ?? "" });
      if (!column.fixed) button.addEventListener("click", () => this.onSort(column));
      const active = this.sort?.key === column.key;
      const th = el("th", { scope: "col", "data-key": column.key, className: column.left ? "l" : "" }, button);
      if (active) th.setAttribute("aria-sort", this.sort.order);
      if (column.about) {
        const info = el("button", { type: "button", className: "info", textContent: "i", "aria-label": `About ${column.key}` });
        info.addEventListener("click", () => about(column.about));
        th.append(info);
      }
      if (column.detail) th.append(el("small", { textContent: column.detail }));
      return th;
    }

    // `rows` in their order; where `group` is given they are listed group by group.
    rows(rows, group, titles) {
      if (group) {
        const sorted = sortByLevel(rows, group, titles.length, false);
        const shown = [];
        let last = -1;
        for (const row of sorted) {
          if (group(row) !== last) { last = group(row); shown.push(-1 - last); }
          shown.push(row);
        }
        this.display = shown;
      } else this.display = rows;
      this.titles = titles;
      this.ordered = rows;
      this.virtual = this.display.length > MOST_ROWS;
      this.region.classList.toggle("tall", this.virtual || this.display.length > 18);
      this.table.classList.toggle("virtual", this.virtual);
      if (this.virtual) this.table.setAttribute("aria-rowcount", this.display.length + 1);
      else this.table.removeAttribute("aria-rowcount");
      this.region.scrollTop = 0;
      this.draw();
      this.reveal(this.head.querySelector("[aria-sort]"));
    }

    // A link may sort by a column that is out of sight.
    reveal(th) {
      if (!th) return;
      const { left, right } = this.region.getBoundingClientRect(), box = th.getBoundingClientRect();
      if (box.right > right || box.left < left) this.region.scrollLeft += box.right - right + 16;
    }

    draw() {
      const total = this.display.length;
      if (!this.virtual) { this.put(0, total, 0, 0); return; }
      if (!this.height) {
        this.put(0, Math.min(40, total), 0, 0);
        const lines = all("tbody tr", this.table);
        this.height = Math.max(16, lines.reduce((sum, line) => sum + line.offsetHeight, 0) / lines.length);
      }
      const inSight = Math.ceil(this.region.clientHeight / this.height) + 1;
      const extent = Math.min(total * this.height, MOST_PIXELS);
      const travel = Math.max(1, extent - this.region.clientHeight);
      const top = Math.min(this.region.scrollTop, travel);
      const first = Math.round((top / travel) * Math.max(0, total - inSight + 1));
      const from = Math.max(0, first - 8), to = Math.min(total, first + inSight + 8);
      const above = from === 0 ? 0 : Math.max(0, top - (first - from) * this.height);
      this.put(from, to, above, to === total ? 0 : Math.max(0, extent - above - (to - from) * this.height));
    }

    put(from, to, above, below) {
      const focus = this.focused();
      const bodies = above > 0 ? [this.space(above)] : [];
      let tbody = null;
      for (let k = from; k < to; k++) {
        const row = this.display[k];
        if (!tbody || row < 0) bodies.push(tbody = el("tbody"));
        const line = row < 0 ? this.title(-1 - row) : el("tr", {}, ...this.shown.map((column) => column.cell(row)));
        if (this.virtual) line.setAttribute("aria-rowindex", k + 2);
        if (this.starts && !this.sort && k > 0 && this.display[k - 1] >= 0 && row >= 0 && this.starts(this.display[k - 1], row)) line.className = "starts";
        line.row = row;
        tbody.append(line);
      }
      if (below > 0) bodies.push(this.space(below));
      all("tbody", this.table).forEach((old) => old.remove());
      this.table.append(...bodies);
      if (focus) this.refocus(focus);
    }

    title(group) {
      return el("tr", { className: "group" }, el("th", { scope: "rowgroup", colSpan: this.shown.length }, el("span", { textContent: this.titles[group] })));
    }

    space(height) {
      const cell = el("td", { colSpan: this.shown.length });
      cell.style.height = `${height}px`;
      return el("tbody", { "aria-hidden": "true", className: "space" }, el("tr", {}, cell));
    }

    focused() {
      const line = document.activeElement?.closest?.("tbody tr");
      return line && this.table.contains(line)
        ? { row: line.row, control: all("a, button, [tabindex]", line).indexOf(document.activeElement) } : null;
    }

    refocus({ row, control }) {
      const line = all("tbody tr", this.table).find((candidate) => candidate.row === row);
      (line ? all("a, button, [tabindex]", line)[control] ?? this.region : this.region).focus({ preventScroll: true });
    }

    // A page of a very long table is less than a pixel's turn of its scroll bar, so keys turn rows.
    turn(event) {
      const rows = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12 }[event.key];
      if (!this.virtual || !rows || event.target !== this.region) return;
      event.preventDefault();
      const extent = Math.min(this.display.length * this.height, MOST_PIXELS);
      const travel = extent - this.region.clientHeight;
      const hidden = this.display.length - this.region.clientHeight / this.height;
      this.region.scrollTop += Math.sign(rows) * Math.max(1, Math.abs(rows) * (travel / hidden));
    }

    printing(on) {
      if (!this.virtual) return;
      if (on) this.put(0, Math.min(this.display.length, MOST_PRINTED), 0, 0);
      else this.draw();
    }
  }

  // A metric's facts, with its signature to copy.
  function about(metric) {
    let box = $("about-metric");
    if (!box) document.body.append(box = el("dialog", { id: "about-metric", "aria-labelledby": "about-title" }));
    const button = el("button", { type: "button", textContent: "Copy signature" });
    const close = el("button", { type: "button", textContent: "Close" });
    button.addEventListener("click", () => copy(metric.signature, button));
    close.addEventListener("click", () => box.close());
    const facts = [["Reading", metric.better], ["Unit", metric.unit || "none"], ["Worst", metric.floor], ["Perfect", metric.perfect]];
    box.replaceChildren(
      el("h2", { id: "about-title", textContent: metric.title }),
      el("dl", { className: "facts" }, ...facts.flatMap(([term, text]) => [el("dt", { textContent: term }), el("dd", { textContent: text })])),
      el("p", {}, el("code", { textContent: metric.signature })),
      el("p", { className: "actions" }, button, " ", close),
    );
    box.showModal();
  }

  // ---- filters -----------------------------------------------------------------------------------------------

  // A list of boxes to tick, in a drop-down; nothing ticked means no filter.
  function facet(holder, { key, title, values }, onChange) {
    const count = el("b");
    const boxes = values.map((value) => {
      const box = el("input", { type: "checkbox", value: value.key });
      box.addEventListener("change", onChange);
      return box;
    });
    const fieldset = el("fieldset", {}, el("legend", { className: "away", textContent: title }),
      ...boxes.map((box, k) => el("label", {}, box, el("span", { textContent: values[k].title }))));
    holder.append(el("details", { className: "drop" }, el("summary", {}, `${title} `, count), fieldset));
    return {
      key, title, values,
      get chosen() { return boxes.filter((box) => box.checked).map((box) => box.value); },
      set chosen(keys) { boxes.forEach((box) => { box.checked = keys.includes(box.value); }); this.count(); },
      count() { const n = boxes.filter((box) => box.checked).length; count.textContent = n || ""; },
      // Which values pass, or null where all do.
      get mask() { return this.chosen.length ? values.map((value) => this.chosen.includes(value.key)) : null; },
    };
  }

  function chips(list, items) {
    list.replaceChildren(...items.map(({ text, remove }) => {
      const button = el("button", { type: "button", "aria-label": `Remove the filter ${text}` }, el("bdi", { textContent: text }), " ×");
      button.addEventListener("click", remove);
      return el("li", {}, button);
    }));
  }

  function startDrops() {
    $("more")?.addEventListener("click", ({ currentTarget: button }) => {
      button.setAttribute("aria-expanded", String($("facets").classList.toggle("open")));
    });
    const close = (but) => all("details.drop[open]").forEach((drop) => { if (drop !== but) drop.open = false; });
    document.addEventListener("click", (event) => close(event.target.closest("details.drop")));
    document.addEventListener("keydown", (event) => {
      const drop = document.activeElement?.closest("details.drop[open]");
      if (event.key === "Escape" && drop) { drop.open = false; drop.firstElementChild.focus(); }
    });
    document.addEventListener("toggle", (event) => {
      const drop = event.target;
      if (!drop.matches?.("details.drop") || !drop.open) return;
      const panel = drop.lastElementChild;
      panel.classList.toggle("right", drop.getBoundingClientRect().left > innerWidth / 2);
    }, true);
  }

  // ---- the leaderboard ---------------------------------------------------------------------------------------

  function startExplorer(data) {
    const { meta } = data;
    const count = meta.entries.length;
    const texts = meta.entries.map((entry) => fold(`${entry.system} ${entry.point}`));
    const nameRanks = ranks(meta.entries.map((entry) => entry.system), collator.compare);
    const [groups, ...described] = meta.facets;
    const form = $("controls");
    const changed = () => { note(""); refresh(); };
    const facets = described.map((description) => facet($("facets"), description, changed));
    const families = described.find((description) => description.key === "family");
    if (families) texts.forEach((text, e) => { texts[e] = `${text} ${fold(families.values[data["facet.family"][e]].title)}`; });
    const bandHolder = form.querySelector("[data-facet=band]").parentElement;
    const bands = facet({ append: (details) => bandHolder.replaceWith(details) },
      { key: "band", title: "Bitrate", values: meta.bands.map((band) => ({ key: band, title: `${band} kbps` })) }, changed);
    const sections = meta.sections;
    $("data").append(...sections.map((section) => el("option", { value: section.id, textContent: section.title })));
    const first = sections.find((section) => section.id === "*") ?? sections.find((_, s) => data[`${s}.here`].some(Boolean)) ?? sections[0];
    const metricKeys = meta.metrics.map((metric) => metric.name);
    const factKeys = meta.properties.map((property) => `fact.${property.name}`);
    const entryKeys = meta.entries.map((entry) => entry.key);
    const columnFacets = facet({ append: (details) => { details.id = "columns"; $("columns").replaceWith(details); } },
      { key: "col", title: "Columns", values: [
        ...meta.metrics.map((metric) => ({ key: metric.name, title: metric.title })),
        ...meta.properties.map((property) => ({ key: `fact.${property.name}`, title: property.title }))] }, changed);
    const spec = {
      data: { test: among(sections.map((section) => section.id)) },
      q: { test: (text) => text.length <= 100 },
      sort: { test: among(["system", "kbps", "coverage", ...metricKeys, ...factKeys]) },
      order: { test: ORDERS },
      pin: { test: among(entryKeys), many: MOST_PINS },
      col: { test: among([...metricKeys, ...factKeys]), many: 1000 },
      band: { test: among(meta.bands), many: 1000 },
      ...Object.fromEntries(facets.map((f) => [f.key, { test: among(f.values.map((value) => value.key)), many: 1000 }])),
    };
    let sort = null;
    let pins = [];
    const grid = new Grid($("grid"), {
      starts: (before, e) => column(at(), "band")[before] !== column(at(), "band")[e],
      label: "Scores", caption: "Scores. Under each mean is its 95 % interval; the small number beside it is the rank within track and bitrate band.",
      onSort(column) {
        sort = { key: column.key, order: sort?.key === column.key ? flip(sort.order) : column.first };
        changed();
      },
    });

    const at = () => sections.findIndex((section) => section.id === $("data").value);
    const column = (s, key) => data[`${s}.${key}`];

    function scoreCell(s, section, c, e) {
      const k = c * count + e;
      const value = column(s, "value")[k], digits = section.digits[c];
      const ok = column(s, "ok")[k], expected = column(s, "expected")[k];
      if (!column(s, "ran")[k]) return cell(DASH, "not run");
      if (!expected) return cell(DASH, "undefined");
      const metric = meta.metrics[section.metrics[c]];
      const shown = Number.isNaN(value) ? DASH : fixed(value, digits);
      const value_ = section.rows
        ? el("a", { className: "v", href: `${root}${section.rows}#${new URLSearchParams({ entry: meta.entries[e].key, sort: metric.name })}`, textContent: shown })
        : el("span", { className: "v", textContent: shown });
      if (ok < expected) {
        const worst = column(s, "worst")[k];
        const td = cell(value_, `${ok} of ${expected}${Number.isNaN(worst) ? "" : `, worst case ${fixed(worst, digits)}`}`);
        td.className = "partial";
        return td;
      }
      const low = column(s, "low")[k], high = column(s, "high")[k];
      const td = cell(value_, Number.isNaN(low) ? "no interval" : `${fixed(low, digits)} to ${fixed(high, digits)}`);
      const rank = rankText(s, k);
      if (rank) {
        if (column(s, "first")[k] === 1) td.className = "leads";
        td.insertBefore(el("span", { className: "rank", textContent: rank, title: `rank ${rank} of ${column(s, "rivals")[k]} in its track and band` }), td.lastChild);
      }
      const beyond = column(s, "beyond")[k];
      if (beyond) td.lastChild.append(" ", el("abbr", { textContent: "!", title: `${beyond} values lie outside of the metric's range; none is clipped` }));
      return td;
    }

    function rankText(s, k) {
      const from = column(s, "first")[k], to = column(s, "last")[k];
      return column(s, "rivals")[k] < 2 || !from ? "" : from === to ? String(from) : `${from}–${to}`;
    }

    function cell(value, small) {
      return el("td", {}, typeof value === "string" ? el("span", { className: "v", textContent: value }) : value, el("small", { textContent: small }));
    }

    function coverage(s, e) {
      let ok = 0, expected = 0;
      for (let k = e; k < column(s, "ok").length; k += count) { ok += column(s, "ok")[k]; expected += column(s, "expected")[k]; }
      return [ok, expected];
    }

    function entryCell(e) {
      const entry = meta.entries[e];
      const pinned = pins.includes(entry.key);
      const pin = el("button", { type: "button", className: "pin", "aria-pressed": String(pinned), title: pinned ? "Unpin" : "Pin and compare", "aria-label": `Pin ${entry.system.slice(0, 60)} ${entry.point.slice(0, 40)}` });
      pin.addEventListener("click", () => togglePin(entry.key));
      return el("th", { scope: "row" }, pin, name(entry.system, root + entry.href), entry.notes && el("abbr", { textContent: " !", title: entry.notes }), el("small", {}, name(entry.point)), entry.label && el("small", { className: "label", textContent: entry.label }), claims(entry));
    }

    // What it declares and does not keep.
    const claims = ({ claims: found }) => {
      const kinds = [...new Set(found.map(([badge]) => badge))];
      return kinds.length ? el("small", { className: "claim", textContent: kinds.join(", "), title: found.map(([, text]) => text).join("; ").slice(0, 300) }) : null;
    };

    function togglePin(key) {
      if (pins.includes(key)) pins = pins.filter((pin) => pin !== key);
      else if (pins.length < MOST_PINS) pins = [...pins, key];
      else { note(`Up to ${MOST_PINS} entries can be pinned: unpin one first.`); return; }
      changed();
    }

    function columnsOf(s) {
      const section = sections[s];
      const chosen = columnFacets.chosen;
      const kbps = column(s, "kbps");
      const number = (get) => (rows, descending) => sortByNumber(rows, get, descending);
      const list = [
        { key: "system", title: "System", first: "ascending", detail: "operating point", cell: entryCell,
          sort: (rows, descending) => sortByLevel(rows, (e) => nameRanks[e], count, descending) },
        { key: "kbps", title: "kbps", first: "ascending", detail: "measured · band", sort: number((e) => kbps[e]),
          cell: (e) => Number.isNaN(kbps[e]) ? cell(DASH, DASH) : cell(fixed(kbps[e], 2), rateDetail(s, e)) },
        { key: "coverage", title: "Coverage", first: "descending", detail: "scored items",
          sort: number((e) => { const [ok, expected] = coverage(s, e); return expected ? ok / expected : NaN; }),
          cell: (e) => { const [ok, expected] = coverage(s, e); return expected ? cell(`${Math.floor((100 * ok) / expected)} %`, `${ok} of ${expected}`) : cell(DASH, ""); } },
      ];
      section.metrics.forEach((m, c) => {
        const metric = meta.metrics[m];
        if (chosen.length && !chosen.includes(metric.name)) return;
        list.push({
          key: metric.name, title: `${metric.name} ${metric.arrow}`.trim(), first: metric.first, about: metric, hint: `${metric.title}: ${metric.better}`,
          detail: `${metric.unit ? `${metric.unit.slice(0, 16)} · ` : ""}n = ${section.expected[c]}`,
          sort: number((e) => column(s, "value")[c * count + e]), cell: (e) => scoreCell(s, section, c, e),
        });
      });
      meta.properties.forEach((property, p) => {
        if (!chosen.includes(`fact.${property.name}`)) return;
        const value = (e) => column(s, "properties")[p * count + e];
        list.push({ key: `fact.${property.name}`, title: property.title, first: "ascending", detail: property.unit, sort: number(value),
          cell: (e) => cell(Number.isNaN(value(e)) ? DASH : factText(property.name, value(e)), "") });
      });
      return list;
    }

    function factText(key, value) {
      if (key === "parameters") return (value / 1e6).toFixed(2);
      return Math.abs(value) >= 100 ? fixed(value, 0) : fixed(value, 2);
    }

    function rateDetail(s, e) {
      const kbps = column(s, "kbps");
      const half = Math.max(kbps[e] - kbps[count + e], kbps[2 * count + e] - kbps[e]);
      return half > kbps[e] / 100 ? `±${fixed(half, 2)}` : meta.bands[column(s, "band")[e] - 1];
    }

    function filtered(s) {
      const wanted = words($("q").value);
      const masks = facets.map((f) => [f.mask, data[`facet.${f.key}`]]).filter(([mask]) => mask);
      const inBands = bands.mask;
      const rows = [];
      for (let e = 0; e < count; e++) {
        if (column(s, "here")[e] && wanted.every((word) => texts[e].includes(word))
          && masks.every(([mask, codes]) => mask[codes[e]])
          && (!inBands || (column(s, "band")[e] > 0 && inBands[column(s, "band")[e] - 1]))) rows.push(e);
      }
      return Uint32Array.from(rows);
    }

    function refresh() {
      const s = Math.max(0, at());
      const columns = columnsOf(s);
      const by = columns.find((candidate) => candidate.key === sort?.key);
      if (!by) sort = null;
      let rows = filtered(s);
      const matches = rows.length;
      const pinned = pins.map((key) => entryKeys.indexOf(key)).filter((e) => column(s, "here")[e]);
      const missing = pinned.filter((e) => !rows.includes(e));
      if (missing.length) rows = Uint32Array.from([...rows, ...missing].sort((a, b) => a - b));
      if (by) rows = by.sort(rows, sort.order === "descending");
      const isPinned = new Set(pinned);
      grid.columns(columns, sort);
      grid.rows(rows, (e) => (isPinned.has(e) ? 0 : data["facet.group"][e] + 1), ["pinned", ...groups.values.map((value) => value.title)]);
      compare(s, pinned);
      const section = sections[s];
      $("about").textContent = `${section.title}: ${section.utterances} utterances. ${section.note}.`;
      $("status").textContent = `${matches || "No"} ${matches === 1 ? "row" : "rows"}${sorted(by, sort) || ", by track and bitrate"}.`;
      [...facets, bands, columnFacets].forEach((f) => f.count());
      chips($("chips"), [...facets, bands].flatMap((f) => f.chosen.map((key) => ({
        text: `${f.title}: ${f.values.find((value) => value.key === key).title}`,
        remove: () => { f.chosen = f.chosen.filter((other) => other !== key); changed(); },
      }))));
      all("[data-track]").forEach((link) => {
        const track = facets.find((f) => f.key === "track");
        link.setAttribute("aria-current", String(Boolean(track && track.chosen.length === 1 && track.chosen[0] === link.dataset.track)));
      });
      writeState([
        ["data", section.id === first.id ? "" : section.id], ["q", $("q").value],
        ...[...facets, bands, columnFacets].flatMap((f) => f.chosen.map((key) => [f.key, key])),
        ["sort", sort?.key ?? ""], ["order", sort?.order ?? ""], ...pins.map((key) => ["pin", key]),
      ], spec);
    }

    // The pinned entries side by side, a row a metric, with the difference to the first.
    function compare(s, pinned) {
      $("compare").hidden = pinned.length < 2;
      if (pinned.length < 2) return;
      const section = sections[s];
      const [base] = pinned;
      const heads = pinned.map((e) => el("th", { scope: "col" }, name(meta.entries[e].system), el("small", {}, name(meta.entries[e].point))));
      const kbps = column(s, "kbps");
      const rate = el("tr", {}, el("th", { scope: "row", textContent: "kbps" }), ...pinned.map((e) => cell(Number.isNaN(kbps[e]) ? DASH : fixed(kbps[e], 2), "")));
      const chosen = columnFacets.chosen.filter((key) => metricKeys.includes(key));
      const lines = section.metrics.map((m, c) => (chosen.length && !chosen.includes(meta.metrics[m].name)) ? null : el("tr", {},
        el("th", { scope: "row" }, `${meta.metrics[m].name} ${meta.metrics[m].arrow}`, el("small", { textContent: meta.metrics[m].unit })),
        ...pinned.map((e) => {
          const td = scoreCell(s, section, c, e);
          const difference = column(s, "value")[c * count + e] - column(s, "value")[c * count + base];
          if (e !== base && !Number.isNaN(difference)) td.append(el("small", { className: "difference", textContent: `${difference > 0 ? "+" : ""}${fixed(difference, section.digits[c])}` }));
          return td;
        })));
      $("compare").lastElementChild.replaceChildren(el("table", { className: "scores" },
        el("caption", { textContent: "Means with their intervals, and the difference of each mean to the first entry’s" }),
        el("thead", {}, el("tr", {}, el("th", { scope: "col", textContent: "Metric" }), ...heads)), el("tbody", {}, rate, ...lines.filter(Boolean))));
    }

    function restore() {
      const state = readState(spec);
      if (!state) return;
      $("data").value = state.data?.[0] ?? first.id;
      $("q").value = state.q?.[0] ?? "";
      [...facets, bands, columnFacets].forEach((f) => { f.chosen = state[f.key] ?? []; });
      pins = state.pin ?? [];
      const key = state.sort?.[0];
      if (key?.startsWith("fact.") && !columnFacets.chosen.includes(key)) columnFacets.chosen = [...columnFacets.chosen, ...(columnFacets.chosen.length ? [] : metricKeys), key];
      const better = meta.metrics.find((metric) => metric.name === key);
      sort = key ? { key, order: state.order?.[0] ?? better?.first ?? (key === "coverage" ? "descending" : "ascending") } : null;
      refresh();
    }

    $("data").addEventListener("change", changed);
    $("q").addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      $("q").value = "";
      [...facets, bands, columnFacets].forEach((f) => { f.chosen = []; });
      sort = null;
      pins = [];
      changed();
    });
    addEventListener("hashchange", restore);
    startSaving(() => {
      const s = at(), section = sections[s];
      const metrics = section.metrics.map((m) => meta.metrics[m]);
      const number = (key, k) => (Number.isNaN(column(s, key)[k]) ? null : Number(column(s, key)[k].toPrecision(5)));
      return {
        notes: [`data: ${section.title}`, ...metrics.map((metric) => `signature: ${metric.signature}`)],
        heads: ["system", "point", "group", "kbps", ...metrics.flatMap(({ name: m }) => [m, `${m}_low`, `${m}_high`, `${m}_ok`, `${m}_expected`, `${m}_rank_low`, `${m}_rank_high`])],
        rows: [...grid.ordered].map((e) => [
          meta.entries[e].system, meta.entries[e].point, groups.values[data["facet.group"][e]].title, number("kbps", e),
          ...metrics.flatMap((_, c) => {
            const k = c * count + e;
            return [number("value", k), number("low", k), number("high", k), column(s, "ok")[k], column(s, "expected")[k], column(s, "first")[k] || null, column(s, "last")[k] || null];
          }),
        ]),
      };
    });
    form.hidden = false;
    restore();
    if (!grid.display) { [...facets, bands, columnFacets].forEach((f) => { f.chosen = []; }); refreshQuietly(); }

    function refreshQuietly() { // an address that names a heading stays
      const kept = location.hash;
      refresh();
      if (kept) history.replaceState(null, "", kept);
    }
  }

  // ---- utterances --------------------------------------------------------------------------------------------

  const OUTCOMES = { 65531: "undefined", 65532: "failed", 65533: "error", 65534: "missing" };
  const LEVELS = 65531; // codes below this are values

  // The grids of a dataset with what both pages of the drill-down ask of them; a row is entry × utterances + utterance.
  function utterances(data) {
    const { meta } = data;
    const grids = meta.metrics.map((_, m) => data[`m${m}`]);
    if (grids.some((grid) => !grid)) throw new Error("Part of the data of this page is missing: the folder “data” is not complete.");
    const count = meta.utterances.length;
    const reasons = new Map();
    data.reason_place.forEach((place, k) => {
      if (!reasons.has(place)) reasons.set(place, []);
      reasons.get(place).push([data.reason_metric[k], data.reasons[data.reason[k]]]);
    });
    const value = (m, row) => {
      const code = grids[m][row], { low, high } = meta.metrics[m];
      if (code >= LEVELS) return NaN;
      const value_ = low + (code / (LEVELS - 1)) * (high - low);
      return meta.metrics[m].log ? Math.expm1(value_) : value_;
    };
    const heard = new Map();
    data.heard_place.forEach((place, k) => {
      if (!heard.has(place)) heard.set(place, []);
      heard.get(place).push([data.heard_by[k], data.heard[k]]);
    });
    return {
      meta, grids, count, reasons, value, heard, seconds: data.seconds, originals: data.originals,
      entry: (row) => Math.floor(row / count), item: (row) => row % count,
      here: (row) => grids.some((grid) => grid[row] !== 65535),
      text(m, row) {
        const code = grids[m][row];
        return code < LEVELS ? fixed(value(m, row), meta.metrics[m].digits) : OUTCOMES[code] ?? DASH;
      },
      level: (m) => (row) => (grids[m][row] < LEVELS ? grids[m][row] : -1),
    };
  }

  // The order that puts the worst first.
  const worst = (metric) => (metric.direction === "higher" ? "ascending" : "descending");

  function metricColumn(board, m) {
    const metric = board.meta.metrics[m];
    return {
      key: metric.name, title: `${metric.name} ${metric.arrow}`.trim(), first: worst(metric), about: metric.log ? null : metric, hint: `${metric.title}: ${metric.better}`, detail: metric.unit.slice(0, 16),
      sort: (rows, descending) => sortByLevel(rows, board.level(m), LEVELS, descending),
      cell(row) {
        const code = board.grids[m][row];
        const td = el("td", {}, el("span", { className: "v", textContent: board.text(m, row) }));
        if (code >= LEVELS && code < 65535) {
          td.className = "partial";
          const why = board.reasons.get(row)?.find(([metric_]) => metric_ === m);
          if (why) td.title = why[1].slice(0, 300);
        }
        return td;
      },
    };
  }

  function startRows(data) {
    const board = utterances(data);
    const { meta, count } = board;
    const total = meta.entries.length * count;
    const form = $("controls");
    const changed = () => { note(""); refresh(); };
    const label = (entry) => `${entry.system} ${entry.point}`.slice(0, 80);
    for (const id of ["entry", "vs"]) $(id).append(...meta.entries.map((entry) => el("option", { value: entry.key, textContent: label(entry) })));
    const attributes = ["speaker", "language", "domain"].map((key) => {
      const values = [...new Set(meta.utterances.map((item) => item[key]))].sort(collator.compare);
      const codes = Uint32Array.from(meta.utterances, (item) => values.indexOf(item[key]));
      return values.length > 1 ? { codes, facet: facet($("facets"), { key, title: key[0].toUpperCase() + key.slice(1), values: values.map((value) => ({ key: value, title: value || "not given" })) }, changed) } : null;
    }).filter(Boolean);
    const itemTexts = meta.utterances.map((item) => fold(`${item.shown} ${item.speaker}`));
    const entryTexts = meta.entries.map((entry) => fold(`${entry.system} ${entry.point}`));
    const directed = meta.metrics.filter((metric) => metric.direction !== "none").map((metric) => metric.name);
    const spec = {
      entry: { test: among(meta.entries.map((entry) => entry.key)) },
      vs: { test: among(meta.entries.map((entry) => entry.key)) },
      of: { test: among(directed) },
      q: { test: (text) => text.length <= 100 },
      outcome: { test: among(["failed", "undefined", "error", "missing"]) },
      sort: { test: among(["entry", "utterance", "seconds", "difference", ...meta.metrics.map((metric) => metric.name)]) },
      order: { test: ORDERS },
      ...Object.fromEntries(attributes.map(({ facet: f }) => [f.key, { test: among(f.values.map((value) => value.key)), many: 1000 }])),
    };
    let sort = null;
    let of = "";
    const nameRanks = ranks(meta.entries.map((entry) => `${entry.system} ${entry.point}`), collator.compare);
    const secondsRanks = ranks([...board.seconds], (a, b) => a - b);
    const grid = new Grid($("grid"), {
      label: "Utterances", caption: "Utterances of each entry; why a value is absent stands at the end of the row.", single: true,
      onSort(column) {
        sort = { key: column.key, order: sort?.key === column.key ? flip(sort.order) : column.first };
        if (directed.includes(column.key)) of = column.key;
        changed();
      },
    });

    function columnsOf() {
      const list = [
        { key: "utterance", title: "Utterance", first: "ascending",
          sort: (rows, descending) => sortByLevel(rows, (row) => board.item(row), count, descending),
          cell(row) {
            const item = meta.utterances[board.item(row)];
            return el("th", { scope: "row" }, name(item.shown, `${root}${meta.href}#${new URLSearchParams({ u: item.id })}`));
          } },
        { key: "entry", title: "Entry", first: "ascending", left: true,
          sort: (rows, descending) => sortByLevel(rows, (row) => nameRanks[board.entry(row)], meta.entries.length, descending),
          cell(row) { const entry = meta.entries[board.entry(row)]; return el("td", { className: "l" }, name(entry.system, root + entry.href), " ", name(entry.point)); } },
        ...!board.seconds.some(Boolean) ? [] : [{ key: "seconds", title: "Seconds", first: "descending",
          sort: (rows, descending) => sortByLevel(rows, (row) => secondsRanks[board.item(row)], count, descending),
          cell: (row) => el("td", { textContent: fixed(board.seconds[board.item(row)], 2) }) }],
        ...meta.metrics.map((_, m) => metricColumn(board, m)),
      ];
      if ($("vs").value && directed.length) list.splice(2, 0, differenceColumn());
      return [...list, { key: "reason", title: "Why absent", fixed: true, left: true, sort: (rows) => rows, cell: reasonCell }];
    }

    function differenceColumn() {
      const m = meta.metrics.findIndex((metric) => metric.name === (of || directed[0]));
      const metric = meta.metrics[m];
      const other = meta.entries.findIndex((entry) => entry.key === $("vs").value) * count;
      const value = (row) => board.value(m, row) - board.value(m, other + board.item(row));
      let scale = null;
      return {
        key: "difference", title: `Δ ${metric.name}`, first: worst(metric), hint: `${metric.title} minus that of the other entry`, detail: "against",
        sort(rows, descending) {
          scale ??= range(rows, value);
          const steps = scale.high > scale.low ? (LEVELS - 1) / (scale.high - scale.low) : 0;
          return sortByLevel(rows, (row) => { const d = value(row); return Number.isNaN(d) ? -1 : Math.min(LEVELS - 1, Math.max(0, Math.round((d - scale.low) * steps))); }, LEVELS, descending);
        },
        cell(row) {
          const difference = value(row);
          return el("td", { textContent: Number.isNaN(difference) ? DASH : `${difference > 0 ? "+" : ""}${fixed(difference, metric.digits)}` });
        },
      };
    }

    function range(rows, value) {
      let low = Infinity, high = -Infinity;
      for (const row of rows) { const v = value(row); if (v < low) low = v; if (v > high) high = v; }
      return { low, high };
    }

    function reasonCell(row) {
      const found = board.reasons.get(row) ?? [];
      const texts = [...new Set(found.map(([, reason]) => reason))];
      return el("td", { className: "l reason", title: texts.join("; ").slice(0, 600) }, el("bdi", { textContent: texts.join("; ").slice(0, 200) }));
    }

    function filtered() {
      const wanted = words($("q").value).map((word) => [entryTexts.map((text) => text.includes(word)), itemTexts.map((text) => text.includes(word))]);
      const masks = attributes.map(({ codes, facet: f }) => [f.mask, codes]).filter(([mask]) => mask);
      const entry = meta.entries.findIndex((candidate) => candidate.key === $("entry").value);
      const outcome = Number(Object.keys(OUTCOMES).find((code) => OUTCOMES[code] === $("outcome").value) ?? -1);
      const keep = new Uint8Array(count);
      for (let u = 0; u < count; u++) keep[u] = masks.every(([mask, codes]) => mask[codes[u]]) ? 1 : 0;
      const rows = new Uint32Array(total);
      let n = 0;
      for (let e = entry < 0 ? 0 : entry; e < (entry < 0 ? meta.entries.length : entry + 1); e++) {
        for (let u = 0; u < count; u++) {
          const row = e * count + u;
          if (keep[u] && (!wanted.length || wanted.every(([entries, items]) => entries[e] || items[u]))
            && (outcome < 0 ? board.here(row) : board.grids.some((codes) => codes[row] === outcome))) rows[n++] = row;
        }
      }
      return rows.subarray(0, n);
    }

    function refresh() {
      const columns = columnsOf();
      const by = columns.find((column) => column.key === sort?.key);
      if (!by) sort = null;
      let rows = filtered();
      if (by) rows = by.sort(rows, sort.order === "descending");
      grid.columns(columns, sort);
      grid.rows(rows);
      const n = rows.length.toLocaleString("en");
      $("status").textContent = `${rows.length ? n : "No"} ${rows.length === 1 ? "row" : "rows"}${sorted(by, sort)}.`;
      attributes.forEach(({ facet: f }) => f.count());
      chips($("chips"), attributes.flatMap(({ facet: f }) => f.chosen.map((key) => ({
        text: `${f.title}: ${key || "not given"}`, remove: () => { f.chosen = f.chosen.filter((other) => other !== key); changed(); },
      }))));
      writeState([["entry", $("entry").value], ["vs", $("vs").value], ["of", $("vs").value ? of : ""], ["q", $("q").value], ["outcome", $("outcome").value],
        ...attributes.flatMap(({ facet: f }) => f.chosen.map((key) => [f.key, key])), ["sort", sort?.key ?? ""], ["order", sort?.order ?? ""]]);
    }

    function restore() {
      const state = readState(spec) ?? {};
      for (const id of ["entry", "vs", "q", "outcome"]) $(id).value = state[id]?.[0] ?? "";
      attributes.forEach(({ facet: f }) => { f.chosen = state[f.key] ?? []; });
      const key = state.sort?.[0];
      const metric = meta.metrics.find((candidate) => candidate.name === key);
      of = state.of?.[0] ?? (directed.includes(key) ? key : "");
      sort = key ? { key, order: state.order?.[0] ?? (metric ? worst(metric) : key === "difference" ? worst(meta.metrics.find((m) => m.name === (of || directed[0]))) : "ascending") } : null;
      refresh();
    }

    for (const id of ["entry", "outcome"]) $(id).addEventListener("change", changed);
    $("vs").addEventListener("change", () => {
      if ($("vs").value && directed.length) {
        const metric = meta.metrics.find((candidate) => candidate.name === (of || directed[0]));
        sort = { key: "difference", order: worst(metric) };
      }
      changed();
    });
    $("q").addEventListener("input", changed);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      for (const id of ["entry", "vs", "q", "outcome"]) $(id).value = "";
      attributes.forEach(({ facet: f }) => { f.chosen = []; });
      sort = null;
      of = "";
      changed();
    });
    addEventListener("hashchange", restore);
    startSaving(() => ({
      notes: [`dataset: ${meta.dataset}`, ...meta.metrics.filter((metric) => metric.direction !== "none").map((metric) => `signature: ${metric.signature}`)],
      heads: ["system", "point", "utterance", "speaker", "seconds", ...meta.metrics.flatMap(({ name: m }) => [m, `${m}_status`]), "reason"],
      rows: [...grid.ordered].map((row) => {
        const entry = meta.entries[board.entry(row)], item = meta.utterances[board.item(row)];
        return [entry.system, entry.point, item.shown, item.speaker, Number(board.seconds[board.item(row)].toFixed(4)),
          ...meta.metrics.flatMap((metric, m) => {
            const v = board.value(m, row);
            return [Number.isNaN(v) ? null : Number(v.toFixed(metric.digits + 1)), Number.isNaN(v) ? OUTCOMES[board.grids[m][row]] ?? "none" : "ok"];
          }), (board.reasons.get(row) ?? []).map(([m, reason]) => `${meta.metrics[m].name}: ${reason}`).join("; ")];
      }),
    }));
    form.hidden = false;
    restore();
  }

  // ---- plain tables ------------------------------------------------------------------------------------------

  // Sorting of the tables that stand in the page. Missing values are last in both directions; ties stay in place.
  function startPlainTables() {
    const tables = all("table.sortable");
    if (!tables.length) return;
    const heads = tables.flatMap((table) => all("thead th[data-key]", table));
    tables.forEach((table) => all("tbody tr", table).forEach((line, place) => { line.place = place; }));
    const [by, way] = $("board") ? ["models", "way"] : ["sort", "order"]; // the leaderboard above has these
    const spec = {
      [by]: { test: (key) => heads.some((th) => th.dataset.key === key) },
      [way]: { test: ORDERS },
    };
    let sort = null;
    heads.forEach((th) => {
      const label = th.querySelector(".h");
      const button = el("button", { type: "button", textContent: label.textContent, title: label.title });
      button.addEventListener("click", () => {
        sort = { key: th.dataset.key, order: sort?.key === th.dataset.key ? flip(sort.order) : th.dataset.first };
        arrange();
        writeState([[by, sort.key], [way, sort.order]], spec);
      });
      label.replaceWith(button);
    });
    const status = el("p", { className: "away", role: "status" });
    $("main").append(status);

    function arrange() {
      tables.forEach((table) => {
        const own = all("thead th", table);
        const index = sort ? own.findIndex((th) => th.dataset.key === sort.key) : -1;
        own.forEach((th, k) => (k === index ? th.setAttribute("aria-sort", sort.order) : th.removeAttribute("aria-sort")));
        table.classList.toggle("sorted", index >= 0);
        const sign = sort?.order === "descending" ? -1 : 1;
        all("tbody", table).forEach((body) => body.append(...all("tr:not(.group)", body).sort((a, b) => {
          if (index < 0) return a.place - b.place;
          const x = a.cells[index].dataset.v ?? "", y = b.cells[index].dataset.v ?? "";
          if (!x || !y) return !x - !y || a.place - b.place;
          const numbers = Number(x) - Number(y);
          return sign * (Number.isNaN(numbers) ? collator.compare(x, y) : numbers) || a.place - b.place;
        })));
      });
      status.textContent = sort ? `Sorted by ${sort.key}, ${sort.order}.` : "";
    }

    function restore() {
      const state = readState(spec);
      if (!state) return;
      const head = heads.find((th) => th.dataset.key === state[by]?.[0]);
      sort = head ? { key: head.dataset.key, order: state[way]?.[0] ?? head.dataset.first } : null;
      arrange();
    }
    addEventListener("hashchange", restore);
    restore();
  }

  // ---- start -------------------------------------------------------------------------------------------------

  async function start() {
    startTheme();
    startCopying();
    startDrops();
    startPlainTables();
    addEventListener("beforeprint", () => { all(".printed").forEach((node) => { node.textContent = location.href; }); });
    try {
      if ($("board")) startExplorer(await unpack(JSON.parse($("board").textContent)));
      if ($("rows")) startRows(await loadShards());
      if ($("utterance")) self.codecbenchUtterance(await loadShards());
    } catch (problem) {
      note(`${problem.message} The tables of the datasets and the downloads hold the same numbers.`);
      if (!(problem instanceof Error) || problem.name !== "Error") console.error(problem);
    }
    document.documentElement.dataset.ready = page;
  }

  self.codecbench = { unpack, Grid, facet, parse, readState, writeState, sortByLevel, ranks, collator, ORDERS, flip, sorted, utterances, metricColumn, fixed, note, el, name, copy, fold };
  start();
})();
