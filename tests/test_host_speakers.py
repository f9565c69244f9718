"""Voices in a host: made, kept, found again, used, never overwritten by accident."""

from pathlib import Path

import numpy as np
import pytest

from support.graphs import Graph, Node, add_take
from support.host import Host, run, run_probes, shown_text


def make_voice(graph: Graph, seed: int, name: str, overwrite: bool = False) -> tuple[Node, Node]:
    """A take as a voice, and the node that keeps it."""
    take = add_take(graph, seed=seed)
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=take.semantic, coarse=take.coarse, fine=take.fine, name=name)
    return voice, graph.add("BarkSaveSpeakerPrompt", speaker=voice, name=name, overwrite=overwrite)


def voice_file(host: Host, name: str) -> Path:
    return host.base / "models" / "bark" / "speakers" / f"{name}.npz"


def test_a_voice_is_kept_listed_and_used(host: Host) -> None:
    graph = Graph()
    _, save = make_voice(graph, 70, "people/kept")
    result = run(host, graph)
    assert result.status == "success", result.message
    assert "kept.npz" in shown_text(result, save)
    with np.load(voice_file(host, "people/kept"), allow_pickle=False) as arrays:
        assert {"semantic_prompt", "coarse_prompt", "fine_prompt"} <= set(arrays.files)
        assert arrays["coarse_prompt"].shape[0] == 2
        assert arrays["fine_prompt"].shape[0] == 8
    options = host.object_info()["BarkLoadSpeakerPrompt"]["input"]["required"]["speaker"][1]["options"]
    assert options.index("people/kept.npz") < options.index("v2/en_speaker_0")

    def spoken(with_voice: bool) -> str:
        again = Graph()
        take = add_take(again, seed=71)
        if with_voice:
            speaker = again.add("BarkLoadSpeakerPrompt", speaker="people/kept.npz", download=False)
            for stage in (take.semantic, take.coarse, take.fine):
                again[stage.key]["inputs"]["speaker"] = speaker.out(0)
        return run_probes(host, again, audio=take.audio)["audio"]["hash"]

    assert spoken(with_voice=True) != spoken(with_voice=False)


def test_an_older_voice_is_replaced_only_when_asked(host: Host) -> None:
    first, second = Graph(), Graph()
    make_voice(first, 72, "guarded")
    assert run(host, first).status == "success"
    before = voice_file(host, "guarded").read_bytes()
    _, save = make_voice(second, 73, "guarded")
    result = run(host, second)
    assert result.status == "error"
    assert "overwriting" in result.message
    assert voice_file(host, "guarded").read_bytes() == before
    assert run(host, second.changed(save, overwrite=True)).status == "success"
    assert voice_file(host, "guarded").read_bytes() != before


def test_the_same_voice_again_is_no_conflict(host: Host) -> None:
    graph = Graph()
    make_voice(graph, 74, "again")
    assert run(host, graph).status == "success"
    host.free()
    result = run(host, graph)
    assert result.status == "success", result.message


def test_an_extension_in_capitals_is_one(host: Host) -> None:
    graph = Graph()
    make_voice(graph, 76, "LOUD.NPZ")
    assert run(host, graph).status == "success"
    options = host.object_info()["BarkLoadSpeakerPrompt"]["input"]["required"]["speaker"][1]["options"]
    assert [name for name in options if "LOUD" in name] == ["LOUD.NPZ"]
    speaker = Graph()
    speaker.add("ProbeValue", value=speaker.add("BarkLoadSpeakerPrompt", speaker="LOUD.NPZ", download=False))
    assert run(host, speaker).status == "success"


def test_a_voice_that_was_replaced_is_read_again(host: Host) -> None:
    graph = Graph()
    make_voice(graph, 75, "changing")
    run(host, graph)
    load = Graph()
    speaker = load.add("BarkLoadSpeakerPrompt", speaker="changing.npz", download=False)
    load.add("ProbeValue", value=speaker)
    assert run(host, load).status == "success"
    assert run(host, load).ran == []
    graph = Graph()
    make_voice(graph, 76, "changing", overwrite=True)
    run(host, graph)
    assert speaker.key in run(host, load).ran


@pytest.mark.parametrize(
    "content", [b"", b"not a zip", b"PK\x03\x04" + bytes(100)], ids=["empty", "text", "half a zip"]
)
def test_a_broken_file_is_refused_by_name(host: Host, content: bytes) -> None:
    path = voice_file(host, "broken")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkLoadSpeakerPrompt", speaker="broken.npz", download=False))
    result = run(host, graph)
    path.unlink()
    assert result.status == "error"
    assert "broken.npz" in result.message


def test_a_voice_with_object_arrays_is_refused_and_runs_nothing(host: Host, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = voice_file(host, "trap")
    path.parent.mkdir(parents=True, exist_ok=True)
    trap = np.array([Trap()], dtype=object)
    np.savez(path, semantic_prompt=trap, coarse_prompt=trap, fine_prompt=trap)
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkLoadSpeakerPrompt", speaker="trap.npz", download=False))
    result = run(host, graph)
    path.unlink()
    assert result.status == "error"
    assert "trap.npz" in result.message
    assert not (tmp_path / "sprung").exists()
