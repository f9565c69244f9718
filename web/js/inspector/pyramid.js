// Long rows of numbers and pictures, prepared so that a frame costs as much as it has pixels, however long they are.

const TILE = 1024; // columns of a picture in one piece

/** Smallest, largest and mean value of ever longer stretches; NaN counts as absent. */
export class Envelope {
  /** `low` and `high` hold the smallest and largest value of each column; one array for both: single values. */
  constructor(low, high = low) {
    const mean = low === high ? low : Float32Array.from(low, (value, i) => (value + high[i]) / 2);
    this.levels = [{ low, high, mean }];
    while (this.levels.at(-1).low.length > 2) {
      this.levels.push(halved(this.levels.at(-1)));
    }
  }

  get length() {
    return this.levels[0].low.length;
  }

  /** The level of which one stretch is as wide as a pixel at most, when `columns` of them fall into one. */
  level(columns) {
    const number = Math.min(Math.max(Math.floor(Math.log2(Math.max(columns, 1))), 0), this.levels.length - 1);
    return { ...this.levels[number], stride: 2 ** number };
  }
}

function halved({ low, high, mean }) {
  const length = Math.ceil(low.length / 2);
  const next = { low: new Float32Array(length), high: new Float32Array(length), mean: new Float32Array(length) };
  for (let i = 0; i < length; i++) {
    const a = 2 * i;
    const b = Math.min(a + 1, low.length - 1);
    const left = low[a] === low[a] ? a : b; // the one that is not NaN, if one is
    const right = low[b] === low[b] ? b : a;
    next.low[i] = Math.min(low[left], low[right]);
    next.high[i] = Math.max(high[left], high[right]);
    next.mean[i] = (mean[left] + mean[right]) / 2;
  }
  return next;
}

/**
 * A wide picture in tiles, and the same at half the width, a quarter, …: what a frame needs is painted when it is
 * first seen and kept. A frame that has painted for too long leaves the rest to the next one.
 */
export class TilePyramid {
  /** `paint(first, count, pixels)` fills `pixels` (Uint32Array, row by row) with the columns from `first` on. */
  constructor(width, height, paint) {
    this.width = width;
    this.height = height;
    this.paint = paint;
    this.tiles = new Map();
  }

  /**
   * Draw the columns that are visible into a box of `ctx`; columns last `1 / rate` seconds.
   * @returns {boolean} whether everything is there; otherwise draw again in the next frame
   */
  draw(ctx, axis, rate, { left, top, height }, deadline, smooth = false) {
    const columnsPerPixel = rate / axis.pixelsPerSecond;
    const level = columnsPerPixel <= 1 ? 0 : Math.min(Math.floor(Math.log2(columnsPerPixel)), 30);
    const stride = 2 ** level;
    const first = Math.max(Math.floor((axis.start * rate) / stride), 0);
    const last = Math.min(Math.ceil((axis.end * rate) / stride), Math.ceil(this.width / stride));
    let complete = true;
    ctx.imageSmoothingEnabled = smooth || level > 0;
    for (let number = Math.floor(first / TILE); number * TILE < last; number++) {
      const tile = this.tile(level, number, deadline);
      if (!tile) {
        complete = false;
        continue;
      }
      const from = Math.max(first - number * TILE, 0);
      const to = Math.min(last - number * TILE, tile.width);
      const at = (column) => left + axis.x(((number * TILE + column) * stride) / rate);
      const beyond = Math.max(number * TILE * stride + to * stride - this.width, 0) / stride;
      ctx.drawImage(tile, from, 0, to - from - beyond, this.height, at(from), top, at(to - beyond) - at(from), height);
    }
    return complete;
  }

  tile(level, number, deadline) {
    const key = level * 2 ** 24 + number;
    if (this.tiles.has(key)) {
      return this.tiles.get(key);
    }
    if (performance.now() > deadline) {
      return null;
    }
    const made = level === 0 ? this.painted(number) : this.shrunk(level, number, deadline);
    if (made) {
      this.tiles.set(key, made);
    }
    return made;
  }

  painted(number) {
    const count = Math.min(TILE, this.width - number * TILE);
    const canvas = sheet(count, this.height);
    const image = new ImageData(count, this.height);
    this.paint(number * TILE, count, new Uint32Array(image.data.buffer));
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  shrunk(level, number, deadline) {
    const columns = Math.ceil(this.width / 2 ** (level - 1));
    const halves = [2 * number, 2 * number + 1].filter((child) => child * TILE < columns);
    const parts = halves.map((child) => this.tile(level - 1, child, deadline));
    if (parts.includes(null)) {
      return null;
    }
    const width = parts.reduce((sum, part) => sum + part.width, 0);
    const canvas = sheet(Math.ceil(width / 2), this.height);
    const ctx = canvas.getContext("2d");
    parts.forEach((part, i) => ctx.drawImage(part, (i * TILE) / 2, 0, Math.ceil(part.width / 2), this.height));
    return canvas;
  }
}

function sheet(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}
