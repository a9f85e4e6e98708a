// What is asserted of the pages of charts and matrices: curves, pairs, BD-rates.
import assert from "node:assert/strict";

// What a reader sees of a chart or a matrix.
const drawing = (page) => page.evaluate(() => ({
  hash: location.hash,
  notice: document.getElementById("notice").textContent,
  status: document.getElementById("status").textContent,
  controls: [...document.querySelectorAll("#controls select")].map((select) => select.value),
  points: [...document.querySelectorAll('#chart g[aria-label="dot"] > *')].map((node) => node.getAttribute("aria-label")),
  cells: [...document.querySelectorAll("#matrix tbody td")].map((td) => td.textContent),
  heading: document.getElementById("difference-title")?.textContent ?? "",
}));

async function drawsAgain(context, file, page, what) {
  const shown = await drawing(page);
  const again = await context.open(file, { hash: shown.hash });
  assert.deepEqual(await drawing(again), shown, `${what} does not survive its own address ${shown.hash}`);
  await again.close();
  return shown;
}

// Chooses, and waits until the view that follows is drawn: the address is written last.
async function choose(page, id, value) {
  const before = await page.evaluate(() => document.getElementById("status").textContent + location.hash);
  await page.select(`#${id}`, value);
  await page.waitForFunction((old) => document.getElementById("status").textContent + location.hash !== old, { timeout: 5000 }, before).catch(() => {});
}

const options = (page, id) => page.evaluate((select) => [...document.getElementById(select).options].filter((option) => !option.disabled).map((option) => option.value), id);

export async function stateOfCharts(context) {
  const drawn = {};
  const page = await context.open("curves.html");
  const first = await drawing(page);
  assert.ok(first.points.length >= 10, String(first.points));
  for (const [id, enough] of [["x", 6], ["y", 6], ["track", 5], ["data", 3]]) {
    const values = await options(page, id);
    assert.ok(values.length >= enough, `${id}: ${values}`);
    for (const value of values) {
      await choose(page, id, value);
      const shown = await drawsAgain(context, "curves.html", page, `${id} ${value}`);
      assert.ok(shown.points.length || /Nothing to draw/.test(shown.status), `${id} ${value}: ${shown.status}`);
      (drawn[id] ??= new Set()).add(shown.points.join());
    }
    await page.evaluate(() => document.querySelector("#controls button[type=reset]").click());
    await page.waitForFunction(() => !location.hash);
  }
  for (const [id, states] of Object.entries(drawn)) assert.ok(states.size > 2, `${id} changes nothing`);
  // A latency that nobody measured: a sentence, no chart.
  await choose(page, "x", "latency_ms");
  assert.match(await page.evaluate(() => document.getElementById("chart").textContent), /No entry has a value of “algorithmic latency/);
  await choose(page, "x", "kbps");
  // Two systems alone, one of them of another track; classical codecs stay as anchors.
  await page.evaluate(() => { for (const value of ["mimi", "tiny_codec"]) document.querySelector(`#systems input[value="${value}"]`).click(); });
  await page.waitForFunction(() => new URLSearchParams(location.hash.slice(1)).getAll("system").length === 2);
  const two = await drawsAgain(context, "curves.html", page, "two systems");
  const names = new Set(two.points.map((label) => label.split(" ")[0]));
  assert.deepEqual([...names].sort(), ["codec2", "mimi", "opus", "tiny_codec"]);
  return first.points.length;
}

export async function stateOfMatrices(context) {
  const page = await context.open("pairs.html");
  const seen = new Set();
  for (const id of ["metric", "band", "data"]) {
    for (const value of await options(page, id)) {
      await choose(page, id, value);
      const shown = await drawsAgain(context, "pairs.html", page, `${id} ${value}`);
      assert.ok(shown.cells.length >= 4);
      seen.add(shown.cells.join());
    }
  }
  assert.ok(seen.size > 10);
  const rates = await context.open("bd.html");
  for (const id of ["over", "anchor", "metric", "data"]) {
    for (const value of await options(rates, id)) {
      await choose(rates, id, value);
      await drawsAgain(context, "bd.html", rates, `${id} ${value}`);
    }
  }
  assert.match(await rates.evaluate(() => document.getElementById("against").textContent), /n\/a: /);
  // A cell with a number opens the curve of differences.
  const heading = await rates.evaluate(() => {
    [...document.querySelectorAll("#matrix td > button")].find((button) => button.textContent.includes("%") && !button.textContent.startsWith("n/a")).click();
  }).then(() => rates.waitForSelector('#difference:not([hidden]) #chart g[aria-label="dot"]')).then(() => rates.evaluate(() => document.getElementById("difference-title").textContent));
  assert.match(heading, / against /);
  const shown = await drawsAgain(context, "bd.html", rates, "a curve of differences");
  assert.equal(shown.points.length, 32);
  // A cell of a pair leads to the utterances of both.
  const pairs = await context.open("pairs.html", { hash: "#data=demo&metric=wer" });
  const [href, label] = await pairs.evaluate(() => { const link = document.querySelector("#matrix td > a"); return [link.href, link.textContent]; });
  assert.match(label, /common items, 6 clusters/);
  assert.match(label, /after Holm/);
  const rows = await context.open(href.slice(context.address("").length).split("#")[0], { hash: `#${href.split("#")[1]}` });
  const list = await rows.evaluate(() => ({ notice: document.getElementById("notice").textContent, entry: document.getElementById("entry").value, vs: document.getElementById("vs").value, sorted: document.querySelector("#grid [aria-sort]")?.dataset.key }));
  assert.deepEqual([list.notice, list.sorted], ["", "difference"]);
  assert.ok(list.entry && list.vs && list.entry !== list.vs);
  return seen.size;
}

