"""The view of Inspect Tokens in a browser window, for tests and benchmarks: show a file, look, drag, press keys."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .browser import Window

FOLDER = "bark"
RATE, FRAME_RATE, WAVE_RATE = 49.9, 75, 150
_NODES = "(function all(graph) { return graph.nodes.flatMap((n) => [n, ...(n.subgraph ? all(n.subgraph) : [])]) })"
_VIEW = f"""(id) => {_NODES}(app.rootGraph ?? app.graph)
    .find((node) => node.id === id && node.comfyClass === "BarkInspectTokens")
    ?.widgets.find((widget) => widget.name === "bark_view")?.view"""
_PLACE = f"""(id) => {{
    const view = ({_VIEW})(id), box = view.body.stage.getBoundingClientRect(), {{ left }} = view.geometry();
    const lanes = Object.fromEntries(view.boxes().map(({{ lane, top, height }}) =>
        [lane.curves ? "trace" : lane.title, top + height / 2]));
    return {{ x: box.x, y: box.y, scale: box.width / view.width, left, width: view.axis.width, lanes,
              start: view.axis.start, end: view.axis.end }};
}}"""
_COLOURS = f"""(id) => {{
    const canvas = ({_VIEW})(id).body.lanes, {{ width, height }} = canvas;
    return [...new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer))].length;
}}"""
_PIXELS = f"(id) => ({_VIEW})(id).body.lanes.toDataURL()"
_LOOK = """([id, scale]) => {
    const graph = app.canvas.graph ?? app.graph, node = graph.getNodeById(id);
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset[0] = 100 / scale - node.pos[0];
    app.canvas.ds.offset[1] = 110 / scale - node.pos[1];
    app.canvas.setDirty(true, true);
}"""


class Inspector:
    """One Inspect Tokens node of the window's graph; x and y are made from seconds and the names of lanes."""

    def __init__(self, window: Window, node: int):
        self.window, self.page, self.node = window, window.page, node

    def get(self, expression: str) -> Any:
        """A JavaScript expression with the view in `view`."""
        return self.page.evaluate(f"async (id) => {{ const view = ({_VIEW})(id); return {expression}; }}", self.node)

    def wait(self, condition: str) -> None:
        """Until a JavaScript condition about `view` holds."""
        script = f"(id) => {{ const view = ({_VIEW})(id); return Boolean(view && ({condition})); }}"
        try:
            self.page.wait_for_function(script, arg=self.node, timeout=20_000)
        except Exception as error:
            said = self.get("view?.body.root.innerText")
            raise AssertionError(f"{condition} never came; the view says {said!r}") from error

    def drawn(self) -> None:
        """Wait for tokens, and until nothing is left to be painted."""
        self.wait("view.clip && view.width")
        self.wait("!view.frame")

    def look(self, scale: float = 1.0) -> None:
        """Bring the node to the top left of the window."""
        self.page.evaluate(_LOOK, [self.node, scale])
        self.page.wait_for_timeout(300)

    def show(self, file: str, start: float = 0.0, end: float = 0.0) -> None:
        """The message of the server that a view file is there, made with such a selection."""
        message = executed(self.node, file, start, end)
        self.page.evaluate("(detail) => app.api.dispatchCustomEvent('executed', detail)", message)

    def colours(self) -> int:
        """How many different colours are on the canvas."""
        return self.page.evaluate(_COLOURS, self.node)

    def pixels(self) -> str:
        """The canvas, to be compared."""
        return self.page.evaluate(_PIXELS, self.node)

    def at(self, seconds: float, lane: str = "semantic") -> tuple[float, float]:
        """Where a time of a lane is on the page."""
        place = self.page.evaluate(_PLACE, self.node)
        share = (seconds - place["start"]) / (place["end"] - place["start"])
        x = place["left"] + share * place["width"]
        return place["x"] + x * place["scale"], place["y"] + place["lanes"][lane] * place["scale"]

    def drag(self, start: float, end: float, lane: str = "semantic", button: str = "left") -> None:
        """Drag with the mouse from one time to another."""
        (x, y), (x2, y2) = self.at(start, lane), self.at(end, lane)
        self.page.mouse.move(x, y)
        self.page.mouse.down(button=button)
        self.page.mouse.move((x + x2) / 2, y, steps=3)
        self.page.mouse.move(x2, y2, steps=3)
        self.page.mouse.up(button=button)

    def key(self, name: str) -> None:
        """Press a key in the view."""
        self.page.evaluate(f"(id) => ({_VIEW})(id).body.stage.focus()", self.node)
        self.page.keyboard.press(name)

    def selection(self) -> list[float]:
        """The values of the widgets `start` and `end`."""
        node = next(node for node in self.window.saved()["nodes"] if node["id"] == self.node)
        return [round(value, 3) for value in node["widgets_values"][:2]]


def executed(node: int, file: str, start: float = 0.0, end: float = 0.0) -> dict[str, Any]:
    """What the server tells the browser when the node has run with such a selection and left a view file."""
    references = [{"filename": file, "subfolder": FOLDER, "type": "temp", "start": start, "end": end}]
    return {"node": str(node), "display_node": str(node), "output": {"bark_view": references}}


def write_view(
    path: Path, seconds: float, seed: int = 0, leave_out: Collection[str] = (), **metadata: Any
) -> dict[str, np.ndarray]:
    """A view file with every lane but those of some arrays, made of random numbers; returns its arrays.

    Semantic ids come in runs of one to three, the last sixty go round in a circle of three. Metadata that are no texts
    are written as JSON.
    """
    random = np.random.default_rng(seed)
    tokens, frames, columns = int(seconds * RATE), int(seconds * FRAME_RATE), int(seconds * WAVE_RATE)
    semantic = np.repeat(random.integers(0, 10_000, tokens), random.integers(1, 4, tokens))[:tokens].astype(np.int32)
    semantic[-60:] = np.tile([17, 93, 4011], 20)
    fine = random.integers(0, 1024, (8, frames)).astype(np.int32)
    wave = np.abs(np.sin(np.arange(columns) / 20) * np.sin(np.arange(columns) / 97)).astype(np.float32)
    levels = np.clip(wave[::2][:frames] + 0.2 * random.random((80, frames)), 0, 1) * np.linspace(1, 0.2, 80)[:, None]
    probability = random.random(tokens).astype(np.float32)
    arrays = {
        "semantic": semantic,
        "coarse": np.ascontiguousarray(fine[:2]),
        "fine": fine,
        "wave": np.stack([-wave, wave], axis=1),
        "spectrogram": (255 * levels).astype(np.uint8),
        "trace.probability": probability,
        "trace.entropy": (5 * (1 - probability)).astype(np.float32),
        "trace.end_probability": (np.linspace(0, 1, tokens + 1) ** 20).astype(np.float32),
    }
    arrays = {name: array for name, array in arrays.items() if name not in leave_out}
    texts = {
        "family": "suno",
        "summary": f"{seconds:g} s, family suno",
        "seconds": str(seconds),
        "semantic_rate": str(RATE),
        "frame_rate": str(FRAME_RATE),
        "wave_rate": str(WAVE_RATE),
        "spectrogram_rate": str(FRAME_RATE),
        "top_hertz": "12000",
        "trace_kind": "semantic",
        "stops": {"end drawn": tokens - 1, "min_eos_p": tokens - 30},
        "tail": {"step": tokens - 60, "seconds": (tokens - 60) / RATE, "reason": "goes round in a circle"},
        **metadata,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(arrays, path, {key: text if isinstance(text, str) else json.dumps(text) for key, text in texts.items()})
    return arrays
