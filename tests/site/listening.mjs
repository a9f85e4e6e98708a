// What is asserted of the player: engine, keys, blind tests, and recordings that cannot be played.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const axeSource = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const first = (context, folder) => context.files.find((name) => name.startsWith(`${folder}/`));
const close = (a, b, within, what) => assert.ok(Math.abs(a - b) <= within, `${what}: ${a}, not ${b}`);
const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

// The page of an utterance whose player has settled: every recording is here, or failed.
async function open(context, options = {}) {
  const page = await context.open(first(context, "utterance"), { hash: "#u=utt000", ...options });
  await page.evaluate(() => document.querySelector(".player").scrollIntoView({ behavior: "instant" }));
  await page.waitForFunction(() => {
    const { takes, heard } = codecbenchPlayer.current;
    return heard.every((key) => takes.get(key)?.buffer || takes.get(key)?.error);
  }, { timeout: 30_000 });
  return page;
}

// Firefox starts no AudioContext where there is no sound device. Its clock is then this one; what the engine makes heard
// is rendered by `engine`, in both browsers.
const clock = () => {
  self.AudioContext = class {
    constructor({ sampleRate }) { Object.assign(this, { sampleRate, state: "running", begun: performance.now(), graph: new OfflineAudioContext(1, 1, sampleRate) }); }
    get currentTime() { return (performance.now() - this.begun) / 1000; }
    get destination() { return this.graph.destination; }
    createGain() { return this.graph.createGain(); }
    createBuffer(...shape) { return this.graph.createBuffer(...shape); }
    createBufferSource() { return this.graph.createBufferSource(); }
    async resume() {}
    async close() {}
  };
};

const state = (page) => page.evaluate(() => {
  const { engine, shown, chosen, status } = codecbenchPlayer.current;
  return {
    playing: engine.playing, at: engine.position(), running: engine.context.state, current: shown[chosen]?.name, status: status.textContent,
    checked: document.querySelectorAll(".voices input[type=radio]:checked").length, open: [...engine.voices.values()].filter((voice) => voice.open > 0).length,
    gains: [...engine.voices.values()].map((voice) => voice.gain), button: document.querySelector(".play").textContent, region: engine.looped,
  };
});

// ---- what needs no page --------------------------------------------------------------------------------------

