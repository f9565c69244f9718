"""In a real browser, the view of Inspect Tokens: it draws, plays, selects, remembers; and the live strips of stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.browser import Window, artefacts
from support.browser_fixtures import browser_tests
from support.inspector import FOLDER, FRAME_RATE, RATE, Inspector, executed, write_view
from support.real_host import RealHost

pytestmark = browser_tests

EXAMPLES = Path(__file__).parents[1] / "example_workflows"
NOTHING_YET = "Run the workflow to see the tokens."
EXAMPLE_INSPECTOR = 12  # in both examples
GRAPH = (
    [
        {"type": "BarkLoadModels", "at": [0, 100]},
        {
            "type": "BarkTextToSpeech",
            "at": [340, 100],
            "values": {"text": "Hello there, how are you?", "seed": 4},
        },
        {"type": "BarkInspectTokens", "at": [800, 100]},
        {"type": "BarkTrimTokens", "at": [340, 560]},
        {"type": "BarkInspectTokens", "at": [1600, 100]},
    ],
    [
        (0, "models", 1, "models"),
        *((1, name, 2, name) for name in ("semantic", "coarse", "fine", "audio")),
        (1, "semantic", 3, "tokens"),
        (2, "start", 3, "start"),
        (2, "end", 3, "end"),
        (3, "tokens", 4, "semantic"),
    ],
)


# What the view writes when it is drawn anew: [text, x, width] in CSS pixels.
TEXTS = """await (async () => {
    const seen = [], { prototype } = CanvasRenderingContext2D, { fillText } = prototype;
    prototype.fillText = function (text, x, y) {
        seen.push([text, x, this.measureText(text).width]);
        return fillText.call(this, text, x, y);
    };
    view.refresh();
    while (view.frame) await new Promise(requestAnimationFrame);
    prototype.fillText = fillText;
    return seen;
})()"""

TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"
# Has what was changed until now noted as a step for undo.
NOTE = f"() => {{ const tracker = {TRACKER}; (tracker.captureCanvasState ?? tracker.checkState).call(tracker); }}"


@pytest.fixture
def built(window: Window) -> tuple[Window, Inspector, Inspector, list[int]]:
    """A take that is looked at, and what Trim Tokens leaves of it: window, both inspectors, the ids of the nodes."""
    ids = window.build(*GRAPH)
    control = "app.graph.getNodeById(id).widgets.find((widget) => widget.name === 'control_after_generate')"
    window.page.evaluate(f"(id) => {{ {control}.value = 'fixed'; }}", ids[1])
    return window, Inspector(window, ids[2]), Inspector(window, ids[4]), ids


@pytest.fixture
def long_view(host: RealHost, window: Window) -> tuple[Inspector, dict[str, np.ndarray]]:
    """A node with 14 seconds of everything, from a file made here, and the arrays of the file."""
    arrays = write_view(host.base / "temp" / FOLDER / "long.safetensors", 14.0)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
    inspector = Inspector(window, node)
    inspector.look()
    inspector.show("long.safetensors")
    inspector.drawn()
    return inspector, arrays


def test_the_view_draws_what_a_run_made(built: Any, tmp_path: Path) -> None:
    """Empty before, every lane after, another picture for other tokens; the axis is as long as the sound."""
    window, inspector, _, ids = built
    assert inspector.get("view.body.message.textContent") == "Run the workflow to see the tokens."
    run(window)
    inspector.look()
    inspector.drawn()
    lanes = inspector.get("view.lanes.map((lane) => lane.title)")
    assert lanes == ["waveform", "spectrogram", "semantic", "coarse", "fine"]
    inspector.wait("view.player.audio.readyState >= 1")  # it has no length before
    assert inspector.get("view.clip.seconds") == pytest.approx(inspector.get("view.player.audio.duration"), abs=0.05)
    assert inspector.colours() > 200
    first = inspector.pixels()
    inspector.get("(window.before = view.clip, null)")
    window.page.screenshot(path=str(artefacts(tmp_path) / f"inspector {window.renderer}.png"))

    window.page.evaluate(
        "(id) => { app.graph.getNodeById(id).widgets.find(({ name }) => name === 'text').value = 'Good night.'; }",
        ids[1],
    )
    run(window)
    inspector.wait("view.clip !== window.before")
    inspector.drawn()
    assert inspector.pixels() != first
    assert unexpected(window) == []


def test_themes(long_view: Any, tmp_path: Path) -> None:
    """The picture follows ComfyUI's palette at once, with the same tokens in it."""
    inspector, _ = long_view
    inspector.drag(3, 6)
    inspector.wait("view.selection?.[1] > 5.9")
    inspector.drawn()
    inspector.get("(window.picture = view.body.lanes.toDataURL(), null)")
    for palette, is_dark in (("light", False), ("dark", True)):
        inspector.page.evaluate("(name) => app.extensionManager.setting.set('Comfy.ColorPalette', name)", palette)
        same = f"(view.body.lanes.toDataURL() === window.picture) === {str(is_dark).lower()}"
        inspector.wait(f"view.theme.dark === {str(is_dark).lower()} && !view.frame && {same}")
        name = f"inspector {inspector.window.renderer} {palette}.png"
        inspector.page.screenshot(path=str(artefacts(tmp_path) / name))
    assert unexpected(inspector.window) == []