// The tip of a point or cell under the keyboard; and no element or text that is wider than a phone.
export async function tips(context) {
  const tip = (page) => page.evaluate(() => { const box = document.querySelector(".tip"); return box && !box.hidden ? box.textContent : ""; });
  const page = await context.open("curves.html");
  await page.focus("#share");
  for (let k = 0; k < 2; k++) await page.keyboard.press("Tab"); // past Reset
  const one = await tip(page);
  assert.match(one, /95|\(.* to .*\)/, `no tip at ${await page.evaluate(() => document.activeElement.outerHTML.slice(0, 200))}`);
  assert.match(one, /measured bitrate: .* kbps/);
  assert.equal(await page.evaluate(() => document.querySelectorAll('#chart [tabindex="0"]').length), 1);
  await page.keyboard.press("ArrowRight");
  const two = await tip(page);
  assert.ok(two && two !== one);
  await page.keyboard.press("End");
  assert.notEqual(await tip(page), two);
  await page.keyboard.press("Escape");
  assert.equal(await tip(page), "");
  // The same under the pointer.
  const box = await page.evaluate(() => { const { x, y, width, height } = document.querySelector('#chart g[aria-label="dot"] > *').getBoundingClientRect(); return [x + width / 2, y + height / 2]; });
  await page.mouse.move(...box);
  await page.waitForFunction(() => { const shown = document.querySelector(".tip"); return shown && !shown.hidden; });
  const pairs = await context.open("pairs.html");
  await pairs.focus('#matrix td > [tabindex="0"]');
  const cell = await tip(pairs);
  assert.match(cell, /against .*(certainly|tie)/);
  await pairs.keyboard.press("ArrowDown");
  assert.notEqual(await tip(pairs), cell);
  // Data that is missing is said, and nothing else breaks.
  const torn = await context.open("curves.html", { expect: ["ERR_FILE_NOT_FOUND"], before: () => {
    const insert = Element.prototype.append;
    Element.prototype.append = function append(...nodes) {
      for (const node of nodes) if (node.tagName === "SCRIPT" && node.src.includes("/curves/")) { setTimeout(() => node.dispatchEvent(new Event("error"))); return; }
      insert.apply(this, nodes);
    };
  } });
  assert.match(await torn.evaluate(() => document.getElementById("notice").textContent), /curves\/.*is missing/);
  assert.ok(await torn.evaluate(() => document.querySelector("#chart svg") !== null), "the chart that stands in the page is gone");
}

// Hostile addresses of charts: no error, and what is not known is said.
export async function hostileCharts(context) {
  const hashes = ["#x=__proto__&y=constructor", "#system=%3Cimg%20src%3Dx%3E&system=a", "#data=nowhere&band=1", "#anchor=__proto__&test=toString", "#range=1&track=none", `#y=${"x".repeat(1_000_000)}`, "#about", "#=&=&&"];
  let said = 0;
  for (const file of ["curves.html", "pairs.html", "bd.html"]) {
    for (const hash of hashes) {
      const page = await context.open(file, { hash });
      const shown = await drawing(page);
      assert.ok(shown.points.length || shown.cells.length, `${file}${hash.slice(0, 40)} shows nothing`);
      said += /left out/.test(shown.notice);
      await page.close();
    }
  }
  assert.ok(said >= 12, `${said} notices`);
}

// Charts of hostile names: text, cut where it is long.
export async function hostileCharted(context) {
  const page = await context.open("curves.html");
  const labels = await page.evaluate(() => [...document.querySelectorAll("#chart .labels text")].map((node) => node.textContent));
  await page.evaluate(() => document.querySelector('#chart g[aria-label="dot"] > [tabindex="0"]').focus());
  const seen = await page.evaluate(() => [document.querySelector(".tip").textContent.length, document.querySelectorAll("#chart img, #chart script, #chart foreignObject, .tip img").length, typeof window.XSS]);
  assert.ok(seen[0] > 0 && seen[0] < 1500);
  assert.deepEqual(seen.slice(1), [0, "undefined"]);
  return labels;
}
