// What is asserted of a built site. Each scenario throws on the first thing that is wrong.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";

export * from "./charting.mjs";

const axeSource = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { width: 360, height: 740 };

// One page of each type, and of those with a page a system or dataset up to `most`.
export function pages(files, most = 2) {
  const counts = {};
  return files.filter((file) => file.endsWith(".html")).filter((file) => {
    const kind = file.includes("/") ? file.split("/")[0] : file;
    counts[kind] = (counts[kind] ?? 0) + 1;
    return counts[kind] <= most;
  });
}

// What a reader sees of a view: what is announced, and the order of the rows.
const view = (page) => page.evaluate(() => ({
  hash: location.hash,
  status: document.getElementById("status")?.textContent ?? "",
  notice: document.getElementById("notice")?.textContent ?? "",
  heads: [...document.querySelectorAll("#grid thead th")].map((th) => `${th.dataset.key} ${th.getAttribute("aria-sort") ?? ""}`.trim()),
  rows: [...document.querySelectorAll("#grid tbody:not(.space) tr")].map((tr) => tr.textContent).slice(0, 60),
}));

// The same address in a new page shows the same view, and keeps its address.
async function roundTrips(context, file, page, what) {
  const shown = await view(page);
  const again = await context.open(file, { hash: shown.hash });
  assert.deepEqual(await view(again), shown, `${what} does not survive its own address ${shown.hash}`);
  await again.close();
  return shown;
}

export async function everyPage(context) {
  const seen = pages(context.files, 3);
  assert.ok(seen.length >= 8, `only ${seen.length} pages`);
  for (const file of seen) {
    for (const size of [PHONE, { width: 1280, height: 900 }]) {
      const page = await context.open(file, size);
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(wide <= room, `${file} is ${wide} px wide on ${room}`);
      const small = await page.evaluate(() => [...document.querySelectorAll("button, select, input:not([type=checkbox], [type=radio]), summary, nav a")]
        .filter((node) => node.checkVisibility()).map((node) => [node.outerHTML.slice(0, 90), node.getBoundingClientRect()])
        .filter(([, box]) => box.width < 23.5 || box.height < 23.5).map(([html, box]) => `${html} ${box.width}×${box.height}`));
      assert.deepEqual(small, [], `${file}: targets below 24 px`);
      await page.close();
    }
  }
  return seen;
}

export async function accessible(context, files = pages(context.files, 1)) {
  let checked = 0;
  for (const file of files) {
    for (const dark of [false, true]) {
      const page = await context.open(file);
      await page.evaluate((theme) => { document.documentElement.dataset.theme = theme; }, dark ? "dark" : "light");
      await page.evaluate(axeSource);
      const violations = await page.evaluate(async () => (await axe.run(document, { preload: false, runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }))
        .violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join("; ")}`));
      assert.deepEqual(violations, [], `${file}, ${dark ? "dark" : "light"}`);
      checked++;
      await page.close();
    }
  }
  return checked;
}

// Every internal link leads to a file of the site, every other one is http(s) and gives nothing away.
export async function links(context) {
  const known = new Set(context.files);
  let count = 0;
  for (const file of pages(context.files, 3)) {
    const page = await context.open(file);
    for (const [raw, href, rel] of await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((a) => [a.getAttribute("href"), a.href, a.rel]))) {
      count++;
      if (/^https?:/.test(raw)) { assert.match(rel, /noopener/, raw); continue; }
      const target = new URL(href);
      target.hash = "";
      const name = decodeURIComponent(target.href.slice(context.address("").length));
      assert.ok(known.has(name), `${file} links to ${raw}, which is not there`);
    }
    await page.close();
  }
  return count;
}

export async function stateOfScores(context) {
  const file = "index.html";
  const page = await context.open(file);
  const facets = await page.evaluate(() => [...document.querySelectorAll("#controls details.drop input[type=checkbox]")].map((box, k) => { box.dataset.n = k; return box.value; }));
  assert.ok(facets.length > 15, `${facets.length} boxes`);
  const every = await view(page);
  const filtered = [];
  for (let k = 0; k < facets.length; k++) {
    await page.evaluate((n) => document.querySelector(`[data-n="${n}"]`).click(), k);
    const shown = await roundTrips(context, file, page, `the box ${facets[k]}`);
    assert.notEqual(shown.hash, "", facets[k]);
    filtered.push(shown.status !== every.status || shown.heads.length !== every.heads.length);
    await page.evaluate((n) => document.querySelector(`[data-n="${n}"]`).click(), k);
  }
  assert.ok(filtered.filter(Boolean).length > facets.length * 0.7, "hardly any box changes what is shown");
  assert.deepEqual(await view(page), every);
  for (const key of await page.evaluate(() => [...document.querySelectorAll("#grid thead th")].map((th) => th.dataset.key))) {
    for (let turn = 0; turn < 2; turn++) {
      await page.evaluate((k) => document.querySelector(`#grid th[data-key="${k}"] button`).click(), key);
      const shown = await roundTrips(context, file, page, `sorting by ${key}`);
      assert.equal(shown.heads.filter((head) => head.endsWith("ending")).length, 1);
    }
  }
  for (const value of await page.evaluate(() => [...document.getElementById("data").options].map((option) => option.value))) {
    await page.select("#data", value);
    await roundTrips(context, file, page, `the data ${value}`);
  }
  await page.type("#q", "ÒPUS 8");
  const found = await roundTrips(context, file, page, "a search");
  assert.match(found.status, /^\d+ row/);
  await page.evaluate(() => document.querySelector("#controls button[type=reset]").click());
  for (let k = 0; k < 7; k++) await page.evaluate((n) => document.querySelectorAll("#grid .pin[aria-pressed=false]")[n % 3]?.click(), k);
  const pinned = await view(page);
  assert.equal(new URLSearchParams(pinned.hash.slice(1)).getAll("pin").length, 6);
  assert.match(pinned.notice, /Up to 6 entries/);
  const again = await context.open(file, { hash: pinned.hash });
  assert.equal(await again.evaluate(() => document.querySelectorAll("#compare thead th").length), 7);
  assert.deepEqual((await view(again)).rows, pinned.rows);
  return facets.length;
}

