// Which lanes a clip has, and where they stand below each other.
//
// A lane has a `title` and a `unit` for its label, a `least` height in CSS pixels and a `weight` by which it shares what
// is left. `draw(ctx, box, {axis, theme, deadline})` paints it and says whether all of it is there; `probe(time,
// fraction)` says in `words` what is at a place, and outlines it in seconds (`start`, `end`) and fractions of the lane's
// height (`top`, `bottom`).

import { KINDS } from "./clip.js";
import { SpectrogramLane, TraceLane, WaveLane } from "./signal_lanes.js";
import { TokenLane } from "./token_lanes.js";

const GAP = 5; // CSS pixels between two lanes

export function makeLanes(clip, theme) {
  const sound = [
    ...(clip.wave ? [new WaveLane(clip.wave)] : []),
    ...(clip.spectrogram ? [new SpectrogramLane(clip.spectrogram, theme)] : []),
  ];
  // The trace stands above the tokens that it is of, or where they would stand.
  const tokens = KINDS.flatMap((kind) => [
    ...(clip.trace?.kind === kind ? [new TraceLane(clip.trace)] : []),
    ...clip.tracks.filter((track) => track.kind === kind).map((track) => new TokenLane(track, theme.dark)),
  ]);
  return [...sound, ...tokens];
}

export function leastHeight(lanes) {
  return lanes.reduce((sum, lane) => sum + lane.least + GAP, 0);
}

/** [{lane, top, height}] within `top` … `top + height`; lanes grow by their weights, and never shrink below `least`. */
export function place(lanes, top, height) {
  const weights = lanes.reduce((sum, lane) => sum + lane.weight, 0) || 1;
  const spare = Math.max(height - leastHeight(lanes), 0);
  let y = top;
  return lanes.map((lane) => {
    const box = { lane, top: Math.round(y), height: Math.round(lane.least + (spare * lane.weight) / weights) };
    y += lane.least + (spare * lane.weight) / weights + GAP;
    return box;
  });
}
