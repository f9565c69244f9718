// Colours: those of the page's theme, and one for each token id, the same in every view and after every run.

/** What the view paints with, read from ComfyUI's own variables so that every palette of the user fits. */
export function readTheme(element) {
  const style = getComputedStyle(element.isConnected ? element : document.body); // an element apart has no style
  const variable = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const paper = variable("--comfy-input-bg", "#222");
  const dark = lightness(paper) < 0.5;
  const ink = variable("--input-text", dark ? "#ddd" : "#222");
  return {
    dark,
    paper,
    ink,
    quiet: variable("--descrip-text", dark ? "#999" : "#666"),
    line: dark ? "rgba(255, 255, 255, 0.09)" : "rgba(0, 0, 0, 0.10)",
    lane: dark ? "rgba(255, 255, 255, 0.035)" : "rgba(0, 0, 0, 0.03)",
    wave: dark ? "#6fb3c8" : "#2f7f98",
    selection: dark ? "#8ab4f8" : "#2563c9",
    playhead: dark ? "#ff8a65" : "#d9480f",
    probability: dark ? "#7fc8a9" : "#1f8a5f",
    entropy: dark ? "#b7a3e3" : "#6d4fc2",
    ending: dark ? "#f2b46d" : "#b5651d",
    heat: ramp(dark ? DARK_HEAT : LIGHT_HEAT),
  };
}

// From silence to loud, in even steps of lightness.
const DARK_HEAT = ["#15171c", "#1d2b4a", "#33508a", "#5a7bb0", "#9fb0b8", "#e3d6a4", "#fff6d8"];
const LIGHT_HEAT = ["#fbfbf9", "#dfe8ee", "#b3cbdd", "#7ba3c6", "#4a76a8", "#2c4a80", "#1a2250"];

/** A semantic id: any hue, so that neighbours differ and repeats catch the eye; never shrill. */
export function semanticColour(id, dark) {
  const [hue, shade] = [scatter(id), scatter(id + 7919)];
  return oklch((dark ? 0.5 : 0.62) + 0.2 * shade, 0.095, hue * 360);
}

/** A code of a codebook: each codebook keeps to its part of the colour circle, the id sets shade and nuance. */
export function codeColour(id, codebook, dark) {
  const [shade, nuance] = [scatter(id + 131 * codebook), scatter(id + 7919)];
  const strength = 0.05 + 0.04 * nuance;
  return oklch((dark ? 0.3 : 0.55) + 0.38 * shade, strength, 205 + codebook * 22 + (nuance - 0.5) * 40);
}

/** [red, green, blue] as one number, the way ImageData lays its bytes out. */
export function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/** Black or white, whichever can be read on a colour. */
export function inkOn([red, green, blue]) {
  return red * 0.299 + green * 0.587 + blue * 0.114 > 140 ? "rgba(0, 0, 0, 0.82)" : "rgba(255, 255, 255, 0.92)";
}

/** Evenly spread over 0 … 1, neighbours far apart. */
function scatter(id) {
  let mixed = Math.imul(id + 0x9e3779b9, 0x85ebca6b) >>> 0;
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) >>> 0;
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
}

/** Lightness 0 … 1, chroma, hue in degrees → [red, green, blue]; equal lightness looks equally light. */
function oklch(light, chroma, degrees) {
  const angle = (degrees * Math.PI) / 180;
  const [a, b] = [chroma * Math.cos(angle), chroma * Math.sin(angle)];
  const long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (light - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * middle + 1.707614701 * short,
  ].map((linear) => {
    const bounded = Math.min(Math.max(linear, 0), 1);
    return Math.round(255 * (bounded <= 0.0031308 ? 12.92 * bounded : 1.055 * bounded ** (1 / 2.4) - 0.055));
  });
}

/** 256 packed colours between anchors like "#1d2b4a". */
function ramp(anchors) {
  const colours = anchors.map((text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const place = (level / 255) * (colours.length - 1);
    const below = Math.min(Math.floor(place), colours.length - 2);
    return packed(colours[below].map((value, i) => Math.round(value + (colours[below + 1][i] - value) * (place - below))));
  });
}

/** 0 … 1 for any colour that CSS knows. */
function lightness(colour) {
  const ctx = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
  ctx.fillStyle = colour;
  ctx.fillRect(0, 0, 1, 1);
  const [red, green, blue] = ctx.getImageData(0, 0, 1, 1).data;
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
}
