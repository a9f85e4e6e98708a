// What the player stands on, without a page: chance, Fourier transform, recordings, and an engine that plays several of
// them in step and lets one through.
(() => {
  "use strict";
  const FADE = 0.005; // seconds of a switch
  const SHORTEST_LOOP = 0.5;
  const ORIGINAL = "\u0000"; // what the original is called where entries go by their keys, none of which is this
  const FARTHEST = 12; // dB below the original beyond which a recording is not matched but left as it is

  // ---- chance ------------------------------------------------------------------------------------------------

  // A whole number below `n`, each equally likely.
  function below(n, fill = (array) => crypto.getRandomValues(array)) {
    const limit = Math.floor(2 ** 32 / n) * n;
    const draw = new Uint32Array(1);
    do fill(draw); while (draw[0] >= limit);
    return draw[0] % n;
  }

  function shuffle(values, fill) {
    const out = [...values];
    for (let k = out.length - 1; k > 0; k--) {
      const other = below(k + 1, fill);
      [out[k], out[other]] = [out[other], out[k]];
    }
    return out;
  }

  // The probability of `correct` or more of `n` by guessing one of two: exact, one-sided.
  function guessing(correct, n) {
    let logTerm = -n * Math.LN2, sum = 0;
    for (let k = 0; k <= n; k++) {
      if (k >= correct) sum += Math.exp(logTerm);
      logTerm += Math.log(n - k) - Math.log(k + 1);
    }
    return Math.min(1, sum);
  }

  // ---- transform ---------------------------------------------------------------------------------------------

  // Power of the frequencies 0 to n/2 of real frames of `n` samples, a power of two: `fft(n)(frame, power)`.
  function fft(n) {
    const cosine = Float64Array.from({ length: n / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / n));
    const sine = Float64Array.from({ length: n / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / n));
    const bits = Math.log2(n);
    const reversed = Uint32Array.from({ length: n }, (_, k) => {
      let out = 0;
      for (let b = 0; b < bits; b++) out |= ((k >> b) & 1) << (bits - 1 - b);
      return out;
    });
    const re = new Float64Array(n), im = new Float64Array(n);
    return (frame, power) => {
      for (let k = 0; k < n; k++) { re[reversed[k]] = frame[k]; im[k] = 0; }
      for (let half = 1; half < n; half *= 2) {
        const step = n / (2 * half);
        for (let start = 0; start < n; start += 2 * half) {
          for (let k = 0; k < half; k++) {
            const a = start + k, b = a + half, c = cosine[k * step], s = sine[k * step];
            const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
            re[b] = re[a] - x; im[b] = im[a] - y;
            re[a] += x; im[a] += y;
          }
        }
      }
      for (let k = 0; k <= n / 2; k++) power[k] = re[k] * re[k] + im[k] * im[k];
      return power;
    };
  }

  // ---- recordings --------------------------------------------------------------------------------------------

  const waiting = new Map();

  // The bytes of a recording, from the script beside its file. One that failed may be asked for again.
  function bytesOf(root, name) {
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        const fail = (why) => { waiting.delete(name); reject(new Error(why)); };
        script.src = `${root}audio/${name}.js`;
        script.onerror = () => fail("is missing");
        script.onload = () => {
          const text = self.codecbenchAudio?.[name];
          script.remove();
          if (self.codecbenchAudio) delete self.codecbenchAudio[name];
          try {
            if (typeof text !== "string") throw new Error();
            resolve(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
          } catch { fail("is damaged"); }
        };
        document.head.append(script);
      }));
    }
    return waiting.get(name);
  }

  // Samples of a recording `{name, rate}` at its own rate. A file that is not what its name says is damaged.
  async function decode(root, { name, rate }) {
    const bytes = await bytesOf(root, name);
    if (crypto.subtle) {
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
      if (!found.startsWith(name)) throw new Error("is damaged: its content is not what its name says");
    }
    let context;
    try { context = new OfflineAudioContext(1, 1, rate); } catch { context = new OfflineAudioContext(1, 1, 48000); }
    try { return await context.decodeAudioData(bytes.buffer.slice(0)); } catch { throw new Error("cannot be decoded by this browser"); }
  }

  // ---- loudness ----------------------------------------------------------------------------------------------

  // The gain in dB of each loudness in LUFS, the original's first: all as loud as the least loud of them. Nothing is
  // amplified, so nothing clips. What is far below the original, or silent, is left alone: null.
  function matching(levels) {
    const [original] = levels;
    const apart = (level) => level === null || (original !== null && level < original - FARTHEST);
    const target = Math.min(...levels.filter((level) => !apart(level)));
    return levels.map((level) => (apart(level) ? null : Math.min(0, target - level)));
  }

  // ---- engine ------------------------------------------------------------------------------------------------

  // Plays buffers in step through one gain each, of which at most one is open. Times are those of `context`; `at` may be
  // in its future.
  class Engine {
    constructor(context) {
      this.context = context;
      this.voices = new Map();
      this.current = null;
      this.offset = 0; // where in the recordings, while paused
      this.started = null; // when playing began
      this.region = null; // [from, to] of a loop, in seconds
    }

    get playing() { return this.started !== null; }
    get duration() { return Math.max(0, ...Array.from(this.voices.values(), ({ buffer }) => buffer.duration)); }

    // Whole seconds of the recordings that are looped, or null.
    get looped() {
      if (!this.region) return null;
      const shortest = Math.min(SHORTEST_LOOP, this.duration);
      const from = Math.max(0, Math.min(this.region[0], this.duration - shortest));
      return [from, Math.max(from + shortest, Math.min(this.region[1], this.duration))];
    }

    add(id, buffer, gain = 1) {
      const at = this.position();
      this.voices.set(id, { buffer, gain, node: null, source: null });
      if (this.playing) this.play(at);
    }

    drop(id) {
      const voice = this.voices.get(id);
      voice?.source?.stop();
      voice?.node?.disconnect();
      this.voices.delete(id);
      if (this.current === id) this.current = null;
    }

    level(id, gain) {
      const voice = this.voices.get(id);
      if (!voice) return;
      voice.gain = gain;
      if (id === this.current) this.fade(voice, gain, this.context.currentTime);
    }

    fade(voice, to, at) {
      if (!voice.node) return;
      const { gain } = voice.node;
      gain.setValueAtTime(voice.open, at);
      gain.linearRampToValueAtTime(to, at + FADE);
      voice.open = to;
    }

    // Lets one recording through, by a crossfade; the position stays.
    select(id, at = this.context.currentTime) {
      if (id === this.current || !this.voices.has(id)) return;
      const before = this.voices.get(this.current);
      if (before) this.fade(before, 0, at);
      this.fade(this.voices.get(id), this.voices.get(id).gain, at);
      this.current = id;
    }

    position(at = this.context.currentTime) {
      if (!this.playing) return this.offset;
      const gone = this.offset + Math.max(0, at - this.started);
      const loop = this.looped;
      if (!loop) return Math.min(gone, this.duration);
      return gone < loop[1] ? gone : loop[0] + ((gone - loop[0]) % (loop[1] - loop[0]));
    }

    play(from = this.offset) {
      this.halt();
      const { context } = this, loop = this.looped, { duration } = this;
      const begin = loop ? Math.max(loop[0], from < loop[1] ? from : loop[0]) : from < duration - 0.01 ? from : 0;
      const at = context.currentTime + (context instanceof OfflineAudioContext ? 0 : 0.02);
      for (const [id, voice] of this.voices) {
        const source = context.createBufferSource(), node = context.createGain();
        source.buffer = this.padded(voice.buffer, duration);
        if (loop) Object.assign(source, { loop: true, loopStart: loop[0], loopEnd: loop[1] });
        node.gain.setValueAtTime(0, 0);
        source.connect(node).connect(context.destination);
        source.start(at, begin);
        Object.assign(voice, { source, node, open: 0 });
        if (id === this.current) this.fade(voice, voice.gain, at);
      }
      this.started = at;
      this.offset = begin;
      const [first] = this.voices.values();
      if (first && !loop) first.source.onended = () => { if (first.source) { this.stop(); this.offset = 0; this.onended?.(); } };
    }

    // All sources last equally long, so that their loops stay in step.
    padded(buffer, duration) {
      const length = Math.round(duration * buffer.sampleRate);
      if (buffer.length >= length) return buffer;
      const out = this.context.createBuffer(1, length, buffer.sampleRate);
      out.copyToChannel(buffer.getChannelData(0), 0);
      return out;
    }

    halt() {
      for (const voice of this.voices.values()) {
        const { source, node } = voice;
        if (!source) continue;
        source.onended = null;
        if (voice.open) this.fade(voice, 0, this.context.currentTime);
        source.stop(this.context.currentTime + FADE);
        source.onended = () => node.disconnect();
        Object.assign(voice, { source: null, node: null });
      }
      this.started = null;
    }

    stop() {
      this.offset = this.position();
      this.halt();
    }

    seek(seconds) {
      if (this.playing) this.play(seconds);
      else this.offset = seconds;
    }

    // Loops `region`, or nothing for null.
    loop(region) {
      const at = this.position();
      this.region = region;
      this.seek(at);
    }
  }

  self.codecbenchSound = { below, shuffle, guessing, fft, decode, matching, Engine, FADE, SHORTEST_LOOP, ORIGINAL };
})();