export async function logic(context) {
  const page = await open(context);
  const found = await page.evaluate(() => {
    const { guessing, shuffle, below, fft, matching } = codecbenchSound;
    const { analyse, difference, describe, describeDifference, loudest, ROWS } = codecbenchSpectrogram;
    const n = 64, frame = Float64Array.from({ length: n }, (_, k) => Math.sin(k * k) + (k % 5));
    const naive = Array.from({ length: n / 2 + 1 }, (_, f) => {
      let re = 0, im = 0;
      frame.forEach((x, k) => { re += x * Math.cos((2 * Math.PI * f * k) / n); im -= x * Math.sin((2 * Math.PI * f * k) / n); });
      return re * re + im * im;
    });
    const counts = [0, 0, 0, 0, 0, 0];
    for (let k = 0; k < 6000; k++) counts[["abc", "acb", "bac", "bca", "cab", "cba"].indexOf(shuffle(["a", "b", "c"]).join(""))]++;
    const rate = 16000, sine = (f, level) => Float32Array.from({ length: rate }, (_, k) => level * Math.sin((2 * Math.PI * f * k) / rate));
    const tone = analyse(sine(1000, 0.5), rate);
    const column = (picture) => [...picture.db.subarray(20 * ROWS, 21 * ROWS)];
    const quieter = analyse(sine(1000, 0.25), rate);
    const same = difference(tone, quieter, 20 * Math.log10(2), loudest(tone));
    const low = analyse(sine(300, 0.5), rate);
    const moved = difference(tone, low, 0, loudest(tone));
    return {
      p: [guessing(9, 10), guessing(12, 16), guessing(0, 8), guessing(16, 16), guessing(5, 10)],
      dice: Array.from({ length: 3000 }, () => below(3)).reduce((a, d) => { a[d]++; return a; }, [0, 0, 0]),
      counts, fft: Math.max(...[...fft(n)(frame, new Float64Array(n / 2 + 1))].map((power, k) => Math.abs(power - naive[k]))),
      matching: [matching([-20, -23, -18, null, -50]), matching([-20, -20]), matching([null, -30, -20]), matching([null])],
      loudest: loudest(tone), row: column(tone).indexOf(Math.max(...column(tone))), rows: ROWS, reach: describe(tone, loudest(tone)),
      same: Math.max(...same.db.map(Math.abs)), moved: describeDifference(moved, tone, loudest(tone)), silent: describe(analyse(new Float32Array(1600), rate), -10),
      tiny: analyse(new Float32Array(3), 8000).columns,
    };
  });
  [11 / 1024, 2517 / 65536, 1, 1 / 65536, 638 / 1024].forEach((p, k) => close(found.p[k], p, 1e-12, `p ${k}`));
  assert.ok(found.counts.every((count) => count > 850 && count < 1150), String(found.counts)); // 1000 ± 5 σ
  assert.ok(found.dice.every((count) => count > 870 && count < 1130), String(found.dice));
  assert.ok(found.fft < 1e-8, `the transform is off by ${found.fft}`);
  assert.deepEqual(found.matching, [[-3, 0, -5, null, null], [0, 0], [null, 0, -10], [null]]);
  close(found.loudest, 20 * Math.log10(0.5), 2.5, "level of a sine");
  const mel = (f) => 2595 * Math.log10(1 + f / 700);
  close(found.row, (found.rows * mel(1000)) / mel(8000), 1.5, "row of 1 kHz");
  assert.match(found.reach, /reaches up to about 1\.\d kHz/);
  assert.ok(found.same < 0.01, `equal but for level, and differs by ${found.same} dB`);
  assert.match(found.moved, /^below 1 kHz \+.* 1 to 4 kHz −.*above 4 kHz/);
  assert.match(found.silent, /nothing/);
  assert.ok(found.tiny >= 1);
}

// The engine, rendered: the position after a switch is the position before it, and a loop stays in step.
export async function engine(context) {
  const page = await open(context);
  const found = await page.evaluate(async () => {
    const rate = 48000, { Engine, FADE } = codecbenchSound;
    const make = (seconds) => {
      const offline = new OfflineAudioContext(1, seconds * rate, rate);
      const player = new Engine(offline);
      const ramp = (sign, length = rate) => {
        const buffer = offline.createBuffer(1, length, rate);
        buffer.copyToChannel(Float32Array.from({ length }, (_, k) => (sign * k) / rate), 0);
        return buffer;
      };
      player.add("up", ramp(0.5));
      player.add("down", ramp(-0.5), 0.5);
      player.select("up");
      return { offline, player, ramp };
    };
    const sample = (buffer, at) => buffer.getChannelData(0)[Math.round(at * rate)];
    const plain = make(1);
    plain.player.play(0);
    plain.player.select("down", 0.5);
    plain.player.select("up", 0.7);
    plain.player.select("up", 0.75); // again: nothing to do
    const once = await plain.offline.startRendering();
    const looping = make(2);
    looping.player.region = [0.2, 0.8];
    looping.player.play(0);
    looping.player.select("down", 1.1);
    const looped = await looping.offline.startRendering();
    const uneven = make(2);
    uneven.player.add("short", uneven.ramp(0.25, rate / 2));
    uneven.player.region = [0.3, 0.9];
    uneven.player.play(0.3);
    uneven.player.select("short", 0.35);
    const kept = await uneven.offline.startRendering();
    const tight = make(1).player;
    tight.region = [0.9, 0.95];
    return {
      once: [0.25, 0.499, 0.6, 0.69, 0.8].map((at) => sample(once, at)), middle: sample(once, 0.5 + FADE / 2), steepest: Math.max(...once.getChannelData(0).map((x, k, all) => (k ? Math.abs(x - all[k - 1]) : 0))),
      looped: [0.5, 1.0, 1.3, 1.7].map((at) => sample(looped, at)), positions: [0.5, 1.0, 1.3, 1.7].map((at) => looping.player.position(at)), kept: [0.15, 0.4, 0.75].map((at) => sample(kept, at)), tight: tight.looped,
    };
  });
  [0.125, 0.2495, -0.15, -0.1725, 0.4].forEach((value, k) => close(found.once[k], value, 2e-4, `sample ${k}`));
  close(found.middle, (0.25 - 0.125) / 2, 2e-3, "middle of the crossfade");
  assert.ok(found.steepest < 0.003, `a click of ${found.steepest}`);
  [0.7, 0.6, 0.3, 0.7].forEach((at, k) => close(found.positions[k], at, 1e-9, `position ${k}`));
  [0.35, 0.3, -0.075, -0.175].forEach((value, k) => close(found.looped[k], value, 3e-4, `looped sample ${k}`));
  [0.5 * 0.45, 0, 0.25 * 0.45].forEach((value, k) => close(found.kept[k], value, 3e-4, `sample ${k} of a short one`));
  assert.deepEqual(found.tight.map((at) => at.toFixed(3)), ["0.500", "1.000"]);
}

