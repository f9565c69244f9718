// The bridge to ComfyUI's front end: the only file of the inspector that knows `app`, `api` and LiteGraph's nodes.

import { api } from "../../../../scripts/api.js";
import { app } from "../../../../scripts/app.js";

const LARGEST_FILE = 512 * 2 ** 20; // bytes; ten minutes of everything are 10 MB
const MOST_FILES = 64; // kept in a node's properties
const FOLDERS = ["temp", "output", "input"];

/**
 * Take part in the life of the nodes of some types: `created`, `configured` (loaded, pasted, undone), `executed` with
 * what the server sent, `removed`; each is called with the node, and none can break the page.
 */
export function extend(name, types, { created, configured, executed, removed }) {
  app.registerExtension({
    name: `bark-inside-out.${name}`,
    beforeRegisterNodeDef(nodeType, nodeData) {
      if (types.includes(nodeData.name)) {
        chain(nodeType.prototype, "onConfigure", configured);
        chain(nodeType.prototype, "onExecuted", executed);
        chain(nodeType.prototype, "onRemoved", removed);
      }
    },
    nodeCreated(node) {
      if (types.includes(node.comfyClass)) {
        guarded(created)?.(node);
      }
    },
  });
}

/** Call `handler(node, detail)` for each message of the server that is about a node of these types. */
export function onMessage(name, types, handler) {
  api.addEventListener(name, ({ detail }) => {
    const node = findNode(detail?.display_node ?? detail?.node);
    if (types.includes(node?.comfyClass)) {
      guarded(handler)(node, detail);
    }
  });
}

/** Put an element into a node, for display only: it is in no saved workflow and in no prompt. */
export function addElement(node, name, element, getMinHeight, getMaxHeight) {
  const options = { serialize: false, hideOnZoom: false, getMinHeight, getMaxHeight };
  const widget = node.addDOMWidget(name, name, element, options);
  widget.serialize = false;
  return widget;
}

/** Make the node as large as it needs to be, and never smaller than it is. */
export function grow(node, width = 0) {
  const [least, height] = node.computeSize();
  const size = [Math.max(node.size[0], least, width), Math.max(node.size[1], height)];
  if (size[0] !== node.size[0] || size[1] !== node.size[1]) {
    node.setSize(size);
    node.setDirtyCanvas?.(true, true);
  }
}

export function readNumber(node, name) {
  const value = Number(node.widgets?.find((widget) => widget.name === name)?.value);
  return Number.isFinite(value) ? value : 0;
}

/** Set a widget the way a user would, so that both renderers show it. */
export function writeNumber(node, name, value) {
  const widget = node.widgets?.find((candidate) => candidate.name === name);
  if (widget && widget.value !== value) {
    widget.value = value;
    widget.callback?.(value, app.canvas, node);
    node.setDirtyCanvas?.(true, true);
  }
}

/** Call `handler` when the user changes one of the node's widgets. */
export function onWidgets(node, names, handler) {
  for (const widget of node.widgets?.filter(({ name }) => names.includes(name)) ?? []) {
    chain(widget, "callback", () => handler());
  }
}

/** Call `handler(scale)` whenever the user has zoomed the graph, in both renderers. */
export function onGraphZoom(handler) {
  let before = 0;
  app.registerExtension({
    name: "bark-inside-out.GraphZoom",
    setup() {
      chain(app.canvas, "onDrawForeground", () => {
        const { scale } = app.canvas.ds;
        if (scale !== before) {
          before = scale;
          handler(scale);
        }
      });
    },
  });
}

// -- files ---------------------------------------------------------------------------------------------------------

/** Those of a list that can be files of this server: {filename, subfolder, type}; whatever a workflow may hold. */
export function fileReferences(list) {
  const short = (text) => typeof text === "string" && text.length < 256;
  const valid = (item) =>
    short(item?.filename) && item.filename && short(item.subfolder ?? "") && FOLDERS.includes(item.type);
  return (Array.isArray(list) ? list : [])
    .filter(valid)
    .slice(0, MOST_FILES)
    .map(({ filename, subfolder = "", type }) => ({ filename, subfolder, type }));
}

export function addressOf(reference) {
  return api.apiURL(`/view?${new URLSearchParams(reference)}`);
}

/** The bytes of a file, or null when it is gone; a sentence as an Error when it is too large. */
export async function readFile(reference, signal) {
  // Asks the server each time: it says "unchanged" in no time, and the browser's own copy outlives the sound beside it.
  const answer = await fetch(addressOf(reference), { signal, cache: "no-cache" });
  if (!answer.ok) {
    return null;
  }
  if (Number(answer.headers.get("content-length")) > LARGEST_FILE) {
    throw new Error("This view is too large for the browser; look at a part of it.");
  }
  return answer.arrayBuffer();
}

// -- what a node remembers -----------------------------------------------------------------------------------------

const latest = new Map(); // graph and node → value, so that undoing a step does not bring old tokens back

/** Keep a value in the node's properties, where it survives a reload and a copy; no step of its own for undo. */
export function remember(node, name, value) {
  latest.set(keyOf(node, name), value);
  if (JSON.stringify(node.properties?.[name]) === JSON.stringify(value)) {
    return;
  }
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  const capture = tracker?.captureCanvasState ?? tracker?.checkState;
  capture?.call(tracker); // what the user did until now stays a step of its own
  node.properties ??= {};
  node.properties[name] = value;
  if (tracker?.activeState && tracker.updateModified) {
    tracker.activeState = JSON.parse(JSON.stringify(wholeGraph().serialize()));
    tracker.updateModified(); // has the draft of the workflow stored
  }
}

export function recall(node, name) {
  return latest.get(keyOf(node, name)) ?? node.properties?.[name];
}

function keyOf(node, name) {
  return `${node.graph?.id} ${node.id} ${name}`;
}

// -- inside --------------------------------------------------------------------------------------------------------

/** The workflow's outermost graph, also while a subgraph is looked into; older versions know it by another name. */
function wholeGraph() {
  const graph = app.rootGraph ?? app.graph;
  return graph?.rootGraph ?? graph;
}

/** A node by the id that the server knows it by: "12", or "4:12" for node 12 in the subgraph of node 4. */
function findNode(id) {
  let graph = wholeGraph();
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    node = graph?.getNodeById(/^\d+$/.test(part) ? Number(part) : part) ?? graph?.getNodeById(part) ?? null;
    graph = node?.subgraph;
  }
  return node;
}

function chain(object, name, after) {
  if (after) {
    const before = object[name];
    object[name] = function (...given) {
      const result = before?.apply(this, given);
      guarded(after)(this, ...given);
      return result;
    };
  }
}

/** The same function; what goes wrong in it is said in the console and goes no further. */
function guarded(act) {
  return (
    act &&
    ((...given) => {
      try {
        return act(...given);
      } catch (error) {
        console.error("bark-inside-out: the token view failed.", error);
        return undefined;
      }
    })
  );
}
