"""A browser window with ComfyUI in it, for tests: load a graph, run it, hear it, collect what the page complains of.

The browser is the system's Chromium, without a screen, driven by Playwright. Nothing is downloaded.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .comfy_server import PACK_NAME, ComfyServer

RENDERERS = ("classic", "Nodes 2.0")
NODES_2_SINCE = (0, 4, 0)  # hidden and unfinished before
SECONDS_TO_LOAD = 90
SECONDS_TO_RUN = 120
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--autoplay-policy=no-user-gesture-required", "--mute-audio"),
)
_SCREEN = {"viewport": {"width": 1920, "height": 1080}}
_READY = """() => window.app?.extensionManager && document.querySelector("#graph-canvas")
    && window.LiteGraph?.registered_node_types?.BarkSaveAudio && !document.querySelector(".p-blockui-mask")"""
# ComfyUI opens its own example when everything else is there, and some versions miss its models aloud.
_SETTLED = "() => (app.rootGraph ?? app.graph)?.nodes?.length > 0"
_EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4}
_RUN = """async (seconds) => {
    const endings = ["execution_success", "execution_error", "execution_interrupted"];
    const controller = new AbortController();
    const ended = new Promise((resolve) => {
        for (const name of endings) {
            app.api.addEventListener(name, (event) => resolve([name, event.detail]), { signal: controller.signal });
        }
        setTimeout(() => resolve(["nothing happened", {}]), seconds * 1000);
    });
    await app.queuePrompt(0);
    const result = await ended;
    controller.abort();
    return result;
}"""
# Nodes 2.0 draws a player of its own inside the node; the classic canvas lays the widget's element over it.
_FIND_AUDIO = """(id) => {
    const node = (app.rootGraph ?? app.graph).getNodeById(id);
    const element = document.querySelector(`[data-node-id="${id}"] audio`)
        ?? node.widgets?.find((widget) => widget.name === "audioUI")?.element;
    return element?.isConnected && element.src ? element : null;
}"""
_AUDIO_IS_READY = f"""([id, part]) => {{
    const audio = ({_FIND_AUDIO})(id);
    return audio?.src.includes(part) && audio.readyState >= 1;
}}"""
# From far away the classic canvas leaves out what lies over it.
_LOOK_AT = """(id) => {
    app.canvas.ds.scale = 1;
    app.canvas.centerOnNode((app.rootGraph ?? app.graph).getNodeById(id));
    app.canvas.setDirty(true, true);
}"""
_BUILD = """({ nodes, links }) => {
    const made = nodes.map(({ type, at, size, values }) => {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        node.pos = at;
        if (size) node.setSize(size);
        for (const [name, value] of Object.entries(values ?? {})) {
            node.widgets.find((widget) => widget.name === name).value = value;
        }
        return node;
    });
    for (const [from, output, to, input] of links) {
        const [slot, entry] = [made[from].findOutputSlot(output), made[to].findInputSlot(input)];
        if (!made[from].connect(slot, made[to], entry)) throw new Error(`no link from ${output} to ${input}`);
    }
    return made.map((node) => node.id);
}"""
_PLAY = """async (audio) => {
    audio.currentTime = 0;
    await audio.play();
    const deadline = Date.now() + 5000;
    while (audio.currentTime < 0.2 && Date.now() < deadline) await new Promise((done) => setTimeout(done, 20));
    audio.pause();
    return { heard: audio.currentTime, duration: audio.duration };
}"""
_SHOW_ALL = """() => {
    const groups = (app.rootGraph ?? app.graph).groups;
    const left = Math.min(...groups.map((group) => group.pos[0])), top = Math.min(...groups.map((g) => g.pos[1]));
    const right = Math.max(...groups.map((group) => group.pos[0] + group.size[0]));
    const bottom = Math.max(...groups.map((group) => group.pos[1] + group.size[1]));
    const view = app.canvas.ds, margin = 90;
    view.scale = Math.min((innerWidth - 2 * margin) / (right - left), (innerHeight - 2 * margin) / (bottom - top), 1);
    view.offset[0] = margin / view.scale - left;
    view.offset[1] = margin / view.scale - top;
    app.canvas.setDirty(true, true);
}"""
_MESSAGES = (
    """() => [...document.querySelectorAll("[role=dialog], [role=alert]")].map((element) => element.innerText)"""
)
_BROKEN = "() => (app.rootGraph ?? app.graph).nodes.filter((node) => node.has_errors).map((node) => node.type)"
_BOXES = """() => (app.rootGraph ?? app.graph).nodes.map((node) =>
    [`${node.type} #${node.id}`, node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30])"""


def find_chromium() -> str | None:
    """The system's Chromium, or None."""
    return next((path for name in _CHROMIUM if (path := shutil.which(name))), None)