def test_it_plays(built: Any) -> None:
    """With the button and with the space bar; the playhead moves, and stops at the end of the selection."""
    window, inspector, _, _ = built
    run(window)
    inspector.look()
    inspector.drawn()
    inspector.wait("view.player.audio.readyState >= 2")
    window.page.mouse.click(*middle(window, inspector, "play"))
    inspector.wait("view.player.playing && view.player.time > 0.2")
    inspector.key(" ")
    inspector.wait("!view.player.playing")
    assert 0.2 < inspector.get("view.player.time") < inspector.get("view.clip.seconds")

    inspector.drag(0.3, 0.6)
    inspector.key(" ")
    inspector.wait("view.player.playing")
    inspector.wait("!view.player.playing")
    assert inspector.get("view.player.time") == pytest.approx(0.6, abs=0.02)
    inspector.key("l")
    inspector.key(" ")
    inspector.wait("view.player.playing && view.player.time < 0.5")
    inspector.wait("view.player.time > 0.5")
    inspector.wait("view.player.playing && view.player.time < 0.5")  # round again
    inspector.key(" ")
    assert unexpected(window) == []


def test_a_selection_reaches_trim_tokens(built: Any) -> None:
    """Dragged with the mouse, through widgets and wires, to the tokens that are left; then moved at a handle."""
    window, inspector, trimmed, ids = built
    run(window)
    inspector.look()
    inspector.drawn()
    trimmed.wait("view.clip")  # its own message comes later
    everything = trimmed.get("view.clip.tracks[0].columns")
    inspector.drag(0.4, 0.9, "waveform")
    start, end = inspector.selection()
    assert (start, end) == (pytest.approx(0.4, abs=0.02), pytest.approx(0.9, abs=0.02))
    assert inspector.get("view.selection") == pytest.approx([start, end], abs=0.006)
    prompt = window.prompt()
    assert prompt[str(ids[2])]["inputs"]["start"] == pytest.approx(start, abs=0.001)
    assert prompt[str(ids[3])]["inputs"]["start"] == [str(ids[2]), 2]
    run(window)
    trimmed.wait(f"view.clip.tracks[0].columns !== {everything}")
    assert trimmed.get("view.clip.tracks[0].columns") == round(end * RATE) - round(start * RATE)
    assert trimmed.get("[...view.clip.tracks[0].ids]") == inspector.get(
        f"[...view.clip.tracks[0].ids].slice({round(start * RATE)}, {round(end * RATE)})"
    )

    inspector.drag(end, 1.1)
    assert inspector.selection() == [start, pytest.approx(1.1, abs=0.02)]
    inspector.key("Escape")
    assert inspector.selection() == [0, 0]
    assert inspector.get("view.selection") is None
    assert unexpected(window) == []


def test_widgets_set_the_selection(long_view: Any) -> None:
    """A number typed by the user is drawn at once; 0 as the end is the end of the longest input."""
    inspector, _ = long_view
    set_widget = """([id, name, value]) => {
        const widget = app.graph.getNodeById(id).widgets.find((widget) => widget.name === name);
        widget.value = value;
        widget.callback?.(value);
    }"""
    inspector.page.evaluate(set_widget, [inspector.node, "start", 2.5])
    assert inspector.get("view.selection") == [2.5, 14]
    inspector.page.evaluate(set_widget, [inspector.node, "end", 4])
    assert inspector.get("view.selection") == [2.5, 4]
    inspector.drag(9, 14)  # to the very end
    assert inspector.selection() == [pytest.approx(9, abs=0.02), 0]


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_mouse_and_keys(long_view: Any, scale: float) -> None:
    """The wheel zooms at the pointer and not the graph; dragging pans; keys do both; at any zoom of the graph."""
    inspector, arrays = long_view
    inspector.look(scale)
    page = inspector.page
    graph = page.evaluate("() => [app.canvas.ds.scale, ...app.canvas.ds.offset]")
    x, y = (round(number) for number in inspector.at(5.0))  # the wheel knows whole pixels only
    inspector.get("view.body.stage.focus({ preventScroll: true })")  # Nodes 2.0 gives the wheel to what has the focus
    page.mouse.move(x, y)
    time = inspector.get("view.hover.time")
    for _ in range(40):  # a busy browser makes one turn of several
        if inspector.get("view.axis.span") < 4:
            break
        page.mouse.wheel(0, -200)
        page.wait_for_timeout(50)
    assert inspector.get("view.axis.span") < 4
    assert inspector.at(time)[0] == pytest.approx(x, abs=0.1)
    token = int(time * RATE)
    inspector.wait(f"view.body.readout.textContent.includes('semantic token {token} ')")
    text = inspector.get("view.body.readout.textContent")
    assert f"id {arrays['semantic'][token]} " in text
    assert f"probability {100 * arrays['trace.probability'][token]:.1f} %" in text
    page.mouse.move(*inspector.at(time, "fine"))
    page.wait_for_timeout(200)
    frame = int(inspector.get("view.hover.time") * FRAME_RATE)  # the mouse, too, knows whole pixels only
    shown = {f"id {code}" for code in arrays["fine"][:, frame]}  # in a small view rows are a few pixels high
    assert any(text in inspector.get("view.body.readout.textContent") for text in shown)

    before = inspector.get("view.axis.start")
    page.keyboard.down("Shift")  # Nodes 2.0 keeps the middle button for its graph
    inspector.drag(time, time - 0.2)
    page.keyboard.up("Shift")
    assert inspector.get("view.axis.start") == pytest.approx(before + 0.2, abs=0.02)
    if inspector.window.renderer == "classic":  # in Nodes 2.0 the graph takes a wheel that turns sideways
        page.mouse.wheel(300, 0)
        inspector.wait(f"view.axis.start > {before + 0.3}")
    inspector.key("Shift+ArrowLeft")
    inspector.key("0")
    assert inspector.get("[view.axis.start, view.axis.end]") == [0, 14]
    inspector.key("End")
    inspector.key("ArrowLeft")
    assert inspector.get("view.player.time") == pytest.approx(14 - 1 / RATE, abs=0.011)
    inspector.key("Home")
    inspector.key("+")
    assert inspector.get("view.axis.span") == pytest.approx(14 / 1.25)
    assert inspector.selection() == [0, 0]
    assert page.evaluate("() => [app.canvas.ds.scale, ...app.canvas.ds.offset]") == graph
    assert unexpected(inspector.window) == []


