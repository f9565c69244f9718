"""Weights in a host: real ModelPatchers, one copy for all who ask, read again after they were freed, two families."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bark_engine.random_models import write_random_models
from support.graphs import Graph, add_take
from support.host import Host, probe_value, run, start
from support.standin.host import StandInHost, report_until_stopped

STAGES = ("text", "coarse", "fine", "codec")


@pytest.fixture(scope="module")
def random_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "random"
    write_random_models(folder)
    return folder


def add_models(host: Host, files: Path, name: str, family: str | None = None) -> None:
    """A set of models under models/bark, perhaps of another family."""
    folder = host.base / "models" / "bark" / name
    shutil.copytree(files, folder, dirs_exist_ok=True)
    if family is not None:
        spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        (folder / "spec.json").write_text(json.dumps({**spec, "family": family}), encoding="utf-8")


def readings(host: Host, since: int) -> list[str]:
    """The stages that were read since that position of the log, as "text float32"."""
    lines = [line for line in host.log_text()[since:].splitlines() if "Reading the " in line]
    return [f"{line.split('Reading the ')[1].split()[0]} {line.rstrip('.').split()[-1]}" for line in lines]


def test_every_stage_is_read_once_and_sits_in_a_model_patcher(host: Host) -> None:
    host.free()
    before = len(host.log_text())
    graph = Graph()
    probe = graph.add("ProbeModels", after=add_take(graph, seed=50).audio)
    result = run(host, graph)
    assert readings(host, before) == [f"{stage} float32" for stage in STAGES]
    entries = probe_value(result, probe)
    assert {entry["patcher"] for entry in entries} == {"ModelPatcher"}
    assert {entry["on"] for entry in entries} == {"cpu"}
    modules = sorted(entry["module"] for entry in entries)
    assert modules == ["CausalTransformer", "CausalTransformer", "Codec", "FineTransformer"]
    assert "Requested to load FineTransformer" in host.log_text()[before:]


def test_two_loaders_share_one_copy_and_another_precision_is_another(host: Host) -> None:
    host.free()
    before = len(host.log_text())
    graph = Graph()
    first, second = add_take(graph, seed=51), add_take(graph, seed=52, device="cpu", precision="float32")
    for take in (first, second):
        graph.add("ProbeValue", value=take.audio)
    assert run(host, graph).status == "success"
    assert sorted(readings(host, before)) == sorted(f"{stage} float32" for stage in STAGES)
    before = len(host.log_text())
    third = add_take(graph, seed=53, precision="bfloat16")
    probe = graph.add("ProbeModels", after=third.audio)
    result = run(host, graph)
    assert result.status == "success", result.message
    assert sorted(readings(host, before)) == [f"{stage} bfloat16" for stage in ("coarse", "fine", "text")]
    assert len(probe_value(result, probe)) == 7  # the codec is always float32, hence shared


def test_freed_models_are_gone_and_the_next_run_is_good(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, seed=54)
    probe = graph.add("ProbeValue", value=take.audio)
    first = run(host, graph)
    host.free()
    empty = Graph()
    silence = empty.add("ProbeSound", samples=10)
    models = empty.add("ProbeModels", after=silence)
    assert probe_value(run(host, empty), models) == []
    host.free()
    before = len(host.log_text())
    second = run(host, graph)
    assert second.ui[probe.key] == first.ui[probe.key]
    assert {node.key for node in take.stages} <= set(second.ran)
    assert sorted(readings(host, before)) == sorted(f"{stage} float32" for stage in STAGES)
    assert "memory leak" not in host.log_text()


def test_a_folder_of_models_is_offered_and_a_stage_can_come_from_it(host: Host, random_files: Path) -> None:
    add_models(host, random_files, "mine")
    options = host.object_info()["BarkLoadModels"]["input"]["required"]["models"][1]["options"]
    assert "mine" in options
    before = len(host.log_text())
    graph = Graph()
    take = add_take(graph, seed=55, models="random", fine_models="mine")
    graph.add("ProbeValue", value=take.audio)
    result = run(host, graph)
    assert result.status == "success", result.message
    log = host.log_text()[before:]
    assert str(Path("models", "bark", "mine", "fine.pt")) in log
    assert str(Path("mine", "coarse.pt")) not in log


def test_a_model_file_that_was_replaced_is_read_again(host: Host, random_files: Path, tmp_path: Path) -> None:
    add_models(host, random_files, "replaced")
    graph = Graph()
    take = add_take(graph, seed=56, models="replaced")
    probe = graph.add("ProbeValue", value=take.audio)
    first = run(host, graph)
    assert first.status == "success", first.message
    write_random_models(tmp_path / "other", seed=1)
    shutil.copy(tmp_path / "other" / "fine.pt", host.base / "models" / "bark" / "replaced" / "fine.pt")
    second = run(host, graph)
    assert take.models.key in second.ran
    assert second.ui[probe.key] != first.ui[probe.key]


def test_tokens_of_one_family_are_refused_by_another(host: Host, random_files: Path) -> None:
    add_models(host, random_files, "strangers", family="strangers")
    graph = Graph()
    take = add_take(graph, seed=57)
    others = graph.add("BarkLoadModels", models="strangers")
    graph.add("ProbeValue", value=graph.add("BarkCoarseToFine", models=others, coarse=take.coarse))
    result = run(host, graph)
    assert result.status == "error"
    assert "nano" in result.message
    assert "strangers" in result.message


def test_a_set_that_lacks_a_stage_is_named_when_it_runs(host: Host, random_files: Path) -> None:
    """Not before: with the download on, what is missing of Suno's comes then."""
    add_models(host, random_files, "half")
    (host.base / "models" / "bark" / "half" / "fine.pt").unlink()
    graph = Graph()
    take = add_take(graph, models="half")
    graph.add("ProbeValue", value=take.audio)
    result = run(host, graph)
    assert (result.status, result.failed) == ("error", take.models.key)
    assert "not complete; missing: fine" in result.message
    shutil.rmtree(host.base / "models" / "bark" / "half")


