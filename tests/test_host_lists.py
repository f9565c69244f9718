"""Lists of texts: one batch gives what single runs give, paired as ComfyUI pairs lists; what cannot be spoken is named.

In float32, where a text gets the same tokens in any company.
"""

import json
from typing import Any

import pytest

from support.graphs import Graph, Node, add_take
from support.host import Host, probe_value, probe_values, run, saved_files, start
from support.sound import read_sound
from support.standin.host import StandInHost

TEXTS = ["Good morning.", "Yes.", "One and two."]
SEEDS = [7, 8, 9]
SLOTS = range(4)  # audio, semantic, coarse, fine


def add_loader(graph: Graph, **given: Any) -> Node:
    return graph.add("BarkLoadModels", **{"models": "nano", "precision": "float32", **given})


def add_lists(graph: Graph, **lists: list[Any]) -> Node:
    """Outputs: texts, integers, numbers, switches."""
    names = ("texts", "integers", "numbers", "switches")
    return graph.add("ProbeLists", **{name: json.dumps(lists.get(name, [])) for name in names})


def add_probes(graph: Graph, box: Node) -> list[Node]:
    return [graph.add("ProbeValue", value=box.out(slot)) for slot in SLOTS]


def test_each_text_of_a_list_gets_what_it_gets_alone(host: Host) -> None:
    """All four outputs, in the order of the texts; one progress bar over all."""
    graph = Graph()
    loader = add_loader(graph)
    lists = add_lists(graph, texts=TEXTS, integers=SEEDS)
    box = graph.add("BarkTextToSpeech", models=loader, text=lists.out(0), seed=lists.out(1))
    together = add_probes(graph, box)
    alone = [
        add_probes(graph, graph.add("BarkTextToSpeech", models=loader, text=text, seed=seed))
        for text, seed in zip(TEXTS, SEEDS, strict=True)
    ]
    running = start(host, graph)
    result = running.result()
    for slot in SLOTS:
        assert probe_values(result, together[slot]) == [probe_value(result, probes[slot]) for probes in alone]
    reports = running.progress_of(box.key)
    assert [value for value, _ in reports] == sorted(value for value, _ in reports)
    assert {maximum for _, maximum in reports} == {3_000}
    assert box.key not in result.ui


def test_a_shorter_list_repeats_its_last_value(host: Host) -> None:
    """Two seeds for three texts, and a single text with two seeds."""
    graph = Graph()
    loader = add_loader(graph)
    lists = add_lists(graph, texts=TEXTS, integers=SEEDS[:2])
    short = graph.add("BarkTextToSpeech", models=loader, text=lists.out(0), seed=lists.out(1))
    takes = graph.add("BarkTextToSpeech", models=loader, text=TEXTS[2], seed=lists.out(1))
    probes = [graph.add("ProbeValue", value=box.out(2)) for box in (short, takes)]
    result = run(host, graph)
    three, two = (probe_values(result, probe) for probe in probes)
    assert (len(three), len(two)) == (3, 2)
    assert three[2]["hash"] == two[1]["hash"] != two[0]["hash"]


def test_each_text_can_have_a_voice_of_its_own(host: Host) -> None:
    """Lists of tokens make a list of voices; each text continues the one beside it."""
    graph = Graph()
    loader = add_loader(graph)
    lists = add_lists(graph, texts=TEXTS[:2])
    first = graph.add("BarkTextToSpeech", models=loader, text=lists.out(0), seed=3)
    tokens = dict(zip(("semantic", "coarse", "fine"), map(first.out, (1, 2, 3)), strict=True))
    voices = graph.add("BarkMakeSpeakerPrompt", **tokens)
    again = graph.add("BarkTextToSpeech", models=loader, text=TEXTS[1], speaker=voices, seed=4)
    probe = graph.add("ProbeValue", value=again.out(2))
    one, other = probe_values(run(host, graph), probe)
    assert one["hash"] != other["hash"]


def test_lines_become_files_in_their_order(host: Host) -> None:
    graph = Graph()
    lines = graph.add("BarkTextLines", text=f"\n{TEXTS[1]}\n\n   {TEXTS[0]}  \n")
    texts = graph.add("ProbeValue", value=lines)
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=lines, seed=5)
    audio = graph.add("ProbeValue", value=box)
    save = graph.add("BarkSaveAudio", audio=box, filename_prefix="lists/line", format="wav 32-bit float")
    result = run(host, graph)
    assert len(probe_values(result, texts)) == 2
    files = saved_files(host, result, save.key)
    assert [path.name for path in files] == ["line_00001.wav", "line_00002.wav"]
    lengths = [read_sound(path).samples.shape[1] for path in files]
    assert lengths == [value["shape"][2] for value in probe_values(result, audio)]


def test_a_list_becomes_one_sound(host: Host) -> None:
    """As a long text is read: its lines, spoken in one batch, with a pause between them."""
    graph = Graph()
    lines = graph.add("BarkTextLines", text=f"{TEXTS[0]}\n{TEXTS[1]}")
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=lines, seed=5)
    parts = graph.add("ProbeValue", value=box)
    joined = graph.add("BarkJoinAudio", audio=box, pause=0.5)
    whole = graph.add("ProbeValue", value=joined)
    twice = graph.add("ProbeValue", value=graph.add("BarkJoinAudio", audio=joined, pause=3.0))
    result = run(host, graph)
    lengths = [value["shape"][2] for value in probe_values(result, parts)]
    assert len(lengths) == 2
    assert probe_value(result, whole)["shape"] == [1, 1, sum(lengths) + 12_000]
    assert probe_value(result, twice)["hash"] == probe_value(result, whole)["hash"]