def test_it_has_as_many_pixels_as_the_screen(long_view: Any) -> None:
    """A resized node has a larger canvas; a graph that is zoomed in has a finer one."""
    inspector, _ = long_view
    assert inspector.get("[view.body.lanes.width, view.density]") == [inspector.get("view.width"), 1]
    inspector.page.evaluate("(id) => app.graph.getNodeById(id).setSize([1100, 820])", inspector.node)
    inspector.look()
    inspector.wait("view.width > 1000 && view.body.lanes.width === view.width")
    inspector.look(1.8)
    inspector.wait("view.density === 2 && view.body.lanes.width === 2 * view.width")


def test_it_survives(built: Any, host: RealHost) -> None:
    """A reload of the page, copy and paste, undo, a subgraph, a workflow saved and loaded; a file that is gone."""
    window, inspector, _, ids = built
    run(window)
    inspector.drawn()
    inspector.look()
    inspector.drag(0.2, 0.7)
    seconds, chosen = inspector.get("view.clip.seconds"), inspector.selection()
    saved = window.saved()
    window.page.wait_for_timeout(1500)  # the front end stores its draft when there is a pause

    window.reload()
    window.page.wait_for_function("(id) => app.graph.getNodeById(id)", arg=ids[2])
    inspector.wait(f"view.clip?.seconds === {seconds}")
    assert inspector.selection() == chosen
    inspector.wait("view.selection")

    pasted = window.page.evaluate(
        """(id) => {
            const node = app.graph.getNodeById(id);
            app.canvas.copyToClipboard([node]);
            app.canvas.pasteFromClipboard();
            return app.graph.nodes.at(-1).id;
        }""",
        ids[2],
    )
    assert pasted not in ids
    copy = Inspector(window, pasted)
    copy.wait(f"view.clip?.seconds === {seconds} && view.selection")
    window.page.evaluate("(id) => app.graph.remove(app.graph.getNodeById(id))", pasted)  # nothing is wired to it

    inside = window.page.evaluate(
        """(id) => {
            const { subgraph } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
            app.canvas.setGraph(subgraph);
            return subgraph.nodes[0].id;
        }""",
        ids[2],
    )
    nested = Inspector(window, inside)
    nested.wait(f"view.clip?.seconds === {seconds} && view.selection && view.element.isConnected")
    window.page.evaluate(
        "(id) => { app.graph.rootGraph.getNodeById(id).widgets.find(({ name }) => name === 'seed').value = 9; }", ids[1]
    )
    run(window)
    nested.wait(f"view.clip?.seconds !== {seconds}")  # results find the node inside
    window.page.evaluate("() => app.canvas.setGraph(app.graph.rootGraph)")

    saved["id"] = "00000000-0000-4000-8000-00000000ba2c"  # as if on another day
    window.load(saved)
    inspector.wait(f"view.clip?.seconds === {seconds} && view.selection")
    assert values(window.saved()) == values(saved)
    for file in (host.base / "temp" / FOLDER).glob("view_*.safetensors"):
        file.unlink()  # as a restart of the server does
    saved["id"] = "00000000-0000-4000-8000-00000000ba2d"
    window.load(saved)
    inspector.wait("view.body.message.textContent === 'Run the workflow to see the tokens.' && !view.clip")
    assert unexpected(window) == []


@pytest.mark.parametrize("answer", ["at once", "late"])
def test_a_result_stays_in_its_workflow(window: Window, answer: str) -> None:
    """Another tab is shown while it comes, with a node of the same id: that has nothing, the right one has it later.

    Also where the answer that names the prompt is slower than the messages about it.
    """
    page, inspector = window.page, Inspector(window, EXAMPLE_INSPECTOR)
    asked, other = example("look_inside_a_sentence"), example("rescue_a_take")
    name = f"asked {window.renderer[:4]} {answer}"
    for node in asked["nodes"]:
        if node["type"] == "BarkTextToSemantic":
            node["widgets_values"][0] = f"{LONG_TEXT} {name}"  # no other test's tokens, which would be there at once
    open_as(window, asked, name)
    page.evaluate(QUEUE, 3000 if answer == "late" else 0)
    open_as(window, other, f"other {name}")
    page.evaluate("() => window.ended")
    page.wait_for_timeout(500)
    assert inspector.get("view.body.message.textContent") == NOTHING_YET
    assert inspector.get("view.clip") is None
    saved = window.saved()
    assert [node["properties"].get("bark_view") for node in saved["nodes"] if node["id"] == EXAMPLE_INSPECTOR] == [None]
    widgets = page.evaluate("() => app.graph.nodes.flatMap((node) => node.widgets ?? []).map(({ name }) => name)")
    assert "bark_live" not in widgets
    if answer == "late":
        page.evaluate("() => window.queued")

    page.locator(".workflow-tabs").get_by_text(name, exact=True).first.click()
    page.mouse.move(960, 900)  # the tab under the mouse shows a picture of its workflow, as a dialog
    inspector.drawn()
    taken = remembered(window)
    assert len(taken) == 1
    open_as(window, example("look_inside_a_sentence"), f"fresh {name}")  # the same ids, from the same template
    page.wait_for_timeout(500)
    assert inspector.get("view.clip") is None
    assert remembered(window) is None
    assert unexpected(window) == []


