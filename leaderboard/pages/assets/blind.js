// Listening blind: ratings against a hidden reference, and ABX tests. Results are the listener's to save, and go nowhere.
(() => {
  "use strict";
  const { shuffle, below, guessing, ORIGINAL } = self.codecbenchSound;
  const TRIALS = [8, 10, 12, 16, 20, 25, 30];
  const letter = (k) => String.fromCharCode(65 + k);

  // Ratings from 0 to 100 of the outputs and a hidden reference, in an order that is drawn.
  function blind(player) {
    const { el, name } = player;
    const order = shuffle(player.heard);
    const ratings = order.map((_, k) => el("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `Rating of ${letter(k)}, 0 to 100` }));
    const number = (k) => el("output", { textContent: ratings[k].value });
    player.rows([{ ...player.row(ORIGINAL, "R"), label: "Reference", tools: [] }, ...order.map((key, k) => {
      const out = number(k);
      ratings[k].addEventListener("input", () => { out.textContent = ratings[k].value; });
      return { key, shortcut: String(k + 1), name: letter(k), label: letter(k), rating: el("span", { className: "rating" }, ratings[k], out) };
    })]);
    const reveal = el("button", { type: "button", textContent: "Reveal" });
    const note = el("p", { className: "note", textContent: "The outputs and a hidden copy of the reference stand in an order that was just drawn. Rate each against the open reference: 100 is no difference, 0 is bad." });
    reveal.addEventListener("click", () => {
      ratings.forEach((rating) => { rating.disabled = true; });
      const rows = order.map((key, k) => ({ label: letter(k), system: key === ORIGINAL ? null : player.outputs.get(key).entry.system, point: key === ORIGINAL ? null : player.outputs.get(key).entry.point, hidden_reference: key === ORIGINAL, rating: Number(ratings[k].value) }));
      result(player, { kind: "blind rating", ratings: rows }, el("ol", {}, ...rows.slice().sort((a, b) => b.rating - a.rating).map((row) => el("li", {}, `${row.label}, ${row.rating}: `, row.hidden_reference ? "the hidden reference" : name(`${row.system} ${row.point}`)))), "blind");
    });
    player.panel.replaceChildren(note, el("p", { className: "answers" }, reveal));
  }

  // An ABX test: which of two is X?
  function prepare(player) {
    const { el } = player;
    player.rows([]);
    const options = () => player.heard.map((key) => el("option", { value: key, textContent: player.title(key) }));
    const [a, b] = [el("select", {}, ...options()), el("select", {}, ...options())];
    [a, b].forEach((select, k) => {
      const asked = player.heard.indexOf(player.pair[k]);
      select.selectedIndex = asked < 0 ? Math.min(k, select.options.length - 1) : asked;
      select.addEventListener("change", () => { player.pair = [a, b].map(({ selectedIndex }) => player.heard[selectedIndex]); player.keep(); });
    });
    const count = el("select", {}, ...TRIALS.map((n) => el("option", { value: String(n), textContent: String(n), selected: n === 12 })));
    const start = el("button", { type: "button", textContent: "Start" });
    start.addEventListener("click", async () => {
      const keys = [a, b].map((select) => player.heard[select.selectedIndex]);
      await player.load();
      const failed = keys.find((key) => !player.ready(key));
      if (keys[0] === keys[1]) player.say("Choose two different recordings.");
      else if (failed) player.say(`${player.title(failed)} cannot be played: ${player.takes.get(failed)?.error ?? "it is still loading"}.`);
      else test(player, keys, Number(count.value));
    });
    player.panel.replaceChildren(el("p", { className: "note", textContent: "In each trial X is A or B, drawn anew; say which. Fix the number of trials first: p holds for that number only. How you do is told at the end." }),
      el("div", { className: "line" }, el("label", {}, "A", a), el("label", {}, "B", b), el("label", {}, "Trials", count), start));
  }

  function test(player, keys, n) {
    const { el } = player;
    const trials = [];
    let x, begun;
    const head = el("p", { className: "result" });
    const answers = ["A", "B"].map((text, k) => {
      const button = el("button", { type: "button", textContent: `X is ${text}` });
      button.addEventListener("click", () => { trials.push({ x: "AB"[x], answer: text, correct: x === k, seconds: Math.round(performance.now() - begun) / 1000 }); next(); });
      return button;
    });
    const end = () => {
      const correct = trials.filter((trial) => trial.correct).length;
      const stopped = trials.length < n ? ` Stopped after ${trials.length} of ${n} trials, so p is only a guide.` : "";
      const p = guessing(correct, trials.length);
      player.rows([]);
      result(player, { kind: "ABX", a: player.title(keys[0]), b: player.title(keys[1]), planned: n, n: trials.length, correct, p, trials },
        el("p", { className: "result" }, `${trials.length} trials, p = ${p < 0.001 ? "less than 0.001" : p.toFixed(3)}: ${correct} correct. p is the chance of doing as well by guessing (exact binomial, one-sided).${stopped}`), "abx");
    };
    const stop = el("button", { type: "button", textContent: "Stop" });
    stop.addEventListener("click", () => { player.engine.stop(); if (trials.length) end(); else player.enter("abx"); });
    const next = () => {
      if (trials.length === n) { player.engine.stop(); end(); return; }
      x = below(2);
      begun = performance.now();
      player.engine.stop();
      player.engine.offset = 0;
      player.rows([["A", keys[0]], ["B", keys[1]], ["X", keys[x]]].map(([label, key], k) => ({ key, label, name: label, shortcut: String(k + 1) })));
      head.textContent = `Trial ${trials.length + 1} of ${n}`;
      player.say(`${head.textContent}.`);
    };
    player.panel.replaceChildren(head, el("p", { className: "answers" }, ...answers, stop));
    next();
  }

  // What one listener found, to save; it goes nowhere else.
  function result(player, found, node, mode) {
    const { el } = player;
    const about = { about: "One listener's result of codecbench. It is no score of the leaderboard.", page: document.title, dataset: player.detail.dataset, utterance: player.item.id,
      equal_loudness: player.matched.checked, browser: navigator.userAgent, finished: new Date().toISOString() };
    const save = el("button", { type: "button", textContent: "Save as JSON" });
    save.addEventListener("click", () => {
      const href = URL.createObjectURL(new Blob([JSON.stringify({ ...about, ...found }, null, 1)], { type: "application/json" }));
      const link = el("a", { href, download: `codecbench-${mode}.json` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(href), 10000);
    });
    const again = el("button", { type: "button", textContent: "Again" });
    again.addEventListener("click", () => player.enter(mode));
    player.panel.replaceChildren(node, el("p", { className: "note", textContent: "One listener’s result: it is not kept, and no score of the leaderboard." }), el("p", { className: "answers" }, save, again));
    player.say("Done.");
    save.focus();
  }

  self.codecbenchBlind = { blind, prepare };
})();