def test_models_that_are_not_there_are_named_with_the_places(host: Host) -> None:
    graph = Graph()
    graph.add("ProbeValue", value=add_take(graph, models="large").audio)
    result = run(host, graph)
    assert result.status == "error"
    for word in ("large", "download", str(host.base / "models" / "bark")):
        assert word in result.message


def test_a_broken_model_file_is_refused_by_name(host: Host, random_files: Path) -> None:
    add_models(host, random_files, "broken")
    path = host.base / "models" / "bark" / "broken" / "coarse.pt"
    path.write_bytes(path.read_bytes()[:1000])
    graph = Graph()
    graph.add("ProbeValue", value=add_take(graph, models="broken").audio)
    result = run(host, graph)
    assert result.status == "error"
    assert "coarse" in result.message
    shutil.rmtree(path.parent)


# -- downloads ------------------------------------------------------------------------------------------------------


def download_models(standin: StandInHost, monkeypatch: pytest.MonkeyPatch, **widgets: Any) -> tuple[Graph, list[Any]]:
    """A graph with the download on, and what reaches the engine's function, which finds nano instead."""
    load, asked = standin.module("nodes.load"), []

    def found(models: str, folder: Path, on_progress: Any, **how: Any) -> Any:
        asked.append((models, folder, how))
        for done, total in ((0, 0), (10, 40), (40, 40)):
            on_progress(done, total, "text_2.pt")
        return load.find_model_set("nano")

    monkeypatch.setattr(load, "find_or_download", found)
    monkeypatch.setattr("comfy.utils.SECONDS_BETWEEN_REPORTS", 0)
    standin.free()
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkLoadModels", models="large", download=True, **widgets))
    return graph, asked


def test_the_download_is_asked_for_what_was_chosen_and_moves_the_bar(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, asked = download_models(standin, monkeypatch, fine_models="small")
    running = start(standin, graph)
    assert running.result().status == "success"
    folder = standin.base / "models" / "bark"
    assert asked == [("large", folder, {"stages": {"fine": "small"}, "folders": [folder]})]
    assert running.progress_of("1") == [(0, 1), (10, 40), (40, 40)]


def test_nothing_is_downloaded_without_the_switch(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, asked = download_models(standin, monkeypatch)
    graph["1"]["inputs"]["download"] = False
    assert run(standin, graph).status == "error"
    assert asked == []


def test_a_download_stops_where_the_user_stops_it(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    load, told = standin.module("nodes.load"), []

    def endless(models: str, folder: Path, on_progress: Any, **how: Any) -> Any:
        report_until_stopped(standin, on_progress, told)

    graph, _ = download_models(standin, monkeypatch)
    monkeypatch.setattr(load, "find_or_download", endless)
    result = run(standin, graph)
    assert (result.status, result.failed) == ("interrupted", "1")
    assert told == [0, 1, 2, 3]
