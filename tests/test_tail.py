"""Where speech ends: tails whose beginning is known are found, good endings stay, and the slow twins agree."""

import json
import math
import tracemalloc
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bark_engine import Bark, BarkInputError, SemanticTokens, Trace, TraceRecorder
from bark_engine.tail import LOOP_MISS, Tail, _best_suffix, _repeated_suffix, find_tail, trim_tail
from support.graphs import Graph, Node, add_take
from support.host import Host, Result, run
from support.tiny_models import prompt_folder

RATE = 49.9


def words(count: int, seed: int = 0) -> np.ndarray:
    """Something like speech: sounds of one to five tokens, never the same twice in a row."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.permutation(9_000)[:count] + 500, rng.integers(1, 6, count))


def tokens(*parts: Any) -> SemanticTokens:
    return SemanticTokens(np.concatenate([np.asarray(part) for part in parts]))  # type: ignore[arg-type]


def trace_of(speech: SemanticTokens, end: dict[int, float]) -> Trace:
    """A trace whose end probability is 0 but at some steps."""
    likely = np.zeros(len(speech), dtype=np.float32)
    for step, probability in end.items():
        likely[step] = probability
    even = np.full(len(speech), 0.5, dtype=np.float32)
    return Trace("semantic", speech.family, even, even, likely)


def near(tail: Tail, end: int) -> bool:
    return tail.cut and abs(tail.step - end) <= 0.2 * RATE


# -- the three signs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_speech_alone_is_left_alone(seed: int) -> None:
    speech = tokens(words(100, seed), np.full(20, 206))
    for trace in (None, trace_of(speech, {50: 0.19})):
        kept, tail = trim_tail(speech, trace)
        assert kept is speech
        assert (tail.step, tail.cut) == (len(speech), False)
        assert tail.seconds == pytest.approx(len(speech) / RATE)
        assert tail.reason.startswith("Nothing is cut")


TAILS = {
    "one id": np.full(150, 206),
    "a pause with a beginning and an end": np.repeat([1, 2, 3], 60),
    "noise of three ids": np.random.default_rng(1).choice([10, 206, 56], 140),
    "a loop": np.tile(words(100)[-40:], 4),
    "many loops of little": np.tile(words(100)[-12:], 12),
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("seed", range(5))
def test_tails_are_found_without_a_trace(name: str, seed: int) -> None:
    speech = np.concatenate([words(100, seed + 1), words(100)[-40:]])
    tail = find_tail(tokens(speech, TAILS[name]))
    assert near(tail, len(speech)), tail.reason
    assert tail.seconds == pytest.approx(tail.step / RATE)
    assert f"{tail.seconds:.2f} s" in tail.reason


def test_a_stillness_keeps_a_breath_and_a_loop_its_first_time() -> None:
    speech = words(100)
    still, loop = (find_tail(tokens(speech, TAILS[name])) for name in ("one id", "a loop"))
    assert still.step == len(speech) + 5
    assert "206" in still.reason
    assert loop.step == len(speech)
    assert "5 times in all" in loop.reason


def test_said_twice_is_no_loop() -> None:
    unit = words(40, 5)
    assert not find_tail(tokens(words(60), unit, unit), strictness=1.0).cut


def test_babble_is_found_where_the_end_was_seen() -> None:
    speech = tokens(words(100), words(60, 9))
    end = len(words(100))
    tail = find_tail(speech, trace_of(speech, {20: 0.1, end: 0.6, end + 9: 0.9}))
    assert (tail.step, tail.cut) == (end, True)
    assert "probability 0.6" in tail.reason
    assert not find_tail(speech).cut, "nothing but the trace can tell"


def test_the_earliest_sign_counts() -> None:
    speech = tokens(words(100), words(30, 9), TAILS["one id"])
    end = len(words(100))
    assert find_tail(speech, trace_of(speech, {end: 0.6})).step == end
    assert near(find_tail(speech), end + len(words(30, 9)))


def test_an_end_before_there_was_speech_is_none() -> None:
    speech = tokens(words(100))
    assert not find_tail(speech, trace_of(speech, {0: 0.9, 9: 0.9})).cut
    assert not find_tail(tokens(np.full(300, 206)), strictness=1.0).cut


# -- strictness ----------------------------------------------------------------------------------------------------


def test_zero_never_cuts() -> None:
    speech = tokens(words(60), np.full(500, 206))
    tail = find_tail(speech, trace_of(speech, {100: 1.0}), strictness=0)
    assert not tail.cut
    assert "strictness 0" in tail.reason


@pytest.mark.parametrize(("seconds", "from_strictness"), [(0.9, 1.0), (2.0, 0.5), (2.9, 0.1)])
def test_the_stricter_the_shorter_a_tail_may_be(seconds: float, from_strictness: float) -> None:
    speech = tokens(words(60), np.full(round(seconds * RATE), 206))
    cut = [find_tail(speech, strictness=number / 20).cut for number in range(21)]
    assert cut == sorted(cut)
    assert cut.index(True) <= 20 * from_strictness


@pytest.mark.parametrize(("probability", "strictness", "cut"), [(0.19, 0.5, False), (0.21, 0.5, True), (0.06, 1, True)])
def test_the_stricter_the_less_sure_the_model_must_have_been(probability: float, strictness: float, cut: bool) -> None:
    speech = tokens(words(100))
    assert find_tail(speech, trace_of(speech, {100: probability}), strictness).cut is cut


# -- properties, and slow twins ------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_whatever_it_is_given_something_remains_and_nothing_changes(ids: list[int], strictness: float) -> None:
    speech = SemanticTokens(ids)  # type: ignore[arg-type]
    kept, tail = trim_tail(speech, None, strictness)
    assert speech.ids.tolist() == ids
    assert kept.ids.tolist() == ids[: tail.step]
    assert tail.cut == (tail.step < len(ids))
    assert find_tail(speech, None, strictness) == tail


@given(st.lists(st.booleans(), max_size=30), st.sampled_from([1.0, 2.0, 4.0]))
def test_the_best_suffix_is_that_of_the_slow_twin(fits: list[bool], miss: float) -> None:
    sums = [sum(1.0 if fit else -miss for fit in fits[start:]) for start in range(len(fits))] + [0.0]
    wanted = sums.index(max(sums)) if max(sums) > 0 else len(fits)
    assert _best_suffix(np.array(fits, dtype=bool), miss) == wanted


def slow_score(places: list[int]) -> float:
    """The best score of a part up to the end that was there before, by trying every way to align."""

    @cache
    def best(row: int, column: int) -> float:
        if row == 0 or column == 0 or column >= row:
            return 0.0
        agree = 1.0 if places[row - 1] == places[column - 1] else -LOOP_MISS
        diagonal, up = best(row - 1, column - 1) + agree, best(row - 1, column) - LOOP_MISS
        return max(0.0, diagonal, up, best(row, column - 1) - LOOP_MISS)

    return max(best(len(places), column) for column in range(len(places)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=25))
@settings(max_examples=300, deadline=None)
def test_the_repeated_suffix_is_that_of_the_slow_twin(places: list[int]) -> None:
    """What it returns can be aligned with what was there before, as well as anything can."""
    again, first = _repeated_suffix(np.array(places))
    wanted = slow_score(places)
    if wanted == 0:
        assert (again, first) == (len(places), len(places))
        return
    assert 0 <= first < again < len(places)
    assert places[again] == places[first], "an alignment begins with an agreement"
    tail, model = places[again:], places[first:]
    scores = np.full((len(tail) + 1, len(model) + 1), -np.inf)  # of alignments that begin at the beginning of both
    scores[0, 0] = 0.0
    for row in range(len(tail) + 1):
        for column in range(len(model) + 1):
            if first + column >= again + row:
                continue
            ways = [scores[row, column]]
            if row and column:
                agree = 1.0 if tail[row - 1] == model[column - 1] else -LOOP_MISS
                ways.append(scores[row - 1, column - 1] + agree)
            if row:
                ways.append(scores[row - 1, column] - LOOP_MISS)
            if column:
                ways.append(scores[row, column - 1] - LOOP_MISS)
            scores[row, column] = max(ways)
    assert scores[-1].max() == pytest.approx(wanted)


def whole_matrix(places: np.ndarray) -> tuple[int, int]:
    """The same from all scores, also those of stretches far apart: what is done for one piece of speech."""
    count = len(places)
    scores = np.zeros((count + 1, count + 1), dtype=np.float32)
    slope = LOOP_MISS * np.arange(count + 1, dtype=np.float32)
    for row in range(1, count + 1):
        agree = np.where(places[: row - 1] == places[row - 1], 1.0, -LOOP_MISS)
        best = np.maximum(scores[row - 1, : row - 1] + agree, scores[row - 1, 1:row] - LOOP_MISS)
        best = np.maximum(best, 0.0) + slope[1:row]
        scores[row, 1:row] = np.maximum.accumulate(best) - slope[1:row]
    row, column = count, int(scores[count].argmax())
    while (here := scores[row, column]) > 0:
        agree = 1.0 if places[row - 1] == places[column - 1] else -LOOP_MISS
        if scores[row - 1, column - 1] + agree == here:
            row, column = row - 1, column - 1
        elif scores[row - 1, column] - LOOP_MISS == here:
            row -= 1
        else:
            column -= 1
    return (row, column) if row < count else (count, count)


@given(st.integers(0, 2**32), st.sampled_from([2, 5, 40, 9_000]), st.integers(1, 768), st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_one_piece_of_speech_is_searched_as_a_whole(seed: int, ids: int, count: int, times: int) -> None:
    """Noise, and noise with a loop at its end of which some places are missing or others: the very same places."""
    rng = np.random.default_rng(seed)
    speech = rng.integers(0, ids, count)
    loop = np.tile(speech[-50:], times)
    loop = np.where(rng.random(len(loop)) < 0.05, 7, loop)[rng.random(len(loop)) > 0.03]
    places = np.concatenate([speech, loop])[-768:]
    assert _repeated_suffix(places) == whole_matrix(places)


def test_an_hour_takes_no_more_memory_than_ten_minutes() -> None:
    """As the whole matrix it would be 120 GB."""
    hour = np.random.default_rng(5).integers(0, 9_999, round(3_600 * RATE))
    tracemalloc.start()
    tail = find_tail(tokens(hour, np.tile(hour[-60:], 9)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tail.step, tail.cut) == (len(hour), True)
    assert peak < 60e6


def test_of_a_loop_of_more_than_ten_minutes_the_last_ten_are_cut() -> None:
    """All but the first time of what is searched."""
    unit = np.random.default_rng(6).permutation(9_000)[:100]
    speech = tokens(words(60), np.tile(unit, 400))
    tail = find_tail(speech)
    assert len(speech) - tail.step == math.ceil(600 * RATE) - len(unit)


# -- real speech ---------------------------------------------------------------------------------------------------


def test_sunos_speaker_prompts_keep_their_speech() -> None:
    """271 endings of real speech. What is cut off six of them is silence or steady noise: EnCodec says so."""
    cut = []
    for path in sorted(prompt_folder().rglob("*.npz")):
        arrays = np.load(path)
        tail = find_tail(SemanticTokens(arrays["semantic_prompt"]))
        if tail.cut:
            cut.append(path.stem)
            codes = arrays["fine_prompt"][0, round(75 * tail.seconds) :]
            assert len(set(codes.tolist())) <= len(codes) / 8, f"{path}: {tail.reason}"
    assert len(cut) <= 6, cut


def test_sunos_speaker_prompts_lose_a_tail_that_they_are_given() -> None:
    rights = []
    for number, path in enumerate(sorted(prompt_folder().glob("v2/*.npz"))):
        ids = np.load(path)["semantic_prompt"]
        if len(set(ids[-50:].tolist())) < 15:
            continue  # it ends in stillness itself
        unit = ids[-20 - number % 50 :]
        rights += [
            near(find_tail(tokens(ids, tail)), len(ids)) for tail in (np.repeat(ids[-1:], 120), np.tile(unit, 6))
        ]
    assert len(rights) > 150
    assert np.mean(rights) >= 0.95


def test_nano_keeps_its_endings_and_is_cut_where_it_saw_one() -> None:
    nano = Bark.load("nano", dtype="float32")
    for seed, text in enumerate(("The kettle is on.", "Could you turn the music down a little?")):
        recorder = TraceRecorder()
        speech = nano.text_to_semantic(text, seed=seed, trace=recorder)
        assert not find_tail(speech, recorder.result(), strictness=1.0).cut
        silent = SemanticTokens(np.append(speech.ids, np.repeat([0, 1, 2], 50)), "nano")
        assert near(find_tail(silent), len(speech))


# -- refusals, and the node ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strictness", [-0.1, 1.1, float("nan"), True, "strict", None])
def test_another_strictness_is_refused(strictness: Any) -> None:
    with pytest.raises(BarkInputError, match="strictness must be a number of 0"):
        find_tail(tokens(words(10)), strictness=strictness)


def test_the_trace_of_other_tokens_is_refused() -> None:
    speech, other = tokens(words(10)), tokens(words(11))
    for trace in (trace_of(other, {}), Trace("coarse", "suno", np.zeros((2, 9)), np.zeros((2, 9)))):  # type: ignore[arg-type]
        with pytest.raises(BarkInputError, match="recorded with these tokens"):
            find_tail(speech, trace)
    with pytest.raises(BarkInputError, match="must be a Trace, not list"):
        find_tail(speech, [0.1])  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match="needs SemanticTokens"):
        find_tail(np.zeros(5))  # type: ignore[arg-type]


def told(result: Result, probe: Node) -> dict[str, Any]:
    return json.loads(result.ui[probe.key]["text"][0])


@pytest.mark.parametrize("traced", [True, False])
def test_the_node_cuts_and_the_inspector_tells_why(host: Host, traced: bool) -> None:
    """nano goes on for seconds after its text when it may not end; without the trace that cannot be told."""
    graph = Graph()
    take = add_take(graph, text="Hello.", seconds=4.0, seed=81)
    graph[take.semantic.key]["inputs"]["early_stop"] = False
    given = {"trace": take.semantic.out(1)} if traced else {}
    trim = graph.add("BarkTrimTail", semantic=take.semantic, **given)
    probes = [graph.add("ProbeValue", value=wire) for wire in (take.semantic, trim, trim.out(1), trim.out(2))]
    inspector = graph.add("BarkInspectTokens", semantic=take.semantic, trace=trim.out(3))
    summary = graph.add("ProbeValue", value=inspector.out(1))
    result = run(host, graph)
    assert result.status == "success", result.message
    whole, part, reason, seconds = (told(result, probe) for probe in probes)
    assert whole["shape"] == [200]
    assert (part["shape"][0] < 120) == traced
    assert seconds["value"] == pytest.approx(part["shape"][0] / RATE)
    assert reason["value"].startswith("Speech ends at" if traced else "Nothing is cut")
    assert f"tail: {reason['value']}" in told(result, summary)["value"]