// ---- playing -------------------------------------------------------------------------------------------------

export async function playing(context) {
  const page = await open(context, { before: context.chromium ? null : clock });
  await page.evaluate(() => {
    self.made = 0;
    self.AudioContext = class extends AudioContext { constructor(...options) { super(...options); self.made++; } };
  });
  const idle = await state(page);
  assert.deepEqual([idle.playing, idle.at, await page.evaluate(() => self.made)], [false, 0, 0], "it plays by itself");
  assert.equal(await page.evaluate(() => [...document.querySelectorAll("audio, video")].length), 0);
  assert.equal(idle.current, "Reference");
  await page.click(".play");
  await page.waitForFunction(() => codecbenchPlayer.current.engine.playing || /no sound/.test(codecbenchPlayer.current.status.textContent));
  const begun = await state(page);
  assert.ok(begun.playing, begun.status);
  assert.equal(begun.button, "Pause");
  assert.equal(await page.evaluate(() => codecbenchPlayer.current.engine.context.sampleRate), 16000);
  assert.equal(begun.open, 1);
  assert.ok(begun.gains.every((gain) => gain > 0.05 && gain <= 1), "something is amplified");
  assert.ok(Math.min(...begun.gains) < 0.99, "nothing is matched");
  await page.focus(".voices input[type=radio]:checked");
  await page.keyboard.press("l"); // so that it does not end meanwhile
  for (const [key, name] of [["2", 2], ["1", 1], ["r", 0], ["R", 0], ["3", 3]]) {
    const before = await state(page);
    await page.keyboard.press(key);
    const after = await state(page);
    const expected = await page.evaluate((k) => codecbenchPlayer.current.shown[k].name, name);
    assert.deepEqual([after.current, after.playing, after.open, after.checked], [expected, true, 1, 1], key);
    assert.ok(after.status.startsWith(expected));
    const gone = (after.at - before.at + 1.5) % 1.5;
    assert.ok(gone < 0.7, `switching moves from ${before.at} to ${after.at}`);
  }
  await page.keyboard.press("ArrowDown"); // radio buttons are walked with arrows
  assert.equal((await state(page)).current, await page.evaluate(() => codecbenchPlayer.current.shown[4].name));
  assert.deepEqual((await state(page)).region, [0, 1.5]);
  await page.evaluate(() => { const { from, to } = codecbenchPlayer.current; from.value = "0.8"; to.value = "0.9"; to.dispatchEvent(new Event("change")); });
  const region = await state(page);
  assert.deepEqual(region.region.map((at) => at.toFixed(1)), ["0.8", "1.3"]);
  assert.match(region.status, /Loop from 0\.8 to 1\.3 seconds/);
  await pause(800);
  const looping = await state(page);
  assert.ok(looping.playing && looping.at >= 0.8 && looping.at <= 1.3, `at ${looping.at}`);
  await page.keyboard.press(" ");
  const paused = await state(page);
  assert.deepEqual([paused.playing, paused.button, paused.status, paused.open], [false, "Play", "Paused.", 0]);
  await pause(100);
  assert.equal((await state(page)).at, paused.at, "the position moves while paused");
  if (context.chromium) {
    await page.keyboard.press("l");
    await page.keyboard.press(" ");
    await page.waitForFunction(() => !codecbenchPlayer.current.engine.playing, { timeout: 10_000 }); // its end
    assert.equal((await state(page)).at, 0);
  }
  // Equal loudness can be turned off, and says so.
  const said = await page.evaluate(() => { const { matched, list } = codecbenchPlayer.current; const before = list.textContent; matched.click(); return [before, list.textContent, [...codecbenchPlayer.current.engine.voices.values()].map((voice) => voice.gain)]; });
  assert.match(said[0], /−\d+\.\d dB applied/);
  assert.doesNotMatch(said[1], /applied/);
  assert.ok(said[2].every((gain) => gain === 1));
  // Keys can be turned off, and do nothing where one writes.
  await page.evaluate(() => codecbenchPlayer.current.listening.click());
  await page.keyboard.press("1");
  assert.notEqual((await state(page)).current, await page.evaluate(() => codecbenchPlayer.current.shown[1].name));
  // Another utterance closes this player, and keeps the choice of outputs.
  await page.evaluate(() => { [...document.querySelectorAll(".voices button")][0].click(); self.old = codecbenchPlayer.current; location.hash = "#u=utt002"; });
  await page.waitForFunction(() => codecbenchPlayer.current && codecbenchPlayer.current !== self.old);
  const kept = await page.evaluate(() => [self.old.engine.playing, self.old.keys, codecbenchPlayer.current.keys]);
  assert.equal(kept[0], false);
  assert.deepEqual(kept[1], kept[2]);
  assert.equal(kept[2].length, 3);
  await page.evaluate(() => { location.hash = "#u=utt001"; });
  await page.waitForFunction(() => !codecbenchPlayer.current);
  assert.match(await page.evaluate(() => document.querySelector("[data-slot=players]").textContent), /No audio of this utterance is here. There is of utt000, utt002, utt004/);
}