export async function stateOfUtterances(context) {
  const file = context.files.find((name) => name.startsWith("rows/"));
  const page = await context.open(file);
  const every = await view(page);
  for (const id of ["entry", "outcome", "vs"]) {
    for (const value of await page.evaluate((select) => [...document.getElementById(select).options].map((option) => option.value).slice(0, 5), id)) {
      await page.select(`#${id}`, value);
      await roundTrips(context, file, page, `${id} ${value}`);
    }
    await page.evaluate(() => document.querySelector("#controls button[type=reset]").click());
  }
  assert.deepEqual((await view(page)).status, every.status);
  const boxes = await page.evaluate(() => [...document.querySelectorAll("#facets input")].map((box, k) => { box.dataset.n = k; return box.value; }));
  assert.ok(boxes.length > 3);
  for (let k = 0; k < boxes.length; k++) {
    await page.evaluate((n) => document.querySelector(`[data-n="${n}"]`).click(), k);
    await roundTrips(context, file, page, `the box ${boxes[k]}`);
  }
  await page.evaluate(() => document.querySelector("#controls button[type=reset]").click());
  for (const key of await page.evaluate(() => [...document.querySelectorAll("#grid thead th[data-key]")].filter((th) => th.querySelector("button")).map((th) => th.dataset.key))) {
    await page.evaluate((k) => document.querySelector(`#grid th[data-key="${k}"] button`).click(), key);
    await roundTrips(context, file, page, `sorting by ${key}`);
  }
  const utterance = context.files.find((name) => name.startsWith("utterance/"));
  const one = await context.open(utterance);
  const first = await one.evaluate(() => document.getElementById("id").textContent);
  await one.evaluate(() => document.getElementById("next").click());
  await one.waitForFunction((id) => document.getElementById("id").textContent !== id, {}, first);
  await one.evaluate(() => document.querySelector('#grid th[data-key="wer"] button').click());
  await roundTrips(context, utterance, one, "an utterance");
  for (const plain of ["systems.html", "datasets.html", context.files.find((name) => name.startsWith("dataset/"))]) {
    const table = await context.open(plain);
    await table.evaluate(() => document.querySelectorAll("table.sortable thead button")[1].click());
    const order = () => [...document.querySelectorAll("table.sortable tbody tr")].map((tr) => tr.textContent);
    const hash = await table.evaluate(() => location.hash);
    assert.match(hash, /sort=/);
    const again = await context.open(plain, { hash });
    assert.deepEqual(await again.evaluate(order), await table.evaluate(order));
  }
}

