// The bridge to ComfyUI's front end: the only file of the inspector that knows `app`, `api` and LiteGraph's nodes.

import { api } from "../../../../scripts/api.js";
import { app } from "../../../../scripts/app.js";

const LARGEST_FILE = 512 * 2 ** 20; // bytes; ten minutes of everything are 10 MB
const FOLDERS = ["temp", "output", "input"];

/**
 * Take part in the life of the nodes of some types: `added` to a graph, `configured` (loaded, pasted, undone; also a
 * copy that never gets into a graph), `removed`, `wired` (or unplugged); each is called with the node, and none can break
 * the page.
 */
export function extend(name, types, { added, configured, removed, wired }) {
  app.registerExtension({
    name: `bark-inside-out.${name}`,
    beforeRegisterNodeDef(nodeType, nodeData) {
      if (types.includes(nodeData.name)) {
        chain(nodeType.prototype, "onAdded", added);
        chain(nodeType.prototype, "onConfigure", configured);
        chain(nodeType.prototype, "onRemoved", removed);
        chain(nodeType.prototype, "onConnectionsChange", wired);
      }
    },
  });
}

/**
 * Call `handler(node, detail)` for each message of the server that is about a node of these types, in the workflow that
 * queued the prompt. A message that `isResult(detail)` waits until that workflow is shown, and comes once more whenever
 * the graph is built anew, by its tab or by undo.
 */
export function onMessage(name, types, handler, isResult = () => false) {
  const deliver = guarded((detail) => {
    const node = findNode(detail.display_node ?? detail.node);
    if (types.includes(node?.comfyClass)) {
      handler(node, detail);
    }
  });
  api.addEventListener(name, async ({ detail }) => {
    if (!detail) {
      return;
    }
    while (loads.size || (queueing.size && !queuedBy.has(detail.prompt_id))) {
      await Promise.allSettled([...loads, ...queueing]);
    }
    // Of a prompt from before a reload nothing is known: it is taken for one of the workflow that is shown.
    const tab = queuedBy.has(detail.prompt_id) ? (queuedBy.get(detail.prompt_id).deref() ?? null) : shownTab();
    if (tab && isResult(detail)) {
      const results = resultsOf.get(tab) ?? new Map();
      resultsOf.set(tab, results.set(`${name} ${detail.display_node ?? detail.node}`, () => deliver(detail)));
    }
    if (tab === shownTab()) {
      deliver(detail);
    }
  });
}

/**
 * Call `handler(node, { output })` for the outputs that an entry of the history brings along: no message comes with it.
 * Not every version has them: 1.27 does in its queue panel, while 1.45 opens the graph alone.
 */
export function onHistory(types, handler) {
  app.registerExtension({
    name: "bark-inside-out.History",
    onNodeOutputsUpdated(outputs) {
      if (loads.size) {
        return; // a tab puts back what was there when it was left; newer results may have come since
      }
      for (const [id, output] of Object.entries(outputs ?? {})) {
        const node = findNode(id);
        if (types.includes(node?.comfyClass)) {
          guarded(handler)(node, { output });
        }
      }
    },
  });
}

/** Call `handler` when a graph has been loaded; nodes inside subgraphs are not told when they are cleared for it. */
export function onLoad(handler) {
  loadHandlers.push(guarded(handler));
}

/** Whether a node is in the workflow that is shown, at any depth. */
export function isInWorkflow(node) {
  const graph = wholeGraph();
  const known = node.graph && (node.graph === graph || [...(graph?.subgraphs?.values() ?? [])].includes(node.graph));
  return Boolean(known && node.graph.getNodeById(node.id) === node);
}