def test_undo_brings_no_old_tokens_back(host: RealHost, window: Window) -> None:
    """What is undone was done before the run: the node shows the run's tokens all the same, and redo is still there."""
    for name, seconds in (("old", 3.0), ("new", 5.0)):
        write_view(host.base / "temp" / FOLDER / f"{name}.safetensors", seconds)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
    inspector = Inspector(window, node)
    inspector.show("old.safetensors")
    inspector.wait("view.clip?.seconds === 3")
    window.page.evaluate(NOTE)
    window.page.evaluate("(id) => { app.graph.getNodeById(id).title = 'named'; }", node)
    window.page.evaluate(NOTE)
    inspector.show("new.safetensors")
    inspector.wait("view.clip?.seconds === 5")
    window.page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
    inspector.wait("view.clip?.seconds === 5")
    window.page.wait_for_timeout(300)
    title = "(id) => app.graph.getNodeById(id).title"
    assert window.page.evaluate(title, node) != "named"
    assert remembered(window, node)[0]["filename"] == "new.safetensors"
    window.page.evaluate(NOTE)
    window.page.evaluate(f"async () => {{ await {TRACKER}.redo(); }}")
    inspector.wait("view.clip?.seconds === 5")
    assert window.page.evaluate(title, node) == "named"


def test_a_result_during_a_drag_leaves_undo_alone(host: RealHost, window: Window) -> None:
    """What was before the drag can be restored, whatever comes in while the mouse is down."""
    write_view(host.base / "temp" / FOLDER / "dragged.safetensors", 3.0)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
    inspector = Inspector(window, node)
    window.page.evaluate(NOTE)
    window.page.evaluate(f"(id) => {{ {TRACKER}.beforeChange(); app.graph.getNodeById(id).pos = [300, 200]; }}", node)
    inspector.show("dragged.safetensors")
    inspector.wait("view.clip?.seconds === 3")
    window.page.evaluate(f"() => {{ {TRACKER}.afterChange(); }}")
    assert remembered(window, node)[0]["filename"] == "dragged.safetensors"
    window.page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
    inspector.wait("view.clip?.seconds === 3")
    assert window.page.evaluate("(id) => [...app.graph.getNodeById(id).pos]", node) == [100, 100]


def test_a_cleared_workflow_is_forgotten(host: RealHost, window: Window) -> None:
    """Its nodes are counted from 1 again: a new node with the id of an old one has no tokens, also after an undo."""
    write_view(host.base / "temp" / FOLDER / "cleared.safetensors", 3.0)
    nodes = [{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}]
    (node,) = window.build(nodes, [])
    inspector, page = Inspector(window, node), window.page
    inspector.show("cleared.safetensors")
    inspector.wait("view.clip?.seconds === 3")
    page.evaluate("() => app.extensionManager.setting.set('Comfy.ConfirmClear', false)")
    try:
        page.evaluate("async () => { await app.extensionManager.command.execute('Comfy.ClearWorkflow'); }")
    finally:
        page.evaluate("() => app.extensionManager.setting.set('Comfy.ConfirmClear', true)")
    placed = window.place("BarkInspectTokens")
    assert placed is not None
    assert placed["id"] == node
    page.evaluate(NOTE)
    page.evaluate("(id) => { app.graph.getNodeById(id).title = 'named'; }", node)
    page.evaluate(NOTE)
    page.evaluate(f"async () => {{ await {TRACKER}.undo(); }}")
    page.wait_for_timeout(500)
    assert page.evaluate("(id) => app.graph.getNodeById(id).title", node) != "named"
    assert inspector.get("[view.clip, view.body.message.textContent]") == [None, NOTHING_YET]
    assert remembered(window, node) is None


def test_a_prompt_takes_no_earlier_results_along(host: RealHost, window: Window) -> None:
    """The workflow that files and the history get is without them, also in subgraphs; the graph keeps them."""
    nodes = [{"type": "BarkInspectTokens", "at": [at, 100], "size": [600, 600]} for at in (100, 800)]
    node, other = window.build(nodes, [])
    for shown in (node, other):
        write_view(host.base / "temp" / FOLDER / f"earlier {shown}.safetensors", 2.0)
        Inspector(window, shown).show(f"earlier {shown}.safetensors")
        Inspector(window, shown).wait("view.clip")
    window.page.evaluate(INTO_SUBGRAPH, other)
    window.page.evaluate("(id) => { app.graph.getNodeById(id).properties.mine = 'kept'; }", node)
    saved = json.dumps(window.saved())
    assert all(f"earlier {shown}.safetensors" in saved for shown in (node, other))
    workflow = window.page.evaluate(SENT)["extra_data"]["extra_pnginfo"]["workflow"]
    assert "earlier" not in json.dumps(workflow)
    (sent,) = [found for found in workflow["nodes"] if found["id"] == node]
    assert sent["properties"]["mine"] == "kept"
    assert [inside["type"] for inside in workflow["definitions"]["subgraphs"][0]["nodes"]] == ["BarkInspectTokens"]
    assert json.dumps(window.saved()) == saved
    assert unexpected(window) == []


