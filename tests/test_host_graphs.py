"""Graphs that run: every stage a node, files that play, caches that spare work, seeds that repeat, examples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.comfy_server import PACK
from support.graphs import Graph, Node, Take, add_take
from support.host import Host, probe_value, run, run_probes, saved_files
from support.sound import read_sound
from support.workflows import problems, to_prompt

EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
WORKFLOW = {"nodes": [], "links": [], "version": 0.4}


def all_stages(prefix: str, seed: int = 1) -> tuple[Graph, Take, Node]:
    graph = Graph()
    take = add_take(graph, seed=seed)
    return graph, take, graph.add("BarkSaveAudio", audio=take.audio, filename_prefix=prefix)


def test_all_stages_end_in_a_file_that_plays(host: Host) -> None:
    graph, _, save = all_stages("all/stages")
    result = run(host, graph, WORKFLOW)
    assert result.status == "success", result.message
    (path,) = saved_files(host, result, save.key)
    assert path.parent == host.base / "output" / "all"
    sound = read_sound(path)
    assert (sound.rate, sound.samples.shape[0]) == (24_000, 1)
    assert sound.samples.shape[1] % 320 == 0
    assert 0 < np.abs(sound.samples).max() <= 1
    assert json.loads(sound.metadata["prompt"])[save.key]["class_type"] == "BarkSaveAudio"
    assert json.loads(sound.metadata["workflow"]) == WORKFLOW


def test_tokens_on_the_wires_are_read_only_and_of_one_length(host: Host) -> None:
    graph = Graph()
    take = add_take(graph)
    wires = {"semantic": take.semantic, "coarse": take.coarse, "fine": take.fine, "audio": take.audio}
    semantic, coarse, fine, audio = run_probes(host, graph, **wires).values()
    assert [value["kind"] for value in (semantic, coarse, fine)] == ["SemanticTokens", "CoarseTokens", "FineTokens"]
    assert not any(value["writeable"] for value in (semantic, coarse, fine))
    (steps,), frames = semantic["shape"], coarse["shape"][1]
    assert 0 < steps <= 30  # 0.6 s
    assert coarse["shape"] == [2, frames]
    assert fine["shape"] == [8, frames]
    assert audio["shape"] == [1, 1, 320 * frames]
    assert (audio["dtype"], audio["device"], audio["rate"]) == ("torch.float32", "cpu", 24_000)


def test_a_second_run_does_nothing(host: Host) -> None:
    graph, take, save = all_stages("second/run")
    assert run(host, graph).ran
    again = run(host, graph)
    assert again.status == "success"
    assert again.ran == []
    assert again.cached == {node.key for node in (*take.stages, save)}


def test_a_change_runs_that_node_and_what_follows(host: Host) -> None:
    graph, take, save = all_stages("partial/run", seed=2)
    run(host, graph)
    nodes = [take.semantic, take.coarse, take.fine, take.audio, save]
    for node, change in (
        (save, {"normalise": True}),
        (take.fine, {"temperature": 0.9}),
        (take.coarse, {"seed": 99}),
        (take.semantic, {"seed": 99}),
    ):
        graph = graph.changed(node, **change)
        assert run(host, graph).ran == [other.key for other in nodes[nodes.index(node) :]]


def test_an_equal_seed_gives_an_equal_file(host: Host) -> None:
    """All nodes run again in between, with the cache emptied."""
    files = []
    for prefix in ("seeds/a", "seeds/b"):
        host.free()
        graph, take, save = all_stages(prefix, seed=5)
        result = run(host, graph)
        assert set(result.ran) == {node.key for node in (*take.stages, save)}
        files += saved_files(host, result, save.key)
    first, second = (read_sound(path).samples for path in files)
    assert np.array_equal(first, second)
    graph, _, save = all_stages("seeds/c", seed=6)
    other = read_sound(saved_files(host, run(host, graph), save.key)[0]).samples
    assert other.shape != first.shape or not np.array_equal(other, first)


def test_the_one_box_gives_what_the_stages_give(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, text="One box.", seconds=0.0, seed=7)
    box = graph.add("BarkTextToSpeech", models=take.models, text="One box.", seed=7)
    pairs = [
        (graph.add("ProbeValue", value=stage), graph.add("ProbeValue", value=box.out(slot)))
        for slot, stage in ((0, take.audio), (1, take.semantic), (2, take.coarse), (3, take.fine))
    ]
    result = run(host, graph)
    assert result.status == "success", result.message
    for by_stages, by_box in pairs:
        assert probe_value(result, by_stages) == probe_value(result, by_box)


def test_coarse_tokens_of_one_take_go_into_anothers_fine_stage(host: Host) -> None:
    graph = Graph()
    first = add_take(graph, seed=1)
    again = graph.add("BarkCoarseToFine", models=first.models, coarse=first.coarse, seed=2)
    values = run_probes(host, graph, coarse=first.coarse, fine=first.fine, again=again)
    assert values["fine"]["shape"] == values["again"]["shape"] == [8, values["coarse"]["shape"][1]]
    assert values["fine"]["hash"] != values["again"]["hash"]


@pytest.mark.parametrize(
    ("widgets", "extension", "codec_rate", "tolerance"),
    [
        ({"format": "wav 16-bit"}, "wav", 24_000, 2e-4),
        ({"format": "wav 24-bit", "sample_rate": "48000"}, "wav", 48_000, None),
        ({"format": "wav 32-bit float"}, "wav", 24_000, 1e-6),
        ({"format": "mp3", "sample_rate": "44100"}, "mp3", 44_100, None),
        ({"format": "opus"}, "opus", 48_000, None),
    ],
)
def test_formats(host: Host, widgets: dict[str, Any], extension: str, codec_rate: int, tolerance: float | None) -> None:
    """Opus always decodes at 48 kHz. Where nothing is lost or resampled, the samples are the sound's."""
    graph = Graph()
    sound = graph.add("ProbeSound", channels=2, samples=12_000)
    save = graph.add("BarkSaveAudio", audio=sound, filename_prefix=f"formats/{extension}", **widgets)
    result = run(host, graph, WORKFLOW)
    assert result.status == "success", result.message
    (path,) = saved_files(host, result, save.key)
    assert path.suffix == f".{extension}"
    read = read_sound(path)
    assert (read.rate, read.samples.shape[0]) == (codec_rate, 2)
    assert abs(read.samples.shape[1] / codec_rate - 0.5) < 0.1
    if tolerance is not None:
        assert read.samples.shape[1] == 12_000
        wanted = torch.sin(torch.arange(12_000) * 0.05).numpy() / 2
        assert np.abs(read.samples[0] - wanted).max() <= tolerance
    if extension != "wav":
        assert json.loads(read.metadata["workflow"]) == WORKFLOW


