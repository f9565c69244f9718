"""What a host answers to a graph that cannot be right: a 400 or a node error that says what to do, and it lives on.

Where a version checks less before running (0.3.64 takes any value for a list), the node itself must refuse.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from support.graphs import Graph, Node, add_take
from support.host import Host, Result, run

NAN = float("nan")


@pytest.fixture(autouse=True)
def lives_on(host: Host) -> Iterator[None]:
    """After every refusal the host runs a graph as if nothing had been."""
    yield
    graph = Graph()
    graph.add("ProbeModels", after=graph.add("ProbeSound", samples=10))
    assert run(host, graph).status == "success"


def refused(result: Result, *words: str) -> None:
    """Before or while running, with these words in what a person reads."""
    assert result.status in ("refused", "error"), result
    for word in words:
        assert word.lower() in result.message.lower(), result.message
    assert "Traceback" not in result.message


def speak(host: Host, **inputs: Any) -> Result:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    graph.add("ProbeValue", value=graph.add("BarkTextToSemantic", models=loader, **{"text": "Hi.", **inputs}))
    return run(host, graph)


# -- wires ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name", "source"),
    [
        ("BarkSemanticToCoarse", "semantic", "coarse"),
        ("BarkCoarseToFine", "coarse", "fine"),
        ("BarkDecodeFineTokens", "fine", "coarse"),
        ("BarkCoarseToFine", "coarse", "semantic"),
        ("BarkEncodeAudio", "audio", "fine"),
        ("BarkDecodeFineTokens", "fine", "audio"),
    ],
)
def test_a_wrong_wire_is_a_400_that_names_both_types(host: Host, target: str, name: str, source: str) -> None:
    graph = Graph()
    take = add_take(graph)
    wire = {name: getattr(take, source)}
    graph.add("ProbeValue", value=graph.add(target, models=take.models, **wire))
    result = run(host, graph)
    assert result.status == "refused"
    kinds = {kind: f"BARK_{kind.upper()}" for kind in ("semantic", "coarse", "fine")} | {"audio": "AUDIO"}
    refused(result, "mismatch", kinds[name], kinds[source])


@pytest.mark.parametrize("missing", ["models", "text", "seed"])
def test_a_missing_input_is_a_400_that_names_it(host: Host, missing: str) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    stage = graph.add("BarkTextToSemantic", models=loader, text="Hi.")
    del graph[stage.key]["inputs"][missing]
    graph.add("ProbeValue", value=stage)
    result = run(host, graph)
    assert result.status == "refused"
    refused(result, "missing", missing)


# -- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["BarkTextToSemantic", "BarkTextToSpeech"])
@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_empty_text_is_a_400(host: Host, node: str, text: str) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    graph.add("ProbeValue", value=graph.add(node, models=loader, text=text))
    result = run(host, graph)
    assert result.status == "refused"
    refused(result, "empty", "text")


@pytest.mark.parametrize("text", ["word " * 400, "x" * 1_000_000], ids=["400 words", "a megabyte"])
def test_text_that_is_too_long_is_refused_with_the_limit(host: Host, text: str) -> None:
    result = speak(host, text=text)
    assert result.status == "error"
    refused(result, "160")
    assert len(result.message) < 2_000


@pytest.mark.parametrize("text", ["\x00\x01\x02", "\u200b", "\ud800"], ids=["controls", "zero width", "lone surrogate"])
def test_text_without_a_word_is_refused(host: Host, text: str) -> None:
    refused(speak(host, text=text), "text")


# -- knobs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"temperature": -0.1}, ["temperature", "min"]),
        ({"temperature": 99.0}, ["temperature", "max"]),
        ({"temperature": NAN}, ["temperature"]),
        ({"temperature": "warm"}, ["temperature", "float"]),
        ({"top_p": 1.5}, ["top_p", "max"]),
        ({"top_p": NAN}, ["top_p"]),
        ({"top_k": -1}, ["top_k", "min"]),
        ({"min_eos_p": 2.0}, ["min_eos_p", "max"]),
        ({"max_seconds": 1e9}, ["max_seconds", "max"]),
        ({"max_seconds": NAN}, ["max_seconds"]),
        ({"seed": -1}, ["seed", "min"]),
        ({"seed": 2**53}, ["seed", "max"]),
        ({"seed": "x"}, ["seed", "int"]),
    ],
)
def test_a_knob_out_of_range_is_refused_by_name(host: Host, inputs: dict[str, Any], words: list[str]) -> None:
    refused(speak(host, **inputs), *words)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"max_history": 630, "window": 200}, ["max_history", "window", "768", "830"]),
        ({"max_history": 10_000}, ["max_history"]),
        ({"window": 0}, ["window"]),
    ],
)
def test_the_coarse_window_and_its_past_must_fit(host: Host, knobs: dict[str, int], words: list[str]) -> None:
    graph = Graph()
    take = add_take(graph)
    graph[take.coarse.key]["inputs"].update(knobs)
    graph.add("ProbeValue", value=take.coarse)
    result = run(host, graph)
    assert result.status == "refused"
    refused(result, *words)


@pytest.mark.parametrize(("wired", "typed"), [("max_history", {"window": 200}), ("window", {"max_history": 630})])
def test_a_knob_that_comes_by_a_wire_is_judged_when_it_is_there(host: Host, wired: str, typed: dict[str, int]) -> None:
    graph = Graph()
    take = add_take(graph)
    others = {"texts": "[]", "numbers": "[]", "switches": "[]"}
    wire = graph.add("ProbeLists", integers="[100]", **others).out(1)
    graph[take.coarse.key]["inputs"].update({**typed, wired: wire})
    graph.add("ProbeValue", value=take.coarse)
    assert run(host, graph).status == "success"


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widget", "value"),
    [
        ("models", "nonsense"),
        ("models", "../../etc"),
        ("models", "/etc"),
        ("text_models", "nonsense"),
        ("precision", "int4"),
        ("device", "tpu"),
    ],
)
def test_a_choice_that_is_none_is_refused_by_name(host: Host, widget: str, value: str) -> None:
    graph = Graph()
    graph.add("ProbeValue", value=add_take(graph, **{widget: value}).semantic)
    refused(run(host, graph), value)


@pytest.mark.parametrize(("widget", "value"), [("format", "ogg"), ("sample_rate", "12345")])
def test_a_way_of_saving_that_is_none_is_a_400_with_those_that_are(host: Host, widget: str, value: str) -> None:
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=240), **{widget: value})
    result = run(host, graph)
    assert result.status == "refused"
    refused(result, value, {"format": "opus", "sample_rate": "48000"}[widget])


@pytest.mark.parametrize("widget", ["models", "text_models", "coarse_models", "fine_models"])
def test_models_that_nobody_knows_are_a_400_that_names_those_that_are(host: Host, widget: str) -> None:
    """Of a workflow that came from elsewhere, or whose folder was renamed since."""
    graph = Graph()
    graph.add("ProbeValue", value=add_take(graph, **{widget: "vanished"}).semantic)
    result = run(host, graph)
    assert result.status == "refused"
    refused(result, "There are no models called 'vanished'", "Known are: ", "nano", str(host.base / "models" / "bark"))


def test_models_that_come_by_a_wire_are_judged_when_they_are_there(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, models=graph.add("ProbeValue", value="vanished"))
    graph.add("ProbeValue", value=take.semantic)
    result = run(host, graph)
    assert (result.status, result.failed) == ("error", take.models.key)
    refused(result, "There are no models called 'vanished'")


def test_a_device_that_is_not_here_is_refused_with_those_that_are(host: Host) -> None:
    graph = Graph()
    graph.add("ProbeValue", value=add_take(graph, device="mps").semantic)
    refused(run(host, graph), "mps", "available", "cpu")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("nobody.npz", "nobody.npz"),
        ("v3/xx_speaker_1", "xx_speaker_1"),
        ("../../secret.npz", "secret.npz"),
        ("/etc/passwd.npz", "passwd.npz"),
        ("..\\..\\secret.npz", "secret.npz"),
        ("CON.npz", "CON.npz"),
        ("", "speaker"),
    ],
)
def test_a_speaker_that_is_none_is_refused(host: Host, name: str, word: str) -> None:
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkLoadSpeakerPrompt", speaker=name, download=False))
    refused(run(host, graph), word)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("../outside", [".."]),
        ("audio/../../outside", [".."]),
        ("..\\outside", [".."]),
        ("/tmp/outside", ["absolute"]),
        ("C:\\outside", ["absolute"]),
        ("", ["empty"]),
        ("a\x00b", ["control"]),
        ("audio/CON", ["windows"]),
        ("x" * 300, ["255"]),
    ],
)
def test_a_prefix_that_leaves_the_output_folder_is_refused(host: Host, prefix: str, words: list[str]) -> None:
    before = sorted(host.base.rglob("*outside*"))
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=240), filename_prefix=prefix)
    refused(run(host, graph), *words)
    assert sorted(host.base.rglob("*outside*")) == before


@pytest.mark.parametrize("node", ["BarkSaveAudio", "BarkSaveTokens"])
@pytest.mark.parametrize("wired", [False, True], ids=["typed", "wired"])
@pytest.mark.parametrize("token", ["%date:yyyy-MM-dd%", "%KSampler.seed%", "%Load Bark Models.models%"])
def test_what_the_browser_would_have_to_replace_is_no_prefix(host: Host, node: str, wired: bool, token: str) -> None:
    """It does so for ComfyUI's own nodes; here it would be a name with percent signs, or a colon that is refused."""
    graph = Graph()
    prefix = graph.add("ProbeValue", value=f"browser/%year%_{token}") if wired else f"browser/%year%_{token}"
    if node == "BarkSaveAudio":
        graph.add(node, audio=graph.add("ProbeSound", samples=240), filename_prefix=prefix)
    else:
        graph.add(node, semantic=add_take(graph).semantic, filename_prefix=prefix)
    result = run(host, graph)
    assert result.status == ("error" if wired else "refused")
    refused(result, f"{token!r} in it", "%year%", "%second%", "%batch_num%")
    assert not list(host.base.rglob("browser"))


