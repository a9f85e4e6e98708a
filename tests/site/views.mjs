// What is asserted of views: the tables of language models, the badges of claims, and the choices kept in addresses.
import assert from "node:assert/strict";
import { accessible } from "./scenarios.mjs";

// The pages of a task and of a model, whichever page of their type comes first.
export const accessibleModels = (context) => accessible(context, context.files.filter((name) => /^(dataset|rows|utterance|system)\/(go-on|large-lm)-.*html$/.test(name)));

const first = (context, folder) => context.files.find((name) => name.startsWith(`${folder}/`));

// The tables of tasks sort apart from the leaderboard above them; one address holds both views, and gives both back.
export async function tasks(context) {
  const shown = (page) => page.evaluate(() => ({
    hash: location.hash, notice: document.getElementById("notice").textContent,
    codecs: [...document.querySelectorAll("#grid tbody tr:not(.group)")].map((tr) => tr.textContent),
    models: [...document.querySelectorAll("#models table")].map((table) => [...table.querySelectorAll("tbody tr:not(.group)")].map((tr) => tr.dataset.name)),
    sorted: [...document.querySelectorAll("#models [aria-sort]")].map((th) => [th.dataset.key, th.getAttribute("aria-sort")]),
  }));
  const page = await context.open("index.html");
  const plain = await shown(page);
  assert.deepEqual(plain.models, [["large_lm", "small_lm", "ceiling", "floor"], ["large_lm", "small_lm", "ceiling", "floor"]]);
  assert.ok(plain.codecs.length === 4 && !plain.codecs.some((text) => /_lm|ceiling|floor/.test(text)), String(plain.codecs));
  await page.evaluate(() => document.querySelectorAll('#models th[data-key="wer"] button')[0].click());
  await page.evaluate(() => document.querySelectorAll('#models th[data-key="wer"] button')[0].click());
  await page.evaluate(() => document.querySelector('#grid th[data-key="mel"] button').click());
  await page.evaluate(() => document.querySelector("#grid .pin").click());
  const both = await shown(page);
  assert.deepEqual(both.models[1].slice(0, 2), ["small_lm", "large_lm"]);
  assert.deepEqual(both.sorted, [["wer", "descending"]]);
  for (const part of ["sort=mel", "pin=", "models=wer", "way=descending"]) assert.ok(both.hash.includes(part), both.hash);
  const again = await context.open("index.html", { hash: both.hash });
  assert.deepEqual(await shown(again), both);
  await again.evaluate(() => document.querySelector("#controls button[type=reset]").click());
  assert.deepEqual((await shown(again)).models, both.models, "resetting the leaderboard moves the models");
  const hostile = await context.open("index.html", { hash: "#models=__proto__&way=sideways&sort=mel" });
  const kept = await shown(hostile);
  assert.deepEqual(kept.models, plain.models);
  assert.match(kept.notice, /left out: models, way/);
  assert.equal(kept.hash, "#sort=mel&order=ascending");
  const anchored = await context.open("index.html", { hash: await page.evaluate(() => `#${document.querySelector("#models h3").id}`) });
  assert.equal((await shown(anchored)).notice, "");
}

// What a system declares and does not keep is said in words in the tables and on its page.
export async function claims(context) {
  const page = await context.open("index.html");
  const badges = () => page.evaluate(() => [...document.querySelectorAll("#grid tbody tr")].filter((tr) => tr.querySelector(".claim")).map((tr) => [tr.cells[0].querySelector(".name").textContent, tr.querySelector(".claim").textContent, tr.querySelector(".claim").title]));
  const drawn = await badges();
  assert.equal(drawn.length, 11);
  assert.deepEqual([...new Set(drawn.map(([system, text]) => `${system}: ${text}`))].sort(), ["codec2: declares 0 ms delay", "opus: declares 0 ms delay", "tiny_codec: declares 0 ms delay"]);
  assert.match(drawn[0][2], /0 ms of delay declared, 6\.50 measured on Demo; .* on Other/);
  const plain = context.chromium ? await context.open("index.html", { script: false }) : null; // Firefox cannot be told to run no scripts from here
  if (plain) assert.equal(await plain.evaluate(() => document.querySelectorAll("#grid .claim").length), 11);
  const system = await context.open(context.files.find((name) => name.startsWith("system/opus-")));
  const said = await system.evaluate(() => [document.querySelector("a.badge.warn").textContent, document.querySelector("#claims + div table").innerText]);
  assert.equal(said[0], "10 claims differ from what was measured");
  assert.match(said[1], /delay\s+0\.00 ms\s+6\.50 ms/);
}

