// Puts the view on Inspect Tokens: results come in, the selection goes out through the widgets `start` and `end`.

import { makeClip } from "./clip.js";
import * as host from "./host.js";
import { readSafetensors } from "./safetensors.js";
import { InspectorView } from "./view.js";

const TYPES = ["BarkInspectTokens"];
const WIDGET = "bark_view";
const MOST_REMEMBERED = 64; // references of the last results; a workflow stays small
const WIDTH = 680; // CSS pixels of a new node
const SETTLED = 150; // milliseconds
const GONE = "Run the workflow to see the tokens.";

class Inspector {
  constructor(node) {
    this.node = node;
    this.references = [];
    this.page = 0;
    this.shown = "";
    this.loading = new AbortController();
    this.view = new InspectorView({
      onSelect: (start, end) => this.writeSelection(start, end),
      onPage: (step) => this.turn(step),
      isOpen: () => host.isOpen(node),
    });
    this.widget = host.addElement(node, WIDGET, this.view.element, () => this.view.leastHeight);
    this.widget.view = this.view;
    host.onWidgets(node, ["start", "end"], () => this.readSelection());
    host.grow(node, WIDTH);
  }

  /** New results, or those that the node remembers; the same once more changes nothing. */
  take(list) {
    const references = host.fileReferences(list);
    const mark = references.map(host.addressOf).join("\n");
    if (!references.length) {
      return;
    }
    this.references = references;
    if (mark === this.shown) {
      this.readSelection(); // which may have come by other wires
    } else {
      this.shown = mark;
      this.page = 0;
      this.load();
    }
  }

  turn(step) {
    this.page = (this.page + step + this.references.length) % this.references.length;
    this.load();
  }

  async load() {
    this.loading.abort();
    this.loading = new AbortController();
    const { signal } = this.loading;
    this.view.setPage(this.page, this.references.length); // also where this one is gone: the others may be there
    try {
      const bytes = await host.readFile(this.references[this.page], signal);
      if (signal.aborted) {
        return;
      }
      if (!bytes) {
        this.shown = ""; // the same name may come again
        this.view.say(GONE);
        return;
      }
      const clip = makeClip(readSafetensors(bytes));
      const [sound] = host.fileReferences([clip.audio]);
      this.view.show(clip, sound ? host.addressOf(sound) : null);
      this.readSelection();
      host.grow(this.node);
    } catch (error) {
      if (!signal.aborted) {
        this.shown = "";
        this.view.say(error instanceof TypeError ? GONE : error.message); // TypeError: the server does not answer
      }
    }
  }

  readSelection() {
    if (!this.writing) {
      this.view.select(this.bound("start"), this.bound("end"));
    }
  }

  /** What the selection begins or ends with: what the widget says, or what came through a wire when this was made. */
  bound(name) {
    return host.isWired(this.node, name) ? (this.references[this.page]?.[name] ?? 0) : host.readNumber(this.node, name);
  }

  writeSelection(start, end) {
    this.writing = true;
    const wanted = Object.entries({ start, end }).filter(([name]) => !host.isWired(this.node, name));
    wanted.forEach(([name, time]) => host.writeNumber(this.node, name, time));
    this.writing = false;
    if (wanted.length < 2) {
      this.readSelection(); // a wire is not moved by dragging
    }
  }

  remove() {
    this.loading.abort();
    this.view.destroy();
  }
}

const inspectors = new Map(); // node → Inspector, for as long as the node is in a graph

/** Show what the node itself knows. Copies for the clipboard are never in a graph, nor removed: they get no view. */
function restore(node) {
  if (!node.graph) {
    return;
  }
  if (!inspectors.has(node)) {
    node.widgets = node.widgets?.filter(({ name }) => name !== WIDGET); // of a node that was removed and comes again
    inspectors.set(node, new Inspector(node));
  }
  const inspector = inspectors.get(node);
  inspector.readSelection();
  inspector.take(host.fileReferences(host.remembered(node)).slice(0, MOST_REMEMBERED));
}

function letGo(node) {
  inspectors.get(node)?.remove();
  inspectors.delete(node);
}

host.extend("InspectTokens", TYPES, {
  added: restore,
  configured: restore,
  removed: letGo,
  wired: (node) => inspectors.get(node)?.readSelection(),
});

host.onLoad(() => [...inspectors.keys()].filter((node) => !host.isInWorkflow(node)).forEach(letGo));

/** What a run left: a node keeps it and shows it. */
function receive(node, { output }) {
  const references = host.fileReferences(output?.bark_view);
  if (references.length) {
    host.remember(node, references.slice(0, MOST_REMEMBERED));
    inspectors.get(node)?.take(references);
  }
}

host.onMessage("executed", TYPES, receive, ({ output }) => Boolean(output?.bark_view));
host.onHistory(TYPES, receive);

let pause = 0;
host.onGraphZoom(() => {
  clearTimeout(pause); // once, when the graph has come to rest
  pause = setTimeout(() => inspectors.forEach(({ view }) => view.resize()), SETTLED);
});
