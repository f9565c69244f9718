"""Photographs the nodes for their help pages, the view for README, and example workflows, in a real ComfyUI.

    python docs/pictures [NAME ...]

A name is a node's id, "inspector", or an example workflow's name; without one, all but the examples are made anew.
`scenes.py` says what is on them. Needs a ComfyUI, Chromium and Playwright, as the browser tests do, and takes some
minutes. Look at every picture afterwards.
"""

import argparse
import base64
import json
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))

from scenes import COLOURS, RECORDING, SCENES, STAGES, TOKENS, Node, Scene

from bark_engine.keep import load_take, save_tokens
from support.browser import Window, windows
from support.comfy_server import ComfyServer, find_comfyui, running_server
from support.inspector import Inspector

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
WIDTH_OF_EXAMPLES, BYTES_OF_EXAMPLES = 900, 58_000  # pixels; at most
SCREEN = {"viewport": {"width": 2200, "height": 1600}, "device_scale_factor": 2}
SETTINGS = {
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Graph.LinkMarkers": 0,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
PLACE = (300, 250)  # on the screen, in CSS pixels, away from ComfyUI's own panels
MARGIN, GAP = 24, 60  # around a graph, and between its columns
_DRESS = """(nodes) => nodes.forEach(({ id, title, colour, folded }) => {
    const node = app.graph.getNodeById(id);
    if (title) node.title = title;
    node.setColorOption(LGraphCanvas.node_colors[colour]);
    for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
    if (folded) node.collapse();
})"""
_ARRANGE = """([columns, gap]) => {
    const bar = LiteGraph.NODE_TITLE_HEIGHT;
    let x = 0, right = 0, bottom = 0;
    for (const column of columns) {
        let y = bar;
        for (const { id, indent, width, height, free } of column) {
            if (free) {
                y += free;
                continue;
            }
            const node = app.graph.getNodeById(id);
            node.pos = [x + indent, y];
            const folded = node.flags.collapsed;
            const least = node.computeSize();
            if (!folded) node.setSize([Math.max(width, width ? 0 : least[0]), Math.max(least[1], height)]);
            right = Math.max(right, x + indent + (folded ? node._collapsed_width : node.size[0]));
            y += bar + (folded ? 0 : node.size[1]);
            bottom = Math.max(bottom, y - bar);
        }
        x = right + gap;
    }
    return [right, bottom];
}"""
_GROUPS = """() => {
    const edges = app.graph.groups.map(({ pos: [x, y], size: [width, height] }) => [x, y, x + width, y + height]);
    return [0, 1, 2, 3].map((i) => Math[i < 2 ? "min" : "max"](...edges.map((edge) => edge[i])));
}"""
_LOOK = """([x, y, left, top, scale]) => {
    app.canvas.deselectAll();
    app.canvas.background_image = null; // the dots of the grid would only make the files larger
    app.canvas.ds.scale = scale;
    [app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = [x / scale - left, y / scale - top];
    app.canvas.setDirty(true, true);
}"""
_REDUCE = """async ([data, width, bytes]) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = new OffscreenCanvas(width, Math.round((width * image.height) / image.width));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    let blob, quality = 0.8;
    do {
        blob = await canvas.convertToBlob({ type: "image/jpeg", quality });
        quality -= 0.02;
    } while (blob.size > bytes && quality > 0.4);
    return btoa(Array.from(new Uint8Array(await blob.arrayBuffer()), (byte) => String.fromCharCode(byte)).join(""));
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="a node's id, inspector, or an example's name")
    names = parser.parse_args().names or list(SCENES)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = find_comfyui()
    if root is None:
        sys.exit("no ComfyUI at $COMFYUI_PATH, above the pack, or ~/comfy/ComfyUI")
    with tempfile.TemporaryDirectory() as base, running_server(root, Path(base)) as server:
        put_files(server)
        for name, value in SETTINGS.items():
            server.post_json(f"/settings/{name}", value)
        with windows(server, **SCREEN) as window:
            for name in names:
                path, picture = take(window("classic"), name)
                path.write_bytes(picture)
                logging.info("%s: %.0f kB", path.relative_to(ROOT), len(picture) / 1000)


def take(window: Window, name: str) -> tuple[Path, bytes]:
    """A picture, and the file that it belongs into."""
    if name not in SCENES:
        return EXAMPLES / f"{name}.jpg", photograph_example(window, EXAMPLES / f"{name}.json")
    folder = ROOT / "docs" if name == "inspector" else ROOT / "web" / "docs" / "pictures"
    return folder / f"{name}.jpg", photograph(window, SCENES[name])


def put_files(server: ComfyServer) -> None:
    """A recording and a file of tokens, for the nodes that open files."""
    spoken = EXAMPLES / "spoken_by_nano.flac"
    shutil.copy(spoken, server.folder("input") / RECORDING)
    save_tokens(server.folder("models") / "bark" / "tokens" / TOKENS, load_take(spoken))


def photograph(window: Window, scene: Scene) -> bytes:
    """Build the graph, run it, put it in order and take its picture, a JPEG."""
    nodes = scene.nodes
    built = [{"type": node.type, "at": [0, 0], "values": node.values} for node in nodes]
    ids = dict(zip((node.name for node in nodes), window.build(built, wires(scene)), strict=True))
    window.page.evaluate(_DRESS, [dress(node, ids[node.name]) for node in nodes])
    views = run(window)
    columns = [[item(node, ids) for node in column] for column in scene.columns]
    for _ in range(2):  # a folded node knows its width when it has been drawn
        right, bottom = window.page.evaluate(_ARRANGE, [columns, GAP])
        clip = look(window, (0, 0, right, bottom), scene.width)
    for view in views if scene.playhead else []:
        view.wait("view.player.audio?.readyState >= 2")
        view.get(f"view.seek({scene.playhead})")
    return shoot(window, views, clip, scene.width, scene.bytes)


def photograph_example(window: Window, path: Path) -> bytes:
    """Open an example workflow, run it and take a picture of all its groups, as the template browser shows it."""
    window.load(json.loads(path.read_text(encoding="utf-8")))
    views = run(window)
    clip = look(window, window.page.evaluate(_GROUPS), 2 * WIDTH_OF_EXAMPLES)
    return shoot(window, views, clip, WIDTH_OF_EXAMPLES, BYTES_OF_EXAMPLES)


def run(window: Window) -> list[Inspector]:
    """Run the graph; its views, when they have their tokens."""
    ending, details = window.run()
    if ending != "execution_success":
        sys.exit(f"{ending}: {details}")
    views = [Inspector(window, node["id"]) for node in window.saved()["nodes"] if node["type"] == "BarkInspectTokens"]
    for view in views:
        view.wait("view.clip")
    return views


def look(window: Window, bounds: tuple[float, float, float, float], width: float) -> dict[str, float]:
    """Bring a part of the graph (left, top, right, bottom) onto the screen, so wide; where it is there."""
    left, top, right, bottom = bounds
    scale = width / (right - left + 2 * MARGIN)
    window.page.evaluate(_LOOK, [*PLACE, left - MARGIN, top - MARGIN, scale])
    window.page.wait_for_timeout(500)
    return {"x": PLACE[0], "y": PLACE[1], "width": width, "height": (bottom - top + 2 * MARGIN) * scale}


def shoot(window: Window, views: list[Inspector], clip: dict[str, float], width: int, size: int) -> bytes:
    """A screenshot of a part of the screen, reduced to a width in pixels and a size in bytes."""
    for view in views:
        view.drawn()
    window.page.wait_for_timeout(500)
    data = base64.b64encode(window.page.screenshot(clip=clip)).decode()
    return base64.b64decode(window.page.evaluate(_REDUCE, [data, width, size]))


def wires(scene: Scene) -> list[tuple[int, str, int, str]]:
    number = {node.name: index for index, node in enumerate(scene.nodes)}
    models = [f"models.models {node.name}.models" for node in scene.nodes if node.type in STAGES]
    given = [wire for text in scene.wires for wire in text.split(", ")]
    ends = [[end.split(".") for end in wire.split()] for wire in (*models, *given)]
    return [(number[source], output, number[target], entry) for (source, output), (target, entry) in ends]


def dress(node: Node, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": node.title,
        "colour": COLOURS.get(node.type, "brown"),
        "folded": node.folded,
    }


def item(node: Node | int, ids: dict[str, int]) -> dict[str, int]:
    """A node or a free space, for the page."""
    if isinstance(node, int):
        return {"free": node}
    return {"id": ids[node.name], "indent": node.indent, "width": node.width, "height": node.height}


if __name__ == "__main__":
    main()
