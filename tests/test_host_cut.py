"""Cut and swap on a host: tokens of a take cut, joined and swapped go on through the stages; wrong ones are refused."""

from typing import Any

import pytest

from support.graphs import Graph, Node, Take, add_take
from support.host import Host, Result, run, run_probes

ANY, CODES = "BARK_SEMANTIC,BARK_COARSE,BARK_FINE", "BARK_COARSE,BARK_FINE"
KINDS = ("semantic", "coarse", "fine")
SECONDS = 0.8  # of the take below; nano has something to say for longer


def sentence(result: Result, node: Node) -> str:
    """The refusal of a node while running."""
    assert (result.status, result.failed) == ("error", node.key), result
    assert "Traceback" not in result.message
    return result.message


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
def take(graph: Graph) -> Take:
    return add_take(graph, text="One two three.", seconds=SECONDS, seed=31)


# -- what comes out -------------------------------------------------------------------------------------------------


def test_three_kinds_cut_at_one_time_make_a_voice(host: Host, graph: Graph, take: Take) -> None:
    parts = {kind: graph.add("BarkTrimTokens", tokens=getattr(take, kind), start=0.2, end=0.6) for kind in KINDS}
    voice = graph.add("BarkMakeSpeakerPrompt", **parts)
    values = run_probes(host, graph, **parts, voice=voice)
    assert [values[kind]["kind"] for kind in KINDS] == ["SemanticTokens", "CoarseTokens", "FineTokens"]
    assert [values[kind]["shape"] for kind in KINDS] == [[20], [2, 30], [8, 30]]  # 10 … 30 of 49.9/s, 15 … 45 of 75/s
    assert values["voice"]["kind"] == "SpeakerPrompt"
    assert not any(values[kind]["writeable"] for kind in KINDS)


def test_cut_semantic_tokens_are_spoken(host: Host, graph: Graph, take: Take) -> None:
    """A socket for any kind goes into one for a single kind, on the server's side as well; each stage goes on."""
    part = graph.add("BarkTrimTokens", tokens=take.semantic, end=0.4)
    coarse = graph.add("BarkSemanticToCoarse", models=take.models, semantic=part)
    first = graph.add("BarkTrimTokens", tokens=coarse, end=0.2)
    fine = graph.add("BarkCoarseToFine", models=take.models, coarse=first)
    second = graph.add("BarkTrimTokens", tokens=fine, start=0.1)
    audio = graph.add("BarkDecodeFineTokens", models=take.models, fine=second)
    values = run_probes(host, graph, part=part, coarse=coarse, first=first, second=second, audio=audio)
    assert [values[name]["shape"] for name in ("part", "coarse", "first")] == [[20], [2, 30], [2, 15]]
    assert values["second"]["shape"] == [8, 8]  # frame 7 begins where semantic token 5 does
    assert values["audio"]["shape"] == [1, 1, 8 * 320]


def test_halves_joined_are_the_whole(host: Host, graph: Graph, take: Take) -> None:
    for kind in KINDS:
        tokens = getattr(take, kind)
        cuts = [(0.0, 0.2), (0.2, 0.4), (0.4, 0.0)]
        parts = [graph.add("BarkTrimTokens", tokens=tokens, start=start, end=end) for start, end in cuts]
        joined = graph.add("BarkJoinTokens", first=parts[0], second=parts[1], eighth=parts[2])
        values = run_probes(host, graph, whole=tokens, joined=joined)
        assert values["joined"] == values["whole"]


def test_what_is_selected_in_the_inspector_is_cut(host: Host, graph: Graph, take: Take) -> None:
    inspector = graph.add("BarkInspectTokens", semantic=take.semantic, fine=take.fine, start=0.1, end=0.3)
    wires = {"start": inspector.out(2), "end": inspector.out(3)}
    cut = graph.add("BarkTrimTokens", tokens=take.fine, **wires)
    left = graph.add("BarkReplaceRange", tokens=take.semantic, **wires)
    values = run_probes(host, graph, cut=cut, left=left, whole=take.semantic)
    assert values["cut"]["shape"] == [8, 15]
    assert values["left"]["shape"][0] == values["whole"]["shape"][0] - 10


