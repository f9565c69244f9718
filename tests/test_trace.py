"""What the stages say about their tokens: the numbers of a slow twin, and the tokens that they give unwatched."""

import copy
import math
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import bark_engine
from bark_engine import (
    Bark,
    BarkError,
    BarkInputError,
    CoarseSampling,
    CoarseTokens,
    FineSampling,
    ModelManager,
    SemanticSampling,
    SemanticTokens,
    SpeakerPrompt,
    Trace,
    TraceRecorder,
)
from bark_engine import coarse as coarse_stage
from bark_engine import fine as fine_stage
from bark_engine.coarse import generate_coarse
from bark_engine.fine import generate_fine
from bark_engine.sampling import most_semantic
from bark_engine.semantic import SemanticRow, generate_semantic
from bark_engine.spec import SUNO
from support.tiny_models import as_speaker, causal_pair, fine_pair, one_thread, prompt_arrays  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

VOICE = as_speaker(prompt_arrays(60))
TEXT_IDS = SUNO.text_offset + np.arange(100, 112)


def slow_distribution(logits: np.ndarray, temperature: float | None, top_k: int | None, top_p: float | None) -> Any:
    """The distribution `[V]` by the words of SemanticSampling, in float64, for logits without ties."""
    values = logits.astype(np.float64)
    if not temperature:
        return np.eye(len(values))[values.argmax()]
    order = np.argsort(-values)
    if top_p is not None:
        plain = np.exp(values - values.max()) / np.exp(values - values.max()).sum()
        kept, total = [], 0.0
        for place in order:
            if kept and total > top_p:
                break
            kept.append(place)
            total += plain[place]
        order = np.array(kept)
    if top_k is not None:
        order = order[:top_k]
    weights = np.zeros(len(values))
    weights[order] = np.exp((values[order] - values.max()) / temperature)
    return weights / weights.sum()