// What is chosen in listening: the outputs, the way to listen and the two of a test come back from the address.
export async function stateOfListening(context) {
  const file = first(context, "utterance");
  const open = async (hash) => {
    const page = await context.open(file, { hash });
    await page.waitForFunction(() => Boolean(codecbenchPlayer.current));
    return page;
  };
  const chosen = (page) => page.evaluate(() => ({
    hash: location.hash, notice: document.getElementById("notice").textContent, mode: codecbenchPlayer.current.mode, keys: codecbenchPlayer.current.keys,
    radio: document.querySelector("input[name=listening]:checked").value, selected: [...document.querySelectorAll(".panel select")].slice(0, 2).map((select) => select.value),
  }));
  const page = await open("#u=utt000");
  const plain = await chosen(page);
  assert.equal(plain.hash, "#u=utt000");
  await page.evaluate(() => { const { current } = codecbenchPlayer; current.choose([...current.keys.slice(1), [...current.outputs.keys()].find((key) => !current.keys.includes(key))]); });
  await page.evaluate(() => document.querySelector('#grid th[data-key="wer"] button').click());
  const other = await chosen(page);
  assert.notDeepEqual(other.keys, plain.keys);
  assert.deepEqual(new URLSearchParams(other.hash.slice(1)).getAll("hear"), other.keys);
  assert.deepEqual(await chosen(await open(other.hash)), other);
  for (const mode of ["blind", "abx"]) {
    await page.evaluate((value) => document.querySelector(`input[value=${value}]`).click(), mode);
    if (mode === "abx") await page.evaluate(() => { const [a, b] = document.querySelectorAll(".panel select"); a.selectedIndex = 2; b.selectedIndex = 0; b.dispatchEvent(new Event("change")); });
    const now = await chosen(page);
    assert.deepEqual([now.mode, now.radio], [mode, mode]);
    assert.ok(now.hash.includes(`listen=${mode}`), now.hash);
    if (mode === "abx") assert.match(now.hash, /&a=[^&]+&b=reference/);
    assert.deepEqual(await chosen(await open(now.hash)), now, now.hash);
  }
  // The neighbour is heard with the same choices, in this page and in another one.
  const next = await page.evaluate(() => document.getElementById("next").hash);
  assert.ok(next.includes("u=utt001") && next.includes("listen=abx") && next.includes("hear="), next);
  await page.evaluate(() => { location.hash = location.hash.replace("utt000", "utt002"); });
  await page.waitForFunction(() => document.getElementById("id").textContent === "utt002");
  assert.deepEqual((await chosen(page)).keys, other.keys);
  for (const [hash, left] of [["#u=utt000&hear=__proto__&hear=%3Cimg%3E&listen=loud&a=constructor&b=%00", "hear, listen, a, b"], ["#u=utt000&listen=abx&listen=blind&a=reference", "listen"], [`#u=utt000&hear=${"x".repeat(9000)}`, "its end, hear"]]) {
    const odd = await open(hash);
    const { notice, keys, hash: kept, mode } = await chosen(odd);
    assert.ok(notice.endsWith(`left out: ${left}.`), notice);
    assert.deepEqual(keys, plain.keys);
    assert.equal(kept, mode === "abx" ? "#listen=abx&a=reference&u=utt000" : "#u=utt000", hash);
    await odd.close();
  }
}

// Milliseconds until something of the first page is painted, of several times it is opened anew.
export async function firstPaint(context) {
  const times = [];
  for (let k = 0; k < 7; k++) {
    const page = await context.open("index.html");
    times.push(await page.evaluate(() => new Promise((done) => {
      new PerformanceObserver((list) => done(list.getEntriesByName("first-contentful-paint")[0].startTime)).observe({ type: "paint", buffered: true });
    })));
    await page.close();
  }
  return times;
}
