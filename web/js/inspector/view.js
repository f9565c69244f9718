// The view: a clip on one time axis, with a playhead and a selection. Knows no ComfyUI; `attach.js` puts it on nodes.

import { loadStyle, makeBody, setIcon } from "./body.js";
import { readTheme } from "./colours.js";
import { listen } from "./input.js";
import { leastHeight, makeLanes, place } from "./lanes.js";
import { paintLanes, paintMarks } from "./painting.js";
import { Player } from "./player.js";
import { TimeAxis, clock } from "./time_axis.js";

const GUTTER = 84; // CSS pixels left of the lanes, for their names
const RULER = 20; // above them
const SCROLLBAR = 12; // below them
const BAR_AND_READOUT = 28 + 20 + 4;
const LEAST_STAGE = 96;
const MOST_PIXELS = 4096; // of a canvas, in each direction
const PAINTING_TIME = 7; // milliseconds of a frame that may go into tiles seen for the first time

export class InspectorView {
  /**
   * `onSelect(start, end)` in seconds is called when the user selects; end 0 means "to the end", 0 and 0 nothing.
   * `onPage(step)` when another clip is wanted. Where `isOpen()` is false nothing plays on.
   */
  constructor({ onSelect = () => {}, onPage = () => {}, isOpen = () => true } = {}) {
    loadStyle();
    this.body = makeBody();
    this.element = this.body.root;
    this.onSelect = onSelect;
    this.isOpen = isOpen;
    this.axis = new TimeAxis();
    this.clip = null;
    this.lanes = [];
    this.selection = null; // [start, end] in seconds
    this.hover = null; // {x, time, lane, probe}
    this.player = new Player({ onChange: () => this.playerChanged(), onTime: (time) => this.timeMoved(time) });
    this.stale = { lanes: true, marks: true };
    this.frame = 0;
    this.listeners = new AbortController();
    this.theme = readTheme(this.element);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.body.stage);
    this.themes = new MutationObserver(() => this.themeChanged());
    for (const element of [document.documentElement, document.body]) {
      this.themes.observe(element, { attributes: true, attributeFilter: ["class", "style"] });
    }
    listen(this, this.listeners.signal);
    this.body.pages.back.addEventListener("click", () => onPage(-1));
    this.body.pages.on.addEventListener("click", () => onPage(1));
    this.playerChanged();
    this.say("Run the workflow to see the tokens.");
  }

  /** Everything is let go; the element may be thrown away. */
  destroy() {
    this.listeners.abort();
    this.sizes.disconnect();
    this.themes.disconnect();
    this.player.close();
    cancelAnimationFrame(this.frame);
    this.clip = null;
    this.lanes = [];
  }

  // -- what is shown ---------------------------------------------------------------------------------------------

  /** Show a clip; `sound` is the address of its sound, or null. The window stays where it is for an equally long one. */
  show(clip, sound) {
    const same = this.clip?.seconds === clip.seconds;
    this.clip = clip;
    this.axis.seconds = clip.seconds;
    if (!same) {
      this.axis.fit();
    }
    this.theme = readTheme(this.element);
    this.lanes = makeLanes(clip, this.theme);
    this.body.message.hidden = true;
    this.element.style.minHeight = `${this.leastHeight}px`;
    this.player.open(sound);
    this.select(...(this.asked ?? [0, 0]));
    this.body.stage.setAttribute("aria-label", `Tokens and sound. ${clip.summary}`);
    this.resize();
  }

  /** A sentence instead of a clip. */
  say(sentence) {
    this.clip = null;
    this.lanes = [];
    this.hover = null;
    this.player.open(null);
    this.setSelection(null); // what was asked for is kept for the next clip
    Object.assign(this.body.message, { textContent: sentence, hidden: false });
    this.body.stage.setAttribute("aria-label", sentence);
    this.element.style.minHeight = `${this.leastHeight}px`;
    this.refresh();
  }

  /** "2 of 3", when there is more than one clip to choose from. */
  setPage(number, count) {
    this.body.pages.element.hidden = count < 2;
    this.body.pages.text.textContent = `${number + 1} of ${count}`;
  }

  /** In CSS pixels, what the element needs so that every lane can be read. */
  get leastHeight() {
    const stage = this.lanes.length ? RULER + leastHeight(this.lanes) + SCROLLBAR : LEAST_STAGE;
    return BAR_AND_READOUT + stage;
  }

  // -- selection and playhead ------------------------------------------------------------------------------------

  /** Mark what the node's `start` and `end` say. */
  select(start, end) {
    this.asked = [start, end];
    const until = end > 0 ? end : (this.clip?.seconds ?? 0);
    this.setSelection(start > 0 || end > 0 ? [start, until] : null);
  }

  /** Select for the user, at the boundaries of semantic tokens, where the tokens of all kinds are cut. */
  selectBetween(one, other) {
    const [start, end] = [this.snap(Math.min(one, other)), this.snap(Math.max(one, other))];
    if (end <= start) {
      return;
    }
    this.setSelection([start, end]);
    const whole = this.snap(this.clip.seconds);
    this.report(start, end >= whole ? 0 : end);
  }

  clearSelection() {
    this.setSelection(null);
    this.report(0, 0);
  }

  report(start, end) {
    // In hundredths, as the widgets count; half a token is 0.01 s, so the boundary stays the same one.
    const given = [start, end].map((time) => Number(time.toFixed(2)));
    this.asked = given;
    this.onSelect(...given);
  }

  setSelection(selection) {
    const valid = selection && this.clip && selection[1] > selection[0];
    this.selection = valid ? selection : null;
    this.player.range = this.selection;
    this.refresh("marks");
  }

  snap(time) {
    const rate = this.clip.semanticRate;
    return Math.min(Math.max(Math.round(time * rate) / rate, 0), Math.ceil(this.clip.seconds * rate) / rate);
  }

  /** Move the playhead by so many tokens. */
  step(tokens) {
    if (this.clip) {
      const rate = this.clip.semanticRate;
      this.seek((Math.round(this.player.time * rate) + tokens) / rate);
    }
  }

  seek(time) {
    this.player.seek(Math.min(Math.max(time, 0), this.clip?.seconds ?? 0));
    this.axis.reveal(this.player.time);
    this.refresh();
  }

  toggleLoop() {
    this.player.loop = !this.player.loop;
    this.playerChanged();
  }

  playerChanged() {
    const { play, loop } = this.body.buttons;
    setIcon(play, this.player.playing ? "pause" : "play");
    play.disabled = !this.player.audio;
    play.title = this.player.audio ? "Play or pause (space)" : "Connect audio to hear it";
    loop.disabled = !this.player.audio;
    loop.setAttribute("aria-pressed", String(this.player.loop));
    this.refresh("marks");
  }

  timeMoved(time) {
    if (!this.element.isConnected || !this.isOpen()) {
      this.player.pause(); // the graph that this node is in was closed, or the node was collapsed
    }
    if (this.player.playing && (time > this.axis.end || time < this.axis.start)) {
      this.axis.reveal(time);
      this.refresh();
    }
    this.refresh("marks");
  }

  // -- looking around --------------------------------------------------------------------------------------------

  zoom(factor, x) {
    this.axis.zoom(factor, x);
    this.refresh();
  }

  pan(pixels) {
    this.axis.pan(pixels);
    this.refresh();
  }

  showAll() {
    this.axis.fit();
    this.refresh();
  }

  showSelection() {
    if (this.selection) {
      const margin = 0.05 * (this.selection[1] - this.selection[0]);
      this.axis.show(this.selection[0] - margin, this.selection[1] + margin);
      this.refresh();
    }
  }

  /** What is under a point of the stage, in CSS pixels. */
  at(x, y) {
    const { left, width } = this.geometry();
    const box = this.boxes().find(({ top, height }) => y >= top && y < top + height);
    const time = this.axis.time(x - left);
    const inside = x >= left && x <= left + width && time <= this.clip?.seconds;
    return { inside, x: x - left, time, box, inRuler: y < RULER, inScrollbar: y > this.height - SCROLLBAR };
  }

  point(x, y) {
    const { inside, time, box } = this.at(x, y);
    const probe = inside && box ? box.lane.probe(time, (y - box.top) / box.height) : null;
    this.hover = inside ? { time, box, probe } : null;
    this.refresh("marks");
  }

  leave() {
    this.hover = null;
    this.refresh("marks");
  }

  // -- drawing ---------------------------------------------------------------------------------------------------

  geometry() {
    return { left: GUTTER, top: RULER, width: this.axis.width, height: this.height, scrollbar: SCROLLBAR };
  }

  boxes() {
    return place(this.lanes, RULER + 2, this.height - RULER - SCROLLBAR);
  }

  /** Take the size of the element, and as many pixels as the screen has for it at the graph's zoom. */
  resize() {
    const { stage, lanes, marks } = this.body;
    [this.width, this.height] = [stage.clientWidth, stage.clientHeight];
    if (!this.width || !this.height) {
      return;
    }
    const shown = stage.getBoundingClientRect().width / this.width || 1;
    const wanted = Math.min(Math.max(Math.ceil(devicePixelRatio * shown * 2 - 0.1) / 2, 1), 4);
    this.density = Math.min(wanted, MOST_PIXELS / this.width, MOST_PIXELS / this.height);
    for (const canvas of [lanes, marks]) {
      const [width, height] = [this.width, this.height].map((size) => Math.round(size * this.density));
      if (canvas.width !== width || canvas.height !== height) {
        Object.assign(canvas, { width, height });
      }
    }
    this.axis.width = Math.max(this.width - GUTTER - 8, 1);
    this.refresh();
  }

  themeChanged() {
    const theme = readTheme(this.element);
    if (JSON.stringify(theme) !== JSON.stringify(this.theme)) {
      this.theme = theme;
      this.lanes = this.clip ? makeLanes(this.clip, theme) : [];
      this.refresh();
    }
  }

  /** Draw again in the next frame: everything, or only what moves over the lanes ("marks"). */
  refresh(what = "lanes") {
    this.stale.marks = true;
    this.stale.lanes ||= what === "lanes";
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.width || !this.height) {
      return;
    }
    const { lanes, marks } = this.stale;
    this.stale = { lanes: false, marks: false };
    if (lanes && !paintLanes(this, performance.now() + PAINTING_TIME)) {
      this.refresh();
    }
    if (marks) {
      paintMarks(this);
      this.write();
    }
  }

  /** The texts around the canvas. */
  write() {
    const { body, clip, selection, hover } = this;
    const length = clip?.seconds ?? 0;
    body.clock.textContent = clip ? `${clock(this.player.time, 0.01)} / ${clock(length, 0.01)} s` : "";
    const span = selection && selection[1] - selection[0];
    body.selected.textContent = selection
      ? `selected ${clock(selection[0], 0.01)} – ${clock(selection[1], 0.01)} (${clock(span, 0.01)} s)`
      : "";
    body.buttons.part.disabled = !selection;
    for (const name of ["farther", "closer", "all"]) {
      body.buttons[name].disabled = !clip;
    }
    const words = hover && [`${clock(hover.time)} s`, ...(hover.probe?.words ?? [])];
    body.readout.textContent = words ? words.join("  ·  ") : (clip?.summary.split("\n")[0] ?? "");
  }
}
