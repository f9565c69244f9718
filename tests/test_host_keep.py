"""Tokens kept by nodes, in token files and inside sound files, and back; and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from bark_engine import FineTokens, SemanticTokens
from bark_engine.keep import Take, load_take, load_tokens, read_tokens, save_tokens
from support.graphs import Graph, Node, add_take
from support.graphs import Take as Stages
from support.host import Host, Result, probe_value, run, run_probes, saved_files, shown_text
from support.sound import read_sound
from support.standin.host import StandInHost

WORKFLOW = {"nodes": [{"id": 1, "title": "♪"}], "links": []}
EXAMPLE = "spoken_by_nano.flac"  # in the folder of the example workflows


def tokens_folder(host: Host) -> Path:
    folder = host.base / "models" / "bark" / "tokens"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wires(stages: Stages, kinds: tuple[str, ...] = ("semantic", "coarse", "fine")) -> dict[str, Node]:
    return {kind: getattr(stages, kind) for kind in kinds}


def saved_take(host: Host, result: Result, save: Node) -> Path:
    return tokens_folder(host) / shown_text(result, save).removeprefix("Saved as ")


# -- token files ---------------------------------------------------------------------------------------------------


def test_a_take_is_kept_and_comes_back_as_the_same_wires(host: Host) -> None:
    graph = Graph()
    stages = add_take(graph, "Keep me.", seed=60)
    save = graph.add("BarkSaveTokens", filename_prefix="people/kept", **wires(stages))
    probes = {kind: graph.add("ProbeValue", value=save.out(place)) for place, kind in enumerate(wires(stages))}
    first = run(host, graph, WORKFLOW)
    assert first.status == "success", first.message
    path = saved_take(host, first, save)
    assert path.relative_to(tokens_folder(host)).as_posix() == "people/kept_00001.safetensors"

    options = host.object_info()["BarkLoadTokens"]["input"]["required"]["file"][1]["options"]
    assert "people/kept_00001.safetensors" in options
    again = Graph()
    load = again.add("BarkLoadTokens", file="people/kept_00001.safetensors")
    loaded = run_probes(host, again, **{kind: load.out(place) for place, kind in enumerate(probes)}, text=load.out(3))
    for kind, probe in probes.items():
        assert loaded[kind] == probe_value(first, probe)
    assert loaded["text"]["kind"] == "str"
    assert run(host, again).ran == []  # nothing changed


def test_a_token_file_says_how_it_was_made_and_has_the_workflow(host: Host) -> None:
    graph = Graph()
    stages = add_take(graph, "Tell me.", seed=61)
    voice = graph.add("BarkLoadSpeakerPrompt", speaker="nano/low", download=False)
    graph[stages.coarse.key]["inputs"].update(speaker=voice.out(0), seed=62, temperature=0.5)
    save = graph.add("BarkSaveTokens", filename_prefix="told", **wires(stages))
    result = run(host, graph, WORKFLOW)
    path = saved_take(host, result, save)
    about = load_tokens(path).about
    assert (about.text, about.speaker, about.models) == ("Tell me.", "nano/low", "nano")
    assert about.seed == {"semantic": 61, "coarse": 62, "fine": 61}
    assert about.sampling["coarse"]["temperature"] == 0.5
    assert about.sampling["semantic"]["max_seconds"] == 0.6
    assert about.sampling["semantic"]["early_stop"] is True
    content = path.read_bytes()
    metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    assert json.loads(metadata["workflow"]) == WORKFLOW
    assert json.loads(metadata["prompt"])[save.key]["class_type"] == "BarkSaveTokens"


def test_nothing_is_ever_overwritten(host: Host) -> None:
    paths = []
    for seed in (63, 64, 63):
        graph = Graph()
        stages = add_take(graph, seed=seed)
        save = graph.add("BarkSaveTokens", semantic=stages.semantic, filename_prefix="again")
        host.free()
        paths.append(saved_take(host, run(host, graph), save))
    assert [path.name for path in paths] == [f"again_0000{n}.safetensors" for n in (1, 2, 3)]
    assert load_tokens(paths[0]) == load_tokens(paths[2]) != load_tokens(paths[1])


def test_a_kind_that_is_missing_stops_only_the_nodes_that_want_it(host: Host) -> None:
    save_tokens(tokens_folder(host) / "words.safetensors", Take(SemanticTokens([1, 2, 3])), overwrite=True)
    graph = Graph()
    load = graph.add("BarkLoadTokens", file="words.safetensors")
    semantic = graph.add("ProbeValue", value=load.out(0))
    coarse = graph.add("ProbeValue", value=load.out(1))
    behind = graph.add("ProbeValue", value=coarse)
    text = graph.add("ProbeValue", value=load.out(3))
    result = run(host, graph)
    assert result.status == "success", result.message
    assert probe_value(result, semantic)["shape"] == [3]
    assert set(result.blocked) == {coarse.key, text.key}
    assert "words.safetensors holds no coarse tokens. It has semantic ones" in result.blocked[coarse.key]
    assert "does not say what text" in result.blocked[text.key]
    assert not {coarse.key, behind.key} & set(result.ui)


def test_save_tokens_passes_on_what_it_has(host: Host) -> None:
    graph = Graph()
    stages = add_take(graph, seed=65)
    save = graph.add("BarkSaveTokens", filename_prefix="part", fine=stages.fine)
    fine, semantic = graph.add("ProbeValue", value=save.out(2)), graph.add("ProbeValue", value=save.out(0))
    result = run(host, graph)
    assert probe_value(result, fine)["kind"] == "FineTokens"
    assert set(result.blocked) == {semantic.key}
    assert "no semantic tokens to pass on" in result.blocked[semantic.key]


def test_files_of_others_and_of_the_input_folder(host: Host) -> None:
    codes = np.arange(16).reshape(8, 2)
    np.save(host.base / "input" / "theirs.npy", codes)
    assert "theirs.npy [input]" in host.object_info()["BarkLoadTokens"]["input"]["required"]["file"][1]["options"]
    graph = Graph()
    load = graph.add("BarkLoadTokens", file="theirs.npy [input]")
    told = run_probes(host, graph, fine=load.out(2))["fine"]
    assert (told["kind"], told["shape"], told["family"]) == ("FineTokens", [8, 2], "suno")


def test_a_voice_can_be_taken_apart(host: Host) -> None:
    """What Save Speaker Prompt kept, to be looked at and decoded; its folder is offered behind the others."""
    graph = Graph()
    voice = graph.add("BarkMakeSpeakerPrompt", **wires(add_take(graph, seed=58)))
    graph.add("BarkSaveSpeakerPrompt", speaker=voice, name="apart/voice", overwrite=True)
    assert run(host, graph).status == "success"
    save_tokens(tokens_folder(host) / "before.safetensors", Take(SemanticTokens([1, 2, 3])), overwrite=True)
    np.save(host.base / "input" / "before.npy", np.arange(16).reshape(8, 2))
    options = host.object_info()["BarkLoadTokens"]["input"]["required"]["file"][1]["options"]
    places = [options.index(name) for name in ("before.safetensors", "before.npy [input]", "apart/voice.npz [speaker]")]
    assert places == sorted(places)
    again = Graph()
    load = again.add("BarkLoadTokens", file="apart/voice.npz [speaker]")
    models = again.add("BarkLoadModels", models="nano")
    decoded = again.add("BarkDecodeFineTokens", models=models, fine=load.out(2))
    outputs = {"semantic": load.out(0), "coarse": load.out(1), "fine": load.out(2)}
    told = run_probes(host, again, **outputs, decoded=decoded)
    assert [told[name]["kind"] for name in outputs] == ["SemanticTokens", "CoarseTokens", "FineTokens"]
    assert {told[name]["family"] for name in outputs} == {"nano"}
    assert told["decoded"]["shape"] == [1, 1, 320 * told["fine"]["shape"][1]]


def test_a_file_that_was_replaced_is_read_again(host: Host) -> None:
    path = tokens_folder(host) / "changing.safetensors"
    save_tokens(path, Take(SemanticTokens([1, 2, 3])), overwrite=True)
    graph = Graph()
    load = graph.add("BarkLoadTokens", file="changing.safetensors")
    graph.add("ProbeValue", value=load)
    assert run(host, graph).status == "success"
    assert run(host, graph).ran == []
    save_tokens(path, Take(SemanticTokens([1, 2, 3, 4])), overwrite=True)
    assert load.key in run(host, graph).ran


@pytest.mark.parametrize(
    ("prefix", "words"),
    [("../out", "upwards"), ("/out", "absolute"), (".hidden", "starts with a dot"), ("con", "device on Windows")],
)
def test_prefixes_that_lead_elsewhere_are_refused(host: Host, prefix: str, words: str) -> None:
    graph = Graph()
    graph.add("BarkSaveTokens", semantic=add_take(graph, seed=66).semantic, filename_prefix=prefix)
    result = run(host, graph)
    assert result.status == "refused", "before anything is made"
    assert words in result.message


def test_save_tokens_needs_a_wire(host: Host) -> None:
    graph = Graph()
    graph.add("BarkSaveTokens")
    result = run(host, graph)
    assert result.status == "error"
    assert "Connect at least one" in result.message


@pytest.mark.parametrize("node", ["BarkLoadTokens", "BarkLoadAudio"])
@pytest.mark.parametrize(
    ("name", "words"),
    [("absent{}", "There is no file"), ("../absent{}", "upwards"), ("absent.exe", "cannot be chosen")],
)
def test_files_that_are_not_there_are_refused_before_anything_runs(
    host: Host, node: str, name: str, words: str
) -> None:
    graph = Graph()
    widget, suffix = ("file", ".safetensors") if node == "BarkLoadTokens" else ("audio", ".flac")
    load = graph.add(node, **{widget: name.format(suffix)})
    graph.add("ProbeValue", value=load)
    result = run(host, graph)
    assert result.status == "refused"
    assert words in result.message


def test_a_damaged_file_is_an_error_that_names_it(host: Host) -> None:
    (tokens_folder(host) / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkLoadTokens", file="broken.safetensors"))
    result = run(host, graph)
    assert result.status == "error"
    assert "broken.safetensors is damaged or cut short" in result.message


def test_the_engine_of_the_host_and_of_the_tests_read_each_others_files(standin: StandInHost, tmp_path: Path) -> None:
    """They are loaded under two names; files must not care."""
    keep = standin.module("bark_engine.keep")
    path = save_tokens(tmp_path / "a.safetensors", Take(fine=FineTokens(np.zeros((8, 3), np.int64))))
    assert np.asarray(keep.load_tokens(path).fine).shape == (8, 3)


# -- sound files ---------------------------------------------------------------------------------------------------

FORMATS = ["flac", "opus", "mp3", "wav 16-bit"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_sound_remembers_its_tokens(host: Host, file_format: str) -> None:
    """Saved with tokens, loaded from the output folder, decoded again: the sound of the first run."""
    graph = Graph()
    stages = add_take(graph, "Remember me.", seed=67)
    save = graph.add("BarkSaveAudio", audio=stages.audio, filename_prefix="kept/sound", format=file_format)
    graph[save.key]["inputs"].update({kind: wire.out(0) for kind, wire in wires(stages).items()})
    first = run(host, graph, WORKFLOW)
    assert first.status == "success", first.message
    path = saved_files(host, first, save.key)[0]
    assert load_take(path).about.text == "Remember me."
    assert load_take(path).about.seed == {"semantic": 67, "coarse": 67, "fine": 67}
    found = read_sound(path).metadata
    found = json.loads(found["comment"]) if path.suffix == ".wav" else found
    assert json.loads(found["workflow"]) == WORKFLOW

    name = f"kept/{path.name} [output]"
    assert name in host.object_info()["BarkLoadAudio"]["input"]["required"]["audio"][1]["options"]
    again = Graph()
    load = again.add("BarkLoadAudio", audio=name)
    models = again.add("BarkLoadModels", models="nano")
    decoded = again.add("BarkDecodeFineTokens", models=models, fine=load.out(3))
    told = run_probes(host, again, sound=load.out(0), decoded=decoded, semantic=load.out(1))
    original = Graph()
    spoken = run_probes(host, original, audio=add_take(original, "Remember me.", seed=67).audio)
    assert told["decoded"] == spoken["audio"]
    assert told["sound"]["kind"] == "AUDIO"
    assert told["sound"]["shape"][:2] == [1, 1]
    assert told["semantic"]["kind"] == "SemanticTokens"


def test_a_text_goes_on_from_file_to_file(host: Host) -> None:
    """Tokens that came from a sound and were rendered anew still say what was said."""
    graph = Graph()
    load = graph.add("BarkLoadAudio", audio=f"{EXAMPLE} [example]")
    models = graph.add("BarkLoadModels", models="nano")
    coarse = graph.add("BarkSemanticToCoarse", models=models, semantic=load.out(1), seed=5)
    save = graph.add("BarkSaveTokens", semantic=load.out(1), coarse=coarse)
    told = load_take(saved_take(host, run(host, graph), save)).about
    assert told.text == "Everything that I say is kept in this file."
    assert told.seed == {"semantic": 0, "coarse": 5}


def test_a_sound_without_tokens_is_still_a_sound(host: Host) -> None:
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=2_400, channels=2), filename_prefix="kept/plain")
    assert run(host, graph).status == "success"
    again = Graph()
    load = again.add("BarkLoadAudio", audio="kept/plain_00001.flac [output]")
    sound, fine = again.add("ProbeValue", value=load), again.add("ProbeValue", value=load.out(3))
    result = run(host, again)
    assert result.status == "success", result.message
    assert probe_value(result, sound)["shape"] == [1, 2, 2_400]
    assert "sound without tokens" in result.blocked[fine.key]


def test_a_fresh_installation_has_a_sound_to_choose(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import folder_paths

    for name in ("get_input_directory", "get_output_directory"):
        monkeypatch.setattr(folder_paths, name, lambda: str(tmp_path))
    options = standin.object_info()["BarkLoadAudio"]["input"]["required"]["audio"][1]["options"]
    assert options == [f"{EXAMPLE} [example]"]


def test_the_packs_own_sound_is_offered_last_and_brings_its_tokens(host: Host) -> None:
    same_name = host.base / "input" / EXAMPLE
    same_name.write_bytes(b"a file of the user")
    options = host.object_info()["BarkLoadAudio"]["input"]["required"]["audio"][1]["options"]
    same_name.unlink()
    assert EXAMPLE in options
    assert options[-1] == f"{EXAMPLE} [example]"
    graph = Graph()
    load = graph.add("BarkLoadAudio", audio=options[-1])
    decoded = graph.add("BarkDecodeFineTokens", models=graph.add("BarkLoadModels", models="nano"), fine=load.out(3))
    outputs = {"audio": load.out(0), "semantic": load.out(1), "coarse": load.out(2), "fine": load.out(3)}
    told = run_probes(host, graph, **outputs, decoded=decoded)
    assert [told[name]["kind"] for name in outputs] == ["AUDIO", "SemanticTokens", "CoarseTokens", "FineTokens"]
    assert told["decoded"]["shape"] == told["audio"]["shape"]


def test_only_sounds_of_the_examples_can_be_chosen(host: Host) -> None:
    for name, words in {"all_stages.json": "cannot be chosen", f"../{EXAMPLE}": "upwards"}.items():
        graph = Graph()
        graph.add("ProbeValue", value=graph.add("BarkLoadAudio", audio=f"{name} [example]"))
        result = run(host, graph)
        assert result.status == "refused"
        assert words in result.message


def test_one_set_of_tokens_is_not_given_to_a_batch_of_clips(host: Host) -> None:
    graph = Graph()
    stages = add_take(graph, seed=68)
    clips = graph.add("ProbeSound", clips=2, samples=2_400)
    graph.add("BarkSaveAudio", audio=clips, semantic=stages.semantic, filename_prefix="kept/batch")
    result = run(host, graph)
    assert result.status == "error"
    assert "a batch of 2 clips" in result.message
    assert not list((host.base / "output" / "kept").glob("batch*"))


def test_a_list_of_sounds_gets_each_its_own_tokens(host: Host) -> None:
    graph = Graph()
    models = graph.add("BarkLoadModels", models="nano")
    lines = graph.add("BarkTextLines", text="One.\nTwo three.")
    speak = graph.add("BarkTextToSpeech", models=models, text=lines, seed=69)
    save = graph.add("BarkSaveAudio", audio=speak, filename_prefix="kept/list")
    graph[save.key]["inputs"].update(semantic=speak.out(1), coarse=speak.out(2), fine=speak.out(3))
    result = run(host, graph)
    assert result.status == "success", result.message
    takes = [read_tokens(path) for path in saved_files(host, result, save.key)]
    assert len(takes) == 2
    assert takes[0] != takes[1]
    for take in takes:
        assert (take.about.text, take.about.models) == ("", "nano")  # which line it was, the graph does not say
        assert take.about.seed == {"semantic": 69, "coarse": 69, "fine": 69}


@pytest.mark.parametrize("node", ["BarkSaveAudio", "BarkSaveTokens"])
def test_disable_metadata_leaves_the_workflow_out_and_the_tokens_in(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    """A wire asks for the tokens; nobody asked for the workflow."""
    import comfy.cli_args

    monkeypatch.setattr(comfy.cli_args.args, "disable_metadata", True)
    graph = Graph()
    stages = add_take(graph, seed=59)
    more = {"audio": stages.audio} if node == "BarkSaveAudio" else {}
    save = graph.add(node, filename_prefix="kept/bare", fine=stages.fine, **more)
    result = run(standin, graph, WORKFLOW)
    path = saved_files(standin, result, save.key)[0] if more else saved_take(standin, result, save)
    assert b"nodes" not in path.read_bytes()
    assert list(load_take(path).tokens) == ["fine"]