def test_an_inspector_without_a_selection_gives_the_whole(host: Host, graph: Graph, take: Take) -> None:
    inspector = graph.add("BarkInspectTokens", semantic=take.semantic, fine=take.fine)
    wires = {"start": inspector.out(2), "end": inspector.out(3)}
    cuts = {kind: graph.add("BarkTrimTokens", tokens=getattr(take, kind), **wires) for kind in KINDS}
    values = run_probes(host, graph, **cuts, **{f"whole {kind}": getattr(take, kind) for kind in KINDS})
    for kind in KINDS:
        assert values[kind] == values[f"whole {kind}"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_inspector_without_a_selection_replaces_nothing(host: Host, graph: Graph, take: Take, kind: str) -> None:
    """Its wires say 0 and the length of the longest input; the insert alone would come out."""
    inspector = graph.add("BarkInspectTokens", semantic=take.semantic, fine=take.fine)
    part = graph.add("BarkTrimTokens", tokens=getattr(take, kind), end=0.2)
    wires = {"start": inspector.out(2), "end": inspector.out(3)}
    replaced = graph.add("BarkReplaceRange", tokens=getattr(take, kind), insert=part, **wires)
    graph.add("ProbeValue", value=replaced)
    message = sentence(run(host, graph), replaced)
    assert "nothing of the tokens would stay" in message
    assert "Join Tokens" in message


def test_a_wire_repeats_no_more_often_than_the_widget(host: Host, graph: Graph, take: Take) -> None:
    others = {"texts": "[]", "numbers": "[]", "switches": "[]"}
    wire = graph.add("ProbeLists", integers="[1000000]", **others).out(1)
    repeated = graph.add("BarkRepeatRange", tokens=take.semantic, times=wire)
    graph.add("ProbeValue", value=repeated)
    message = sentence(run(host, graph), repeated)
    assert "1,000 times" in message
    assert "1,000,000 was given" in message


def test_a_range_is_replaced_and_repeated(host: Host, graph: Graph, take: Take) -> None:
    part = graph.add("BarkTrimTokens", tokens=take.semantic, end=0.1)
    replaced = graph.add("BarkReplaceRange", tokens=take.semantic, insert=part, start=0.2, end=0.4)
    itself = graph.add("BarkReplaceRange", tokens=take.semantic, insert=part, start=0.0, end=0.1)
    repeated = graph.add("BarkRepeatRange", tokens=take.fine, start=0.2, end=0.4, times=3)
    once = graph.add("BarkRepeatRange", tokens=take.fine, start=0.2, end=0.4, times=1)
    values = run_probes(
        host,
        graph,
        semantic=take.semantic,
        fine=take.fine,
        replaced=replaced,
        itself=itself,
        repeated=repeated,
        once=once,
    )
    assert values["replaced"]["shape"][0] == values["semantic"]["shape"][0] - 5
    assert values["itself"] == values["semantic"]
    assert values["repeated"]["shape"][1] == values["fine"]["shape"][1] + 2 * 15
    assert values["once"] == values["fine"]


def test_codebooks_of_two_renderings_are_swapped(host: Host, graph: Graph, take: Take) -> None:
    other = graph.add("BarkCoarseToFine", models=take.models, coarse=take.coarse, seed=32)
    upper = graph.add("BarkSwapCodebooks", tokens=take.fine, source=other, first=2, last=7)
    lower = graph.add("BarkSwapCodebooks", tokens=take.fine, source=other, first=0, last=1)
    under = graph.add("BarkSwapCodebooks", tokens=other, source=take.coarse)
    coarse = graph.add("BarkCoarseFromFine", fine=upper)
    audio = graph.add("BarkDecodeFineTokens", models=take.models, fine=upper)
    values = run_probes(
        host,
        graph,
        one=take.fine,
        other=other,
        upper=upper,
        lower=lower,
        under=under,
        coarse=coarse,
        given=take.coarse,
        audio=audio,
    )
    assert values["one"] != values["other"]
    assert values["upper"] == values["other"]  # both were made from the same codebooks 0 and 1
    assert values["lower"] == values["one"]
    assert values["under"] == values["other"]
    assert values["coarse"] == values["given"]
    assert values["audio"]["shape"] == [1, 1, 320 * values["one"]["shape"][1]]


def test_two_lengths_follow_the_rule(host: Host, graph: Graph, take: Take) -> None:
    short = graph.add("BarkTrimTokens", tokens=take.fine, end=0.2)
    rules = {
        rule: graph.add("BarkSwapCodebooks", tokens=take.fine, source=short, length=rule)
        for rule in ("shorter", "keep")
    }
    values = run_probes(host, graph, whole=take.fine, **rules)
    assert values["shorter"]["shape"] == [8, 15]
    assert values["keep"] == values["whole"]  # a sound mixed with its own beginning
    refused = graph.add("BarkSwapCodebooks", tokens=take.fine, source=short)
    graph.add("ProbeValue", value=refused)
    assert "15 frames" in sentence(run(host, graph), refused)


def test_voices_are_mixed_and_cropped_and_speak(host: Host, graph: Graph) -> None:
    low, high = (graph.add("BarkLoadSpeakerPrompt", speaker=f"nano/{name}") for name in ("low", "high"))
    mixed = graph.add("BarkMixSpeakerPrompts", words=low, sound=high)
    cropped = graph.add("BarkCropSpeakerPrompt", speaker=mixed, start=0.5, end=1.5)
    take = add_take(graph, seed=33)
    spoken = {}
    for name, speaker in {"mixed": mixed, "cropped": cropped}.items():
        coarse = graph.add("BarkSemanticToCoarse", models=take.models, semantic=take.semantic, speaker=speaker)
        spoken[name] = graph.add("BarkCoarseToFine", models=take.models, coarse=coarse, speaker=speaker)
    values = run_probes(host, graph, voice=cropped, both=mixed, **spoken)
    assert values["both"]["kind"] == values["voice"]["kind"] == "SpeakerPrompt"
    assert values["both"]["name"] == "nano/low with the sound of nano/high"
    assert values["mixed"]["shape"] == values["cropped"]["shape"]
    assert values["mixed"]["hash"] != values["cropped"]["hash"]


# -- what is refused ------------------------------------------------------------------------------------------------


def test_the_sockets_are_unions(host: Host) -> None:
    info = host.object_info()
    assert info["BarkTrimTokens"]["input"]["required"]["tokens"][0] == ANY
    assert info["BarkTrimTokens"]["output"] == [ANY]
    assert info["BarkSwapCodebooks"]["input"]["required"]["source"][0] == CODES
    assert info["BarkSwapCodebooks"]["output"] == [CODES]


@pytest.mark.parametrize(
    ("target", "name", "kind", "words"),
    [
        ("BarkSemanticToCoarse", "semantic", "coarse", ["SemanticTokens", "CoarseTokens"]),
        ("BarkCoarseToFine", "coarse", "fine", ["CoarseTokens", "FineTokens"]),
        ("BarkDecodeFineTokens", "fine", "semantic", ["FineTokens", "SemanticTokens"]),
    ],
)
def test_a_wrong_kind_from_a_socket_for_any_is_refused_by_the_stage(
    host: Host, graph: Graph, take: Take, target: str, name: str, kind: str, words: list[str]
) -> None:
    """The wire is allowed, since the server cannot know what will come through it."""
    part = graph.add("BarkTrimTokens", tokens=getattr(take, kind), end=0.4)
    stage = graph.add(target, models=take.models, **{name: part})
    graph.add("ProbeValue", value=stage)
    message = sentence(run(host, graph), stage)
    assert all(word in message for word in words)


def test_a_wrong_kind_from_a_socket_for_any_makes_no_voice(host: Host, graph: Graph, take: Take) -> None:
    part = graph.add("BarkTrimTokens", tokens=take.fine, end=0.4)
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=take.semantic, coarse=part, fine=take.fine)
    graph.add("ProbeValue", value=voice)
    assert "Coarse tokens must have shape [2, F]" in sentence(run(host, graph), voice)


