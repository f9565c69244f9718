"""Saving when it goes wrong, and without metadata: on the stand-in, where a disk can be full on purpose."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from support.graphs import Graph, add_take
from support.host import run, saved_files
from support.sound import read_sound
from support.standin.host import StandInHost


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def voice_graph(seed: int, overwrite: bool) -> Graph:
    graph = Graph()
    take = add_take(graph, seed=seed)
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=take.semantic, coarse=take.coarse, fine=take.fine)
    graph.add("BarkSaveSpeakerPrompt", speaker=voice, name="full_disk", overwrite=overwrite)
    return graph


@pytest.mark.parametrize("where", ["tempfile.mkstemp", "pathlib.Path.replace"], ids=["at the start", "at the end"])
def test_a_full_disk_keeps_the_old_voice(standin: StandInHost, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    assert run(standin, voice_graph(90, overwrite=True)).status == "success"
    folder = standin.base / "models" / "bark" / "speakers"
    before = files_under(folder)
    monkeypatch.setattr(where, refuse)
    result = run(standin, voice_graph(91, overwrite=True))
    monkeypatch.undo()
    assert result.status == "error"
    assert "could not be saved" in result.message
    assert "full_disk.npz" in result.message
    assert files_under(folder) == before


@pytest.mark.parametrize("file_format", ["flac", "wav 16-bit", "mp3", "opus"])
def test_a_full_disk_leaves_no_half_sound(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    graph = Graph()
    sound = graph.add("ProbeSound", samples=2_400)
    save = graph.add("BarkSaveAudio", audio=sound, filename_prefix="full/disk", format=file_format)
    assert run(standin, graph).status == "success"
    before = files_under(standin.base / "output")
    monkeypatch.setattr("os.link", refuse)
    monkeypatch.setattr("pathlib.Path.replace", refuse)
    result = run(standin, graph.changed(save, normalise=True))
    monkeypatch.undo()
    assert result.status == "error"
    assert "could not be saved" in result.message
    assert files_under(standin.base / "output") == before


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_two_hosts_that_save_at_one_time_get_two_files(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """The other one's file appears after this one has chosen its name, while the sound is encoded."""
    host = standin.module("nodes.host")
    folder, save, made = standin.base / "output" / "shared", host.save_audio, []

    def late(path: Path, *given: Any, **how: Any) -> None:
        if not made:
            path.write_bytes(b"of the other host")
        made.append(path.name)
        save(path, *given, **how)

    monkeypatch.setattr(host, "save_audio", late)
    if not links:
        monkeypatch.setattr("os.link", refuse)
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=2_400), filename_prefix=f"shared/{links}")
    result = run(standin, graph)
    assert result.status == "success"
    assert made == [f"{links}_00001.flac", f"{links}_00002.flac"]
    assert (folder / made[0]).read_bytes() == b"of the other host"
    assert len(read_sound(folder / made[1]).samples[0]) == 2_400
    assert not [name for name in files_under(folder) if ".part" in name]


def test_a_take_is_written_once_however_many_are_there(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI 0.3.64 counts only names with a further underscore, so it says 1 every time."""
    import folder_paths

    host, given = standin.module("nodes.host"), folder_paths.get_save_image_path
    save, written, workflows = host.save_tokens, [], []

    def first(prefix: str, root: str) -> tuple[Any, ...]:
        folder, name, _, *others = given(prefix, root)
        return folder, name, 1, *others

    def counting(path: Path, *more: Any) -> Path:
        written.append(path.name)
        return save(path, *more)

    monkeypatch.setattr(folder_paths, "get_save_image_path", first)
    monkeypatch.setattr(host, "save_tokens", counting)
    monkeypatch.setattr(host, "_workflow", lambda cls: workflows.append(cls) or {})
    for seed in (92, 93, 94):
        graph = Graph()
        graph.add("BarkSaveTokens", semantic=add_take(graph, seed=seed).semantic, filename_prefix="counted/take")
        assert run(standin, graph).status == "success"
    assert written == [f"take_0000{number}.safetensors" for number in (1, 2, 3)]
    assert len(workflows) == 3


def test_two_hosts_that_keep_takes_at_one_time_get_two_files(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, written, workflows = standin.module("nodes.host"), [], []
    save = host.save_tokens

    def late(path: Path, *more: Any) -> Path:
        if not written:
            path.write_bytes(b"of the other host")
        written.append(path)
        return save(path, *more)

    monkeypatch.setattr(host, "save_tokens", late)
    monkeypatch.setattr(host, "_workflow", lambda cls: workflows.append(cls) or {})
    graph = Graph()
    graph.add("BarkSaveTokens", semantic=add_take(graph, seed=95).semantic, filename_prefix="shared/take")
    assert run(standin, graph).status == "success"
    assert [path.name for path in written] == ["take_00001.safetensors", "take_00002.safetensors"]
    assert written[0].read_bytes() == b"of the other host"
    assert len(workflows) == 1


@pytest.mark.parametrize("prefix", ["音" * 83, "a" * 245, "long/" + "é" * 124])
def test_a_name_that_is_too_long_with_its_number_is_a_sentence(standin: StandInHost, prefix: str) -> None:
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=2_400), filename_prefix=prefix)
    result = run(standin, graph)
    assert result.status == "error"
    assert "too long with its number and .flac" in result.message


def test_an_output_folder_that_cannot_be_made_is_a_sentence(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=2_400), filename_prefix="no/room")
    monkeypatch.setattr("folder_paths.get_save_image_path", refuse)
    result = run(standin, graph)
    monkeypatch.undo()
    assert result.status == "error"
    assert "'no/room' cannot be made or read" in result.message


@pytest.mark.parametrize("file_format", ["flac", "mp3", "opus", "wav 16-bit"])
def test_disable_metadata_leaves_the_workflow_out(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """The flag of ComfyUI; without it the same graph writes both."""
    import comfy.cli_args

    def metadata() -> dict[str, str]:
        graph = Graph()
        sound = graph.add("ProbeSound", samples=2_400)
        save = graph.add("BarkSaveAudio", audio=sound, filename_prefix="meta/data", format=file_format)
        standin.free()
        result = run(standin, graph, {"nodes": []})
        return read_sound(saved_files(standin, result, save.key)[0]).metadata

    if file_format != "wav 16-bit":
        assert {"prompt", "workflow"} <= set(metadata())
    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)
    assert not {"prompt", "workflow"} & set(metadata())
