// The player of the page of an utterance: the original and up to eight outputs, switched in place; spectrograms; and
// listening blind. It plays only when told to. What it is told of the recordings stands in `codecbenchListening`.
(() => {
  "use strict";
  const { decode, matching, Engine, SHORTEST_LOOP, ORIGINAL } = self.codecbenchSound;
  const { blind, prepare } = self.codecbenchBlind;
  const { analyse, difference, describe, describeDifference, loudest, Figure } = self.codecbenchSpectrogram;
  const MOST = 8, FIRST = 4; // outputs at once, and to begin with
  const told = self.codecbenchListening;
  const known = new Map((told?.utterances ?? []).map((item) => [item.id, item]));
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const minus = (text) => text.replace("-", "−");
  const decibels = (value, digits = 1) => minus(value.toFixed(digits));
  const outputs = new Set([...known.values()].flatMap((item) => item.outputs.map(({ key }) => key)));
  const REFERENCE = "reference"; // the original, as an address says it
  const either = { test: (key) => key === REFERENCE || outputs.has(key) };
  // What of listening stands in the address: the outputs chosen, the way to listen, and the two of an ABX test.
  const spec = { hear: { test: (key) => outputs.has(key), many: MOST }, listen: { test: (mode) => mode === "blind" || mode === "abx" }, a: either, b: either };
  self.codecbenchKeys = spec;
  let wanted = null; // the listener's choice of entries, kept from one utterance to the next
  let player = null;

  document.addEventListener("codecbench:utterance", ({ detail }) => {
    const slot = document.querySelector("[data-slot=players]");
    player?.close();
    player = null;
    if (!slot || !told) return;
    const { el, name } = self.codecbench;
    const item = known.get(detail.utterance);
    slot.hidden = false;
    slot.setAttribute("aria-label", "Listen");
    if (item) {
      const { hear, listen, a, b } = self.codecbench.parse()[0];
      wanted = hear ?? wanted;
      player = new Player(slot, item, detail, listen?.[0] ?? "open", [a, b].map((key) => (key?.[0] === REFERENCE ? ORIGINAL : key?.[0])));
      return;
    }
    slot.replaceChildren(el("h2", { textContent: "Listen" }), el("p", { className: "note" }, "No audio of this utterance is here. There is of ",
      ...told.utterances.slice(0, 12).flatMap(({ id, shown }, k) => [k ? ", " : "", name(shown, `#${new URLSearchParams({ u: id })}`)]), "."));
  });

  class Player {
    constructor(slot, item, detail, mode, pair) {
      const { el, name } = self.codecbench;
      Object.assign(this, { el, name, item, detail, slot, mode, pair });
      this.root = document.body.dataset.root;
      const entries = new Map(detail.entries.map((entry) => [entry.key, entry]));
      this.outputs = new Map(item.outputs.filter(({ key }) => entries.has(key)).map((file) => [file.key, { ...file, entry: entries.get(file.key) }]));
      this.takes = new Map(); // what is asked for or here: {buffer} or {error}, by key
      this.pictures = new Map();
      this.engine = new Engine({ currentTime: 0 }); // a real clock comes with the first sound
      this.engine.onended = () => this.refresh();
      this.keys = (wanted ?? this.spread()).filter((key) => this.outputs.has(key));
      if (!this.keys.length) this.keys = this.spread();
      this.build();
      this.enter(mode);
      this.handlers = [[document, "keydown", (event) => this.key(event)], [document.getElementById("theme"), "change", () => this.repaint()],
        [matchMedia("(prefers-color-scheme: dark)"), "change", () => this.repaint()]];
      this.handlers.forEach(([target, type, handler]) => target?.addEventListener(type, handler));
      this.watcher = new IntersectionObserver(([entry]) => { if (entry.isIntersecting) { this.watcher.disconnect(); this.awake = true; this.load(); } }, { rootMargin: "300px" });
      this.watcher.observe(this.box);
    }

    close() {
      this.closed = true;
      this.watcher.disconnect();
      this.engine.halt();
      this.engine.context.close?.();
      this.handlers.forEach(([target, type, handler]) => target?.removeEventListener(type, handler));
      this.slot.replaceChildren();
    }

    // Some outputs to begin with: one of each system, then more.
    spread() {
      const keys = [...this.outputs.keys()], system = (key) => this.outputs.get(key).entry.system;
      const first = keys.filter((key, k) => keys.findIndex((other) => system(other) === system(key)) === k);
      return [...new Set([...first, ...keys])].slice(0, FIRST);
    }

    // ---- what is heard ---------------------------------------------------------------------------------------

    file(key) { return key === ORIGINAL ? this.item.reference : this.outputs.get(key); }
    title(key) {
      if (key === ORIGINAL) return "Reference";
      const { system, point } = this.outputs.get(key).entry;
      return `${system} ${point}`.slice(0, 80);
    }
    get heard() { return [ORIGINAL, ...this.keys]; }
    ready(key) { return Boolean(this.takes.get(key)?.buffer); }

    load() {
      return Promise.all(this.heard.filter((key) => !this.takes.has(key)).map(async (key) => {
        this.takes.set(key, {});
        let take;
        try { take = { buffer: await decode(this.root, this.file(key)) }; } catch (error) {
          take = { error: `audio/${this.file(key).name}.js ${error.message}` };
        }
        if (this.closed) return;
        this.takes.set(key, take);
        if (take.buffer && this.heard.includes(key)) this.engine.add(key, take.buffer);
        if (take.error) this.say(`${this.mode === "open" ? this.title(key) : "A recording"} cannot be played.`);
        this.relevel();
        this.refresh();
        this.show();
      }));
    }

    // Gains in dB that match the loudness of what is here; null where a recording is left as it is.
    gains() {
      const keys = this.heard.filter((key) => this.ready(key));
      const gains = this.matched.checked ? matching(keys.map((key) => this.file(key).loudness)) : keys.map(() => 0);
      return new Map(keys.map((key, k) => [key, gains[k]]));
    }

    relevel() { for (const [key, gain] of this.gains()) this.engine.level(key, 10 ** ((gain ?? 0) / 20)); }

    // ---- the page --------------------------------------------------------------------------------------------

    build() {
      const { el } = this;
      const check = (text, checked, change) => {
        const box = el("input", { type: "checkbox", checked });
        box.addEventListener("change", change);
        return [box, el("label", {}, box, el("span", { textContent: text }))];
      };
      const number = (label) => {
        const field = el("input", { type: "number", min: 0, step: 0.1, "aria-label": label });
        field.addEventListener("change", () => this.loop());
        return field;
      };
      const modes = [["open", "Compare"], ["blind", "Rate blind"], ["abx", "ABX test"]].map(([value, text]) => {
        const radio = el("input", { type: "radio", name: "listening", value, checked: value === this.mode });
        radio.addEventListener("change", () => this.enter(value));
        return el("label", {}, radio, text);
      });
      this.playing = el("button", { type: "button", className: "play", textContent: "Play", disabled: true });
      this.playing.addEventListener("click", () => this.toggle());
      this.slider = el("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, "aria-label": "Position in seconds" });
      this.slider.addEventListener("input", () => { this.engine.seek(Number(this.slider.value)); this.tick(); });
      this.time = el("output", { textContent: "0.0 s" });
      let loop, match, keys;
      [this.looping, loop] = check("Loop", false, () => this.loop());
      [this.matched, match] = check("Equal loudness", true, () => { this.relevel(); this.refresh(); this.say(this.matched.checked ? "Equal loudness." : "Loudness as it is."); });
      [this.listening, keys] = check("Keys", true, () => {});
      keys.className = "keys";
      keys.append(...[["Space", "play"], ["R", "reference"], ["1–9", "select"], ["L", "loop"]].flatMap(([text, what]) => [el("kbd", { textContent: text }), ` ${what} `]));
      [this.from, this.to] = [number("Loop from, seconds"), number("Loop to, seconds")];
      this.region = el("span", { className: "settings", hidden: true }, this.from, " to ", this.to, " s");
      this.list = el("ul", { className: "voices" });
      this.voices = el("fieldset", {}, el("legend", { className: "away", textContent: "What is heard" }), this.list);
      this.panel = el("div", { className: "panel" });
      this.status = el("p", { className: "note", role: "status" });
      const seek = (seconds) => { this.engine.seek(seconds); this.tick(); };
      this.figures = ["Reference", "Output", "Difference"].map((title, k) => new Figure(el, title, k === 2, seek));
      this.drawn = el("div", {}, el("h3", { textContent: "Spectrograms" }), el("p", { className: "note" },
        "Levels relative to the loudest part of the reference, frequency on the mel scale. The difference is the level of the output, at the loudness of the reference, minus that of the reference in the same place: what was lost and what was added. It is no difference of waveforms, so changes of phase do not show; nothing is moved in time. What lies 60 dB below the loudest part in both counts as equal."),
        el("div", { className: "spectrograms" }, ...this.figures.map(({ node }) => node)));
      this.box = el("div", { className: "player", role: "group", "aria-label": "Player" },
        el("fieldset", { className: "modes" }, el("legend", { className: "away", textContent: "How to listen" }), ...modes),
        el("div", { className: "transport" }, this.playing, this.slider, this.time),
        el("div", { className: "settings" }, loop, this.region, match, keys), this.voices, this.panel, this.status, this.drawn);
      this.slot.replaceChildren(el("h2", { textContent: "Listen" }), ...this.notes(), this.box);
    }

    notes() {
      const { el } = this;
      const absent = this.item.absent.length ? ` Not here, ${this.item.absent.join("; ")}.` : "";
      return [el("p", { className: "note" }, "Switching keeps the position. Equal loudness (ITU-R BS.1770) only turns down.", absent, " ",
        el("a", { href: this.root + told.page, textContent: "All recordings as files" }))];
    }

    // The rows to choose from: `{key, label, about, tools}`; a key may be hidden behind a label.
    rows(rows) {
      const { el } = this;
      this.shown = rows;
      this.list.replaceChildren(...rows.map((row, k) => {
        row.radio = el("input", { type: "radio", name: "voice", value: String(k) });
        row.radio.addEventListener("change", () => this.select(k));
        row.about = el("span", { className: "about" });
        return el("li", {}, el("label", { className: "voice" }, row.radio, row.shortcut && el("kbd", { "aria-hidden": "true", textContent: row.shortcut }), el("b", {}, row.label)),
          row.rating ?? row.about, row.rating ? row.about : el("span", { className: "tools" }, ...(row.tools ?? [])));
      }));
      this.chosen = -1;
      this.picked = false;
      this.refresh();
    }

    refresh() {
      const gains = this.gains();
      this.shown.forEach((row) => {
        const take = this.takes.get(row.key);
        row.radio.disabled = !take?.buffer;
        row.about.className = take?.error ? "about failed" : "about";
        row.about.textContent = take?.error ?? (take?.buffer ? (this.mode === "open" ? this.facts(row.key, gains.get(row.key)) : "") : "loading");
      });
      if (!this.picked || !this.ready(this.shown[this.chosen]?.key)) { // recordings come in any order
        this.chosen = this.shown.findIndex((row) => this.ready(row.key));
        if (this.chosen >= 0) this.engine.select(this.shown[this.chosen].key);
      }
      this.shown.forEach((row, k) => { row.radio.checked = k === this.chosen; });
      this.playing.disabled = this.chosen < 0;
      this.playing.textContent = this.engine.playing ? "Pause" : "Play";
      this.slider.disabled = this.chosen < 0;
      this.slider.max = this.engine.duration || 1;
      for (const field of [this.from, this.to]) field.max = this.engine.duration.toFixed(1);
      this.tick();
    }

    facts(key, gain) {
      const { loudness, peak, clipped } = this.file(key);
      const level = loudness === null ? "silent" : `${decibels(loudness)} LUFS`;
      const applied = !this.matched.checked ? "as it is" : gain === null ? "too quiet to match, as it is" : gain > -0.05 ? "0 dB applied" : `${decibels(gain)} dB applied`;
      return [level, applied, peak === null ? "" : `peak ${decibels(peak)} dBFS`, clipped ? `${clipped} samples at full scale` : ""].filter(Boolean).join(" · ");
    }

    // ---- playing ---------------------------------------------------------------------------------------------

    async toggle() {
      if (this.engine.playing) { this.engine.stop(); this.say("Paused."); this.refresh(); return; }
      if (this.chosen < 0) return;
      if (!this.engine.context.resume) {
        const { rate } = this.item.reference; // at their own rate the recordings pass no resampler of the mixer
        try { this.engine.context = new AudioContext({ sampleRate: rate }); } catch { this.engine.context = new AudioContext(); }
      }
      const { context } = this.engine;
      await Promise.race([context.resume(), new Promise((done) => { setTimeout(done, 1500); })]);
      if (context.state !== "running") { this.say("The browser gives no sound: is there a device, and may this page use it?"); return; }
      if (this.closed || this.engine.playing) return;
      this.picked = true;
      this.engine.play();
      this.say(`Playing ${this.label()}.`);
      this.refresh();
      this.follow();
    }

    label() { return this.shown[this.chosen]?.name ?? ""; }

    select(k) {
      if (!this.shown[k] || !this.ready(this.shown[k].key)) return;
      this.chosen = k;
      this.picked = true;
      const walked = this.list.contains(document.activeElement) && document.activeElement.name === "voice";
      this.shown[k].radio.checked = true;
      if (walked) this.shown[k].radio.focus();
      this.engine.select(this.shown[k].key);
      this.say(`${this.label()}.`);
      this.show();
    }

    loop() {
      const { duration } = this.engine;
      const on = this.looping.checked;
      this.region.hidden = !on;
      if (on) {
        const asked = [this.from, this.to].map((field) => (field.value === "" ? NaN : Number(field.value)));
        this.engine.loop([Number.isNaN(asked[0]) ? 0 : asked[0], Number.isNaN(asked[1]) ? duration : asked[1]]);
        const [from, to] = this.engine.looped;
        [this.from.value, this.to.value] = [from.toFixed(1), to.toFixed(1)];
        this.say(`Loop from ${from.toFixed(1)} to ${to.toFixed(1)} seconds; the shortest is ${SHORTEST_LOOP} s.`);
      } else { this.engine.loop(null); this.say("No loop."); }
      this.tick();
    }

    follow() {
      if (!this.engine.playing || this.closed) return;
      this.tick();
      if (calm.matches) setTimeout(() => this.follow(), 250);
      else requestAnimationFrame(() => this.follow());
    }

    tick() {
      const at = this.engine.position();
      this.slider.value = at;
      const text = `${at.toFixed(1)} of ${this.engine.duration.toFixed(1)} s`;
      if (this.time.textContent !== text) { this.time.textContent = text; this.slider.setAttribute("aria-valuetext", text); }
      this.figures.forEach((figure) => figure.at(at));
    }

    say(text) { this.status.textContent = text; }

    // Space, R, L and digits, unless the focus is where they mean something else.
    key(event) {
      const { target } = event;
      if (!this.listening.checked || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
      const radio = target.matches?.("input[type=radio]");
      if (!radio && target.matches?.("select, textarea, input:not([type=range], [type=checkbox]), [contenteditable]")) return;
      const digit = /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
      if (event.key === " ") {
        if (!radio && target.matches?.("button, a, summary, input[type=checkbox]")) return;
        this.toggle();
      } else if (digit) this.select(this.shown.findIndex((row) => row.shortcut === String(digit)));
      else if (/^r$/i.test(event.key)) this.select(this.shown.findIndex((row) => row.shortcut === "R"));
      else if (/^l$/i.test(event.key)) { this.looping.checked = !this.looping.checked; this.loop(); } else return;
      event.preventDefault();
    }

    // ---- spectrograms ----------------------------------------------------------------------------------------

    picture(key) {
      if (!this.pictures.has(key)) {
        const { buffer } = this.takes.get(key);
        this.pictures.set(key, analyse(buffer.getChannelData(0), buffer.sampleRate));
      }
      return this.pictures.get(key);
    }

    show() {
      const key = this.shown[this.chosen]?.key;
      if (key && key !== ORIGINAL) this.output = key;
      if (!this.keys.includes(this.output) || !this.ready(this.output)) this.output = this.keys.find((other) => this.ready(other));
      const { output } = this, [reference, coded, change] = this.figures;
      this.drawn.hidden = this.mode !== "open";
      if (this.drawn.hidden || !this.ready(ORIGINAL)) return;
      const top = () => loudest(this.picture(ORIGINAL));
      if (!reference.make) reference.show("Reference", () => ({ picture: this.picture(ORIGINAL), top: top(), text: describe(this.picture(ORIGINAL), top()) }));
      if (coded.output === output) return;
      coded.output = output;
      coded.show(output ? this.title(output) : "Output", output && (() => ({ picture: this.picture(output), top: top(), text: describe(this.picture(output), top()) })));
      change.show(output ? `${this.title(output)} minus reference` : "Difference", output && (() => {
        const levels = [ORIGINAL, output].map((k) => this.file(k).loudness);
        const gain = levels.includes(null) ? 0 : levels[0] - levels[1];
        const picture = difference(this.picture(ORIGINAL), this.picture(output), gain, top());
        return { picture, top: top(), text: `output ${gain < 0 ? "lowered" : "raised"} by ${Math.abs(gain).toFixed(1)} dB. Mean: ${describeDifference(picture, this.picture(ORIGINAL), top())}` };
      }));
    }

    repaint() { this.figures.forEach((figure) => figure.draw()); }

    // ---- ways to listen --------------------------------------------------------------------------------------

    enter(mode) {
      this.engine.stop();
      this.mode = mode;
      this.output = null;
      this.panel.replaceChildren();
      ({ open: () => this.open(), blind: () => blind(this), abx: () => prepare(this) })[mode]();
      this.say("");
      if (this.awake) this.load();
      this.show();
      this.keep();
    }

    // Into the address.
    keep() {
      const [a, b] = this.mode === "abx" ? this.pair.map((key) => (key === ORIGINAL ? REFERENCE : key ?? "")) : ["", ""];
      self.codecbench.writeState([...(wanted ?? []).map((key) => ["hear", key]), ["listen", this.mode === "open" ? "" : this.mode], ["a", a], ["b", b]], spec);
    }

    row(key, shortcut) {
      const { el, name } = this;
      const link = el("a", { href: `${this.root}audio/${this.file(key).name}.flac`, download: "", textContent: "FLAC", "aria-label": `${this.title(key)} as a FLAC file` });
      if (key === ORIGINAL) return { key, shortcut, name: "Reference", label: "Reference", tools: [link] };
      const { entry } = this.outputs.get(key);
      const remove = el("button", { type: "button", textContent: "Remove", "aria-label": `Remove ${this.title(key)}` });
      remove.addEventListener("click", () => { this.choose(this.keys.filter((other) => other !== key)); this.list.querySelector("input:not(:disabled)")?.focus(); });
      return { key, shortcut, name: this.title(key), label: el("span", {}, name(entry.system), el("small", {}, name(entry.point))), tools: [link, remove] };
    }

    open() {
      const { el } = this;
      this.rows([this.row(ORIGINAL, "R"), ...this.keys.map((key, k) => this.row(key, String(k + 1)))]);
      const left = [...this.outputs.keys()].filter((key) => !this.keys.includes(key));
      if (!left.length) { this.panel.replaceChildren(); return; }
      const full = this.keys.length >= MOST;
      const select = el("select", { disabled: full }, ...left.map((key) => el("option", { value: key, textContent: this.title(key) })));
      const add = el("button", { type: "button", textContent: "Add", disabled: full });
      add.addEventListener("click", () => { this.choose([...this.keys, select.value]); this.panel.querySelector("button:not(:disabled)")?.focus(); });
      this.panel.replaceChildren(el("div", { className: "line" }, el("label", {}, full ? `${MOST} outputs at most` : "Another output", select), add));
    }

    choose(keys) {
      for (const key of this.keys) if (!keys.includes(key)) { this.engine.drop(key); if (this.takes.get(key)?.error) this.takes.delete(key); }
      const current = this.shown[this.chosen]?.key;
      const added = keys.filter((key) => !this.keys.includes(key) && this.ready(key));
      this.keys = wanted = keys;
      this.keep();
      added.forEach((key) => this.engine.add(key, this.takes.get(key).buffer));
      this.open();
      this.relevel();
      this.select(Math.max(0, this.shown.findIndex((row) => row.key === current)));
      this.load();
      this.show();
    }
  }

  self.codecbenchPlayer = { get current() { return player; } };
})();
