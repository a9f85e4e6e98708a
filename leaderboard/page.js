// Sorting, filtering and the state of both in the address. The page is complete without this script.
(() => {
  "use strict";
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const form = document.getElementById("controls");
  if (!form) return;
  const field = (name) => form.elements.namedItem(name);
  const status = document.getElementById("status");
  const tables = all("table.sortable");
  const fields = ["dataset", "track", "band", "q"];
  const longest = 2000; // characters of an address that are looked at
  const fold = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const collator = new Intl.Collator("en", { numeric: true });

  tables.forEach((table) => all("tbody tr", table).forEach((row, place) => { row.place = place; }));
  let sort = null; // {key, order}, or null for the order of the page
  let problem = "";

  const heads = (table) => all("thead th", table);
  const column = (table, key) => heads(table).findIndex((th) => th.dataset.key === key);
  const flip = (order) => (order === "ascending" ? "descending" : "ascending");

  // Missing values stand last in both directions; ties stand by name, then as on the page.
  function compare(index, order) {
    const sign = order === "descending" ? -1 : 1;
    return (a, b) => {
      const [x, y] = [a.cells[index].dataset.v, b.cells[index].dataset.v];
      if (!x || !y) return (!x) - (!y) || a.place - b.place;
      const numbers = Number(x) - Number(y);
      const difference = Number.isNaN(numbers) ? collator.compare(x, y) : numbers;
      return sign * difference || collator.compare(a.dataset.name, b.dataset.name) || a.place - b.place;
    };
  }

  function arrange() {
    tables.forEach((table) => {
      const index = sort ? column(table, sort.key) : -1;
      heads(table).forEach((th, k) => {
        if (k === index) th.setAttribute("aria-sort", sort.order);
        else th.removeAttribute("aria-sort");
      });
      table.classList.toggle("sorted", index >= 0);
      const order = index >= 0 ? compare(index, sort.order) : (a, b) => a.place - b.place;
      all("tbody", table).forEach((body) => body.append(...all("tr:not(.group)", body).sort(order)));
    });
  }

  function filter() {
    const words = fold(field("q").value).split(/\s+/).filter(Boolean);
    let shown = 0;
    all("section.dataset").forEach((section) => {
      section.hidden = section.dataset.dataset !== field("dataset").value;
      all("tr[data-name]", section).forEach((row) => {
        const text = fold(row.dataset.text);
        row.hidden = !(words.every((word) => text.includes(word))
          && (!field("track").value || row.dataset.track === field("track").value)
          && (!field("band").value || row.dataset.band === field("band").value));
      });
      all("tbody", section).forEach((body) => { body.hidden = all("tr[data-name]", body).every((row) => row.hidden); });
      if (!section.hidden) shown = all(".scores tr[data-name]", section).filter((row) => !row.hidden).length;
    });
    const order = sort ? `sorted by ${sort.key}, ${sort.order}` : "by track and bitrate";
    status.textContent = `${problem}${shown || "No"} ${shown === 1 ? "row" : "rows"}, ${order}.`;
  }

  function save() {
    const state = new URLSearchParams();
    fields.forEach((name) => {
      const value = field(name).value;
      if (value && !(name === "dataset" && field("dataset").selectedIndex === 0)) state.set(name, value);
    });
    if (sort) { state.set("sort", sort.key); state.set("order", sort.order); }
    const text = String(state);
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
  }

  // What an address says that this page does not know is left out, and said.
  function restore() {
    const hash = location.hash.slice(1, longest);
    if (hash && !hash.includes("=")) return;
    const state = new URLSearchParams(hash);
    const unknown = [...state.keys()].filter((key) => ![...fields, "sort", "order"].includes(key));
    form.reset();
    fields.forEach((name) => {
      const value = state.get(name);
      if (value === null) return;
      const input = field(name);
      if (name === "q") input.value = value.slice(0, input.maxLength);
      else if ([...input.options].some((option) => option.value === value)) input.value = value;
      else unknown.push(name);
    });
    const key = state.get("sort");
    const head = key === null ? undefined : tables.flatMap(heads).find((th) => th.dataset.key === key);
    const order = state.get("order");
    if (key !== null && !head) unknown.push("sort");
    sort = head ? { key, order: ["ascending", "descending"].includes(order) ? order : head.dataset.first } : null;
    problem = unknown.length ? "Part of this link is not known here and was ignored. " : "";
    arrange();
    filter();
  }

  document.addEventListener("click", (event) => {
    const head = event.target.closest("th[data-key]");
    if (!head || !event.target.closest("button")) return;
    const same = sort && sort.key === head.dataset.key;
    sort = { key: head.dataset.key, order: same ? flip(sort.order) : head.dataset.first };
    problem = "";
    arrange();
    filter();
    save();
  });
  form.addEventListener("input", () => { problem = ""; filter(); save(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    field("track").value = field("band").value = field("q").value = "";
    sort = null;
    problem = "";
    arrange();
    filter();
    save();
  });
  window.addEventListener("hashchange", restore);
  form.hidden = false;
  restore();
})();
