// What ComfyUI's own front end does not open when it is dropped on the canvas or chosen in its menu:
//
// - a WAV file with a workflow: its graph is restored, as that of a FLAC file is;
// - a token file without a workflow: it is uploaded to the input folder, and a Load Tokens node opens it;
// - a sound with tokens but without a workflow: the same with a Load Bark Audio node.
//
// Everything else is handed on untouched. Several files at once are the front end's own business.

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

const LARGEST_HEADER = 4 * 2 ** 20; // the front end itself looks no further for a workflow
const LARGEST_SOUND = 2 ** 28;
const KINDS = ["semantic", "coarse", "fine"];
const TOKENS = /bark(=|\0)bark1:/i; // a Vorbis comment or a user text of ID3
const WORKFLOW = /(workflow|prompt)(=|\0)\{/;

app.registerExtension({
  name: "bark-inside-out.DroppedTokens",

  setup() {
    const before = app.handleFile;
    app.handleFile = async function (file, ...rest) {
      return (await opened(file).catch(() => false)) || before.call(this, file, ...rest);
    };
  },
});

/** Whether the file was one of ours and is open now. */
async function opened(file) {
  if (file.name.toLowerCase().endsWith(".safetensors")) {
    return (await holdsOnlyTokens(file)) && place("BarkLoadTokens", "file", file, (name) => `${name} [input]`);
  }
  if (!/\.(wav|flac|mp3|ogg|oga|opus)$/i.test(file.name) || file.size > LARGEST_SOUND) {
    return false;
  }
  const bytes = await file.arrayBuffer();
  const text = new TextDecoder("latin1").decode(bytes);
  if (!text.startsWith("RIFF")) {
    return TOKENS.test(text) && !WORKFLOW.test(text) && place("BarkLoadAudio", "audio", file, (name) => name);
  }
  const comment = commentOf(new DataView(bytes), text);
  if (comment.workflow) {
    await app.loadGraphData(JSON.parse(comment.workflow), true, true, file.name.replace(/\.\w+$/, ""));
    return true;
  }
  if (comment.prompt) {
    app.loadApiJson(JSON.parse(comment.prompt), file.name.replace(/\.\w+$/, ""));
    return true;
  }
  return Boolean(comment.bark) && place("BarkLoadAudio", "audio", file, (name) => name);
}

/** Whether a safetensors file holds tokens, and nothing that the front end would restore. */
async function holdsOnlyTokens(file) {
  const length = new DataView(await file.slice(0, 8).arrayBuffer()).getUint32(0, true);
  if (length > LARGEST_HEADER) {
    return false;
  }
  const header = JSON.parse(await file.slice(8, 8 + length).text());
  const { workflow, prompt } = header.__metadata__ ?? {};
  return !workflow && !prompt && KINDS.some((kind) => kind in header);
}

/** The JSON object in the comment of a WAV file; empty where there is none. `text` are the same bytes, one by one. */
function commentOf(view, text) {
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const size = view.getUint32(at + 4, true);
    if (text.startsWith("LIST", at) && text.startsWith("INFOICMT", at + 8)) {
      const start = at + 20;
      const end = start + view.getUint32(at + 16, true);
      return JSON.parse(text.slice(start, end).replace(/\0+$/, ""));
    }
    at += 8 + size + (size % 2);
  }
  return {};
}

/** Upload a file to the input folder and open it with a new node, where the pointer is. */
async function place(type, widgetName, file, named) {
  const body = new FormData();
  body.append("image", file);
  const answer = await api.fetchApi("/upload/image", { method: "POST", body });
  if (answer.status !== 200) {
    return false;
  }
  const name = named((await answer.json()).name);
  const node = LiteGraph.createNode(type);
  (app.canvas.graph ?? app.graph).add(node);
  node.pos = [...app.canvas.graph_mouse];
  const widget = node.widgets.find((one) => one.name === widgetName);
  if (!widget.options.values.includes(name)) {
    widget.options.values = [...widget.options.values, name];
  }
  widget.value = name;
  widget.callback?.(name);
  app.canvas.setDirty(true, true);
  return true;
}
