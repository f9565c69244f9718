// While a stage runs, a thin strip under its node shows the tokens that have come so far.

import { codeColour, packed, readTheme, semanticColour } from "./colours.js";
import { loadStyle } from "./body.js";
import * as host from "./host.js";

const TYPES = ["BarkTextToSemantic", "BarkSemanticToCoarse", "BarkCoarseToFine"];
const WIDGET = "bark_live";
const HEIGHT = 34; // CSS pixels of the widget, its margins included
const MOST_COLUMNS = 16_384; // of a canvas; a longer run is drawn as far as that

export class LiveStrip {
  constructor() {
    loadStyle();
    this.element = document.createElement("div");
    this.element.className = "bark-live";
    this.element.setAttribute("role", "img");
    this.element.setAttribute("aria-label", "Tokens so far");
    this.canvas = document.createElement("canvas");
    this.element.append(this.canvas);
    this.ids = [];
    this.rows = 1;
    this.drawn = 0; // how many of the ids stand on the canvas; with none of them, it is cleared first
    this.frame = 0;
    this.prompt = undefined; // id of the prompt that the ids are of
  }

  /** One message of the server: ids from position `first` on, `rows` to a column, of about `total`. */
  add({ kind, first, ids, rows, total, done, prompt_id: prompt }) {
    if (first < this.ids.length || rows !== this.rows) {
      this.drawn = 0;
    }
    if (prompt !== this.prompt) {
      this.ids = []; // of an earlier run, whose end or this one's beginning was missed
      this.drawn = 0;
    }
    this.ids.length = first; // what was missed, while another workflow was shown, stays empty
    this.ids.push(...ids);
    Object.assign(this, { kind, rows, done, prompt });
    this.columns = Math.ceil((done ? this.ids.length : Math.max(total, this.ids.length)) / rows);
    this.frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.frame = 0;
    const width = Math.min(Math.max(this.columns, 1), MOST_COLUMNS);
    if (this.canvas.width !== width || this.canvas.height !== this.rows) {
      Object.assign(this.canvas, { width, height: this.rows });
      this.drawn = 0;
    }
    if (this.drawn === 0) {
      this.canvas.getContext("2d").clearRect(0, 0, width, this.rows);
    }
    const from = Math.floor(this.drawn / this.rows);
    const to = Math.min(Math.floor(this.ids.length / this.rows), width);
    if (to > from) {
      this.paint(from, to);
    }
    this.drawn = to * this.rows;
    this.element.title = `${this.ids.length} tokens${this.done ? "" : " so far"}`;
  }

  paint(from, to) {
    const { dark } = readTheme(this.element);
    const image = new ImageData(to - from, this.rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let column = from; column < to; column++) {
      for (let row = 0; row < this.rows; row++) {
        const id = this.ids[column * this.rows + row];
        if (id === undefined) {
          continue;
        }
        const colour = this.kind === "semantic" ? semanticColour(id, dark) : codeColour(id, row, dark);
        pixels[row * image.width + column - from] = packed(colour);
      }
    }
    this.canvas.getContext("2d").putImageData(image, from, 0);
  }

  remove() {
    cancelAnimationFrame(this.frame);
  }
}

const strips = new WeakMap(); // node → LiveStrip; a node that has not run has none

host.extend("LiveStrip", TYPES, {
  removed(node) {
    strips.get(node)?.remove();
    strips.delete(node);
  },
});

host.onMessage("bark.live", TYPES, (node, message) => {
  if (!Array.isArray(message.ids)) {
    return;
  }
  if (!strips.has(node)) {
    const strip = new LiveStrip();
    const height = () => HEIGHT;
    host.addElement(node, WIDGET, strip.element, height, height).strip = strip;
    strips.set(node, strip);
    host.grow(node);
  }
  strips.get(node).add(message);
});