def test_an_entry_of_the_history_brings_its_tokens(host: RealHost, window: Window) -> None:
    """No message comes with it: the front end puts the outputs of that run beside the graph, by ids of its own."""
    nodes = [{"type": "BarkInspectTokens", "at": [at, 100], "size": [600, 600]} for at in (100, 800)]
    node, other = window.build(nodes, [])
    _, inside = window.page.evaluate(INTO_SUBGRAPH, other)
    window.load(window.saved())
    outputs = {}
    subgraph = window.saved()["definitions"]["subgraphs"][0]["id"]
    for shown, place in ((node, str(node)), (inside, f"{subgraph}:{inside}")):
        write_view(host.base / "temp" / FOLDER / f"history {shown}.safetensors", 2.0)
        outputs[place] = executed(shown, f"history {shown}.safetensors")["output"]
    window.page.evaluate("(outputs) => { app.nodeOutputs = outputs; }", outputs)  # tells the extensions
    for shown in (node, inside):
        Inspector(window, shown).wait("view.clip?.seconds === 2")
        assert f"history {shown}.safetensors" in json.dumps(window.saved())
    assert unexpected(window) == []


def test_a_take_that_is_gone_leaves_nothing_of_the_one_before(host: RealHost, window: Window) -> None:
    """No selection, no drag that goes on; the others of its list can be turned to, and get the selection again."""
    write_view(host.base / "temp" / FOLDER / "still there.safetensors", 4.0)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
    inspector = Inspector(window, node)
    inspector.look()
    inspector.show("still there.safetensors")
    inspector.drawn()
    inspector.drag(1, 2)
    chosen = inspector.get("view.selection")
    (x, y), (x2, _) = inspector.at(1.5), inspector.at(3)
    inspector.page.mouse.move(*inspector.at(3.5))
    inspector.page.mouse.down()
    gone = executed(node, "gone.safetensors")
    gone["output"]["bark_view"] += executed(node, "still there.safetensors")["output"]["bark_view"]
    inspector.page.evaluate("(detail) => app.api.dispatchCustomEvent('executed', detail)", gone)
    inspector.wait(f"!view.clip && view.body.message.textContent === '{NOTHING_YET}'")
    inspector.page.mouse.move(x, y, steps=3)
    inspector.page.mouse.move(x2, y, steps=3)
    inspector.page.mouse.up()
    assert inspector.get("[view.selection, view.player.range]") == [None, None]
    assert inspector.get("view.body.pages.text.textContent") == "1 of 2"
    names = "[back, on].map((button) => button.getAttribute('aria-label'))"
    assert inspector.get(f"(({{ back, on }}) => {names})(view.body.pages)") == ["Previous take", "Next take"]
    inspector.get("(view.body.pages.on.click(), null)")
    inspector.wait("view.clip?.seconds === 4")
    assert inspector.get("view.selection") == pytest.approx(chosen, abs=0.006)
    assert unexpected(window) == []


def test_a_trace_alone_is_shown(host: RealHost, window: Window) -> None:
    """Its curves, where rules would have stopped, its tail and the reason, and what is at the pointer."""
    arrays = write_view(
        host.base / "temp" / FOLDER / "trace alone.safetensors", 4.0, leave_out=("semantic", "coarse", "fine")
    )
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 700]}], [])
    inspector = Inspector(window, node)
    inspector.look()
    inspector.show("trace alone.safetensors")
    inspector.drawn()
    assert inspector.get("view.lanes.map((lane) => lane.title)") == ["waveform", "spectrogram", "trace"]
    texts = [text for text, _, _ in inspector.get(TEXTS)]
    assert {"probability", "end", "end drawn", "min_eos_p", "goes round in a circle"} <= set(texts)
    inspector.page.mouse.move(*inspector.at(1.0, "trace"))
    inspector.wait("view.hover")
    step = int(inspector.get("view.hover.time") * RATE)
    inspector.wait(f"view.body.readout.textContent.includes('trace of step {step} ')")
    assert f"probability {100 * arrays['trace.probability'][step]:.1f} %" in inspector.get(
        "view.body.readout.textContent"
    )
    assert unexpected(window) == []


def test_a_selection_by_wires_is_shown_and_not_moved_by_dragging(host: RealHost, window: Window) -> None:
    """The widgets count for nothing then, on the server and here; unplugged, they count again."""
    write_view(host.base / "temp" / FOLDER / "wired.safetensors", 4.0)
    nodes = [{"type": "BarkInspectTokens", "at": [at, 100], "size": [800, 800]} for at in (100, 1000)]
    _, node = window.build(nodes, [(0, "start", 1, "start"), (0, "end", 1, "end")])
    inspector = Inspector(window, node)
    inspector.look()
    inspector.show("wired.safetensors", 1.0, 3.0)
    inspector.drawn()
    assert inspector.get("view.selection") == [1, 3]
    inspector.show("wired.safetensors", 0.5, 0.0)
    inspector.wait("view.selection?.[0] === 0.5 && view.selection[1] === 4")
    inspector.drag(1.5, 2.5)
    assert inspector.get("view.selection") == [0.5, 4]
    assert inspector.selection() == [0, 0]
    unplug = "(id) => ['start', 'end'].forEach((name) => { const node = app.graph.getNodeById(id);"
    unplug += " node.disconnectInput(node.findInputSlot(name)); })"
    window.page.evaluate(unplug, node)
    assert inspector.get("view.selection") is None
    inspector.drag(1.5, 2.5)
    assert inspector.selection() == pytest.approx([1.5, 2.5], abs=0.02)


