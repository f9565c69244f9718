"""In a real browser: the nodes are found and placed, the examples load without a complaint, run, and can be heard."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.browser import Window, artefacts, overlaps
from support.browser_fixtures import browser_tests
from support.comfy_server import PACK
from support.graphs import snapshot
from support.real_host import RealHost
from support.sound import read_sound
from support.workflows import to_prompt

EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
PLAYERS = ("BarkLoadAudio", "BarkSaveAudio", "PreviewAudio")
NOT_OURS = ("audioUI", "upload")  # ComfyUI's player and its button, on nodes with sound files

pytestmark = browser_tests


def test_every_node_can_be_placed(window: Window) -> None:
    """With the inputs, outputs and default values that the server describes."""
    for node_type, info in snapshot().items():
        placed = window.place(node_type)
        assert placed is not None, node_type
        names = [name for part in ("required", "optional") for name in info["input"].get(part, {})]
        assert sorted(item["name"] for item in placed["inputs"] if item["name"] not in NOT_OURS) == sorted(names)
        assert [item["name"] for item in placed["outputs"]] == info["output_name"]
    assert window.complaints() == []
    assert not [url for url in window.answers if "example%5D" in url], "/view does not know the pack's example"


def test_a_node_is_found_by_its_name(window: Window) -> None:
    """The way of a person: double-click, type, Enter."""
    assert window.search("Save Audio (Bark)") == ["BarkSaveAudio"]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example(host: RealHost, window: Window, path: Path, tmp_path: Path) -> None:
    """Loads as it was saved, is exported as it should be, runs from the page, and plays on each of its players."""
    workflow = example(path.stem)
    window.load(workflow)
    assert values_of(window.saved()) == values_of(workflow)

    prompt = window.prompt()
    unread = {key: node["inputs"].pop("audioUI") for key, node in prompt.items() if "audioUI" in node["inputs"]}
    assert prompt == to_prompt(workflow, host.object_info())
    assert unread == {key: "" for key, node in prompt.items() if node["class_type"] == "PreviewAudio"}

    ending, details = window.run()
    assert ending == "execution_success", (details, window.complaints())
    again = {key: node for key, node in window.prompt().items() if node["class_type"] != "PreviewAudio"}
    assert again == {key: prompt[key] for key in again}, "pressing Run again would save the same sound again"
    for node in (node for node in workflow["nodes"] if node["type"] in PLAYERS):
        address = window.player(node["id"])
        assert window.answers[address] in (200, 206)
        played = window.play(node["id"])
        sound = read_sound(file_behind(address, host.base))
        assert played["duration"] == pytest.approx(sound.samples.shape[1] / sound.rate, abs=0.05)
        assert played["heard"] > 0.1
    window.picture(artefacts(tmp_path) / f"{host.server.version} {window.renderer} {path.stem}.png")
    assert overlaps(window.boxes()) == []
    assert window.complaints() == []


def test_texts_that_failed_are_named_in_any_workflow(window: Window) -> None:
    """The page shows another graph by the time the report comes; what comes from the cache was reported before."""
    window.build([], [])
    page, shown = window.page, "() => document.querySelectorAll('.p-toast-message').length"
    report = f"1 of 2 texts could not be spoken; seen in {window.renderer}."
    try:
        for prompt, cached, count in [("first", [], 1), ("same again", ["4:7"], 1), ("run anew", [], 2)]:
            told = {"prompt_id": prompt, "nodes": cached}
            page.evaluate("(detail) => app.api.dispatchCustomEvent('execution_cached', detail)", told)
            result = {"node": "4:7", "display_node": "4:7", "prompt_id": prompt, "output": {"bark_failed": [report]}}
            page.evaluate("(detail) => app.api.dispatchCustomEvent('executed', detail)", result)
            page.wait_for_timeout(300)
            assert page.evaluate(shown) == count, prompt
        assert report in page.locator(".p-toast-message").first.inner_text()
    finally:
        page.evaluate("() => app.extensionManager.toast.removeAll()")
        page.wait_for_function(f"() => !({shown})()", timeout=10_000)
    assert window.complaints() == []


def test_a_missing_node_would_be_noticed(window: Window) -> None:
    """`complaints()` is no blind eye: a graph with a node that nobody has makes the page complain.

    Stands last, because the page does not forget.
    """
    workflow = example("one_box")
    workflow["nodes"][-2]["type"] = "BarkNoSuchNode"
    window.load(workflow)
    window.page.wait_for_function('() => document.querySelector("[role=dialog], [role=alert]")', timeout=20_000)
    complaints = window.complaints()
    assert "BarkNoSuchNode" in complaints
    assert any("missing" in text.lower() for text in complaints)


def example(name: str) -> dict[str, Any]:
    return json.loads((PACK / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))


def values_of(workflow: dict[str, Any]) -> dict[int, Any]:
    """The widget values of each node that has any; behind a sound's name the front end leaves its player and button."""
    nodes = [node for node in workflow["nodes"] if node.get("widgets_values")]
    return {node["id"]: node["widgets_values"][: 1 if node["type"] == "BarkLoadAudio" else None] for node in nodes}


def file_behind(address: str, base: Path) -> Path:
    """The file that an address of /view shows, or of the examples."""
    if "/workflow_templates/" in address:
        return PACK / "example_workflows" / Path(urlsplit(address).path).name
    query = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    return base / query["type"] / query.get("subfolder", "") / query["filename"]
