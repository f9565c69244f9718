// What is looked at: the arrays of a view file, checked and named, with what is worked out once from them.

import { Envelope } from "./pyramid.js";

export const KINDS = ["semantic", "coarse", "fine"]; // in the order in which they are made, and shown
const LONGEST_PERIOD = 40; // semantic tokens; a babbling model repeats syllables, not sentences
const ROUNDS = 3; // how often a pattern must come for it to count as stuck
const SAME_ID = 10; // semantic tokens in a row; 0.2 s of one sound is speech, more is suspicious

/**
 * A clip: `seconds`, `family`, `summary`, `tracks` ({kind, ids, rows, columns, rate, curves}), `trace` ({kind, rows,
 * columns, rate, curves} or null), `wave`, `spectrogram`, `audio` (a file reference or null), `stops` ([{rule, time}]),
 * `tail` ({step, seconds, reason} or null); times in seconds. A track has the `curves` of the trace where that is of its
 * tokens, else null.
 *
 * @param {{tensors: object, metadata: object}} file as `readSafetensors` gives it
 */
export function makeClip({ tensors, metadata }) {
  const number = (name, otherwise) => (Number(metadata[name]) > 0 ? Number(metadata[name]) : otherwise);
  const semanticRate = number("semantic_rate", 49.9);
  const frameRate = number("frame_rate", 75);
  const rateOf = (kind) => (kind === "semantic" ? semanticRate : frameRate);
  const tail = makeTail(parsed(metadata.tail), semanticRate);
  const trace = makeTrace(metadata.trace_kind, tensors, rateOf(metadata.trace_kind));
  const tracks = KINDS.filter((kind) => tensors[kind]?.data.length > 0).map((kind) =>
    makeTrack(kind, tensors[kind], rateOf(kind)),
  );
  for (const track of tracks.filter((one) => isOf(trace, one, tail))) {
    track.curves = trace.curves;
  }
  const waveRate = number("wave_rate", 150);
  const bandRate = number("spectrogram_rate", 75);
  const wave = tensors.wave?.data.length ? makeWave(tensors.wave.data, waveRate) : null;
  const spectrogram = tensors.spectrogram?.data.length
    ? { ...picture(tensors.spectrogram), rate: bandRate, topHertz: number("top_hertz", 12000) }
    : null;
  const lengths = [...tracks, trace, wave, spectrogram].filter(Boolean).map(({ columns, rate }) => columns / rate);
  const stops = Object.entries(parsed(metadata.stops) ?? {}).map(([rule, step]) => ({ rule, time: step / semanticRate }));
  return {
    seconds: number("seconds", Math.max(0, ...lengths)),
    semanticRate,
    family: metadata.family ?? "",
    summary: metadata.summary ?? "",
    tracks,
    trace,
    wave,
    spectrogram,
    audio: parsed(metadata.audio),
    stops: stops.filter(({ time }) => Number.isFinite(time)),
    tail,
  };
}

function makeTrack(kind, { shape, data }, rate) {
  const [rows, columns] = rowsAndColumns(shape);
  return { kind, ids: data, rows, columns, rate, repeats: kind === "semantic" ? findRepeats(data) : null, curves: null };
}

/** What a stage knew about the tokens of a kind, which need not be there; null where nothing of it is. */
function makeTrace(kind, tensors, rate) {
  const { shape, data } = tensors["trace.probability"] ?? {};
  if (!KINDS.includes(kind) || !data?.length) {
    return null;
  }
  const [rows, columns] = rowsAndColumns(shape);
  return { kind, rows, columns, rate, curves: makeCurves({ rows, columns }, tensors) };
}

function rowsAndColumns(shape) {
  return shape.length === 1 ? [1, shape[0]] : shape;
}

/** Whether a trace is of these tokens: it has their shape, or that of before Trim Tail cut them at its tail. */
function isOf(trace, { kind, rows, columns }, tail) {
  const cut = rows === 1 && columns === tail?.step;
  return kind === trace?.kind && rows === trace.rows && (columns === trace.columns || cut);
}

/** Probability and entropy of each token, mean over codebooks for the line; the end probability beside them. */
function makeCurves({ rows, columns }, tensors) {
  const values = (name) => tensors[`trace.${name}`]?.data;
  const [probability, entropy, ending] = ["probability", "entropy", "end_probability"].map(values);
  const fits = (array) => (array?.length === rows * columns ? array : null);
  const highest = entropy ? entropy.reduce((most, value) => (value > most ? value : most), 0) : 0;
  const curve = (array) => array && { values: array, envelope: overRows(array, rows, columns) };
  return {
    probability: curve(probability),
    entropy: curve(fits(entropy)),
    ending: ending?.length ? { values: ending, envelope: new Envelope(Float32Array.from(ending)) } : null,
    highestEntropy: Math.max(1, Math.ceil(highest)),
  };
}

function overRows(values, rows, columns) {
  if (rows === 1) {
    return new Envelope(values);
  }
  const mean = new Float32Array(columns);
  for (let column = 0; column < columns; column++) {
    let [sum, count] = [0, 0];
    for (let row = 0; row < rows; row++) {
      const value = values[row * columns + column];
      if (value === value) {
        sum += value;
        count += 1;
      }
    }
    mean[column] = count ? sum / count : NaN;
  }
  return new Envelope(mean);
}

function makeWave(pairs, rate) {
  const columns = pairs.length / 2;
  const low = Float32Array.from({ length: columns }, (_, i) => pairs[2 * i]);
  const high = Float32Array.from({ length: columns }, (_, i) => pairs[2 * i + 1]);
  const peak = Math.max(0.01, high.reduce((a, b) => Math.max(a, b), 0), -low.reduce((a, b) => Math.min(a, b), 0));
  return { envelope: new Envelope(low, high), columns, rate, peak };
}

function picture({ shape: [bands, columns], data }) {
  return { bands, columns, levels: data };
}

function makeTail(tail, rate) {
  if (!tail || typeof tail !== "object") {
    return null;
  }
  const seconds = Number.isFinite(tail.seconds) ? tail.seconds : tail.step / rate;
  return Number.isFinite(seconds) ? { step: tail.step, seconds, reason: String(tail.reason ?? "") } : null;
}

/**
 * How long the pattern is in which each token is stuck, in tokens; 0 where the ids move on.
 *
 * A token is stuck where one id comes SAME_ID times in a row, or a pattern of up to LONGEST_PERIOD ids ROUNDS times.
 */
export function findRepeats(ids) {
  const periods = new Uint8Array(ids.length);
  for (let period = 1; period <= LONGEST_PERIOD; period++) {
    const least = period === 1 ? SAME_ID : period * ROUNDS;
    let first = 0; // of the stretch that agrees with itself `period` tokens later
    for (let i = period; i <= ids.length; i++) {
      if (i < ids.length && ids[i] === ids[i - period]) {
        continue;
      }
      if (i - first >= least) {
        for (let j = first; j < i; j++) {
          periods[j] ||= period;
        }
      }
      first = i - period + 1;
    }
  }
  return periods;
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