class Window:
    """One page of a running ComfyUI; `complaints()` is what it said about this pack or showed to the user."""

    def __init__(self, page: Any, renderer: str):
        self.page = page
        self.renderer = renderer
        self.answers: dict[str, int] = {}
        self._console: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text, message.location.get("url", "")))
        page.on("pageerror", lambda error: self._said("error", f"{error}\n{error.stack}", ""))
        page.on("response", lambda response: self.answers.update({response.url: response.status}))

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a saved workflow."""
        self.page.evaluate("async (workflow) => { await app.loadGraphData(workflow); }", workflow)

    def saved(self) -> dict[str, Any]:
        """The graph as this front end would save it."""
        # As JSON, which leaves out what is undefined; Playwright would make it null.
        return json.loads(self.page.evaluate("() => JSON.stringify((app.rootGraph ?? app.graph).serialize())"))

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The page's own API export of the graph, without what is for people only."""
        output = self.page.evaluate("async () => (await app.graphToPrompt()).output")
        return {key: {name: node[name] for name in ("class_type", "inputs")} for key, node in output.items()}

    def run(self) -> tuple[str, dict[str, Any]]:
        """Press Run and wait; the server's last message and its details."""
        name, details = self.page.evaluate(_RUN, SECONDS_TO_RUN)
        return name, details

    def player(self, node: int, part: str = "") -> str:
        """Look at the node and wait for its player, of an address with this part in it; the address of its sound."""
        self.page.evaluate(_LOOK_AT, node)
        self.page.wait_for_function(_AUDIO_IS_READY, arg=[node, part], timeout=20_000)
        return self.page.evaluate(f"(id) => ({_FIND_AUDIO})(id).src", node)

    def play(self, node: int) -> dict[str, float]:
        """Play the node's sound for a moment; how far it got, and how long it is, in seconds."""
        return self.page.evaluate_handle(_FIND_AUDIO, node).evaluate(_PLAY)

    def search(self, words: str) -> list[str]:
        """Double-click on an empty graph, type, press Enter; the types of the nodes that are there then."""
        self.load(_EMPTY)
        self.page.mouse.dblclick(700, 500)
        box = self.page.locator("input:focus")
        box.wait_for(timeout=10_000)
        box.type(words)
        self.page.get_by_text(words, exact=True).first.wait_for(timeout=10_000)
        self.page.keyboard.press("Enter")
        self.page.wait_for_function("() => app.graph.nodes.length > 0", timeout=10_000)
        self.page.mouse.click(1000, 600)  # newer versions carry a new node until a click puts it down
        return self.page.evaluate("() => app.graph.nodes.map((node) => node.type)")

    def place(self, node_type: str) -> dict[str, Any] | None:
        """Make a node and put it on the graph; how it would be saved, or None where the page does not know it."""
        return self.page.evaluate(
            """(type) => {
                const node = LiteGraph.createNode(type);
                if (!node) return null;
                app.graph.add(node);
                return node.serialize();
            }""",
            node_type,
        )

    def build(self, nodes: list[dict[str, Any]], links: list[tuple[int, str, int, str]]) -> list[int]:
        """An own graph: nodes with `type`, `at` and perhaps `size` and `values` of widgets; links from node number and
        output to node number and input. Their ids."""
        self.load(_EMPTY)
        return self.page.evaluate(_BUILD, {"nodes": nodes, "links": links})

    def reload(self) -> None:
        """Load the page anew, as a user does with F5, and wait until it shows a graph again."""
        self.page.reload()
        self.page.wait_for_function(_READY, timeout=SECONDS_TO_LOAD * 1000)
        self.page.wait_for_function(_SETTLED, timeout=SECONDS_TO_LOAD * 1000)

    def complaints(self) -> list[str]:
        """Console errors and warnings that name the pack, dialogs and alerts on the page, nodes marked as broken."""
        shown = [text.strip() for text in self.page.evaluate(_MESSAGES)]
        return [*self._console, *shown, *self.page.evaluate(_BROKEN)]

    def boxes(self) -> list[tuple[str, float, float, float, float]]:
        """Each node with its title bar, as it is drawn: name, left, top, width, height."""
        return [tuple(box) for box in self.page.evaluate(_BOXES)]

    def picture(self, path: Path) -> None:
        """A screenshot of the whole graph."""
        self.page.evaluate(_SHOW_ALL)
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=str(path))

    def _said(self, kind: str, text: str, address: str) -> None:
        if kind in ("error", "warning") and any("bark" in part.lower() for part in (text, address)):
            self._console.append(f"{kind}: {text} ({address})")