@pytest.mark.parametrize(
    ("target", "name", "source"),
    [
        ("BarkTrimTokens", "tokens", "audio"),
        ("BarkJoinTokens", "third", "models"),
        ("BarkSwapCodebooks", "source", "semantic"),
        ("BarkCoarseFromFine", "fine", "coarse"),
    ],
)
def test_what_can_never_fit_is_a_400(host: Host, graph: Graph, take: Take, target: str, name: str, source: str) -> None:
    wires = {"tokens": take.fine, "source": take.fine, "first": take.fine, "second": take.fine, "fine": take.fine}
    known = host.object_info()[target]["input"]["required"]
    own = {key: wire for key, wire in wires.items() if key in known and known[key][0] not in ("INT", "FLOAT")}
    graph.add("ProbeValue", value=graph.add(target, **{**own, name: getattr(take, source)}))
    result = run(host, graph)
    assert result.status == "refused"
    assert "mismatch" in result.message


@pytest.mark.parametrize(
    ("node", "inputs", "words"),
    [
        ("BarkTrimTokens", {"start": 5.0}, ["5 s", "past the end", "coarse tokens"]),
        ("BarkTrimTokens", {"start": 0.3, "end": 0.2}, ["starts at 0.3 s", "0.2 s"]),
        ("BarkTrimTokens", {"start": 0.2, "end": 0.2}, ["no token"]),
        ("BarkReplaceRange", {}, ["leave nothing"]),
        ("BarkReplaceRange", {"insert": "semantic"}, ["nothing of the tokens would stay", "Join Tokens"]),
        ("BarkReplaceRange", {"insert": "fine", "end": 0.2}, ["one kind", "coarse tokens", "fine tokens"]),
        ("BarkRepeatRange", {"start": 0.1, "end": 9.0}, ["9 s", "past the end"]),
        ("BarkSwapCodebooks", {"source": "coarse", "first": 1, "last": 2}, ["0 … 1", "2 is not"]),
        ("BarkSwapCodebooks", {"source": "coarse", "first": 1, "last": 0}, ["last codebook, 0", "first, 1"]),
    ],
)
def test_what_cannot_be_cut_is_refused_with_a_sentence(
    host: Host, graph: Graph, take: Take, node: str, inputs: dict[str, Any], words: list[str]
) -> None:
    wires = {name: getattr(take, value) if value in KINDS else value for name, value in inputs.items()}
    edit = graph.add(node, tokens=take.coarse, **wires)
    graph.add("ProbeValue", value=edit)
    message = sentence(run(host, graph), edit)
    assert all(word in message for word in words), message