def test_a_long_list_is_shown_whole(host: RealHost, window: Window) -> None:
    """All of a hundred takes can be turned to; the workflow remembers some."""
    write_view(host.base / "temp" / FOLDER / "one of many.safetensors", 2.0)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
    inspector = Inspector(window, node)
    message = executed(node, "one of many.safetensors")
    message["output"]["bark_view"] *= 100
    window.page.evaluate("(detail) => app.api.dispatchCustomEvent('executed', detail)", message)
    inspector.wait("view.clip && view.body.pages.text.textContent === '1 of 100'")
    assert len(remembered(window, node)) == 64


def test_it_can_be_read_in_a_subgraph(host: RealHost, window: Window) -> None:
    """Loaded inside a closed subgraph, where its element has no style of the page yet, it has the palette's colours."""
    page = window.page
    write_view(host.base / "temp" / FOLDER / "inside.safetensors", 4.0)
    page.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'light')")
    try:
        (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
        inspector = Inspector(window, node)
        inspector.wait("view.theme.dark === false")
        inspector.show("inside.safetensors")
        inspector.drawn()
        subgraph, inside = page.evaluate(INTO_SUBGRAPH, node)
        workflow = window.saved()
        window.build([], [])
        window.load(workflow)
        nested = Inspector(window, inside)
        nested.wait("view.clip")
        page.evaluate("(id) => app.canvas.setGraph(app.graph.getNodeById(id).subgraph)", subgraph)
        nested.look()
        nested.drawn()
        assert nested.get("view.theme.dark") is False
    finally:
        page.evaluate("() => app.canvas.setGraph(app.graph.rootGraph ?? app.graph)")
        page.evaluate("() => app.extensionManager.setting.set('Comfy.ColorPalette', 'dark')")


def test_it_falls_silent_with_its_node(built: Any) -> None:
    """A node that is collapsed, or whose subgraph is left, plays no more; one out of sight does."""
    window, inspector, _, ids = built
    page = window.page
    run(window)
    inspector.look()
    inspector.drawn()
    inspector.wait("view.player.audio.readyState >= 2")
    inspector.get("(view.toggleLoop(), view.player.play(), null)")
    inspector.wait("view.player.playing && view.player.time > 0.1")
    page.evaluate("() => { app.canvas.ds.offset[0] += 4000; app.canvas.setDirty(true, true); }")
    page.wait_for_timeout(500)
    assert inspector.get("view.player.playing")
    inspector.look()
    page.evaluate("(id) => app.graph.getNodeById(id).collapse()", ids[2])
    assert is_silent(inspector)
    page.evaluate("(id) => app.graph.getNodeById(id).collapse()", ids[2])

    subgraph, inside = page.evaluate(INTO_SUBGRAPH, ids[2])
    page.evaluate("(id) => app.canvas.setGraph(app.graph.getNodeById(id).subgraph)", subgraph)
    nested = Inspector(window, inside)
    nested.look()
    nested.drawn()
    nested.wait("view.player.audio.readyState >= 2")
    nested.get("(view.toggleLoop(), view.player.play(), null)")
    nested.wait("view.player.playing && view.player.time > 0.1")
    page.evaluate("() => app.canvas.setGraph(app.graph.rootGraph)")
    assert is_silent(nested)
    assert unexpected(window) == []


def test_copies_and_closed_subgraphs_leave_nothing(host: RealHost, window: Window) -> None:
    """A copy for the clipboard makes no view; those inside subgraphs go when another workflow is opened."""
    page = window.page
    write_view(host.base / "temp" / FOLDER / "copied.safetensors", 2.0)
    window.build([], [])
    page.evaluate(COUNT_VIEWS)
    try:
        (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [900, 800]}], [])
        inspector = Inspector(window, node)
        inspector.show("copied.safetensors")
        inspector.drawn()
        assert page.evaluate("() => window.views.size") == 1
        copy = "(id) => { app.canvas.copyToClipboard([app.graph.getNodeById(id)]); }"
        for _ in range(3):
            page.evaluate(copy, node)
        page.wait_for_timeout(300)
        assert page.evaluate("() => window.views.size") == 1
        page.evaluate(INTO_SUBGRAPH, node)
        workflow = window.saved()
        for _ in range(2):
            window.load(workflow)
            assert page.evaluate("() => window.views.size") == 1
        window.build([], [])
        assert page.evaluate("() => window.views.size") == 0
    finally:
        page.evaluate("() => window.countNoMore()")
    assert unexpected(window) == []


def test_nothing_is_left_behind(long_view: Any) -> None:
    """A node that is removed lets go of its sound, its observers and its frames."""
    inspector, _ = long_view
    page = inspector.page
    page.evaluate(
        "(id) => { window.old = app.graph.getNodeById(id).widgets.find(({ name }) => name === 'bark_view').view; }",
        inspector.node,
    )
    page.evaluate("(id) => app.graph.remove(app.graph.getNodeById(id))", inspector.node)
    gone = "[old.listeners.signal.aborted, old.player.audio, old.clip, old.element.isConnected]"
    assert page.evaluate(f"() => {gone}") == [True, None, None, False]
    assert unexpected(inspector.window) == []