def slow_entropy(distribution: np.ndarray) -> float:
    return -sum(float(p) * math.log(p) for p in distribution if p > 0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, np.ndarray]]:
    """What the stages hand to the sampling: the logits of every token that is drawn, in their order."""
    calls: list[tuple[str, np.ndarray]] = []

    def watch(module: Any, name: str, kind: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def watched(logits: Tensor, *rest: Any) -> Any:
            calls.append((kind, logits.detach().float().numpy().copy()))
            return real(logits, *rest)

        monkeypatch.setattr(module, name, watched)

    take = SemanticRow.take

    def take_watched(row: SemanticRow, logits: Tensor) -> None:
        calls.append(("semantic", logits.float().numpy().copy()))
        take(row, logits)

    monkeypatch.setattr(SemanticRow, "take", take_watched)
    watch(coarse_stage, "probabilities", "coarse")
    watch(fine_stage, "draw_rows", "fine")
    return calls


SEMANTIC = [
    SemanticSampling(max_seconds=0.6),
    SemanticSampling(top_k=20, top_p=0.9, max_seconds=0.4),
    SemanticSampling(temperature=None, max_seconds=0.2),
    SemanticSampling(temperature=1.1, min_eos_p=0.01),
    SemanticSampling(min_eos_p=None),
    SemanticSampling(early_stop=False, min_eos_p=0.02, max_seconds=0.8),
    SemanticSampling(top_k=30, early_stop=False, max_seconds=0.4),
    SemanticSampling(temperature=None, early_stop=False, max_seconds=0.2),
]


@pytest.mark.parametrize("speaker", [None, VOICE], ids=["no speaker", "speaker"])
@pytest.mark.parametrize("sampling", SEMANTIC, ids=range(len(SEMANTIC)))
def test_semantic_numbers_are_those_of_the_slow_twin(
    sampling: SemanticSampling, speaker: SpeakerPrompt | None, seen: list[tuple[str, np.ndarray]]
) -> None:
    """Also the end's probability where the end is not allowed: as if it were."""
    network, end = causal_pair("text", end_boost=1.2).engine, SUNO.end_token
    recorder = TraceRecorder()
    given: Any = {"speaker": speaker, "sampling": sampling, "seed": 1}
    tokens = generate_semantic(network, TEXT_IDS, SUNO, **given, trace=recorder)
    knobs = sampling.temperature, sampling.top_k, sampling.top_p
    with_end = [slow_distribution(logits[: end + 1], *knobs) for _, logits in seen]
    drawn_from = with_end if sampling.early_stop else [slow_distribution(logits[:end], *knobs) for _, logits in seen]
    trace = recorder.result()
    assert trace.probability.shape == trace.entropy.shape == (len(tokens),)
    chosen = [float(p[token]) for p, token in zip(drawn_from, tokens.ids, strict=False)]
    assert np.allclose(trace.probability, chosen, rtol=1e-4, atol=1e-7)
    assert np.allclose(trace.entropy, [slow_entropy(p) for p in drawn_from[: len(tokens)]], rtol=1e-4, atol=1e-5)
    assert trace.end_probability is not None
    assert np.allclose(trace.end_probability, [p[end] for p in with_end], rtol=1e-4, atol=1e-7)
    assert len(trace.end_probability) == len(drawn_from) >= len(tokens) > 2
    assert generate_semantic(network, TEXT_IDS, SUNO, **given) == tokens, "it must only look on"


@pytest.mark.parametrize("speaker", [None, VOICE], ids=["no speaker", "speaker"])
@pytest.mark.parametrize("sampling", [CoarseSampling(), CoarseSampling(0.9, top_k=9, window=10), CoarseSampling(None)])
def test_coarse_numbers_are_those_of_the_slow_twin(
    sampling: CoarseSampling, speaker: SpeakerPrompt | None, seen: list[tuple[str, np.ndarray]]
) -> None:
    network, semantic = causal_pair("coarse").engine, SemanticTokens(list(range(31)))  # type: ignore[arg-type]
    recorder = TraceRecorder()
    given: Any = {"speaker": speaker, "sampling": sampling, "seed": 4}
    tokens = generate_coarse(network, semantic, SUNO, **given, trace=recorder)
    trace = recorder.result()
    assert trace.probability.shape == trace.entropy.shape == tokens.shape
    for step, (_, logits) in enumerate(seen):
        frame, codebook = divmod(step, 2)
        wanted = slow_distribution(logits, sampling.temperature, sampling.top_k, None)
        assert trace.probability[codebook, frame] == pytest.approx(wanted[tokens.codes[codebook, frame]], rel=1e-4)
        assert trace.entropy[codebook, frame] == pytest.approx(slow_entropy(wanted), rel=1e-4, abs=1e-5)
    assert trace.end_probability is None
    assert generate_coarse(network, semantic, SUNO, **given) == tokens


@pytest.mark.parametrize(
    ("frames", "speaker", "sampling"),
    [
        (30, None, FineSampling()),
        (30, VOICE, FineSampling(pad=False)),
        (1_100, VOICE, FineSampling()),
        (1_600, None, FineSampling(None)),
    ],
)
def test_fine_numbers_are_those_of_the_slow_twin(
    frames: int, speaker: SpeakerPrompt | None, sampling: FineSampling, seen: list[tuple[str, np.ndarray]]
) -> None:
    """Of the last window that wrote a code, neither of the speaker prompt's frames nor of the padding's."""
    network = fine_pair().engine
    coarse = CoarseTokens(np.random.default_rng(1).integers(0, 1_024, (2, frames)))  # type: ignore[arg-type]
    recorder = TraceRecorder()
    given: Any = {"speaker": speaker, "sampling": sampling, "seed": 5}
    tokens = generate_fine(network, coarse, SUNO, **given, trace=recorder)
    trace = recorder.result()
    assert trace.probability.shape == trace.entropy.shape == tokens.shape
    assert np.isnan(trace.probability[:2]).all()
    assert not np.isnan(trace.probability[2:]).any()
    past = speaker.fine.shape[1] if speaker else 0
    windows = fine_stage.FineRow(coarse, SUNO, speaker, sampling, 5).windows
    wanted = np.full((8, frames, 1_024), np.nan)
    for call, (_, logits) in enumerate(seen):
        start, first = windows[call // 6]
        for row, values in enumerate(logits):
            frame = start + first + row - past
            if 0 <= frame < frames:
                wanted[2 + call % 6, frame] = values
    for codebook in range(2, 8):
        for frame in range(0, frames, 7):
            distribution = slow_distribution(wanted[codebook, frame], sampling.temperature, None, None)
            chosen = distribution[tokens.codes[codebook, frame]]
            assert trace.probability[codebook, frame] == pytest.approx(chosen, rel=1e-4)
            assert trace.entropy[codebook, frame] == pytest.approx(slow_entropy(distribution), rel=1e-4, abs=1e-5)
    assert generate_fine(network, coarse, SUNO, **given) == tokens
    assert recorder.ids == coarse.codes[0].tolist()


# -- where each rule would have stopped ----------------------------------------------------------------------------


def stops(sampling: SemanticSampling, seed: int = 3, boost: float = 1.3) -> tuple[int, Trace]:
    recorder = TraceRecorder()
    network = causal_pair("text", end_boost=boost).engine
    tokens = generate_semantic(network, TEXT_IDS, SUNO, speaker=None, sampling=sampling, seed=seed, trace=recorder)
    return len(tokens), recorder.result()


def test_the_rule_that_stopped_it_is_at_its_length() -> None:
    length, trace = stops(SemanticSampling(min_eos_p=None))
    assert trace.stops == {"end drawn": length, "full": 768}
    assert trace.end_probability is not None
    likeliest = int(trace.end_probability[:length].argmax())
    assert likeliest > 0
    length, trace = stops(SemanticSampling(min_eos_p=float(trace.end_probability[likeliest])))
    assert trace.stops == {"min_eos_p": length, "full": 768}
    assert length == likeliest
    length, trace = stops(SemanticSampling(min_eos_p=None, max_seconds=0.1))
    assert trace.stops == {"max_seconds": length, "full": 768}
    assert length == 5  # the first token after which there are more than 0.1 s
    length, trace = stops(SemanticSampling(early_stop=False, min_eos_p=None))
    assert trace.stops == {"full": length}


@pytest.mark.parametrize("min_eos_p", [0.002, 0.01, 0.05])
def test_without_early_stop_the_trace_tells_where_it_would_have_been(min_eos_p: float) -> None:
    """The end's row is so weak that it is never drawn: both runs draw the same tokens, but one stops."""
    for seed in range(4):
        free, trace = stops(SemanticSampling(early_stop=False, min_eos_p=min_eos_p, max_seconds=3), seed, boost=1.2)
        assert trace.end_probability is not None
        above = np.flatnonzero(trace.end_probability >= np.float32(min_eos_p))
        assert trace.stops.get("min_eos_p") == (int(above[0]) if len(above) else None)
        assert trace.stops["max_seconds"] == free == most_semantic(SUNO, 3) == 150


def test_an_end_before_the_first_token_is_on_record() -> None:
    network, recorder = causal_pair("text", end_boost=1.5).engine, TraceRecorder()
    given: Any = {"speaker": None, "sampling": SemanticSampling(min_eos_p=0.0), "seed": 0}
    with pytest.raises(BarkError, match="before it began"):
        generate_semantic(network, TEXT_IDS, SUNO, **given, trace=recorder)
    trace = recorder.result()
    assert trace.stops["min_eos_p"] == 0
    assert trace.probability.shape == (0,)
    assert trace.end_probability is not None
    assert trace.end_probability.shape == (1,)


# -- the recorder --------------------------------------------------------------------------------------------------


@cache
def nano() -> Bark:
    return Bark.load("nano", dtype="float32")


def test_all_stages_of_nano_say_the_same_with_and_without() -> None:
    voice = SpeakerPrompt.load(Path(bark_engine.__file__).parent / "assets" / "nano" / "speakers" / "low.npz", "nano")
    for speaker, seed in ((None, 1), (voice, 2)):
        recorders = [TraceRecorder() for _ in range(3)]
        plain = nano().say("How do you do?", speaker, seed)
        semantic = nano().text_to_semantic("How do you do?", speaker, seed=seed, trace=recorders[0])
        coarse = nano().semantic_to_coarse(semantic, speaker, seed=seed, trace=recorders[1])
        fine = nano().coarse_to_fine(coarse, speaker, seed=seed, trace=recorders[2])
        assert (semantic, coarse, fine) == (plain.semantic, plain.coarse, plain.fine)
        traces = [recorder.result() for recorder in recorders]
        assert [trace.kind for trace in traces] == ["semantic", "coarse", "fine"]
        assert {trace.family for trace in traces} == {"nano"}
        assert [trace.probability.shape for trace in traces] == [semantic.shape, coarse.shape, fine.shape]
        assert traces[0].end_probability is not None
        assert traces[0].end_probability[-1] > 0.2 > traces[0].end_probability[:-5].max(), "nano knows where it ends"
        assert [recorder.ids for recorder in recorders] == [
            semantic.ids.tolist(),
            coarse.codes.T.reshape(-1).tolist(),
            fine.codes[0].tolist(),
        ]
        assert [len(recorder.ids) for recorder in recorders[1:]] == [recorder.total for recorder in recorders[1:]]


def test_the_tokens_so_far_can_be_read_while_a_stage_runs() -> None:
    recorder, lengths = TraceRecorder(), []
    sampling = SemanticSampling(max_seconds=0.2, early_stop=False)
    tokens = nano().text_to_semantic(
        "Hello.",
        sampling=sampling,
        on_step=lambda *_: lengths.append((len(recorder.ids), recorder.total)),
        trace=recorder,
    )
    assert sorted(set(lengths)) == [(count, len(tokens)) for count in range(len(tokens) + 1)]


def test_a_second_try_after_memory_ran_out_starts_anew() -> None:
    bark = Bark.load("nano", dtype="float32", manager=ModelManager())
    fails = [MemoryError()]

    def on_step(done: int, total: int) -> None:
        if done == 5 and fails:
            raise fails.pop()

    for stage, given in (("text_to_semantic", "Hello."), ("semantic_to_coarse", SemanticTokens([1, 2, 3, 4], "nano"))):  # type: ignore[arg-type]
        fails[:] = [MemoryError()]
        recorder = TraceRecorder()
        tokens = getattr(bark, stage)(given, on_step=on_step, trace=recorder)
        assert not fails, "it must have failed once"
        assert recorder.result().probability.shape == tokens.shape
        alone = TraceRecorder()
        getattr(bark, stage)(given, trace=alone)
        assert np.allclose(recorder.result().probability, alone.result().probability, rtol=1e-4)


def test_a_recorder_takes_one_stage_after_another() -> None:
    recorder = TraceRecorder()
    with pytest.raises(BarkError, match="Nothing was recorded"):
        recorder.result()
    nano().text_to_semantic("Hello.", sampling=SemanticSampling(max_seconds=0.1), trace=recorder)
    first = recorder.result()
    coarse = nano().semantic_to_coarse(SemanticTokens([1, 2, 3], "nano"), trace=recorder)  # type: ignore[arg-type]
    assert recorder.result().kind == "coarse"
    assert recorder.result().probability.shape == coarse.shape
    assert first.kind == "semantic", "a result does not change any more"


# -- the container -------------------------------------------------------------------------------------------------


def a_trace(**changes: Any) -> Trace:
    values = {"kind": "semantic", "family": "suno", "probability": [0.5, 0.25], "entropy": [1.0, 2.0]}
    return Trace(**{**values, **changes})


def test_a_trace_is_read_only_and_its_copies_are() -> None:
    given = np.array([0.5, 0.25], dtype=np.float32)
    stops_given = {"full": 768}
    trace = a_trace(probability=given, end_probability=[0.0, 0.0, 0.9], stops=stops_given).with_tail({"step": 1})
    given[0] = 9
    stops_given["full"] = 0
    for one in (trace, copy.deepcopy(trace), pickle.loads(pickle.dumps(trace))):
        for array in (one.probability, one.entropy, one.end_probability):
            assert array is not None
            assert array.dtype == np.float32
            assert not array.flags.writeable
        assert one.probability.tolist() == [0.5, 0.25]
        assert (one.stops, one.tail) == ({"full": 768}, {"step": 1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "text"}, "semantic, coarse, fine"),
        ({"entropy": [1.0]}, "in the tokens' shape"),
        ({"kind": "coarse"}, "in the tokens' shape"),
        ({"end_probability": [0.1]}, "2 or 3 for 2 tokens"),
        (
            {"kind": "fine", "probability": np.zeros((8, 2)), "entropy": np.zeros((8, 2)), "end_probability": [0, 0]},
            "fine",
        ),
    ],
)
def test_what_is_no_trace_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BarkInputError, match=words):
        a_trace(**changes)