def test_pieces_of_two_kinds_are_not_joined(host: Host, graph: Graph, take: Take) -> None:
    joined = graph.add("BarkJoinTokens", first=take.semantic, second=take.coarse)
    graph.add("ProbeValue", value=joined)
    assert "semantic tokens and coarse tokens" in sentence(run(host, graph), joined)


def test_pieces_of_two_families_are_not_joined(host: Host, graph: Graph, take: Take) -> None:
    """nano's own tokens and those of models with Suno's vocabulary."""
    suno = add_take(graph, seconds=0.2, models="random")
    joined = graph.add("BarkJoinTokens", first=take.semantic, second=suno.semantic)
    graph.add("ProbeValue", value=joined)
    message = sentence(run(host, graph), joined)
    assert "'nano'" in message
    assert "set of models" in message


def test_voices_of_two_families_are_not_mixed(host: Host, graph: Graph) -> None:
    nano = graph.add("BarkLoadSpeakerPrompt", speaker="nano/low")
    suno = add_take(graph, seconds=0.4, models="random")
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=suno.semantic, coarse=suno.coarse, fine=suno.fine)
    mixed = graph.add("BarkMixSpeakerPrompts", words=nano, sound=voice)
    graph.add("ProbeValue", value=mixed)
    assert "'nano'" in sentence(run(host, graph), mixed)


def test_a_voice_is_not_cropped_past_its_end(host: Host, graph: Graph) -> None:
    voice = graph.add("BarkLoadSpeakerPrompt", speaker="nano/low")
    cropped = graph.add("BarkCropSpeakerPrompt", speaker=voice, end=60.0)
    graph.add("ProbeValue", value=cropped)
    assert "60 s lies past the end" in sentence(run(host, graph), cropped)