@contextmanager
def windows(server: ComfyServer, **screen: Any) -> Iterator[Callable[[str], Window]]:
    """Opens a window for a renderer of `RENDERERS`, one for each; all are closed at the end.

    `screen` are Playwright's words for a page, such as `viewport` and `device_scale_factor`; else 1920 × 1080 pixels.
    """
    from playwright.sync_api import sync_playwright

    opened: dict[str, Window] = {}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=find_chromium(), args=list(_FLAGS))

        def window(renderer: str) -> Window:
            if renderer not in opened:
                opened[renderer] = _open(chromium, server, renderer, {**_SCREEN, **screen})
            return opened[renderer]

        yield window
        chromium.close()


def artefacts(fallback: Path) -> Path:
    """Where screenshots go: $BARK_TEST_ARTEFACTS, else `fallback`."""
    folder = Path(os.environ.get("BARK_TEST_ARTEFACTS") or fallback)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def overlaps(boxes: list[tuple[str, float, float, float, float]]) -> list[str]:
    """Pairs of nodes that are drawn over each other."""
    found = []
    for number, (name, x, y, width, height) in enumerate(boxes):
        for other, x2, y2, width2, height2 in boxes[number + 1 :]:
            if x < x2 + width2 and x2 < x + width and y < y2 + height2 and y2 < y + height:
                found.append(f"{name} and {other}")
    return found


def _open(chromium: Any, server: ComfyServer, renderer: str, screen: dict[str, Any]) -> Window:
    settings = {
        "Comfy.TutorialCompleted": True,
        "Comfy.VueNodes.Enabled": renderer != "classic",
        "Comfy.Minimap.Visible": False,  # it would lie over nodes that a test works on
    }
    for setting, value in settings.items():
        status, _ = server.post_json(f"/settings/{setting}", value)
        assert status == 200, setting
    page = chromium.new_page(**screen)
    window = Window(page, renderer)
    page.goto(server.url)
    page.wait_for_function(_READY, timeout=SECONDS_TO_LOAD * 1000)
    page.wait_for_function(_SETTLED, timeout=SECONDS_TO_LOAD * 1000)
    window.load(_EMPTY)
    page.wait_for_function(f"() => ({_MESSAGES})().length === 0", timeout=SECONDS_TO_LOAD * 1000)
    assert PACK_NAME in str(page.evaluate("() => LiteGraph.registered_node_types.BarkSaveAudio.nodeData.python_module"))
    return window
