"""Inspect Tokens on a host: what the browser is told and can fetch, what goes on by wire, and what is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from safetensors.numpy import load

from support.graphs import Graph, Node, add_take
from support.host import Host, Result, probe_value, run
from support.real_host import RealHost
from support.sound import read_sound
from support.standin.host import StandInHost


def fetch(host: Host, item: dict[str, str]) -> bytes:
    """A file that the browser was told about, as the browser gets it: by /view, where there is a server."""
    if isinstance(host, RealHost):
        return host.server.get(f"/view?{urlencode(item)}")
    return path_of(host, item).read_bytes()


def path_of(host: Host, item: dict[str, str]) -> Path:
    return host.base / item["type"] / item["subfolder"] / item["filename"]


def view_of(host: Host, result: Result, node: Node) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of the view that a node sent to the browser."""
    assert result.status == "success", result.message
    ui = result.ui[node.key]
    assert list(ui) == ["bark_view"]
    (item,) = ui["bark_view"]
    assert item["type"] == "temp"
    content = fetch(host, item)
    size = int.from_bytes(content[:8], "little")
    return load(content), json.loads(content[8 : 8 + size])["__metadata__"]


def test_the_browser_gets_the_selection_that_counted(host: Host) -> None:
    """By wires it is in no widget."""
    graph = Graph()
    take = add_take(graph, seed=100)
    first = graph.add("BarkInspectTokens", fine=take.fine, start=0.25, end=0.5)
    second = graph.add("BarkInspectTokens", coarse=take.coarse, start=first.out(2), end=first.out(3))
    result = run(host, graph)
    for node in (first, second):
        (item,) = result.ui[node.key]["bark_view"]
        assert (item["start"], item["end"]) == (0.25, 0.5)


def hash_of(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array.astype(np.int64)).tobytes()).hexdigest()


def test_the_browser_gets_all_that_was_connected(host: Host) -> None:
    """Tokens, trace and sound of one take, the tokens as they went over the wires."""
    graph = Graph()
    take = add_take(graph, seed=100)
    parts = {"semantic": take.semantic, "coarse": take.coarse, "fine": take.fine}
    node = graph.add("BarkInspectTokens", **parts, audio=take.audio, trace=take.semantic.out(1))
    probes = {name: graph.add("ProbeValue", value=part) for name, part in parts.items()}
    sound = graph.add("ProbeValue", value=take.audio)
    result = run(host, graph)
    arrays, metadata = view_of(host, result, node)
    for name, probe in probes.items():
        assert list(arrays[name].shape) == probe_value(result, probe)["shape"]
        assert hash_of(arrays[name]) == probe_value(result, probe)["hash"]
    length = len(arrays["semantic"])
    assert arrays["trace.probability"].shape == arrays["trace.entropy"].shape == (length,)
    assert 0 < arrays["trace.probability"].min() <= arrays["trace.probability"].max() <= 1
    assert arrays["trace.end_probability"].shape in ((length,), (length + 1,))
    frames = arrays["fine"].shape[1]
    assert arrays["wave"].shape == (2 * frames, 2)
    assert arrays["spectrogram"].shape == (80, frames)
    assert metadata["family"] == "nano"
    assert metadata["trace_kind"] == "semantic"
    assert "max_seconds" in json.loads(metadata["stops"])
    assert metadata["summary"].startswith("0.6")
    item = json.loads(metadata["audio"])
    assert fetch(host, item).startswith(b"RIFF")
    played = read_sound(path_of(host, item))
    assert played.rate == 24_000
    assert list(played.samples.shape) == probe_value(result, sound)["shape"][1:]
    assert np.abs(played.samples).max() == pytest.approx(np.abs(arrays["wave"]).max(), abs=1e-4)


@pytest.mark.parametrize("kind", ["semantic", "coarse", "fine", "trace", "audio"])
def test_one_wire_is_enough(host: Host, kind: str) -> None:
    graph = Graph()
    take = add_take(graph, seed=101)
    wire = take.fine.out(1) if kind == "trace" else getattr(take, kind)
    node = graph.add("BarkInspectTokens", **{kind: wire})
    arrays, metadata = view_of(host, run(host, graph), node)
    expected = {"trace": {"trace.probability", "trace.entropy"}, "audio": {"wave", "spectrogram"}}.get(kind, {kind})
    assert set(arrays) == expected
    assert ("audio" in metadata) == (kind == "audio")
    assert metadata["family"] == ("" if kind == "audio" else "nano")


def test_picture_words_and_times_go_on(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, seed=102)
    whole = graph.add("BarkInspectTokens", semantic=take.semantic, fine=take.fine)
    part = graph.add("BarkInspectTokens", semantic=take.semantic, fine=take.fine, start=0.1, end=0.4)
    probes = [[graph.add("ProbeValue", value=node.out(slot)) for slot in range(4)] for node in (whole, part)]
    result = run(host, graph)
    _, metadata = view_of(host, result, whole)
    image, words, start, end = (probe_value(result, probe) for probe in probes[0])
    assert image["shape"] == [1, 40 + 62 + 10 + 128 + 14, 1_200, 3]
    assert (image["dtype"], image["device"]) == ("torch.float32", "cpu")
    assert 0 <= image["lowest"] < 0.1
    assert 0.9 < image["highest"] <= 1
    assert words == {"kind": "str", "value": metadata["summary"]}
    assert start == {"kind": "float", "value": 0.0}
    assert end == {"kind": "float", "value": float(metadata["seconds"])}
    assert [probe_value(result, probe)["value"] for probe in probes[1][2:]] == [0.1, 0.4]