// From a score to its utterances, the worst first; from an utterance to all entries on it.
export async function drillDown(context) {
  const page = await context.open("index.html", { hash: `#data=demo&sort=wer` });
  const [href, ok] = await page.evaluate(() => {
    const row = [...document.querySelectorAll("#grid tbody tr")].find((tr) => tr.textContent.startsWith("opus6kbps"));
    const index = [...document.querySelectorAll("#grid thead th")].findIndex((th) => th.dataset.key === "wer");
    return [row.cells[index].querySelector("a").href, true];
  });
  assert.ok(ok);
  const rows = await context.open(href.slice(context.address("").length).split("#")[0], { hash: `#${href.split("#")[1]}` });
  const shown = await rows.evaluate(() => {
    const index = [...document.querySelectorAll("#grid thead th")].findIndex((th) => th.dataset.key === "wer");
    const lines = [...document.querySelectorAll("#grid tbody tr")];
    return { values: lines.map((tr) => Number(tr.cells[index].textContent)), entries: [...new Set(lines.map((tr) => tr.cells[1].textContent))], status: document.getElementById("status").textContent };
  });
  assert.deepEqual(shown.entries, ["opus 6kbps"]);
  assert.ok(shown.values.length >= 10);
  assert.deepEqual(shown.values, [...shown.values].sort((a, b) => b - a), "the worst do not come first");
  // Against another entry: the differences are sorted, and are what the two columns say.
  await rows.evaluate(() => { const vs = document.getElementById("vs"); vs.value = [...vs.options].find((option) => option.textContent.startsWith("opus 24")).value; vs.dispatchEvent(new Event("change")); });
  const differences = await rows.evaluate(() => {
    const index = [...document.querySelectorAll("#grid thead th")].findIndex((th) => th.dataset.key === "difference");
    return [...document.querySelectorAll("#grid tbody tr")].map((tr) => Number(tr.cells[index].textContent.replace("−", "-")));
  });
  const known = differences.filter((value) => !Number.isNaN(value));
  assert.ok(known.length >= 10 && known[0] > 0);
  assert.deepEqual(known, [...known].sort((a, b) => b - a));
  // A failure tells its reason.
  await rows.evaluate(() => { document.querySelector("#controls button[type=reset]").click(); const outcome = document.getElementById("outcome"); outcome.value = "failed"; outcome.dispatchEvent(new Event("change")); });
  const failed = await rows.evaluate(() => [...document.querySelectorAll("#grid tbody tr")].map((tr) => tr.lastElementChild.textContent));
  assert.ok(failed.length && failed.every((text) => text.includes("frame 12 has 55 bits")), String(failed));
  const link = await rows.evaluate(() => document.querySelector("#grid tbody tr a").href);
  const one = await context.open(link.slice(context.address("").length).split("#")[0], { hash: `#${link.split("#")[1]}`, before: () => {
    document.addEventListener("codecbench:utterance", (event) => { self.told = event.detail; });
  } });
  const page_ = await one.evaluate(() => ({
    heard: document.getElementById("heard").hidden, del: document.querySelectorAll("#heard del").length, ins: document.querySelectorAll("#heard ins").length,
    reasons: document.getElementById("reasons").textContent, told: self.told, slot: document.querySelectorAll("[data-slot=players]").length,
  }));
  assert.equal(page_.heard, false);
  assert.ok(page_.del > 0 && page_.ins > 0);
  assert.match(page_.reasons, /frame 12 has 55 bits/);
  assert.equal(page_.slot, 1);
  assert.ok(page_.told.entries.length > 10 && page_.told.utterance.startsWith("utt"));
  return shown.values.length;
}

export async function keyboard(context) {
  const page = await context.open("index.html");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
  await page.focus('#grid th[data-key="pesq_wb"] button');
  await page.keyboard.press("Enter");
  const sorted = await page.evaluate(() => ({ sort: document.querySelector('#grid th[data-key="pesq_wb"]').getAttribute("aria-sort"), status: document.getElementById("status").textContent, live: document.getElementById("status").getAttribute("role") }));
  assert.deepEqual(sorted, { sort: "descending", status: sorted.status, live: "status" });
  assert.match(sorted.status, /sorted by pesq_wb, descending/);
  assert.equal(await page.evaluate(() => document.activeElement.closest("th")?.dataset.key), "pesq_wb", "sorting loses the focus");
  await page.focus("#facets summary");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.querySelectorAll("details.drop[open]").length), 1);
  await page.keyboard.press("Tab");
  await page.keyboard.press(" ");
  assert.equal(await page.evaluate(() => document.activeElement.checked), true);
  assert.equal(await page.evaluate(() => document.querySelectorAll("#chips li").length), 1);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.querySelectorAll("details.drop[open]").length), 0);
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "SUMMARY");
  await page.focus("#grid .info");
  await page.keyboard.press("Enter");
  assert.match(await page.evaluate(() => document.querySelector("dialog[open]").textContent), /impl:synthetic-1/);
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.querySelectorAll("dialog[open]").length), 0);
  // Two pins with the keyboard alone open the comparison.
  for (let k = 0; k < 2; k++) {
    await page.evaluate((n) => document.querySelectorAll("#grid .pin")[n].focus(), k + 1);
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.className), "pin", "pinning loses the focus");
  }
  assert.equal(await page.evaluate(() => document.getElementById("compare").hidden), false);
}

