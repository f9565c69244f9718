// Paints the two layers of a view: the lanes, which change with the window, and the marks that move over them.

import { clock } from "./time_axis.js";

const FONT = "11px Inter, system-ui, sans-serif";
const SMALL = "10px Inter, system-ui, sans-serif";
const HANDLE = 7; // CSS pixels, half the width of a grip

/** @returns {boolean} whether every lane is complete; otherwise paint again in the next frame */
export function paintLanes(view, deadline) {
  const { clip, theme, axis } = view;
  const ctx = fresh(view, view.body.lanes);
  if (!clip) {
    return true;
  }
  const { left, width } = view.geometry();
  const boxes = view.boxes();
  ruler(ctx, view);
  let complete = true;
  for (const { lane, top, height } of boxes) {
    label(ctx, lane, top, height, left, theme);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.fillStyle = theme.lane;
    ctx.fillRect(left, top, width, height);
    complete = lane.draw(ctx, { left, top, height, width }, { axis, theme, deadline }) && complete;
    ctx.restore();
  }
  endings(ctx, view, boxes);
  scrollbar(ctx, view);
  return complete;
}

export function paintMarks(view) {
  const { clip, theme, axis, selection, hover, player } = view;
  const ctx = fresh(view, view.body.marks);
  if (!clip) {
    return;
  }
  const { left, top, width, height, scrollbar: bottom } = view.geometry();
  const floor = height - bottom;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left - HANDLE, 0, width + 2 * HANDLE, height);
  ctx.clip();
  if (selection) {
    selected(ctx, selection.map((time) => left + axis.x(time)), { left, top, width, floor }, theme);
  }
  if (hover) {
    pointedAt(ctx, hover, left, axis, theme, floor);
  }
  const x = left + axis.x(player.time);
  ctx.fillStyle = theme.playhead;
  ctx.fillRect(x - 0.75, 12, 1.5, floor - 12);
  ctx.beginPath();
  ctx.moveTo(x - 5, 8);
  ctx.lineTo(x + 5, 8);
  ctx.lineTo(x, 15);
  ctx.fill();
  ctx.restore();
}

function fresh(view, canvas) {
  const ctx = canvas.getContext("2d");
  ctx.setTransform(view.density, 0, 0, view.density, 0, 0);
  ctx.clearRect(0, 0, view.width, view.height);
  return ctx;
}

function ruler(ctx, view) {
  const { axis, theme } = view;
  const { left, top, width, height, scrollbar: bottom } = view.geometry();
  const { step, times } = axis.ticks();
  ctx.font = SMALL;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  const minor = step / 5;
  ctx.fillStyle = theme.quiet;
  ctx.globalAlpha = 0.5;
  for (let number = Math.ceil(axis.start / minor); number * minor <= axis.end; number++) {
    ctx.fillRect(Math.round(left + axis.x(number * minor)) - 0.5, top - 4, 1, 4);
  }
  ctx.globalAlpha = 1;
  for (const time of times) {
    const x = Math.round(left + axis.x(time)) - 0.5;
    ctx.fillStyle = theme.line;
    ctx.fillRect(x, top, 1, height - bottom - top);
    ctx.fillStyle = theme.quiet;
    ctx.fillRect(x, top - 10, 1, 10);
    const text = clock(time, step);
    if (x + 4 + ctx.measureText(text).width < left + width + 6) {
      ctx.fillText(text, x + 4, top - 10);
    }
  }
  ctx.textAlign = "right";
  ctx.fillText("seconds", left - 8, top - 10);
}

function label(ctx, lane, top, height, left, theme) {
  const lines = lane.curves
    ? lane.curves.map(({ name, colour }) => ({ text: name, colour: theme[colour], font: SMALL }))
    : [
        { text: lane.title, colour: theme.ink, font: FONT },
        ...(lane.unit ? [{ text: lane.unit, colour: theme.quiet, font: SMALL }] : []),
      ];
  const step = 13;
  const rows = lane.track?.rows > 1 && !lane.curves ? lane.track.rows : 0;
  const right = left - (rows ? 20 : 8);
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  lines.forEach(({ text, colour, font }, i) => {
    [ctx.fillStyle, ctx.font] = [colour, font];
    ctx.fillText(text, right, top + height / 2 + (i - (lines.length - 1) / 2) * step);
  });
  ctx.font = "9px Inter, system-ui, sans-serif";
  ctx.fillStyle = theme.quiet;
  const every = Math.max(1, Math.ceil(9 / (height / Math.max(rows, 1))));
  for (let row = 0; row < rows; row += every) {
    ctx.fillText(String(row), left - 6, top + ((row + 0.5) * height) / rows + 0.5);
  }
}

