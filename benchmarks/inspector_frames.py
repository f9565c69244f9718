"""How fluid the view of Inspect Tokens is: frame times in Chromium, for a clip of 15 seconds and one of ten minutes.

    python benchmarks/inspector_frames.py [--frames 180] [--renderer classic]

Needs a ComfyUI, Chromium and Playwright, as the browser tests do. Every lane is there: waveform, spectrogram, trace,
semantic, coarse and fine tokens. Each frame turns the wheel or moves the window a little, as a hand does. "frame" is
the time from one animation frame to the next, 16.7 ms at 60 a second; "drawing" is what the view's own code takes of
it. "first sight" is the longest frame from the moment the file's name arrives until everything is drawn. Chromium
draws in software here, without a graphics card.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from support.browser import RENDERERS, Window, windows
from support.comfy_server import find_comfyui, running_server
from support.inspector import FOLDER, Inspector, executed, write_view

CLIPS = {"15 s": 15.0, "10 min": 600.0}  # name → seconds
NODE = {"type": "BarkInspectTokens", "at": [60, 100], "size": [1200, 800]}

# Each move gets the view and the number of the frame, and happens through the view's own events and methods.
MOVES = {
    "zoom in and out": """(view, i, n) => {
        if (i === 0) view.body.stage.focus(); // Nodes 2.0 gives the wheel to what has the focus
        const box = view.body.stage.getBoundingClientRect();
        view.body.stage.dispatchEvent(new WheelEvent("wheel", {
            deltaY: i < n / 2 ? -60 : 60, clientX: box.x + box.width * 0.6, clientY: box.y + box.height / 2,
            bubbles: true, cancelable: true,
        }));
    }""",
    "pan, zoomed in": """(view, i) => {
        if (i === 0) view.axis.show(0, 2);
        view.pan(6);
    }""",
    "pan, half in view": """(view, i, n) => {
        if (i === 0) view.axis.show(0, view.clip.seconds / 2);
        view.pan(i < n / 2 ? 6 : -6);
    }""",
    "point": """(view, i) => view.point(100 + 5 * i, view.height * 0.6)""",
}
# Frames are measured between the callbacks of the page, drawing by wrapping the view's own method.
WATCH = """const next = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const draw = view.draw;
    let own = 0;
    view.draw = () => {
        const begin = performance.now();
        draw.call(view);
        own += performance.now() - begin;
    };"""
MEASURE = f"""(async () => {{
    {WATCH}
    view.showAll();
    await next();
    await next();
    const frames = [], drawing = [], count = COUNT;
    let before = await next();
    for (let i = 0; i < count; i++) {{
        own = 0;
        (MOVE)(view, i, count);
        const now = await next();
        frames.push(now - before);
        drawing.push(own);
        before = now;
    }}
    delete view.draw;
    return [frames, drawing];
}})()"""
FIRST_SIGHT = """(async () => {
    const next = () => new Promise((resolve) => requestAnimationFrame(resolve));
    const frames = [];
    let before = await next();
    SHOW;
    while (!view.clip || view.frame || frames.length < 30) {
        const now = await next();
        frames.push(now - before);
        before = now;
    }
    return [frames.length, Math.max(...frames)];
})()"""


def main() -> None:
    """Print a table for each renderer that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=180, help="frames for each row (default 180)")
    parser.add_argument("--renderer", choices=RENDERERS, action="append", help="only this one (default: both)")
    arguments = parser.parse_args()
    comfyui = find_comfyui()
    if comfyui is None:
        parser.error("there is no ComfyUI at $COMFYUI_PATH, above the pack, or ~/comfy/ComfyUI")
    with tempfile.TemporaryDirectory() as base, running_server(comfyui, Path(base)) as server:
        for name, seconds in CLIPS.items():
            write_view(Path(base) / "temp" / FOLDER / f"{name}.safetensors", seconds)
        with windows(server) as window:
            for renderer in arguments.renderer or RENDERERS:
                measure(window(renderer), arguments.frames)


def measure(window: Window, frames: int) -> None:
    """One table."""
    print(f"\n{window.renderer}, ComfyUI's page at 1920 × 1080\n")
    print(f"{'clip':8} {'what':20} {'frame p50':>10} {'p95':>7} {'longest':>8} {'drawing p50':>12} {'p95':>7}   ms")
    for name in CLIPS:
        (node,) = window.build([NODE], [])
        inspector = Inspector(window, node)
        inspector.look()
        file = f"{name}.safetensors"
        shown = f'app.api.dispatchCustomEvent("executed", {json.dumps(executed(node, file))})'
        count, longest = inspector.get(FIRST_SIGHT.replace("SHOW", shown))
        print(f"{name:8} {'first sight':20} {'':10} {'':7} {longest:8.1f}   in {count} frames")
        for what, move in MOVES.items():
            times, drawing = inspector.get(MEASURE.replace("COUNT", str(frames)).replace("MOVE", move))
            columns = [*share(times), max(times), *share(drawing)]
            print("{:8} {:20} {:10.1f} {:7.1f} {:8.1f} {:12.1f} {:7.1f}".format(name, what, *columns))


def share(times: list[Any]) -> tuple[float, float]:
    """The middle, and what 95 of 100 stay below."""
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


if __name__ == "__main__":
    main()