/** Whether a node could be seen, were the graph moved there: not collapsed, in the graph that is looked into. */
export function isOpen(node) {
  return !node.flags?.collapsed && (!app.canvas?.graph || app.canvas.graph === node.graph);
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

/** Whether an input takes what comes through a wire, and not what its widget says. */
export function isWired(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link != null) ?? false;
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

/**
 * Those of a list that can be files of this server: {filename, subfolder, type}; whatever a workflow may hold. `start`
 * and `end` come along where they are numbers.
 */
export function fileReferences(list) {
  const short = (text) => typeof text === "string" && text.length < 256;
  const valid = (item) =>
    short(item?.filename) && item.filename && short(item.subfolder ?? "") && FOLDERS.includes(item.type);
  const range = ({ start, end }) => (Number.isFinite(start) && Number.isFinite(end) ? { start, end } : {});
  return (Array.isArray(list) ? list : [])
    .filter(valid)
    .map((item) => ({ filename: item.filename, subfolder: item.subfolder ?? "", type: item.type, ...range(item) }));
}

export function addressOf({ filename, subfolder, type }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
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

const PROPERTY = "bark_view"; // references of the last results

/** Keep references in the node's properties, where they survive a reload and a copy; no step of its own for undo. */
export function remember(node, references) {
  if (JSON.stringify(remembered(node)) === JSON.stringify(references)) {
    return;
  }
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  const capture = tracker?.captureCanvasState ?? tracker?.checkState;
  capture?.call(tracker); // what the user did until now stays a step of its own
  node.properties ??= {};
  node.properties[PROPERTY] = references;
  if (tracker?.changeCount > 0) {
    return; // in the middle of a drag: what was before it is noted when it ends, as a step of its own
  }
  if (tracker?.activeState && tracker.updateModified) {
    tracker.activeState = JSON.parse(JSON.stringify(wholeGraph().serialize()));
    tracker.updateModified(); // has the draft of the workflow stored
  }
}

/** What `remember` kept, or whatever a workflow has in its place. */
export function remembered(node) {
  return node.properties?.[PROPERTY];
}

/** A workflow as it goes along with a prompt: what its nodes remember was made by an earlier one. */
function withoutResults(workflow) {
  const bare = (nodes) =>
    nodes?.map(({ properties, ...node }) => {
      const { [PROPERTY]: _, ...others } = properties ?? {};
      return properties ? { ...node, properties: others } : node;
    });
  const subgraphs = workflow.definitions?.subgraphs?.map((graph) => ({ ...graph, nodes: bare(graph.nodes) }));
  const definitions = subgraphs && { definitions: { ...workflow.definitions, subgraphs } };
  return { ...workflow, nodes: bare(workflow.nodes), ...definitions };
}

// -- which workflow a message is for --------------------------------------------------------------------------------

// A tab is known by its change tracker, which lives exactly as long. Ids of graphs and nodes tell no workflows apart:
// a template and what was saved from it have the same.
const queuedBy = new Map(); // id of a prompt → WeakRef of the tab
const resultsOf = new WeakMap(); // tab → Map of functions that deliver the last result of each node
const queueing = new Set(); // promises; the first messages may come before the answer that names the prompt
const loads = new Set(); // promises; meanwhile the old tab is still the active one, with the new graph
const loadHandlers = [];

function shownTab() {
  const workflow = app.extensionManager?.workflow?.activeWorkflow;
  return workflow?.changeTracker ?? workflow ?? null;
}

around(
  api,
  "queuePrompt",
  queueing,
  () => {
    const tab = shownTab();
    return (answer) => {
      if (tab && answer?.prompt_id) {
        queuedBy.set(answer.prompt_id, new WeakRef(tab));
      }
    };
  },
  // Files and the history keep the workflow beside what this prompt makes; what came of the one before is not in it.
  ([place, prompt, ...rest]) =>
    prompt?.workflow && [place, { ...prompt, workflow: withoutResults(prompt.workflow) }, ...rest],
);

// The tab stays and counts its nodes from 1 again: what comes next has nothing to do with what was there.
api.addEventListener("graphCleared", () => resultsOf.delete(shownTab()));

// Undo and the tabs say which workflow the graph belongs to; without one it is new, even where it replaces another.
around(app, "loadGraphData", loads, (graph, clean, view, workflow) => () => {
  const tab = shownTab();
  loadHandlers.forEach((handler) => handler());
  if (typeof workflow !== "object" || !workflow) {
    resultsOf.delete(tab);
  }
  // Undo has to note first what it has restored; else this would be a step of its own, and end redo.
  setTimeout(() => {
    if (tab === shownTab() && !loads.size) {
      resultsOf.get(tab)?.forEach((deliver) => deliver());
    }
  });
});

/**
 * Before each call of an asynchronous method call `begin` as well, and what that returns with the result. The method
 * gets what `change(given)` makes of its arguments, or the same ones where that is nothing.
 */
function around(object, name, running, begin, change = () => null) {
  const before = object[name];
  object[name] = function (...given) {
    const end = guarded(begin)(...given);
    const passed = guarded(change)(given) || given;
    const call = Promise.resolve(before.apply(this, passed)).then((result) => {
      guarded(end)?.(result);
      return result;
    });
    running.add(call);
    const forget = () => running.delete(call);
    call.then(forget, forget);
    return call;
  };
}

// -- inside --------------------------------------------------------------------------------------------------------

/** The workflow's outermost graph, also while a subgraph is looked into; older versions know it by another name. */
function wholeGraph() {
  const graph = app.rootGraph ?? app.graph;
  return graph?.rootGraph ?? graph;
}

/**
 * A node by the id that the server knows it by: "12", or "4:12" for node 12 in the subgraph of node 4. The front end's
 * own ids begin with the subgraph's instead.
 */
function findNode(id) {
  let graph = wholeGraph();
  let node = null;
  for (const part of String(id ?? "").split(":")) {
    const subgraph = wholeGraph()?.subgraphs?.get(part);
    if (subgraph) {
      graph = subgraph;
      continue;
    }
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