export async function hostileNames(context) {
  const names = pages(context.files, 100);
  let shown = "";
  for (const file of names) {
    for (const size of [PHONE, { width: 1280, height: 900 }]) {
      const page = await context.open(file, size);
      const found = await page.evaluate(() => ({
        xss: typeof window.XSS, title: document.title, text: document.body.innerText, wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        active: document.querySelectorAll("img, iframe, object, embed, base, [onerror], [onload], script:not([src]):not([type])").length, bad: [...document.querySelectorAll("a[href]")].map((a) => a.href).filter((href) => !/^(https?|file):/.test(href)),
      }));
      assert.equal(found.xss, "undefined", file);
      assert.ok(!found.title.startsWith("XSS"), file);
      assert.equal(found.active, 1, `${file} holds something that acts`); // the script that sets the theme
      assert.deepEqual(found.bad, [], file);
      assert.ok(found.wide <= 0, `${file} is ${found.wide} px too wide at ${size.width}`);
      shown += found.text;
      await page.close();
    }
  }
  return shown;
}

export async function hostileAddresses(context) {
  const hashes = ["#sort=__proto__", "#sort=constructor&order=toString", "#q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E", `#q=${"x".repeat(1_000_000)}`, "#data=nowhere&band=1",
    "#__proto__=1&hasOwnProperty=2", "#pin=a&pin=b&pin=__proto__", "#family=%FF%FE&track=%", "#sort=wer&sort=mel", "#col=", "#dataset=demo&track=official&sort=wer", "#reading", "#=&=&&", "#entry=x&vs=y&outcome=z&u=__proto__"];
  const targets = ["index.html", context.files.find((name) => name.startsWith("rows/")), context.files.find((name) => name.startsWith("utterance/")), "systems.html"];
  const notices = [];
  for (const file of targets) {
    for (const hash of hashes) {
      const page = await context.open(file, { hash });
      const shown = await page.evaluate(() => ({ notice: document.getElementById("notice").textContent, hidden: document.getElementById("notice").hidden, rows: document.querySelectorAll("tbody tr").length, hash: location.hash.length }));
      assert.equal(shown.hidden, !shown.notice);
      assert.ok(shown.hash < 10_000 || hash.length > 10_000);
      if (!/q=%3C|1000000/.test(hash)) assert.ok(shown.rows > 0, `${file}${hash.slice(0, 60)} shows nothing`);
      notices.push([file, hash.slice(0, 40), shown.notice]);
      await page.close();
    }
  }
  const said = (file, hash) => notices.find(([f, h]) => f === file && h.startsWith(hash))[2];
  assert.match(said("index.html", "#sort=__proto__"), /left out: sort/);
  assert.match(said("index.html", "#data=nowhere"), /data, band/);
  assert.equal(said("index.html", "#reading"), "");
  assert.equal(said("index.html", "#q=%3Cimg"), "");
  return notices.length;
}

