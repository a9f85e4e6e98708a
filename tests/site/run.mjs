// Runs one scenario on a built site in one browser, and prints {"ok": …} as JSON.
//
//   node run.mjs BROWSER EXECUTABLE SITE SCENARIO
//
// Every page is opened from the folder (file://). Whatever a scenario does, a page may load nothing but the site's own
// files and may log no error.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";
import * as listening from "./listening.mjs";
import * as pictures from "./pictures.mjs";
import * as site from "./scenarios.mjs";
import * as views from "./views.mjs";

const scenarios = { ...site, ...listening, ...views, ...pictures };
const [browserName, executablePath, folderOfSite, scenario] = process.argv.slice(2);
const chromium = browserName === "chromium";
const folder = pathToFileURL(path.resolve(folderOfSite)).href;
const browser = await puppeteer.launch({
  browser: chromium ? "chrome" : "firefox",
  executablePath,
  headless: true,
  protocolTimeout: 120_000,
  args: chromium ? ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] : [],
  // Puppeteer lets pages from folders read each other; users' browsers do not.
  extraPrefsFirefox: { "security.fileuri.strict_origin_policy": true },
});

const problems = [];
const context = {
  browser, chromium, site: folderOfSite,
  address: (file) => `${folder}/${file.split("/").map(encodeURIComponent).join("/")}`,
  files: fs.readdirSync(folderOfSite, { recursive: true }).map((name) => name.split(path.sep).join("/")).sort(),
  // A new page; `before` runs in it before any script of its own.
  async open(file, { hash = "", width = 1280, height = 900, before = null, script = true, dark = false, expect = [] } = {}) {
    const page = await browser.newPage();
    await page.setViewport({ width, height });
    if (dark) await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]).catch(() => {});
    if (!script) await page.setJavaScriptEnabled(false);
    const allowed = (text) => expect.some((part) => text.includes(part));
    page.on("pageerror", (error) => allowed(error.message) || problems.push(`${file}: ${error.message}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !allowed(message.text())) problems.push(`${file}: ${message.text()}`);
    });
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${folder}/`) && !/^(data:|blob:|about:)/.test(url)) problems.push(`${file} asks for ${url}`);
    });
    page.on("requestfailed", (request) => allowed(request.url()) || problems.push(`${file} could not load ${request.url()}`));
    if (before) await page.evaluateOnNewDocument(before);
    await page.goto(context.address(file) + hash, { waitUntil: "load" });
    if (script) await page.waitForFunction(() => document.documentElement.dataset.ready, { timeout: 30_000 });
    return page;
  },
};

let outcome;
try {
  outcome = { ok: true, result: (await scenarios[scenario](context)) ?? null };
} catch (error) {
  outcome = { ok: false, error: String(error.stack ?? error) };
}
await browser.close();
if (problems.length) outcome = { ...outcome, ok: false, problems: [...new Set(problems)].slice(0, 20) };
console.log(JSON.stringify(outcome));