def test_what_the_server_replaces_is_a_prefix(host: Host) -> None:
    """Also with a dot between two of them, which belongs to neither."""
    graph = Graph()
    prefix = "stamped/%year%_v1.2_%month%.%day%_100%_%batch_num%"
    save = graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=240), filename_prefix=prefix)
    result = run(host, graph)
    assert result.status == "success", result.message
    name = result.ui[save.key]["audio"][0]["filename"]
    assert name.endswith("_100%_0_00001.flac")
    assert "_v1.2_" in name


@pytest.mark.parametrize(("widget", "value"), [("format", "ogg"), ("sample_rate", "12345")])
def test_a_way_of_saving_that_comes_by_a_wire_is_judged_when_it_is_there(host: Host, widget: str, value: str) -> None:
    graph = Graph()
    wire = graph.add("ProbeValue", value=value)
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", samples=240), **{widget: wire})
    result = run(host, graph)
    assert result.status == "error"
    refused(result, value, "Choose one of", {"format": "opus", "sample_rate": "48000"}[widget])


# -- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        ({"channels": 8}, ["8 channels", "mono or stereo"]),
        ({"kind": "nan"}, ["nan"]),
        ({"samples": 0}, ["at least one sample"]),
        ({"kind": "none"}, ["no sound"]),
        ({"clips": 2}, ["2 clips"]),
        ({"samples": 3}, ["one frame", "longer"]),
    ],
    ids=["8 channels", "nan", "no samples", "None", "batch", "short"],
)
def test_sound_that_cannot_be_encoded_is_refused(host: Host, sound: dict[str, Any], words: list[str]) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    encoded = graph.add("BarkEncodeAudio", models=loader, audio=graph.add("ProbeSound", **sound))
    graph.add("ProbeValue", value=encoded)
    result = run(host, graph)
    assert result.failed == encoded.key
    refused(result, *words)


