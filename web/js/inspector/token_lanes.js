// The lanes of tokens: a strip of semantic ids, and maps of codebook × frame. `lanes.js` says what a lane is.

import { codeColour, css, inkOn, packed, semanticColour } from "./colours.js";
import { TilePyramid } from "./pyramid.js";

const CELL_WITH_EDGE = 5; // CSS pixels from which on cells are parted by a line
const REPEAT_BAND = 4; // CSS pixels

export class TokenLane {
  constructor(track, dark) {
    this.track = track;
    this.semantic = track.kind === "semantic";
    this.colour = (id, row) => (this.semantic ? semanticColour(id, dark) : codeColour(id, row, dark));
    this.tiles = new TilePyramid(track.columns, track.rows, (...range) => this.paint(...range));
    this.known = new Map(); // id and row → packed colour
    this.title = track.kind;
    this.unit = `${track.rate}/s`;
    this.least = this.semantic ? 36 : Math.max(28, track.rows * 9);
    this.weight = this.semantic ? 1 : track.rows / 3;
  }

  paint(first, count, pixels) {
    const { ids, rows, columns } = this.track;
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < count; i++) {
        const id = ids[row * columns + first + i];
        const key = id * 16 + row;
        if (!this.known.has(key)) {
          this.known.set(key, packed(this.colour(id, row)));
        }
        pixels[row * count + i] = this.known.get(key);
      }
    }
  }

  draw(ctx, box, { axis, theme, deadline }) {
    const { rate, rows } = this.track;
    const cells = this.cells(box);
    const complete = this.tiles.draw(ctx, axis, rate, cells, deadline);
    const cell = axis.pixelsPerSecond / rate;
    if (cell >= CELL_WITH_EDGE) {
      this.edges(ctx, cells, axis, theme);
    }
    ctx.fillStyle = theme.paper;
    for (let row = 1; row < rows && cells.height / rows >= 6; row++) {
      ctx.fillRect(cells.left, cells.top + (row * cells.height) / rows - 0.5, box.width, 1);
    }
    if (this.semantic) {
      this.repeats(ctx, box, axis, theme);
    }
    return complete;
  }

  cells({ left, top, height }) {
    return { left, top, height: this.semantic ? height - REPEAT_BAND - 2 : height };
  }

  /** A line after each run of one id, and the id inside where it has room: repeats stay in one piece. */
  edges(ctx, { left, top, height }, axis, theme) {
    const { ids, rate, rows, columns } = this.track;
    const last = Math.min(Math.ceil(axis.end * rate), columns);
    const rowHeight = height / rows;
    ctx.font = "10px ui-monospace, Menlo, Consolas, monospace";
    ctx.textAlign = "center";
    ctx.textBaseline = "middle";
    for (let row = 0; row < rows; row++) {
      const at = (column) => ids[row * columns + column];
      let column = Math.max(Math.floor(axis.start * rate), 0);
      while (column > 0 && at(column) === at(column - 1)) column--;
      while (column < last) {
        const first = column;
        while (column < columns && at(column) === at(first)) column++;
        const [from, to] = [left + axis.x(first / rate), left + axis.x(column / rate)];
        ctx.fillStyle = theme.paper;
        ctx.fillRect(Math.round(to) - 0.5, top + row * rowHeight, 1, rowHeight);
        const seen = [Math.max(from, left), Math.min(to, left + axis.width)];
        if (rowHeight >= 10 && seen[1] - seen[0] >= 30) {
          ctx.fillStyle = inkOn(this.colour(at(first), row));
          ctx.fillText(String(at(first)), (seen[0] + seen[1]) / 2, top + (row + 0.5) * rowHeight + 0.5);
        }
      }
    }
  }

  /** A band under the strip where the ids go round in circles. */
  repeats(ctx, { left, top, height }, axis, theme) {
    const { repeats, rate, columns } = this.track;
    const last = Math.min(Math.ceil(axis.end * rate), columns);
    ctx.fillStyle = theme.ending;
    for (let column = Math.max(Math.floor(axis.start * rate), 0); column < last; ) {
      const first = column;
      while (column < last && Boolean(repeats[column]) === Boolean(repeats[first])) column++;
      if (repeats[first]) {
        const from = left + axis.x(first / rate);
        ctx.fillRect(from, top + height - REPEAT_BAND, left + axis.x(column / rate) - from, REPEAT_BAND);
      }
    }
  }

  /** What is at a time, and at `fraction` of the lane's height; `box` in seconds and fractions outlines the token. */
  probe(time, fraction) {
    const { ids, rate, rows, columns, repeats, curves, kind } = this.track;
    const column = Math.floor(time * rate);
    if (column < 0 || column >= columns) {
      return null;
    }
    const row = Math.min(Math.floor(Math.max(fraction, 0) * rows), rows - 1);
    const place = row * columns + column;
    const words = rows > 1 ? [`${kind} codebook ${row}`, `frame ${column}`] : [`semantic token ${column}`];
    words.push(`id ${ids[place]}`);
    if (repeats?.[column]) {
      words.push(repeats[column] === 1 ? "one id again and again" : `stuck: repeats every ${repeats[column]} tokens`);
    }
    return {
      words: [...words, ...valuesAt(curves, place, rows === 1 ? column : -1)],
      start: column / rate,
      end: (column + 1) / rate,
      top: row / rows,
      bottom: (row + 1) / rows,
      colour: css(this.colour(ids[place], row)),
    };
  }
}

/** What the trace knows about one token, in words. */
export function valuesAt(curves, place, step) {
  const words = [];
  const value = (curve, at) => curve?.values[at];
  const [probability, entropy, ending] = [
    value(curves?.probability, place),
    value(curves?.entropy, place),
    step < 0 ? undefined : value(curves?.ending, step),
  ];
  if (probability >= 0) words.push(`probability ${percent(probability)}`);
  if (entropy >= 0) words.push(`entropy ${entropy.toFixed(2)}`);
  if (ending >= 0) words.push(`end ${percent(ending)}`);
  return words;
}

function percent(value) {
  return value > 0 && value < 0.001 ? "< 0.1 %" : `${(100 * value).toFixed(1)} %`;
}