def test_normalise_brings_the_peak_to_minus_one_decibel(host: Host) -> None:
    graph = Graph()
    sound = graph.add("ProbeSound", samples=12_000)
    save = graph.add(
        "BarkSaveAudio", audio=sound, filename_prefix="level/loud", format="wav 32-bit float", normalise=True
    )
    (path,) = saved_files(host, run(host, graph), save.key)
    assert abs(np.abs(read_sound(path).samples).max() - 10 ** (-1 / 20)) < 1e-4


@pytest.mark.parametrize(("prefix", "clips"), [("batch/take", ("take",) * 3), ("batch/%batch_num%", ("0", "1", "2"))])
def test_each_clip_of_a_batch_gets_a_file_and_none_is_lost(host: Host, prefix: str, clips: tuple[str, ...]) -> None:
    """Numbers go on where the folder's end; 0.3.64 would count our names from 1 again and again."""
    graph = Graph()
    sound = graph.add("ProbeSound", clips=3, samples=2_400)
    save = graph.add("BarkSaveAudio", audio=sound, filename_prefix=prefix)
    first = saved_files(host, run(host, graph), save.key)
    assert [path.name for path in first] == [f"{clip}_{n:05}.flac" for n, clip in enumerate(clips, 1)]
    before = [path.read_bytes() for path in first]
    second = saved_files(host, run(host, graph.changed(save, normalise=True)), save.key)
    assert not set(first) & set(second)
    assert [path.read_bytes() for path in first] == before
    assert all(path.is_file() for path in second)


def test_progress_counts_up_to_the_end(host: Host) -> None:
    from support.host import start

    graph = Graph()
    take = add_take(graph, text="Progress.", seed=11)
    graph.add("ProbeValue", value=take.audio)
    running = start(host, graph)
    assert running.result().status == "success"
    for node in (take.semantic, take.coarse, take.fine):
        reports = running.progress_of(node.key)
        assert reports, node
        values = [value for value, _ in reports]
        assert values == sorted(values)
        assert all(0 <= value <= maximum for value, maximum in reports)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_example_loads_and_runs(host: Host, path: Path) -> None:
    """Each example is right in every value and wire, runs, and ends in files that open."""
    info = host.object_info()
    workflow = json.loads(path.read_text(encoding="utf-8"))
    assert problems(workflow, info) == []
    prompt = to_prompt(workflow, info)
    result = run(host, prompt, workflow)
    assert result.status == "success", result.message
    saves = [key for key, node in prompt.items() if node["class_type"] == "BarkSaveAudio"]
    assert saves
    for key in saves:
        for file in saved_files(host, result, key):
            sound = read_sound(file)
            assert sound.rate in (24_000, 44_100, 48_000)
            assert sound.samples.shape[0] in (1, 2)
            assert sound.samples.shape[1] > sound.rate // 10
            if file.suffix != ".wav":
                assert json.loads(sound.metadata["workflow"]) == workflow
                assert json.loads(sound.metadata["prompt"]).keys() == prompt.keys()


def test_there_are_examples() -> None:
    assert EXAMPLES