/** Where each rule would have stopped the speech, and where its tail begins: lines over the lanes of semantic tokens. */
function endings(ctx, view, boxes) {
  const { clip, axis, theme } = view;
  const own = boxes.filter(({ lane }) => lane.track?.kind === "semantic");
  if (!own.length) {
    return;
  }
  const { left, width } = view.geometry();
  const [top, last] = [own[0].top, own.at(-1)];
  const bottom = last.top + last.height;
  const marks = clip.stops.map(({ rule, time }) => ({ text: rule, time, colour: theme.ending }));
  if (clip.tail) {
    marks.unshift({ text: clip.tail.reason || "tail", time: clip.tail.seconds, colour: theme.playhead });
    const [from, to] = [clip.tail.seconds, clip.seconds].map((time) => left + Math.min(Math.max(axis.x(time), 0), width));
    ctx.fillStyle = theme.playhead;
    ctx.globalAlpha = 0.14;
    ctx.fillRect(from, top, to - from, bottom - top);
    ctx.globalAlpha = 1;
  }
  const taken = []; // [row, from, to] of the flags so far
  for (const mark of marks.filter(({ time }) => time >= axis.start && time <= Math.min(axis.end, clip.seconds + 0.1))) {
    const x = left + axis.x(mark.time);
    ctx.strokeStyle = mark.colour;
    ctx.lineWidth = 1.2;
    ctx.setLineDash([4, 3]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
    ctx.setLineDash([]);
    flag(ctx, mark, x, { top, bottom, left, right: left + width }, taken, theme);
  }
}

/** The name of a mark at its line, in the first row where it covers no other; cut where the lane is too narrow. */
function flag(ctx, mark, x, { top, bottom, left, right }, taken, theme) {
  ctx.font = SMALL;
  const text = fitted(ctx, mark.text, Math.max(right - x, x - left) - 8);
  const width = ctx.measureText(text).width + 8;
  const from = x + width > right ? x - width : x;
  const rows = Math.max(Math.floor((bottom - top) / 14), 1);
  const free = (row) => taken.every(([other, start, end]) => other !== row || from + width < start || from > end);
  const row = Math.max([...Array(rows).keys()].findIndex(free), 0);
  taken.push([row, from, from + width]);
  ctx.fillStyle = mark.colour;
  ctx.fillRect(from, top + 1 + row * 14, width, 13);
  ctx.fillStyle = theme.dark ? "#1b1b1b" : "#fff";
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillText(text, from + 4, top + 8 + row * 14);
}

/** As much of a text as a width in pixels has room for. */
function fitted(ctx, text, width) {
  let shown = text;
  for (let length = text.length - 1; length > 0 && ctx.measureText(shown).width > width; length--) {
    shown = `${text.slice(0, length).trimEnd()}…`;
  }
  return shown;
}

function scrollbar(ctx, view) {
  const { axis, theme } = view;
  const { left, width, height, scrollbar: thick } = view.geometry();
  const top = height - thick + 4;
  ctx.fillStyle = theme.line;
  ctx.beginPath();
  ctx.roundRect(left, top, width, 5, 2.5);
  ctx.fill();
  if (axis.span < axis.seconds) {
    const from = left + (axis.start / axis.seconds) * width;
    ctx.fillStyle = theme.quiet;
    ctx.globalAlpha = 0.7;
    ctx.beginPath();
    ctx.roundRect(from, top, Math.max((axis.span / axis.seconds) * width, 10), 5, 2.5);
    ctx.fill();
    ctx.globalAlpha = 1;
  }
}

function selected(ctx, [from, to], { left, top, width, floor }, theme) {
  ctx.fillStyle = theme.dark ? "rgba(0, 0, 0, 0.42)" : "rgba(255, 255, 255, 0.45)";
  const edge = (x) => Math.min(Math.max(x, left), left + width);
  ctx.fillRect(left, top, edge(from) - left, floor - top);
  ctx.fillRect(edge(to), top, left + width - edge(to), floor - top);
  ctx.fillStyle = theme.selection;
  ctx.globalAlpha = 0.1;
  ctx.fillRect(edge(from), top, edge(to) - edge(from), floor - top);
  ctx.globalAlpha = 1;
  ctx.fillRect(edge(from), top - 3, edge(to) - edge(from), 3);
  for (const x of [from, to]) {
    ctx.fillRect(x - 0.75, top - 3, 1.5, floor - top + 3);
    ctx.beginPath();
    ctx.roundRect(x - 4, top + (floor - top) / 2 - 12, 8, 24, 4);
    ctx.fill();
  }
}

function pointedAt(ctx, { time, box, probe }, left, axis, theme, floor) {
  ctx.fillStyle = theme.ink;
  ctx.globalAlpha = 0.35;
  ctx.fillRect(left + axis.x(time) - 0.5, 14, 1, floor - 14);
  ctx.globalAlpha = 1;
  if (probe && Number.isFinite(probe.start) && (probe.end - probe.start) * axis.pixelsPerSecond >= 3) {
    const [from, to] = [left + axis.x(probe.start), left + axis.x(probe.end)];
    ctx.strokeStyle = theme.ink;
    ctx.lineWidth = 1.5;
    const { top, height } = box.lane.cells?.({ left, ...box }) ?? box;
    ctx.strokeRect(from, top + probe.top * height, to - from, (probe.bottom - probe.top) * height);
  }
}