def test_a_long_reason_is_cut_to_its_lane(host: RealHost, window: Window) -> None:
    """The flag of a tail stays on the lanes of a narrow view, in words that end with "…"."""
    tail = {"step": 200, "seconds": 4.0, "reason": 4 * "Speech ends at 4 s: the model saw its end, but went on. "}
    write_view(host.base / "temp" / FOLDER / "tail.safetensors", 8.0, tail=tail)
    (node,) = window.build([{"type": "BarkInspectTokens", "at": [100, 100], "size": [470, 700]}], [])
    inspector = Inspector(window, node)
    inspector.look()
    inspector.show("tail.safetensors")
    inspector.drawn()
    texts = inspector.get(TEXTS)
    ((text, x, width),) = [found for found in texts if found[0].startswith("Speech")]
    left, right = inspector.get("[view.geometry().left, view.geometry().left + view.geometry().width]")
    assert text.endswith("…")
    assert left <= x
    assert x + width <= right
    assert width > (right - left) / 3


def test_live_strips(window: Window, tmp_path: Path) -> None:
    """Messages of a running stage appear under its node, and the saved workflow does not change."""
    stages = {
        "BarkTextToSemantic": ("semantic", 1),
        "BarkSemanticToCoarse": ("coarse", 2),
        "BarkCoarseToFine": ("fine", 1),
    }
    ids = window.build([{"type": name, "at": [450 * i, 100]} for i, name in enumerate(stages)], [])
    Inspector(window, ids[0]).look()  # an earlier test may have left the graph small, or elsewhere
    before = window.saved()
    for node, (kind, rows) in zip(ids, stages.values(), strict=True):
        for first in (0, 20, 40):
            new = [(first + i) * 37 % 1000 for i in range(20)]
            message = {"node": str(node), "kind": kind, "first": first, "ids": new, "rows": rows, "total": 80}
            message["done"] = first == 40 and kind != "semantic"
            window.page.evaluate("(detail) => app.api.dispatchCustomEvent('bark.live', detail)", message)
    placed = """(ids) => ids.every((id) => {
        const strip = app.graph.getNodeById(id).widgets.find(({ name }) => name === "bark_live")?.strip;
        return strip && !strip.frame && strip.element.getBoundingClientRect().height > 8;
    })"""
    window.page.wait_for_function(placed, arg=ids, timeout=20_000)
    strip = """(id) => {
        const widget = app.graph.getNodeById(id).widgets.find(({ name }) => name === "bark_live");
        const { canvas, ids, element } = widget.strip;
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const painted = pixels.filter((value, i) => i % 4 === 3 && value === 255).length;
        return [canvas.width, canvas.height, ids.length, painted, element.getBoundingClientRect().height > 8];
    }"""
    assert [window.page.evaluate(strip, node) for node in ids] == [
        [80, 1, 60, 60, True],
        [30, 2, 60, 60, True],
        [60, 1, 60, 60, True],
    ]
    assert values(window.saved()) == values(before)
    window.page.screenshot(path=str(artefacts(tmp_path) / f"live strips {window.renderer}.png"))
    again = {"node": str(ids[0]), "kind": "semantic", "first": 0, "ids": [5], "rows": 1, "total": 80, "done": False}
    window.page.evaluate("(detail) => app.api.dispatchCustomEvent('bark.live', detail)", again)
    window.page.wait_for_function(placed, arg=ids, timeout=20_000)
    assert window.page.evaluate(strip, ids[0])[2:4] == [1, 1]  # a new run begins anew, on an empty strip
    assert unexpected(window) == []


def test_a_strip_that_joins_later_keeps_its_places(window: Window) -> None:
    """What came before is left empty: each id stands in its row and column, and the total is that of the run."""
    (node,) = window.build([{"type": "BarkSemanticToCoarse", "at": [100, 100]}], [])
    given = {"node": str(node), "kind": "coarse", "rows": 2}
    for first, ids, total, done in ((201, 100, 600, False), (301, 99, 400, True)):
        message = {**given, "first": first, "ids": list(range(first, first + ids)), "total": total, "done": done}
        window.page.evaluate("(detail) => app.api.dispatchCustomEvent('bark.live', detail)", message)
    strip = "app.graph.getNodeById(id).widgets.find(({ name }) => name === 'bark_live').strip"
    window.page.wait_for_function(f"(id) => !{strip}.frame", arg=node)
    shown = """(id) => {
        const { canvas, ids, element } = STRIP;
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        const painted = pixels.filter((value, i) => i % 4 === 3 && value === 255).length;
        return [canvas.width, ids[0] ?? null, ids[201], ids[399], painted, element.title];
    }"""
    found = window.page.evaluate(shown.replace("STRIP", strip), node)
    assert found == [200, None, 201, 399, 199, "400 tokens"]
    message = {**given, "prompt_id": "another", "first": 390, "ids": [5] * 20, "total": 420, "done": False}
    window.page.evaluate("(detail) => app.api.dispatchCustomEvent('bark.live', detail)", message)
    window.page.wait_for_function(f"(id) => !{strip}.frame", arg=node)
    found = window.page.evaluate(shown.replace("STRIP", strip), node)
    assert found == [210, None, None, 5, 20, "410 tokens so far"]


LONG_TEXT = "The quick brown fox jumps over the lazy dog, and then it runs all the way back to the river again."
WATCH = """(id) => {
    window.lengths = [];
    const look = () => {
        const strip = app.graph.getNodeById(id).widgets.find(({ name }) => name === "bark_live")?.strip;
        const length = strip?.ids.length ?? 0;
        if (length !== window.lengths.at(-1)) window.lengths.push(length);
        if (!strip?.done) requestAnimationFrame(look);
    };
    look();
}"""