# -- what is refused before anything runs ---------------------------------------------------------------------------


def refused(host: Host, graph: Graph, box: Node, *words: str) -> None:
    """The box raised with these words and reported no step."""
    running = start(host, graph)
    result = running.result()
    assert (result.status, result.failed) == ("error", box.key), result
    for word in words:
        assert word in result.message, result.message
    assert running.progress_of(box.key) == []


def test_every_text_that_cannot_be_spoken_is_named_before_any_is(host: Host) -> None:
    graph = Graph()
    lists = add_lists(graph, texts=["Good.", " ", "Also good.", "word " * 400])
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=lists)
    graph.add("ProbeValue", value=box)
    refused(host, graph, box, "Text 2 of 4: The text is empty", "Text 4 of 4: The text has", "160")


def test_a_number_that_is_none_is_named(host: Host) -> None:
    graph = Graph()
    lists = add_lists(graph, numbers=[0.7, -1.0], integers=[1, 2])
    wires = {"seed": lists.out(1), "fine_temperature": lists.out(2)}
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), **wires)
    graph.add("ProbeValue", value=box)
    refused(host, graph, box, "Text 2 of 2", "temperature")


def test_voices_of_another_family_are_refused(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, seconds=0.4, models="random")
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=take.semantic, coarse=take.coarse, fine=take.fine)
    lists = add_lists(graph, texts=TEXTS[:2])
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=lists, speaker=voice)
    graph.add("ProbeValue", value=box)
    refused(host, graph, box, "Text 1 of 2", "Text 2 of 2", "family")


def test_one_batch_is_spoken_by_one_set_of_models(host: Host) -> None:
    """A loader that ran twice gives two."""
    graph = Graph()
    lists = add_lists(graph, switches=[False, False])
    box = graph.add("BarkTextToSpeech", models=add_loader(graph, download=lists.out(3)))
    graph.add("ProbeValue", value=box)
    refused(host, graph, box, "2 sets of models")


def test_a_list_of_nothing_is_refused(host: Host) -> None:
    graph = Graph()
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=add_lists(graph))
    graph.add("ProbeValue", value=box)
    refused(host, graph, box, "'text'", "empty")


@pytest.mark.parametrize("text", ["", " \n\t\n "])
def test_lines_without_a_word_are_a_400(host: Host, text: str) -> None:
    graph = Graph()
    graph.add("ProbeValue", value=graph.add("BarkTextLines", text=text))
    result = run(host, graph)
    assert result.status == "refused"
    assert "empty" in result.message


def test_lines_that_came_by_wire_and_hold_no_word_are_refused(host: Host) -> None:
    graph = Graph()
    lines = graph.add("BarkTextLines", text=add_lists(graph, texts=["\n \n"]))
    graph.add("ProbeValue", value=lines)
    result = run(host, graph)
    assert (result.status, result.failed) == ("error", lines.key)
    assert "no line" in result.message


# -- what fails while running: the text stage, made to end a speech before it began ---------------------------------


ENDS_AT_ONCE = 0.123  # a text temperature


@pytest.fixture
def ending(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> StandInHost:
    """The stand-in, whose models end every speech of that temperature at once."""
    semantic = standin.module("bark_engine.semantic")
    real = semantic._ends_here

    def ends_here(token: int, distribution: Any, spec: Any, sampling: Any) -> bool:
        return sampling.temperature == ENDS_AT_ONCE or real(token, distribution, spec, sampling)

    monkeypatch.setattr(semantic, "_ends_here", ends_here)
    return standin


def test_one_text_fails_alone_and_is_named(ending: StandInHost) -> None:
    """The others come out in their order; the browser and the log are told, now and from the cache."""
    graph = Graph()
    loader = add_loader(graph)
    lists = add_lists(graph, texts=TEXTS, integers=SEEDS, numbers=[0.7, ENDS_AT_ONCE, 0.7])
    wires = {"text": lists.out(0), "seed": lists.out(1), "text_temperature": lists.out(2)}
    box = graph.add("BarkTextToSpeech", models=loader, **wires)
    together = add_probes(graph, box)
    singles = [graph.add("BarkTextToSpeech", models=loader, text=TEXTS[n], seed=SEEDS[n]) for n in (0, 2)]
    alone = [add_probes(graph, single) for single in singles]
    result = run(ending, graph)
    for slot in SLOTS:
        assert probe_values(result, together[slot]) == [probe_value(result, probes[slot]) for probes in alone]
    (notice,) = result.ui[box.key]["bark_failed"]
    assert notice.startswith("1 of 3 texts could not be spoken")
    assert "Text 2 of 3: The models ended the speech before it began" in notice
    assert notice in ending.log_text()
    assert run(ending, graph).ui[box.key]["bark_failed"] == [notice]


@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS[:2]], ids=["one", "two"])
def test_where_nothing_can_be_spoken_the_node_fails(ending: StandInHost, texts: list[str]) -> None:
    graph = Graph()
    lists = add_lists(graph, texts=texts)
    box = graph.add("BarkTextToSpeech", models=add_loader(graph), text=lists, text_temperature=ENDS_AT_ONCE)
    graph.add("ProbeValue", value=box)
    result = run(ending, graph)
    assert (result.status, result.failed) == ("error", box.key)
    assert ("None of the texts" in result.message) == (len(texts) > 1)
    assert result.message.count("before it began") == len(texts)
