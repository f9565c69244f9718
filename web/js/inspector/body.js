// The view's elements: a bar of buttons, two canvases on top of each other, a line of text.

const ICONS = {
  play: '<path d="M4 2.5v11l9-5.5z"/>',
  pause: '<path d="M4 2.5h3v11H4zM9 2.5h3v11H9z"/>',
  loop: '<path d="M4.5 4H11a3 3 0 0 1 3 3v1h-1.6V7A1.4 1.4 0 0 0 11 5.6H4.5V7.5L1.5 4.8l3-2.8zM11.5 12H5a3 3 0 0 1-3-3V8h1.6v1A1.4 1.4 0 0 0 5 10.4h6.5V8.5l3 2.7-3 2.8z"/>',
  closer: '<path d="M7.2 3h1.6v4.2H13v1.6H8.8V13H7.2V8.8H3V7.2h4.2z"/>',
  farther: '<path d="M3 7.2h10v1.6H3z"/>',
  all: '<path d="M1 3h1.6v10H1zM13.4 3H15v10h-1.6zM3.4 8l3-2.6v1.8h3.2V5.4l3 2.6-3 2.6V8.8H6.4v1.8z"/>',
  part: '<path d="M3 2h2v1.6H4.6v8.8H5V14H3zM11 2h2v12h-2v-1.6h.4V3.6H11zM6 5h4v6H6z"/>',
};

const NAMES = {
  play: "Play or pause (space)",
  loop: "Play the selection again and again (L)",
  farther: "Zoom out (−)",
  closer: "Zoom in (+)",
  part: "Zoom to the selection (Z)",
  all: "Show everything (0)",
};

/** @returns the root element and its parts by name: buttons, canvases, texts */
export function makeBody() {
  const root = make("div", "bark-view");
  const bar = make("div", "bark-view-bar");
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Token view");
  const buttons = Object.fromEntries(Object.keys(NAMES).map((name) => [name, makeButton(name)]));
  const clock = make("span", "bark-view-clock");
  const selected = make("span", "bark-view-selected");
  const pages = makePages();
  bar.append(buttons.play, buttons.loop, clock, selected, pages.element);
  bar.append(buttons.farther, buttons.closer, buttons.part, buttons.all);
  const stage = make("div", "bark-view-stage");
  Object.assign(stage, { tabIndex: 0 });
  stage.setAttribute("role", "application");
  stage.setAttribute("data-capture-wheel", "true"); // Nodes 2.0 would zoom the graph
  const lanes = make("canvas", "bark-view-layer");
  const marks = make("canvas", "bark-view-layer");
  const message = make("div", "bark-view-message");
  stage.append(lanes, marks, message);
  const readout = make("div", "bark-view-readout");
  root.append(bar, stage, readout);
  return { root, buttons, clock, selected, pages, stage, lanes, marks, message, readout };
}

export function setIcon(button, name) {
  button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true">${ICONS[name]}</svg>`;
}

function makeButton(name) {
  const button = make("button", "bark-view-button");
  Object.assign(button, { type: "button", title: NAMES[name] });
  button.setAttribute("aria-label", NAMES[name]);
  setIcon(button, name);
  return button;
}

/** Shown when a list of takes was looked at: "‹ 2 of 3 ›". */
function makePages() {
  const element = make("span", "bark-view-pages");
  const [back, text, on] = [make("button", "bark-view-button"), make("span"), make("button", "bark-view-button")];
  [back.textContent, on.textContent] = ["‹", "›"];
  [back.title, on.title] = ["Previous take", "Next take"];
  for (const button of [back, on]) {
    button.type = "button";
    button.setAttribute("aria-label", button.title);
  }
  element.append(back, text, on);
  element.hidden = true;
  return { element, back, text, on };
}

function make(tag, name = "") {
  const element = document.createElement(tag);
  element.className = name;
  return element;
}

/** Load the style sheet next to this file, once for the page. */
export function loadStyle() {
  const address = new URL("./inspector.css", import.meta.url).href;
  if (![...document.styleSheets].some(({ href }) => href === address)) {
    const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: address });
    document.head.append(link);
  }
}
