// Pictures of one page of each type, as wide as a desk's screen and as a phone's, for the documentation.
import fs from "node:fs";
import path from "node:path";
import { pages } from "./scenarios.mjs";

const SIZES = { desktop: { width: 1280, height: 900 }, phone: { width: 360, height: 740 } };

// Into the folder $PICTURES; returns the names of what was drawn.
export async function pictures(context) {
  const folder = process.env.PICTURES;
  fs.mkdirSync(folder, { recursive: true });
  const drawn = [];
  for (const file of pages(context.files, 1)) {
    for (const [size, view] of Object.entries(SIZES)) {
      const page = await context.open(file, view);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 400))));
      const name = `${(file.includes("/") ? file.split("/")[0] : path.basename(file, ".html"))}-${size}.webp`;
      await page.screenshot({ path: path.join(folder, name), type: "webp", quality: 70 });
      drawn.push(name);
      await page.close();
    }
  }
  return drawn;
}