export async function choosing(context) {
  const page = await open(context);
  for (let k = 0; k < 2; k++) {
    await page.evaluate(() => [...document.querySelectorAll(".panel button")].find((button) => button.textContent === "Add").click());
  }
  await page.waitForFunction(() => [...document.querySelectorAll(".voices input[type=radio]")].every((radio) => !radio.disabled));
  assert.equal(await page.evaluate(() => document.querySelectorAll(".voices li").length), 7);
  assert.equal(await page.evaluate(() => document.querySelector(".panel").textContent), "");
  const figures = await page.evaluate(() => { codecbenchPlayer.current.drawn.scrollIntoView(); return new Promise((done) => { setTimeout(() => done([...document.querySelectorAll(".spectrogram")].map((figure) => {
    const canvas = figure.querySelector(".picture canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return { label: canvas.getAttribute("aria-label"), role: canvas.getAttribute("role"), width: canvas.width, colours: new Set(Array.from({ length: data.length / 4 }, (_, k) => data.slice(4 * k, 4 * k + 3).join())).size };
  })), 1500); }); });
  assert.equal(figures.length, 3);
  for (const figure of figures) assert.ok(figure.colours > 20 && figure.width > 50 && figure.role === "img", JSON.stringify(figure));
  assert.match(figures[0].label, /^Reference: reaches up to about \d/);
  assert.match(figures[2].label, /minus reference: output (raised|lowered) by \d+\.\d dB. Mean: below 1 kHz [+−]?\d/);
}

// ---- blind ---------------------------------------------------------------------------------------------------

const press = (page, text) => page.evaluate((label) => [...document.querySelectorAll(".panel button")].find((button) => button.textContent === label).click(), text);
const capture = () => {
  self.blobs = [];
  const make = URL.createObjectURL.bind(URL);
  URL.createObjectURL = (blob) => { self.blobs.push(blob.text()); return make(blob); };
  HTMLAnchorElement.prototype.click = () => {};
};
async function saved(page) {
  await press(page, "Save as JSON");
  return JSON.parse(await page.evaluate(() => Promise.resolve(self.blobs.at(-1))));
}

export async function abx(context) {
  const page = await open(context, { before: capture });
  await page.click("input[value=abx]");
  await page.waitForFunction(() => document.querySelectorAll(".panel select").length === 3);
  await page.evaluate(() => { document.querySelectorAll(".panel select")[2].value = "8"; });
  await press(page, "Start");
  await page.waitForFunction(() => /Trial 1 of 8/.test(document.querySelector(".panel").textContent));
  const secrets = [];
  for (let k = 0; k < 8; k++) {
    assert.match(await page.evaluate(() => document.querySelector(".panel").textContent), new RegExp(`Trial ${k + 1} of 8`));
    const seen = await page.evaluate(() => ({ labels: [...document.querySelectorAll(".voices b")].map((b) => b.textContent), html: document.querySelector(".voices").innerHTML, drawn: codecbenchPlayer.current.drawn.hidden, secret: codecbenchPlayer.current.shown[2].key === codecbenchPlayer.current.shown[0].key ? "A" : "B" }));
    assert.deepEqual(seen.labels, ["A", "B", "X"]);
    assert.doesNotMatch(seen.html, /opus|mimi|encodec|LUFS|flac|dB/i, "it shows what X is");
    assert.ok(seen.drawn);
    secrets.push(seen.secret);
    await press(page, k < 6 ? `X is ${seen.secret}` : `X is ${seen.secret === "A" ? "B" : "A"}`);
  }
  const text = await page.evaluate(() => document.querySelector(".panel").textContent);
  assert.match(text, /8 trials, p = 0\.145: 6 correct/); // 37/256
  assert.match(text, /no score of the leaderboard/);
  const json = await saved(page);
  assert.equal(json.n, 8);
  assert.equal(json.planned, 8);
  assert.equal(json.correct, 6);
  close(json.p, 37 / 256, 1e-12, "p");
  assert.deepEqual(json.trials.map((trial) => trial.x), secrets);
  assert.equal(json.a, "Reference");
  assert.match(json.about, /no score/);
  assert.equal(json.utterance, "utt000");
  // Stopping early says so.
  await press(page, "Again");
  await press(page, "Start");
  await page.waitForFunction(() => /Trial 1/.test(document.querySelector(".panel").textContent));
  await press(page, "X is A");
  await press(page, "Stop");
  assert.match(await page.evaluate(() => document.querySelector(".panel").textContent), /1 trials?, p = (0\.500|1\.000).*Stopped after 1 of 12/);
}

export async function blind(context) {
  const page = await open(context, { before: capture });
  await page.click("input[value=blind]");
  await page.waitForFunction(() => document.querySelectorAll(".rating").length === 5);
  const seen = await page.evaluate(() => ({ labels: [...document.querySelectorAll(".voices b")].map((b) => b.textContent), html: document.querySelector(".voices").outerHTML, order: codecbenchPlayer.current.shown.slice(1).map((row) => row.key) }));
  assert.deepEqual(seen.labels, ["Reference", "A", "B", "C", "D", "E"]);
  assert.doesNotMatch(seen.html, /opus|mimi|encodec|LUFS|flac/i, "it shows what is what");
  await page.evaluate(() => document.querySelectorAll(".rating input").forEach((input, k) => { input.value = 10 * k + 5; input.dispatchEvent(new Event("input")); }));
  await press(page, "Reveal");
  const json = await saved(page);
  assert.deepEqual(json.ratings.map((row) => row.rating), [5, 15, 25, 35, 45]);
  assert.equal(json.ratings.filter((row) => row.hidden_reference).length, 1);
  assert.equal(seen.order.indexOf("\u0000"), json.ratings.findIndex((row) => row.hidden_reference));
  assert.match(await page.evaluate(() => document.querySelector(".panel").textContent), /hidden reference.*no score of the leaderboard/s);
}

// ---- what goes wrong, and for whom ---------------------------------------------------------------------------

// `broken.json` of the site says what the player should say of which entry.
export async function broken(context) {
  const expected = JSON.parse(fs.readFileSync(path.join(context.site, "broken.json"), "utf8"));
  const page = await open(context, { before: context.chromium ? null : clock, expect: ["/audio/", "ERR_FILE_NOT_FOUND", "SyntaxError", "string literal", "Invalid or unexpected token", "Loading failed"] });
  for (let k = 0; k < 2; k++) await press(page, "Add");
  await page.waitForFunction(() => codecbenchPlayer.current.shown.every((row) => row.about.textContent !== "loading"));
  const rows = await page.evaluate(() => codecbenchPlayer.current.shown.map((row) => ({ key: row.key, text: row.about.textContent, disabled: row.radio.disabled, file: codecbenchPlayer.current.file(row.key).name })));
  for (const row of rows) {
    const says = expected[row.key];
    assert.equal(row.disabled, Boolean(says), `${row.key}: ${row.text}`);
    if (says) assert.ok(row.text.includes(says) && row.text.includes(row.file), row.text);
    else assert.match(row.text, /LUFS|silent/);
  }
  assert.equal(rows.filter((row) => row.disabled).length, Object.keys(expected).length);
  await page.click(".play"); // the others play
  await page.waitForFunction(() => codecbenchPlayer.current.engine.playing);
  const alone = await open(context, { hash: "#u=utt002", expect: ["/audio/", "ERR_FILE_NOT_FOUND", "Loading failed"] }); // all of whose recordings are gone
  const nothing = await alone.evaluate(() => [document.querySelector(".play").disabled, document.querySelectorAll(".about.failed").length, codecbenchPlayer.current.shown.length]);
  assert.deepEqual(nothing, [true, nothing[2], nothing[2]]);
  return rows.length;
}

export async function accessiblePlayer(context) {
  for (const dark of [false, true]) {
    for (const mode of ["open", "blind", "abx", "trial", "files"]) {
      const page = mode === "files" ? await context.open(first(context, "listen")) : await open(context, mode === "open" && dark ? { width: 360, height: 740 } : {});
      await page.evaluate((theme) => { document.documentElement.dataset.theme = theme; }, dark ? "dark" : "light");
      if (mode === "blind" || mode === "abx" || mode === "trial") await page.evaluate((value) => document.querySelector(`input[value=${value}]`).click(), mode === "trial" ? "abx" : mode);
      if (mode === "trial") { await press(page, "Start"); await pause(300); }
      await page.evaluate(axeSource);
      const violations = await page.evaluate(async (runOnly) => (await axe.run(document, { preload: false, runOnly })).violations
        .map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`), RULES);
      assert.deepEqual(violations, [], `${mode}, ${dark ? "dark" : "light"}`);
      await page.setViewport({ width: 360, height: 740 });
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(wide <= room, `${mode} is ${wide} px wide on ${room}`);
      const small = await page.evaluate(() => [...document.querySelectorAll(".player button, .player select, .player input:not([type=radio], [type=checkbox]), .player label")]
        .filter((node) => node.checkVisibility()).map((node) => [node.outerHTML.slice(0, 80), node.getBoundingClientRect()]).filter(([, box]) => box.width < 23.5 || box.height < 23.5).map(([html, box]) => `${html} ${box.width}×${box.height}`));
      assert.deepEqual(small, [], `${mode}: targets below 24 px`);
      await page.close();
    }
  }
}

// What recognisers heard, from the texts that the run kept; also of utterances without audio.
export async function transcripts(context) {
  const page = await context.open(first(context, "utterance"), { hash: "#u=utt001" });
  const rows = await page.evaluate(() => [...document.querySelectorAll("#heard dt")].map((dt) => [dt.textContent, [...dt.nextSibling.querySelectorAll("del")].map((n) => n.textContent), [...dt.nextSibling.querySelectorAll("ins")].map((n) => n.textContent), dt.nextSibling.textContent.trim()]));
  assert.deepEqual(rows[0], ["The original", ["fox"], ["socks"], "the quick brown fox socks"]);
  assert.equal(rows.length, 1 + 2 * 6);
  const opus = rows.filter(([who]) => who.startsWith("opus 6kbps"));
  assert.deepEqual(opus, [["opus 6kbps", ["quick"], ["red"], "the quick brown red fox"], ["opus 6kbps (base)", [], [], "the quick brown fox"]]);
  const marks = await page.evaluate(() => ["del", "ins"].map((tag) => getComputedStyle(document.querySelector(`#heard ${tag}`)).textDecorationLine));
  assert.deepEqual(marks, ["line-through", "underline"]); // more than colour
}
