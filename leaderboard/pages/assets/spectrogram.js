// Spectrograms of recordings and their difference, computed here from the samples and drawn when they come into sight.
(() => {
  "use strict";
  const { fft } = self.codecbenchSound;
  const ROWS = 128;
  const MOST_COLUMNS = 720;
  const RANGE = 80; // dB below the loudest cell of the original that still show
  const AUDIBLE = 60; // dB below it that count in a difference
  const LARGEST = 30; // dB of difference at which the colours end
  const TICKS = [100, 500, 1000, 2000, 4000, 8000, 16000, 32000];
  const LIGHT = ["#ffffff", "#cfe6ea", "#5fa9b8", "#2b5f93", "#1c1446"];
  const DARK = ["#12161a", "#17395c", "#1f7a8c", "#e0b35a", "#fff8e1"];
  const LIGHT_CHANGE = ["#0b4f94", "#7fb2e0", "#ffffff", "#f0a06a", "#9c2f00"];
  const DARK_CHANGE = ["#9fd0ff", "#2f6ea8", "#12161a", "#a8561f", "#ffc9a0"];

  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (m) => 700 * (10 ** (m / 2595) - 1);
  const kilo = (f) => (f < 1000 ? `${Math.round(f)} Hz` : `${(f / 1000).toFixed(f < 10000 ? 1 : 0)} kHz`);

  // Levels in dB (of a sine at full scale: about 0) of `ROWS` rows of equal width in mel by time: {db, columns, rate, seconds}.
  function analyse(samples, rate) {
    const n = Math.max(256, 2 ** Math.round(Math.log2(0.03 * rate)));
    const hop = Math.max(n / 4, Math.ceil(samples.length / MOST_COLUMNS));
    const columns = Math.max(1, Math.ceil(samples.length / hop));
    const hann = Float64Array.from({ length: n }, (_, k) => 0.5 - 0.5 * Math.cos((2 * Math.PI * k) / n));
    const transform = fft(n), frame = new Float64Array(n), power = new Float64Array(n / 2 + 1);
    const edges = Float64Array.from({ length: ROWS + 1 }, (_, r) => (hertz((mel(rate / 2) * r) / ROWS) * n) / rate);
    const db = new Float32Array(columns * ROWS);
    for (let c = 0; c < columns; c++) {
      const start = Math.round(c * hop - n / 2 + hop / 2);
      for (let k = 0; k < n; k++) frame[k] = (samples[start + k] ?? 0) * hann[k];
      transform(frame, power);
      for (let r = 0; r < ROWS; r++) db[c * ROWS + r] = 10 * Math.log10(between(power, edges[r], edges[r + 1]) / (n / 4) ** 2 + 1e-14);
    }
    return { db, columns, rate, seconds: samples.length / rate };
  }

  // The mean power between two places of a spectrum; where they share a bin, its neighbours are interpolated.
  function between(power, low, high) {
    if (high - low >= 1) {
      let sum = 0, count = 0;
      for (let k = Math.ceil(low); k < high; k++) { sum += power[k]; count++; }
      return sum / count;
    }
    const at = (low + high) / 2, k = Math.min(power.length - 2, Math.floor(at));
    return power[k] + (at - k) * (power[k + 1] - power[k]);
  }

  const loudest = (picture) => picture.db.reduce((a, b) => Math.max(a, b), -140);

  // Level of `output`, raised by `gain` dB, minus that of `reference`, cell by cell; what is inaudible in both is 0.
  function difference(reference, output, gain, top) {
    const floor = top - AUDIBLE;
    const db = reference.db.map((level, k) => Math.max(floor, (output.db[k] ?? -140) + gain) - Math.max(floor, level));
    return { ...reference, db };
  }

  const rowOf = (f, rate) => (ROWS * mel(f)) / mel(rate / 2);

  // What a spectrogram shows, in words.
  function describe(picture, top) {
    let reach = -1;
    for (let r = 0; r < ROWS; r++) {
      let loud = 0;
      for (let c = 0; c < picture.columns; c++) loud += picture.db[c * ROWS + r] > top - AUDIBLE;
      if (loud > picture.columns / 20) reach = r;
    }
    if (reach < 0) return "nothing within 60 dB of the loudest part of the reference";
    return `reaches up to about ${kilo(hertz((mel(picture.rate / 2) * (reach + 1)) / ROWS))}`;
  }

  // The mean difference of those cells that differ or could, in three bands.
  function describeDifference(picture, reference, top) {
    const bands = [["below 1 kHz", 0, 1000], ["1 to 4 kHz", 1000, 4000], ["above 4 kHz", 4000, Infinity]];
    return bands.filter(([, low]) => low < picture.rate / 2).map(([band, low, high]) => {
      const from = Math.round(rowOf(low, picture.rate)), to = Math.round(rowOf(Math.min(high, picture.rate / 2), picture.rate));
      let sum = 0, count = 0;
      for (let c = 0; c < picture.columns; c++) {
        for (let r = from; r < to; r++) {
          const k = c * ROWS + r;
          if (reference.db[k] > top - AUDIBLE || picture.db[k]) { sum += picture.db[k]; count++; }
        }
      }
      const mean = count ? sum / count : 0;
      return `${band} ${mean > 0 ? "+" : mean < -0.05 ? "−" : ""}${Math.abs(mean).toFixed(1)} dB`;
    }).join(", ");
  }

  // ---- drawing -----------------------------------------------------------------------------------------------

  const isDark = () => {
    const { theme } = document.documentElement.dataset;
    return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };

  function palette(stops) {
    const rgb = stops.map((stop) => [1, 3, 5].map((k) => parseInt(stop.slice(k, k + 2), 16)));
    return Array.from({ length: 256 }, (_, k) => {
      const at = (k / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at));
      return rgb[low].map((value, c) => Math.round(value + (at - low) * (rgb[low + 1][c] - value)));
    });
  }

  function paint(canvas, width, height, level, colours) {
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const shade = colours[Math.max(0, Math.min(255, Math.round(255 * level(x, y))))];
        image.data.set([...shade, 255], 4 * (y * width + x));
      }
    }
    context.putImageData(image, 0, 0);
  }

  // A figure that is filled by `show(picture, …)` once it is in sight.
  class Figure {
    constructor(el, title, change, seek) {
      Object.assign(this, { change, el });
      this.canvas = el("canvas", { role: "img", "aria-label": title });
      this.key = el("canvas", { "aria-hidden": "true" });
      this.ticks = el("div", { className: "ticks", "aria-hidden": "true" });
      this.head = el("div", { className: "head", hidden: true });
      this.title = el("b", { textContent: title });
      this.text = el("span");
      this.legend = el("span", { className: "legend" }, change ? `−${LARGEST} dB, lost` : `−${RANGE} dB`, this.key, change ? `+${LARGEST} dB, added` : "0 dB");
      this.node = el("figure", { className: "spectrogram" }, el("figcaption", {}, this.title, " ", this.text, this.legend),
        el("div", { className: "frame" }, this.ticks, el("div", { className: "picture" }, this.canvas, this.head)));
      this.canvas.addEventListener("click", (event) => {
        const box = this.canvas.getBoundingClientRect();
        if (this.seconds) seek((this.seconds * (event.clientX - box.left)) / box.width);
      });
      this.seen = false;
      new IntersectionObserver(([entry], observer) => {
        if (!entry.isIntersecting) return;
        observer.disconnect();
        this.seen = true;
        this.draw();
      }, { rootMargin: "200px" }).observe(this.node);
    }

    // `make` gives {picture, top, text}, and is called only if the figure is seen.
    show(title, make) {
      Object.assign(this, { make, made: null });
      this.title.textContent = title;
      this.node.hidden = !make;
      this.draw();
    }

    draw() {
      if (!this.seen || !this.make) return;
      this.made ??= this.make();
      const { picture, top, text } = this.made;
      const colours = palette(this.change ? (isDark() ? DARK_CHANGE : LIGHT_CHANGE) : isDark() ? DARK : LIGHT);
      const scale = this.change ? (level) => 0.5 + level / (2 * LARGEST) : (level) => 1 + (level - top) / RANGE;
      paint(this.canvas, picture.columns, ROWS, (x, y) => scale(picture.db[x * ROWS + ROWS - 1 - y]), colours);
      paint(this.key, 128, 1, (x) => x / 127, colours);
      this.seconds = picture.seconds;
      this.text.textContent = text;
      this.canvas.setAttribute("aria-label", `${this.title.textContent}: ${text}`);
      const shown = TICKS.filter((f) => f < picture.rate / 2.1);
      this.ticks.replaceChildren(...shown.map((f) => {
        const tick = this.el("span", { textContent: f < 1000 ? f : `${f / 1000}k` });
        tick.style.bottom = `${(100 * mel(f)) / mel(picture.rate / 2)}%`;
        return tick;
      }));
    }

    // Where the recordings are, in seconds.
    at(seconds) {
      this.head.hidden = !this.seconds;
      if (this.seconds) this.head.style.left = `${(100 * Math.min(seconds, this.seconds)) / this.seconds}%`;
    }
  }

  self.codecbenchSpectrogram = { analyse, difference, describe, describeDifference, loudest, Figure, ROWS };
})();
