// The lanes of curves and sound: waveform, spectrogram, and what the trace knows. `lanes.js` says what a lane is.

import { TilePyramid } from "./pyramid.js";
import { valuesAt } from "./token_lanes.js";

const DENSE = 1; // values to a pixel, from which on a curve is drawn in bars
const PIECE = 24; // values of a curve that are drawn as one line

export class WaveLane {
  constructor(wave) {
    this.wave = wave;
    this.title = "waveform";
    this.unit = "";
    this.least = 52;
    this.weight = 1.6;
  }

  draw(ctx, { left, top, height, width }, { axis, theme }) {
    const { envelope, rate, peak } = this.wave;
    const middle = top + height / 2;
    const scale = (height / 2 - 2) / peak;
    ctx.fillStyle = theme.line;
    ctx.fillRect(left, middle - 0.5, width, 1);
    const { low, high, stride, first, last } = visible(envelope, axis, rate);
    if (last <= first) {
      return true;
    }
    const x = (i) => left + axis.x(((i + 0.5) * stride) / rate);
    ctx.beginPath();
    for (let i = first; i < last; i++) {
      ctx.lineTo(x(i), middle - high[i] * scale - 0.4);
    }
    for (let i = last - 1; i >= first; i--) {
      ctx.lineTo(x(i), middle - low[i] * scale + 0.4);
    }
    ctx.closePath();
    ctx.fillStyle = theme.wave;
    ctx.fill();
    return true;
  }

  probe(time) {
    const column = Math.floor(time * this.wave.rate);
    const { low, high } = this.wave.envelope.levels[0];
    if (column < 0 || column >= low.length) {
      return null;
    }
    const level = Math.max(Math.abs(low[column]), Math.abs(high[column]));
    return { words: ["waveform", level > 0.0001 ? `${(20 * Math.log10(level)).toFixed(1)} dBFS` : "silence"] };
  }
}

export class SpectrogramLane {
  constructor(spectrogram, theme) {
    this.spectrogram = spectrogram;
    this.title = "spectrogram";
    this.unit = `to ${(spectrogram.topHertz / 1000).toFixed(0)} kHz, mel`;
    this.least = 84;
    this.weight = 2.2;
    const { bands, columns, levels } = spectrogram;
    this.tiles = new TilePyramid(columns, bands, (first, count, pixels) => {
      for (let band = 0; band < bands; band++) {
        const from = (bands - 1 - band) * columns + first; // low sounds at the bottom
        for (let i = 0; i < count; i++) {
          pixels[band * count + i] = theme.heat[levels[from + i]];
        }
      }
    });
  }

  draw(ctx, box, { axis, deadline }) {
    return this.tiles.draw(ctx, axis, this.spectrogram.rate, box, deadline, true);
  }

  probe(time, fraction) {
    const { bands, columns, levels, rate, topHertz } = this.spectrogram;
    const column = Math.floor(time * rate);
    if (column < 0 || column >= columns) {
      return null;
    }
    const band = Math.min(Math.max(Math.floor((1 - fraction) * bands), 0), bands - 1);
    const decibel = (levels[band * columns + column] / 255) * 80 - 80;
    const hertz = hertzOf((1 - fraction) * melOf(topHertz));
    return { words: ["spectrogram", `${Math.round(hertz / 10) * 10} Hz`, `${decibel.toFixed(0)} dB`] };
  }
}

const melOf = (hertz) => 2595 * Math.log10(1 + hertz / 700);
const hertzOf = (mel) => 700 * (10 ** (mel / 2595) - 1);

/** Curves of the trace above the tokens they belong to; probabilities reach to 1, entropy to `highestEntropy`. */
export class TraceLane {
  constructor(trace) {
    this.track = trace;
    this.title = "trace";
    this.unit = "";
    this.least = 52;
    this.weight = 1.2;
    const { probability, entropy, ending, highestEntropy } = trace.curves;
    this.curves = [
      { name: "probability", curve: probability, colour: "probability", most: 1 },
      { name: `entropy / ${highestEntropy}`, curve: entropy, colour: "entropy", most: highestEntropy },
      { name: "end", curve: ending, colour: "ending", most: 1 },
    ].filter(({ curve }) => curve);
  }

  draw(ctx, { left, top, height, width }, { axis, theme }) {
    const scale = height - 5;
    const y = (value, most) => top + height - 2 - Math.min(value / most, 1) * scale;
    ctx.fillStyle = theme.line;
    for (const share of [0, 0.5, 1]) {
      ctx.fillRect(left, Math.round(y(share, 1)) - 0.5, width, 1);
    }
    const dense = this.track.rate > DENSE * axis.pixelsPerSecond;
    for (const { curve, colour, most } of this.curves) {
      const part = visible(curve.envelope, axis, this.track.rate, dense ? 2 : 1);
      const x = (i) => left + axis.x((i * part.stride) / this.track.rate);
      const thick = colour === "ending" ? 1.6 : 1.1;
      [ctx.fillStyle, ctx.strokeStyle, ctx.lineWidth] = [theme[colour], theme[colour], thick];
      (dense ? bars : line)(ctx, part, x, (value) => y(value, most), thick);
    }
    return true;
  }

  probe(time, fraction) {
    const { rate, rows, columns, curves } = this.track;
    const step = Math.floor(time * rate);
    if (rows > 1) {
      const mean = (curve) => curve?.envelope.levels[0].mean[step];
      const averaged = { probability: { values: [mean(curves.probability)] }, entropy: { values: [mean(curves.entropy)] } };
      const words = step >= 0 && step < columns ? valuesAt(averaged, 0, -1) : [];
      return words.length ? { words: [`trace of ${this.track.kind}`, "mean of the codebooks", ...words] } : null;
    }
    const words = step >= 0 ? valuesAt(curves, step, step) : [];
    return words.length ? { words: [`trace of step ${step}`, ...words] } : null;
  }
}

/** The mean as a line through the middle of each stretch, in short pieces: a long ragged path takes too long to fill. */
function line(ctx, { mean, first, last }, x, y) {
  for (let start = first; start < last - 1; start += PIECE) {
    ctx.beginPath();
    for (let i = start; i <= Math.min(start + PIECE, last - 1); i++) {
      if (mean[i] === mean[i]) ctx.lineTo(x(i + 0.5), y(mean[i]));
    }
    ctx.stroke();
  }
}

/** The same where stretches are as narrow as pixels, with all that a stretch spans behind it; upright boxes are cheap. */
function bars(ctx, { low, high, mean, first, last }, x, y, thick) {
  ctx.globalAlpha = 0.22;
  for (let i = first; i < last; i++) {
    if (high[i] > low[i]) ctx.fillRect(x(i), y(high[i]), x(i + 1) - x(i), y(low[i]) - y(high[i]));
  }
  ctx.globalAlpha = 1;
  let before = NaN;
  for (let i = first; i < last; i++) {
    const now = y(mean[i]);
    const from = before === before ? before : now;
    if (now === now) ctx.fillRect(x(i), Math.min(now, from) - thick / 2, x(i + 1) - x(i), Math.abs(now - from) + thick);
    before = now;
  }
}

/** The level of an envelope that fits the zoom, or is so much coarser, and which of its stretches can be seen. */
function visible(envelope, axis, rate, coarser = 1) {
  const level = envelope.level((coarser * rate) / axis.pixelsPerSecond);
  const first = Math.max(Math.floor((axis.start * rate) / level.stride) - 1, 0);
  const last = Math.min(Math.ceil((axis.end * rate) / level.stride) + 1, level.low.length);
  return { ...level, first, last };
}
