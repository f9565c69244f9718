// Mouse, wheel and keyboard of a view. What is not meant for the view goes on to ComfyUI.

const CLICK = 3; // CSS pixels; a drag is longer
const GRIP = 6; // CSS pixels around an edge of the selection where it can be taken
const EDGE = 24; // CSS pixels at the sides where dragging moves the window on
const WHEEL = 0.0016; // zoom per unit of the wheel
const LINE = 16; // pixels, for mice that count lines

export function listen(view, signal) {
  const { stage, root, buttons } = view.body;
  const on = (element, name, handler, options = {}) => element.addEventListener(name, handler, { signal, ...options });
  on(stage, "pointerdown", (event) => press(view, event));
  on(stage, "pointermove", (event) => point(view, event));
  on(stage, "pointerleave", () => view.leave());
  on(stage, "pointerenter", () => view.resize()); // the graph may have been zoomed since
  on(stage, "wheel", (event) => wheel(view, event), { passive: false });
  on(stage, "dblclick", (event) => event.stopPropagation());
  on(stage, "auxclick", (event) => event.preventDefault()); // no pasting with the middle button
  on(root, "keydown", (event) => key(view, event));
  for (const name of ["pointerdown", "pointermove", "pointerup"]) {
    on(root, name, (event) => event.stopPropagation()); // no dragging of the node from here
  }
  on(buttons.play, "click", () => view.player.toggle());
  on(buttons.loop, "click", () => view.toggleLoop());
  on(buttons.closer, "click", () => view.zoom(1 / 1.6));
  on(buttons.farther, "click", () => view.zoom(1.6));
  on(buttons.part, "click", () => view.showSelection());
  on(buttons.all, "click", () => view.showAll());
}

/** Where the pointer is on the stage, in CSS pixels; the graph may be zoomed. */
function place(view, event) {
  const box = view.body.stage.getBoundingClientRect();
  const scale = box.width / view.width || 1;
  return [(event.clientX - box.left) / scale, (event.clientY - box.top) / scale];
}

function press(view, event) {
  if (!view.clip || event.button > 1) {
    return;
  }
  view.body.stage.focus({ preventScroll: true });
  const [x, y] = place(view, event);
  const hit = view.at(x, y);
  const panning = event.button === 1 || event.shiftKey || hit.inRuler;
  const drag = hit.inScrollbar ? scroll(view, hit) : panning ? pan(view, hit, x) : select(view, hit);
  if (!drag) {
    return;
  }
  follow(view, event, (now, ended) => {
    // It may be gone since the press, for another take that cannot be read.
    if (view.clip) {
      drag(place(view, now), ended, Math.abs(place(view, now)[0] - x) > CLICK);
    }
  });
}

/** Call `drag` for every movement until the button is let go, also outside of the view. */
function follow(view, event, drag) {
  const { stage } = view.body;
  const ending = new AbortController();
  const options = { signal: AbortSignal.any ? AbortSignal.any([ending.signal, view.listeners.signal]) : ending.signal };
  stage.setPointerCapture(event.pointerId);
  stage.addEventListener("pointermove", (now) => drag(now, false), options);
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(
      name,
      (now) => {
        ending.abort();
        if (name === "pointerup") {
          drag(now, true);
        }
      },
      options,
    );
  }
}

/** Drag the window along; a click on the ruler puts the playhead there. */
function pan(view, hit, first) {
  let before = first;
  let moved = false;
  return ([x], ended, far) => {
    moved ||= far;
    if (ended && !moved) {
      view.seek(hit.time);
    } else if (moved) {
      view.pan(before - x);
      before = x;
    }
  };
}

function scroll(view, { x }) {
  const { axis } = view;
  const inside = axis.start + ((x / axis.width) * axis.seconds - axis.start);
  const grip = inside >= axis.start && inside <= axis.end ? inside - axis.start : axis.span / 2;
  const move = (at) => {
    axis.moveTo((at / axis.width) * axis.seconds - grip);
    view.refresh();
  };
  move(x);
  return ([at]) => move(at - view.geometry().left);
}

/** Drag a selection, or one of its edges; a click puts the playhead there and leaves the selection alone. */
function select(view, hit) {
  if (hit.x < -GRIP || hit.x > view.axis.width + GRIP) {
    return null;
  }
  const edge = edgeAt(view, hit.x);
  const fixed = edge === null ? hit.time : view.selection[1 - edge];
  let moved = edge !== null;
  return ([x], ended, far) => {
    moved ||= far;
    if (!moved) {
      if (ended) {
        view.seek(hit.time);
      }
      return;
    }
    const at = x - view.geometry().left;
    if (!ended && (at < EDGE || at > view.axis.width - EDGE) && view.axis.span < view.axis.seconds) {
      view.pan((at < EDGE ? at - EDGE : at - view.axis.width + EDGE) / 2);
    }
    view.selectBetween(fixed, Math.min(Math.max(view.axis.time(at), 0), view.clip.seconds));
  };
}

/** 0 or 1 for the edge of the selection at `x`, null where there is none. */
function edgeAt(view, x) {
  const distances = (view.selection ?? []).map((time) => Math.abs(view.axis.x(time) - x));
  const nearest = distances[1] < distances[0] ? 1 : 0;
  return distances[nearest] <= GRIP ? nearest : null;
}

function point(view, event) {
  if (!view.clip) {
    return;
  }
  const [x, y] = place(view, event);
  view.point(x, y);
  const { inRuler, inScrollbar, x: at } = view.at(x, y);
  const cursor = inRuler || event.shiftKey ? "grab" : inScrollbar ? "default" : "crosshair";
  view.body.stage.style.cursor = edgeAt(view, at) === null || inScrollbar ? cursor : "ew-resize";
}

function wheel(view, event) {
  if (!view.clip) {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
  const unit = event.deltaMode === 1 ? LINE : event.deltaMode === 2 ? view.width : 1;
  const sideways = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
  if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
    view.pan(sideways * unit);
  } else {
    const strength = event.ctrlKey ? 6 : 1; // pinching on a touchpad comes as small steps with Ctrl
    view.zoom(Math.exp(event.deltaY * unit * WHEEL * strength), place(view, event)[0] - view.geometry().left);
  }
  const [x, y] = place(view, event);
  view.point(x, y);
}

const KEYS = {
  " ": (view) => view.player.toggle(),
  ArrowLeft: (view) => view.step(-1),
  ArrowRight: (view) => view.step(1),
  "Shift+ArrowLeft": (view) => view.pan(-view.axis.width / 8),
  "Shift+ArrowRight": (view) => view.pan(view.axis.width / 8),
  ArrowUp: (view) => view.zoom(1 / 1.25),
  ArrowDown: (view) => view.zoom(1.25),
  "+": (view) => view.zoom(1 / 1.25),
  "=": (view) => view.zoom(1 / 1.25),
  "-": (view) => view.zoom(1.25),
  0: (view) => view.showAll(),
  z: (view) => view.showSelection(),
  l: (view) => view.toggleLoop(),
  Home: (view) => view.seek(0),
  End: (view) => view.seek(view.clip.seconds),
  Escape: (view) => view.clearSelection(),
};

function key(view, event) {
  const onButton = event.target !== view.body.stage && (event.key === " " || event.key === "Enter");
  if (!view.clip || event.ctrlKey || event.metaKey || event.altKey || onButton) {
    return;
  }
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = (event.shiftKey && KEYS[`Shift+${name}`]) || KEYS[name];
  if (action) {
    event.preventDefault();
    event.stopPropagation();
    action(view);
  }
}