// What a browser may lack or refuse: nothing is lost but the convenience.
export async function degraded(context) {
  if (context.chromium) { // Firefox cannot be told to run no scripts from here
    const plain = await context.open("index.html", { script: false });
    const shown = await plain.evaluate(() => ({ rows: document.querySelectorAll("#grid tbody tr:not(.group)").length, form: document.getElementById("controls").checkVisibility(), text: document.querySelector("#grid").innerText }));
    assert.ok(shown.rows >= 10 && !shown.form);
    assert.match(shown.text, /opus/);
  }
  const storage = await context.open("index.html", { before: () => {
    Object.defineProperty(window, "localStorage", { get() { throw new DOMException("denied", "SecurityError"); } });
  } });
  await storage.select("#theme", "dark");
  assert.equal(await storage.evaluate(() => getComputedStyle(document.body).backgroundColor), "rgb(21, 25, 29)");
  const old = await context.open("index.html", { before: () => { delete window.DecompressionStream; } });
  assert.match(await old.evaluate(() => document.getElementById("notice").textContent), /too old to unpack/);
  assert.ok(await old.evaluate(() => document.querySelectorAll("#grid tbody tr").length) >= 10);
  const rows = await context.open(context.files.find((name) => name.startsWith("rows/")), { before: () => { delete window.DecompressionStream; } });
  assert.match(await rows.evaluate(() => document.getElementById("notice").textContent), /too old to unpack.*downloads/);
  const clipboard = await context.open("index.html", { before: () => {
    Object.defineProperty(navigator, "clipboard", { value: { writeText: () => Promise.reject(new DOMException("denied", "NotAllowedError")) } });
  } });
  await clipboard.evaluate(() => document.getElementById("copy").click());
  await clipboard.waitForSelector("dialog[open] textarea");
  assert.match(await clipboard.evaluate(() => document.querySelector("dialog textarea").value), /^file:.*index\.html/);
  const themed = await context.open("index.html");
  await themed.select("#theme", "dark");
  const next = await context.open("systems.html");
  const theme = await next.evaluate(() => document.documentElement.dataset.theme ?? "");
  assert.ok(theme === "dark" || !context.chromium, `the theme is '${theme}' on the next page`); // browsers may give each file a storage of its own
  const zoomed = await context.open("index.html", { width: 320, height: 256 }); // 1280 px at 400 %
  assert.ok(await zoomed.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth));
  const paper = await context.open("index.html");
  await paper.emulateMediaType("print").then(async () => {
    const printed = await paper.evaluate(() => {
      dispatchEvent(new Event("beforeprint"));
      return { form: document.getElementById("controls").checkVisibility(), nav: document.querySelector("nav").checkVisibility(), address: document.querySelector(".printed").textContent, paper: getComputedStyle(document.body).backgroundColor, rows: document.querySelectorAll("#grid tbody tr").length };
    });
    assert.deepEqual([printed.form, printed.nav, printed.paper], [false, false, "rgb(255, 255, 255)"]);
    assert.match(printed.address, /index\.html/);
    assert.ok(printed.rows >= 10);
  }, (error) => assert.ok(!context.chromium, error.message));
}

// What is saved of a view: for the caller to read as CSV and JSON.
export async function saved(context) {
  const page = await context.open("index.html", { hash: "#sort=wer&order=descending", before: () => {
    self.blobs = [];
    const make = URL.createObjectURL.bind(URL);
    URL.createObjectURL = (blob) => { self.blobs.push(blob.text()); return make(blob); };
  } });
  await page.evaluate(() => { HTMLAnchorElement.prototype.click = () => {}; document.getElementById("csv").click(); document.getElementById("json").click(); });
  return page.evaluate(() => Promise.all(self.blobs));
}

// A site that has no results, or hardly any: every view says why it is empty.
export async function few(context) {
  const texts = {};
  for (const file of pages(context.files, 3)) {
    const page = await context.open(file);
    texts[file.split("/")[0]] = await page.evaluate(() => document.querySelector("main").innerText.replace(/\s+/g, " "));
    await page.close();
  }
  return texts;
}

// Seconds that a page of very many rows takes; the caller knows how many there are.
export async function budgets(context) {
  const file = context.files.find((name) => name.startsWith("rows/"));
  const page = await context.open(file);
  return page.evaluate(async () => {
    const timed = async (action) => {
      const started = performance.now();
      await action();
      document.body.getBoundingClientRect();
      return performance.now() - started;
    };
    const click = (selector) => document.querySelector(selector).click();
    const change = (id, value) => { const node = document.getElementById(id); node.value = value; node.dispatchEvent(new Event(id === "q" ? "input" : "change")); };
    const result = { status: document.getElementById("status").textContent, inDocument: document.querySelectorAll("#grid tbody tr").length };
    const keys = [...document.querySelectorAll("#grid thead th")].filter((th) => th.querySelector("button")).map((th) => th.dataset.key);
    result.sort = [];
    for (const key of keys) result.sort.push(await timed(() => click(`#grid th[data-key="${key}"] button`)));
    result.filter = await timed(() => change("q", "utt0001"));
    result.found = document.getElementById("status").textContent;
    change("q", "");
    result.entry = await timed(() => change("entry", document.getElementById("entry").options[3].value));
    change("entry", "");
    const region = document.querySelector("#grid .scroll");
    result.scroll = [];
    for (const share of [0.25, 0.5, 1]) {
      region.scrollTop = region.scrollHeight * share;
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      const box = region.getBoundingClientRect();
      const rows = [...region.querySelectorAll("tbody:not(.space) tr")].filter((tr) => tr.getBoundingClientRect().bottom > box.top + 60 && tr.getBoundingClientRect().top < box.bottom);
      result.scroll.push([rows.length, Number(rows.at(-1)?.getAttribute("aria-rowindex"))]);
    }
    return result;
  });
}
