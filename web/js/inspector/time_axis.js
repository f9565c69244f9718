// The one axis that all lanes share: seconds to pixels and back, zoom, pan, and where the ruler has its marks.

const SHORTEST = 0.08; // seconds; some four semantic tokens across the whole view
const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

export class TimeAxis {
  /** `seconds` is the length of what is shown, `width` that of the lanes in CSS pixels. */
  constructor(seconds = 0, width = 1) {
    this.seconds = seconds;
    this.width = width;
    this.start = 0; // seconds at the left edge
    this.span = Math.max(seconds, SHORTEST); // seconds from edge to edge
  }

  get end() {
    return this.start + this.span;
  }

  get pixelsPerSecond() {
    return this.width / this.span;
  }

  x(time) {
    return (time - this.start) * this.pixelsPerSecond;
  }

  time(x) {
    return this.start + x / this.pixelsPerSecond;
  }

  fit() {
    this.show(0, this.seconds);
  }

  /** Show from `start` to `end` seconds, as far as there is something to show. */
  show(start, end) {
    const longest = Math.max(this.seconds, SHORTEST);
    this.span = Math.min(Math.max(end - start, SHORTEST), longest);
    const middle = (start + end) / 2;
    this.start = Math.min(Math.max(middle - this.span / 2, 0), longest - this.span);
  }

  /** `factor` above 1 shows more; the time at `x` stays where it is, unless an end comes into view. */
  zoom(factor, x = this.width / 2) {
    const fixed = this.time(x);
    const span = this.span * factor;
    const start = fixed - (x / this.width) * Math.min(Math.max(span, SHORTEST), Math.max(this.seconds, SHORTEST));
    this.show(start, start + Math.max(span, SHORTEST));
    if (span < this.seconds) {
      this.moveTo(start);
    }
  }

  /** Move the window by `x` pixels. */
  pan(x) {
    this.moveTo(this.start + x / this.pixelsPerSecond);
  }

  moveTo(start) {
    this.start = Math.min(Math.max(start, 0), Math.max(this.seconds - this.span, 0));
  }

  /** Turn the page when `time` is out of sight. */
  reveal(time) {
    if (time < this.start || time > this.end) {
      this.moveTo(time - this.span * 0.05);
    }
  }

  /** Marks of the ruler: times of labelled ones at least `gap` pixels apart, and the step between them in seconds. */
  ticks(gap = 72) {
    const wanted = gap / this.pixelsPerSecond;
    const step = STEPS.find((candidate) => candidate >= wanted) ?? STEPS.at(-1);
    const times = [];
    for (let number = Math.ceil(this.start / step - 1e-9); number * step <= this.end; number++) {
      times.push(number * step);
    }
    return { step, times };
  }
}

/** 3.25 → "3.25", 83.5 → "1:23.50"; as many decimals as a step of `step` seconds needs. */
export function clock(time, step = 0.001) {
  const decimals = step >= 1 ? 0 : Math.min(3, Math.ceil(-Math.log10(step) - 1e-9));
  const rounded = Number(Math.max(time, 0).toFixed(decimals));
  if (rounded < 60) {
    return rounded.toFixed(decimals);
  }
  const minutes = Math.floor(rounded / 60);
  const seconds = (rounded - 60 * minutes).toFixed(decimals).padStart(decimals ? decimals + 3 : 2, "0");
  return `${minutes}:${seconds}`;
}