def test_a_strip_grows_while_its_stage_runs(window: Window, tmp_path: Path) -> None:
    """In a real run: several sights of fewer tokens before the last one, which has all of them."""
    seed = len(window.renderer)  # each its own, or the second would get the first one's tokens without a run
    nodes = [
        {"type": "BarkLoadModels", "at": [0, 100]},
        {"type": "BarkTextToSemantic", "at": [380, 100], "values": {"text": LONG_TEXT, "seed": seed}},
        {"type": "BarkInspectTokens", "at": [800, 100]},
    ]
    ids = window.build(nodes, [(0, "models", 1, "models"), (1, "semantic", 2, "semantic"), (1, "trace", 2, "trace")])
    inspector = Inspector(window, ids[2])
    Inspector(window, ids[1]).look(0.7)
    window.page.evaluate(WATCH, ids[1])
    run(window)
    inspector.drawn()
    window.page.screenshot(path=str(artefacts(tmp_path) / f"strip of a run {window.renderer}.png"))
    lengths = window.page.evaluate("window.lengths")
    assert lengths == sorted(lengths)
    assert len(lengths) > 4, lengths
    assert lengths[-1] == inspector.get("view.clip.tracks[0].columns")
    assert inspector.get("view.clip.tracks[0].curves.ending.values.length") in (lengths[-1], lengths[-1] + 1)
    assert unexpected(window) == []


# Press Run, with an answer of the server that comes so many milliseconds late; `ended` and `queued` are promises.
QUEUE = """(late) => {
    const { api } = app, { fetchApi } = api;
    window.ended = new Promise((done) => api.addEventListener("execution_success", () => done(), { once: true }));
    api.fetchApi = async function (route, ...rest) {
        const answer = await fetchApi.call(this, route, ...rest);
        if (route === "/prompt") await new Promise((done) => setTimeout(done, late));
        return answer;
    };
    const posted = new Promise((done) => {
        const { queuePrompt } = api;
        api.queuePrompt = function (...given) {
            api.queuePrompt = queuePrompt;
            done();
            return queuePrompt.apply(this, given);
        };
    });
    window.queued = app.queuePrompt(0).finally(() => { api.fetchApi = fetchApi; }).then(() => null);
    return posted;
}"""
# What the page sends to the server when a prompt is queued; it does not get there.
SENT = """async () => {
    const { api } = app, { fetchApi } = api;
    let body;
    api.fetchApi = async (route, options) => {
        body = JSON.parse(options.body);
        return new Response(JSON.stringify({ prompt_id: "none", number: 0, node_errors: {} }));
    };
    try {
        await api.queuePrompt(0, await app.graphToPrompt());
    } finally {
        api.fetchApi = fetchApi;
    }
    return body;
}"""
INTO_SUBGRAPH = """(id) => {
    const { subgraph, node } = app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)]));
    return [node.id, subgraph.nodes[0].id];
}"""
# `views` are the views that exist: each looks for changes of the theme.
COUNT_VIEWS = """() => {
    window.views = new Set();
    const { prototype } = MutationObserver, { observe, disconnect } = prototype;
    prototype.observe = function (target, options) {
        if (options?.attributeFilter?.join() === "class,style") window.views.add(this);
        return observe.call(this, target, options);
    };
    prototype.disconnect = function () {
        window.views.delete(this);
        return disconnect.call(this);
    };
    window.countNoMore = () => { Object.assign(prototype, { observe, disconnect }); };
}"""


def example(name: str) -> dict[str, Any]:
    return json.loads((EXAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def open_as(window: Window, workflow: dict[str, Any], name: str) -> None:
    """Open a workflow in a tab of this name, as a template or a dropped file is."""
    script = "async ([workflow, name]) => { await app.loadGraphData(workflow, true, true, name); }"
    window.page.evaluate(script, [workflow, name])


def is_silent(inspector: Inspector) -> bool:
    """For a while; a sound that goes round and round stops for a moment, too."""
    inspector.page.wait_for_timeout(500)
    time = inspector.get("view.player.time")
    inspector.page.wait_for_timeout(400)
    return inspector.get("[view.player.playing, view.player.time]") == [False, time]


def remembered(window: Window, node: int = EXAMPLE_INSPECTOR) -> Any:
    """What the saved workflow knows of the node's results."""
    (found,) = [saved for saved in window.saved()["nodes"] if saved["id"] == node]
    return found["properties"].get("bark_view")


def unexpected(window: Window) -> list[str]:
    """Complaints of the page but those about files that a test took away on purpose; the page does not forget them."""
    return [text for text in window.complaints() if "404" not in text]


def run(window: Window) -> None:
    ending, details = window.run()
    assert ending == "execution_success", (details, window.complaints())


def middle(window: Window, inspector: Inspector, button: str) -> tuple[float, float]:
    """Where a button of the view is on the page."""
    x, y, width, height = inspector.get(
        f"(({{ x, y, width, height }}) => [x, y, width, height])(view.body.buttons.{button}.getBoundingClientRect())"
    )
    return x + width / 2, y + height / 2


def values(workflow: dict[str, Any]) -> list[Any]:
    """The widget values of each node."""
    return [node.get("widgets_values") for node in sorted(workflow["nodes"], key=lambda node: node["id"])]