def test_a_selection_cuts_the_tokens(host: Host) -> None:
    """Start and end go into Trim Tokens, for each kind; nothing selected leaves them whole."""
    graph = Graph()
    take = add_take(graph, seed=103)
    node = graph.add("BarkInspectTokens", semantic=take.semantic, coarse=take.coarse, audio=take.audio)
    trims = [
        graph.add("BarkTrimTokens", tokens=tokens, start=node.out(2), end=node.out(3))
        for tokens in (take.semantic, take.coarse)
    ]
    probes = [graph.add("ProbeValue", value=value) for value in (take.semantic, take.coarse, *trims)]
    result = run(host, graph)
    assert result.status == "success", result.message
    semantic, coarse, whole_semantic, whole_coarse = (probe_value(result, probe) for probe in probes)
    assert (whole_semantic, whole_coarse) == (semantic, coarse)
    result = run(host, graph.changed(node, start=0.1, end=0.4))
    assert result.status == "success", result.message
    assert probe_value(result, probes[2])["shape"] == [round(0.4 * 49.9) - round(0.1 * 49.9)]
    assert probe_value(result, probes[3])["shape"] == [2, 30 - 7]  # 20 and 5 tokens are 30.06 and 7.5 frames


def test_a_new_selection_writes_no_new_files(host: Host) -> None:
    """And runs nothing but this node; another take gets a file of its own."""
    graph = Graph()
    take = add_take(graph, seed=104)
    node = graph.add("BarkInspectTokens", semantic=take.semantic, audio=take.audio)
    first = run(host, graph)
    (item,) = first.ui[node.key]["bark_view"]
    before = {path: path.stat().st_mtime_ns for path in path_of(host, item).parent.iterdir()}
    second = run(host, graph.changed(node, start=0.2))
    assert second.ran == [node.key]
    assert second.ui[node.key]["bark_view"] == [{**item, "start": 0.2}]
    assert {path: path.stat().st_mtime_ns for path in path_of(host, item).parent.iterdir()} == before
    other = run(host, graph.changed(take.semantic, seed=105))
    assert other.ui[node.key] != first.ui[node.key]
    assert path_of(host, item).exists()


def test_any_sound_is_shown(host: Host) -> None:
    """Stereo at another rate is averaged; its spectrogram still ends at 12 kHz."""
    graph = Graph()
    sound = graph.add("ProbeSound", channels=2, samples=44_100, rate=44_100)
    node = graph.add("BarkInspectTokens", audio=sound)
    arrays, metadata = view_of(host, run(host, graph), node)
    assert arrays["wave"].shape == (150, 2)
    assert metadata["top_hertz"] == "12000"
    assert read_sound(path_of(host, json.loads(metadata["audio"]))).samples.shape == (1, 44_100)


@pytest.mark.parametrize(
    ("sound", "sentence"),
    [
        ({"clips": 3}, "a batch of 3 clips; look at them one at a time"),
        ({"channels": 3}, "has 3 channels; it must be mono or stereo"),
        ({"kind": "nan"}, "samples that are not numbers"),
        ({"kind": "none"}, "nothing to look at"),
        ({"samples": 0}, "at least one sample"),
    ],
    ids=["batch", "channels", "nan", "none", "empty"],
)
def test_sound_that_cannot_be_shown_is_refused(host: Host, sound: dict[str, Any], sentence: str) -> None:
    graph = Graph()
    node = graph.add("BarkInspectTokens", audio=graph.add("ProbeSound", **sound))
    result = run(host, graph)
    assert (result.status, result.failed) == ("error", node.key)
    assert sentence in result.message


def test_nothing_at_all_is_refused(host: Host) -> None:
    graph = Graph()
    graph.add("BarkInspectTokens")
    result = run(host, graph)
    assert result.status == "error"
    assert "There is nothing to look at. Connect semantic" in result.message


@pytest.mark.parametrize(
    ("selection", "sentence"),
    [
        ({"start": 0.4, "end": 0.2}, "runs from 0.4 s to 0.2 s. The start must be"),
        ({"start": 5.0}, "runs from 5 s to 0.6"),
        ({"end": 5.0}, "ends at 5 s, but what is shown lasts 0.6"),
    ],
)
def test_a_selection_outside_is_refused(host: Host, selection: dict[str, float], sentence: str) -> None:
    graph = Graph()
    graph.add("BarkInspectTokens", semantic=add_take(graph, seed=106).semantic, **selection)
    result = run(host, graph)
    assert result.status == "error"
    assert sentence in result.message


def test_two_families_are_refused(host: Host) -> None:
    graph = Graph()
    semantic = add_take(graph, seed=107).semantic
    fine = graph.add(
        "BarkEncodeAudio", models=graph.add("BarkLoadModels", models="random"), audio=graph.add("ProbeSound")
    )
    graph.add("BarkInspectTokens", semantic=semantic, fine=fine)
    result = run(host, graph)
    assert result.status == "error"
    assert "semantic ('nano') and fine ('random')" in result.message


def test_a_full_disk_is_a_sentence(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    graph = Graph()
    graph.add("BarkInspectTokens", semantic=add_take(graph, seed=108).semantic)
    folder = standin.base / "temp" / "bark"
    before = sorted(folder.iterdir()) if folder.exists() else []
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    result = run(standin, graph)
    monkeypatch.undo()
    assert result.status == "error"
    assert "The view could not be saved" in result.message
    assert sorted(folder.iterdir()) == before