@pytest.mark.parametrize(
    ("sound", "words"),
    [({"kind": "nan"}, ["nan"]), ({"samples": 0}, ["sample"]), ({"kind": "none"}, ["no sound"])],
    ids=["nan", "no samples", "None"],
)
def test_sound_that_cannot_be_saved_is_refused_and_leaves_nothing(
    host: Host, sound: dict[str, Any], words: list[str]
) -> None:
    graph = Graph()
    graph.add("BarkSaveAudio", audio=graph.add("ProbeSound", **sound), filename_prefix="refused/sound")
    refused(run(host, graph), *words)
    folder = host.base / "output" / "refused"
    assert not folder.exists() or not list(folder.iterdir())


# -- speaker prompts ------------------------------------------------------------------------------------------------


def voice(graph: Graph, seed: int = 60) -> Node:
    take = add_take(graph, seed=seed)
    return graph.add("BarkMakeSpeakerPrompt", semantic=take.semantic, coarse=take.coarse, fine=take.fine)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../voice", [".."]),
        ("..\\voice", [".."]),
        ("a/../../voice", [".."]),
        ("/voice", ["absolute"]),
        ("C:voice", ["absolute"]),
        ("", ["empty"]),
        ("nul", ["windows"]),
        ("v\x07oice", ["control"]),
        (".voice", ["hidden"]),
        ("a/.b/voice", ["hidden"]),
    ],
)
def test_a_voice_is_saved_inside_its_folder_or_not_at_all(host: Host, name: str, words: list[str]) -> None:
    before = sorted(host.base.rglob("*.npz"))
    graph = Graph()
    graph.add("BarkSaveSpeakerPrompt", speaker=voice(graph), name=name)
    refused(run(host, graph), *words)
    assert sorted(host.base.rglob("*.npz")) == before


def test_tokens_of_two_takes_make_no_voice(host: Host) -> None:
    graph = Graph()
    short, long = add_take(graph, seconds=0.4, seed=61), add_take(graph, seconds=1.2, seed=62)
    graph.add(
        "BarkSaveSpeakerPrompt",
        speaker=graph.add("BarkMakeSpeakerPrompt", semantic=short.semantic, coarse=long.coarse, fine=short.fine),
        name="two_takes",
    )
    refused(run(host, graph), "coarse frames", "semantic token", "same stretch")
