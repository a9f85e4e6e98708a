// The page of an utterance: the scores of all entries on it, what was heard in each output, why values are absent.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const root = document.body.dataset.root;

  // The words of `found` against those of `reference`: nodes of text, with what was left out and put in.
  function difference(reference, found) {
    const { el, fold } = self.codecbench;
    const plain = (word) => fold(word).replace(/[^\p{L}\p{N}]+/gu, "");
    const a = reference.split(/\s+/).filter((word) => plain(word)).slice(0, 400);
    const b = found.split(/\s+/).filter((word) => plain(word)).slice(0, 400);
    const width = b.length + 1;
    const common = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i--) {
      for (let j = b.length - 1; j >= 0; j--) {
        common[i * width + j] = plain(a[i]) === plain(b[j]) ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
      }
    }
    const nodes = [];
    for (let i = 0, j = 0; i < a.length || j < b.length;) {
      if (i < a.length && j < b.length && plain(a[i]) === plain(b[j])) { nodes.push(`${b[j]} `); i++; j++; }
      else if (j === b.length || (i < a.length && common[(i + 1) * width + j] >= common[i * width + j + 1])) nodes.push(el("del", { textContent: a[i++] }), " ");
      else nodes.push(el("ins", { textContent: b[j++] }), " ");
    }
    return nodes;
  }

  self.codecbenchUtterance = (data) => {
    const { Grid, readState, writeState, sortByLevel, ranks, collator, ORDERS, flip, sorted, utterances, metricColumn, fixed, note, el, name } = self.codecbench;
    const board = utterances(data);
    const { meta, count } = board;
    const places = new Map(meta.utterances.map((item, u) => [item.id, u]));
    const spec = {
      u: { test: (id) => places.has(id) },
      sort: { test: (key) => key === "entry" || meta.metrics.some((metric) => metric.name === key) },
      order: { test: ORDERS },
    };
    const nameRanks = ranks(meta.entries.map((entry) => `${entry.system} ${entry.point}`), collator.compare);
    let u = 0, sort = null;
    const grid = new Grid($("grid"), {
      label: "Scores of this utterance", caption: "Scores of this utterance alone, which have no interval.", single: true,
      onSort(column) {
        sort = { key: column.key, order: sort?.key === column.key ? flip(sort.order) : column.first };
        refresh();
      },
    });

    // The links to the neighbours keep the rest of the view.
    function neighbours() {
      for (const [id, place] of [["previous", u - 1], ["next", u + 1]]) {
        $(id).hidden = place < 0 || place >= count;
        if ($(id).hidden) continue;
        const state = new URLSearchParams(location.hash.slice(1));
        state.set("u", meta.utterances[place].id);
        $(id).href = `#${state}`;
      }
    }

    function refresh() {
      const item = meta.utterances[u];
      const columns = [
        { key: "entry", title: "Entry", first: "ascending", sort: (rows, descending) => sortByLevel(rows, (row) => nameRanks[board.entry(row)], meta.entries.length, descending),
          cell(row) { const entry = meta.entries[board.entry(row)]; return el("th", { scope: "row" }, name(entry.system, root + entry.href), el("small", {}, name(entry.point))); } },
        ...meta.metrics.map((_, m) => metricColumn(board, m)),
      ];
      let rows = Uint32Array.from(meta.entries.map((_, e) => e * count + u).filter(board.here));
      const by = columns.find((column) => column.key === sort?.key);
      if (by) rows = by.sort(rows, sort.order === "descending");
      grid.columns(columns, sort);
      grid.rows(rows, (row) => data.group[board.entry(row)], meta.groups);
      $("status").textContent = `${rows.length} ${rows.length === 1 ? "entry" : "entries"}${sorted(by, sort)}.`;
      writeState([["u", item.id], ["sort", sort?.key ?? ""], ["order", sort?.order ?? ""]], spec);
      return rows;
    }

    function show() {
      const item = meta.utterances[u];
      $("id").replaceChildren(name(item.shown));
      const facts = [["Speaker", item.speaker], ["Language", item.language], ["Domain", item.domain], ["Duration", board.seconds[u] ? `${fixed(board.seconds[u], 2)} s` : ""], ["Reference transcript", item.transcript]];
      $("facts").replaceChildren(...facts.filter(([, text]) => text).flatMap(([term, text]) => [el("dt", { textContent: term }), el("dd", {}, el("bdi", { textContent: text }))]));
      const rows = refresh();
      const texts = [...rows].filter((row) => board.heard.has(row));
      $("heard").hidden = !texts.length;
      // Against what was said; where nobody wrote that down, against what the same recogniser hears in the original.
      const originals = board.originals.filter(([place]) => place === u);
      const truth = (by) => item.transcript || (originals.find(([, other]) => other === by)?.[2] ?? "");
      const heard = (title, by, text) => [el("dt", {}, ...title, by ? ` (${by})` : ""), el("dd", {}, el("bdi", {}, ...difference(truth(by), text)))];
      $("heard").lastElementChild.replaceChildren(...originals.flatMap(([, by, text]) => heard(["The original"], by, text)), ...texts.flatMap((row) => {
        const entry = meta.entries[board.entry(row)];
        return board.heard.get(row).flatMap(([by, text]) => heard([name(entry.system), " ", name(entry.point)], by, text));
      }));
      const absent = [...rows].flatMap((row) => (board.reasons.get(row) ?? []).map(([m, reason]) => [row, m, reason]));
      $("reasons").hidden = !absent.length;
      $("reasons").lastElementChild.replaceChildren(...absent.slice(0, 500).map(([row, m, reason]) => {
        const entry = meta.entries[board.entry(row)];
        return el("li", {}, name(entry.system), " ", name(entry.point), `, ${meta.metrics[m].name}: ${board.text(m, row)}, `, el("bdi", { textContent: reason }));
      }));
      $("utterance").hidden = $("scores").hidden = false;
      document.dispatchEvent(new CustomEvent("codecbench:utterance", { detail: {
        dataset: meta.dataset, utterance: item.id, entries: [...rows].map((row) => meta.entries[board.entry(row)]) } }));
    }

    function restore() {
      const state = readState(spec) ?? {};
      if (!count) { note("This dataset has no utterance."); return; }
      u = places.get(state.u?.[0]) ?? 0;
      sort = state.sort ? { key: state.sort[0], order: state.order?.[0] ?? "ascending" } : null;
      show();
    }
    document.addEventListener("codecbench:address", neighbours);
    addEventListener("hashchange", restore);
    restore();
  };
})();
