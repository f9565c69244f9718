"""The example workflows as files: what a person meets when opening one. Whether they run is tested on the hosts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.browser import overlaps
from support.comfy_server import PACK
from support.workflows import NOTES

FOLDER = PACK / "example_workflows"
EXAMPLES = sorted(FOLDER.glob("*.json"))
TITLE_BAR = 30  # pixels above a node's `pos`
NODES_2_EXTRA = 90  # Nodes 2.0 draws our tallest nodes so much higher
CORE_NODES = {  # in ComfyUI 0.3.64 as well as in 0.26.2
    *("AudioAdjustVolume", "AudioConcat", "AudioMerge", "EmptyAudio", "PreviewAudio", "TrimAudioDuration"),
}

pytestmark = pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])


@pytest.fixture
def workflow(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def working_nodes(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in workflow["nodes"] if node["type"] not in NOTES]


def test_it_is_in_the_ui_format(workflow: dict[str, Any]) -> None:
    assert workflow["version"] == 0.4
    ids = [node["id"] for node in workflow["nodes"]]
    assert sorted(ids) == list(range(1, workflow["last_node_id"] + 1))
    assert [link[0] for link in workflow["links"]] == list(range(1, workflow["last_link_id"] + 1))


def test_it_says_which_packs_it_needs(workflow: dict[str, Any]) -> None:
    for node in working_nodes(workflow):
        ours = node["type"].startswith("Bark")
        assert ours or node["type"] in CORE_NODES
        assert node["properties"]["cnr_id"] == ("bark-inside-out" if ours else "comfy-core")
        assert node["properties"]["Node name for S&R"] == node["type"]


def test_it_runs_at_once_after_installing(workflow: dict[str, Any]) -> None:
    """The embedded models, no network, and seeds that stay."""
    loaders = [node for node in workflow["nodes"] if node["type"] == "BarkLoadModels"]
    assert [node["widgets_values"] for node in loaders] == [["nano", "auto", "auto", "same", "same", "same", False]]
    for node in workflow["nodes"]:
        seeds = [item for item in node["inputs"] if item["name"] == "seed"]
        assert [value for value in node["widgets_values"] if value == "fixed"] == ["fixed"] * len(seeds)


def test_its_texts_are_for_nano(workflow: dict[str, Any]) -> None:
    """Which reads every sign aloud that Suno's models perform: tags in brackets, notes, words in capitals."""
    speaking = ("BarkTextLines", "BarkTextToSemantic", "BarkTextToSpeech")
    texts = [node["widgets_values"][0] for node in working_nodes(workflow) if node["type"] in speaking]
    assert [text for text in texts if re.search(r"\[|♪|\b[A-Z]{2,}\b", text)] == []


def test_it_explains_itself(workflow: dict[str, Any]) -> None:
    """A note to begin with that says what "nano" is, and a file name of its own for each sound."""
    notes = {node["title"]: node["widgets_values"][0] for node in workflow["nodes"] if node["type"] in NOTES}
    assert "nano" in notes["Read me"]
    assert "small" in notes["Read me"]
    assert all(text.strip() for text in notes.values())
    assert all(node["color"] and node["bgcolor"] for node in workflow["nodes"])
    prefixes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "BarkSaveAudio"]
    assert prefixes
    assert len(set(prefixes)) == len(prefixes)


def test_nodes_have_room_in_both_renderers(workflow: dict[str, Any]) -> None:
    """Notes are drawn as saved; nodes grow downwards in Nodes 2.0."""
    boxes = []
    for node in workflow["nodes"]:
        extra = 0 if node["type"] in NOTES else NODES_2_EXTRA
        (left, top), (width, height) = node["pos"], node["size"]
        boxes.append(
            (f"{node['type']} #{node['id']}", left, top - TITLE_BAR, width, height + TITLE_BAR + extra),
        )
    assert overlaps(boxes) == []


def test_every_node_is_inside_a_group(workflow: dict[str, Any]) -> None:
    for node in workflow["nodes"]:
        (left, top), (width, height) = node["pos"], node["size"]
        around = [
            group["title"]
            for group in workflow["groups"]
            if group["bounding"][0] <= left
            and group["bounding"][1] <= top - TITLE_BAR
            and left + width <= group["bounding"][0] + group["bounding"][2]
            and top + height <= group["bounding"][1] + group["bounding"][3]
        ]
        assert len(around) == 1, (node["type"], node["id"], around)


def test_wires_go_from_left_to_right(workflow: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, _, target, _, _ in workflow["links"]:
        right = nodes[source]["pos"][0] + nodes[source]["size"][0]
        assert right < nodes[target]["pos"][0], number


def test_its_picture_is_small(path: Path) -> None:
    """The thumbnail in ComfyUI's template browser."""
    picture = path.with_suffix(".jpg")
    assert 5_000 < picture.stat().st_size < 60_000
