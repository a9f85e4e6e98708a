// Bundles what plot.js names into one classic script for pages opened from a folder, and gathers the licences of every
// package that is in it. Called by scripts/vendor-plot.
import fs from "node:fs";
import path from "node:path";
import { build } from "esbuild";

const assets = process.argv[2];
const { version } = JSON.parse(fs.readFileSync("node_modules/@observablehq/plot/package.json", "utf8"));
const { metafile } = await build({
  entryPoints: ["plot.js"], bundle: true, minify: true, format: "iife", globalName: "Plot", target: "es2020",
  legalComments: "none", metafile: true, outfile: path.join(assets, "plot.js"),
  banner: { js: `/* Observable Plot ${version} and what it needs of d3. Licences: plot.LICENCE.txt. Made by scripts/vendor-plot. */` },
});
const used = Object.values(metafile.outputs)[0].inputs;
const names = Object.entries(used).filter(([, { bytesInOutput }]) => bytesInOutput > 0)
  .map(([file]) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]).filter(Boolean);
const licences = [...new Set(names)].sort().map((name) => {
  const folder = path.join("node_modules", name);
  const facts = JSON.parse(fs.readFileSync(path.join(folder, "package.json"), "utf8"));
  const file = fs.readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) throw new Error(`${name} has no licence file`);
  const text = fs.readFileSync(path.join(folder, file), "utf8").replaceAll("\r\n", "\n").trim();
  return `${name} ${facts.version} (${facts.license})\n\n${text}\n`;
});
fs.writeFileSync(path.join(assets, "plot.LICENCE.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));
