"""One replay per token: the same tokens as step by step, recorded once, and nobody looks in between.

No graphics card here: steps are called, or recorded as their tensor operations (support/replays.py).
"""

import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine import (
    Bark,
    BarkError,
    CoarseSampling,
    FineSampling,
    ModelManager,
    Request,
    SemanticSampling,
    SemanticTokens,
    Speech,
    TraceRecorder,
)
from bark_engine import coarse as coarse_stage
from bark_engine import graphs as graphs_module
from bark_engine import semantic as semantic_stage
from bark_engine.batch import run_rows
from bark_engine.coarse import CoarseRow, generate_coarse
from bark_engine.graphs import CudaRecorder, bucket, decode_rows, has_rule, let_go, replay_rows
from bark_engine.sampling import draw
from bark_engine.semantic import LOOK, SemanticRow, generate_semantic
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer
from support.replays import Looks, OperationRecorder
from support.tiny_models import as_speaker, causal_pair, one_thread, prompt_arrays  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread", "nothing_kept")

SIZES = (1, 2, 4, 8, 16)
VOICES = [None, as_speaker(prompt_arrays(40)), as_speaker(prompt_arrays(300))]
TIE = 1e-5  # what float32 may do to the ratio of two numbers that come out of a network


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    """No graphs and buffers of another test."""
    let_go()
    yield
    let_go()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> OperationRecorder:
    """Steps are recorded and replayed from now on."""
    recorder = OperationRecorder()
    monkeypatch.setattr(graphs_module, "recorder_for", lambda device: recorder)
    return recorder


def text_network() -> CausalTransformer:
    return causal_pair("text", end_boost=1.5).engine


def semantic_requests(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {
            "text_ids": SUNO.text_offset + rng.integers(100, 100_000, rng.integers(1, 40)),
            "speaker": VOICES[number % 3],
            "sampling": SemanticSampling(
                temperature=None if number % 6 == 5 else float(rng.uniform(0.3, 1.2)),
                top_k=40 if number % 11 == 10 else None,
                min_eos_p=None if number % 5 == 0 else float(rng.uniform(0.05, 0.4)),
                max_seconds=float(rng.uniform(0.05, 0.9)),
                early_stop=number % 4 != 0,
            ),
            "seed": number,
        }
        for number in range(count)
    ]


def semantic_row(request: dict[str, Any]) -> SemanticRow:
    return SemanticRow(request["text_ids"], SUNO, request["speaker"], request["sampling"], request["seed"])


def coarse_requests(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    return [
        {
            "semantic": SemanticTokens(rng.integers(0, 10_000, rng.integers(1, 60))),  # type: ignore[arg-type]
            "speaker": VOICES[number % 3],
            "sampling": CoarseSampling(
                temperature=None if number % 6 == 5 else float(rng.uniform(0.3, 1.2)),
                top_k=50 if number % 11 == 10 else None,
                max_history=int(rng.integers(60, 630)),
                window=int(rng.integers(7, 100)),
            ),
            "seed": number,
        }
        for number in range(count)
    ]


def coarse_row(request: dict[str, Any]) -> CoarseRow:
    return CoarseRow(request["semantic"], SUNO, request["speaker"], request["sampling"], request["seed"])


def run(network: CausalTransformer, rows: Any, size: int) -> list[BarkError | None]:
    """With graphs."""
    return decode_rows(network, rows, size, 257 + 768, lambda: None, graphs=True)


def tokens_of(row: Any) -> list[int]:
    """As they came, whatever the stage."""
    return list(row.tokens if isinstance(row, SemanticRow) else row._flat)


class Contests:
    """How near each draw of a row by itself was to another one: 0 where two candidates were equally good."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stage: Any, min_eos_p: float | None = None):
        self.gaps: list[float] = []

        def watched(distribution: torch.Tensor, rng: torch.Generator) -> int:
            q = torch.empty_like(distribution).exponential_(1, generator=rng.clone_state())
            best, second = (distribution / q).double().topk(2).values.tolist()
            gap = 1 - second / best
            if min_eos_p is not None and len(distribution) > SUNO.end_token:
                gap = min(gap, abs(float(distribution[SUNO.end_token]) / min_eos_p - 1) if min_eos_p else gap)
            self.gaps.append(gap)
            return draw(distribution, rng)

        monkeypatch.setattr(stage, "draw", watched)


_alone: dict[Any, list[int]] = {}  # what a request gets by itself; every test has the same two networks


def assert_same_or_tie(network: CausalTransformer, row: Any, make: Any, request: dict[str, Any]) -> None:
    """The row has the tokens that it gets by itself, one step after the other, or left them where two were equal."""
    key = make, repr(sorted(request.items(), key=lambda item: item[0]))
    if key not in _alone:
        alone = make(request)
        run_rows(network, [alone], 1, 257 + 768, lambda: None)
        _alone[key] = tokens_of(alone)
    tokens, wanted = tokens_of(row), _alone[key]
    if tokens == wanted:
        return
    pairs = zip(tokens, wanted, strict=False)
    shared = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(tokens), len(wanted)))
    again = make(request)
    with pytest.MonkeyPatch.context() as patch:
        stage = semantic_stage if isinstance(row, SemanticRow) else coarse_stage
        contests = Contests(patch, stage, getattr(request["sampling"], "min_eos_p", None))
        run_rows(network, [again], 1, 257 + 768, lambda: None)
    drawn_before = len(tokens_of(again)) - len(contests.gaps) if isinstance(row, CoarseRow) else 0  # the history
    gap = contests.gaps[shared - drawn_before]
    assert gap < TIE, f"token {shared} differs, and the second best was {gap} behind"


# -- the same tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_semantic_rows_get_what_they_get_step_by_step(size: int) -> None:
    network, requests = text_network(), semantic_requests(60)
    rows = [semantic_row(request) for request in requests]
    assert run(network, rows, size) == [None] * len(rows)
    for row, request in zip(rows, requests, strict=True):
        assert_same_or_tie(network, row, semantic_row, request)
    assert len({len(row.tokens) for row in rows}) > 20, "rows that all end together would prove little"
    assert sum(row.finished and len(row.tokens) < row._most for row in rows) > 10, "and some must end by themselves"


@pytest.mark.parametrize("size", SIZES)
def test_coarse_rows_get_what_they_get_step_by_step(size: int) -> None:
    network, requests = causal_pair("coarse").engine, coarse_requests(16)
    rows = [coarse_row(request) for request in requests]
    assert run(network, rows, size) == [None] * len(rows)
    for row, request in zip(rows, requests, strict=True):
        assert_same_or_tie(network, row, coarse_row, request)


def test_windows_that_go_on_are_not_read_anew() -> None:
    """As outside of float32, but in float32, where tokens can be compared."""
    network = causal_pair("coarse").engine

    def row() -> CoarseRow:
        tokens: Any = np.arange(150)
        return CoarseRow(SemanticTokens(tokens), SUNO, None, CoarseSampling(), 3, continues=True)

    stepwise, replayed, prompts = row(), row(), []
    real = replayed.prompt
    replayed.prompt = lambda network: prompts.append(replayed.step) or real(network)  # type: ignore[method-assign]
    run_rows(network, [stepwise], 1, stepwise.positions, lambda: None)
    run(network, [replayed], 1)
    assert prompts == [0], "450 tokens in eight windows, each of which begins like the one before it"
    assert replayed.result() == stepwise.result()


def test_a_speech_that_is_as_long_as_can_be(recorder: OperationRecorder) -> None:
    """768 tokens after 257 positions: the last one has no place, and needs none."""
    network = text_network()
    request = {**semantic_requests(1)[0], "sampling": SemanticSampling(early_stop=False), "speaker": None}
    row = semantic_row(request)
    assert run(network, [row], 1) == [None]
    assert len(row.tokens) == 768
    assert_same_or_tie(network, row, semantic_row, request)
    assert recorder.records == [(1, 512), (1, 768), (1, 1_024)]


@pytest.mark.parametrize("graphs", [False, True])
def test_a_coarse_window_that_uses_every_position(graphs: bool) -> None:
    """630 of history and a window of 138 after 257 positions: one more than there are, for a token nobody needs."""
    network = causal_pair("coarse").engine
    tokens: Any = np.arange(120)
    given: dict[str, Any] = {
        "semantic": SemanticTokens(tokens),
        "speaker": VOICES[2],
        "sampling": CoarseSampling(max_history=630, window=138),
        "seed": 1,
    }
    rows = [coarse_row(given) for _ in range(2)]
    assert decode_rows(network, rows, 2, rows[0].positions, lambda: None, graphs) == [None, None]
    wanted = generate_coarse(network, spec=SUNO, **given)
    assert [row.result() for row in rows] == [wanted, wanted]


def test_say_and_say_many_on_nano() -> None:
    plain, replaying = Bark.load("nano", dtype="float32"), Bark.load("nano", dtype="float32", graphs=True)
    requests = [
        Request(
            f"Number {n}.",
            seed=n,
            semantic=SemanticSampling(max_seconds=0.3 + 0.1 * (n % 3)),
            fine=FineSampling(pad=False),
        )
        for n in range(6)
    ]
    many = dict(replaying.say_many(requests, batch_size=4))
    for number, r in enumerate(requests):
        alone = plain.say(r.text, r.speaker, r.seed, r.semantic, r.coarse, r.fine)
        again = replaying.say(r.text, r.speaker, r.seed, r.semantic, r.coarse, r.fine) if number < 2 else many[number]
        for speech in (again, many[number]):
            assert isinstance(speech, Speech)
            assert (speech.semantic, speech.coarse, speech.fine) == (alone.semantic, alone.coarse, alone.fine)


def test_other_rows_go_the_ordinary_way(recorder: OperationRecorder) -> None:
    bark = Bark.load("random", graphs=True)
    short = {"max_seconds": 0.2, "early_stop": False}
    for sampling in (SemanticSampling(top_k=5, **short), SemanticSampling(top_p=0.5, **short)):
        bark.text_to_semantic("A text.", sampling=sampling)
    trace = TraceRecorder()
    traced = bark.text_to_semantic("A text.", sampling=SemanticSampling(**short), trace=trace)
    assert recorder.warm_ups == 0
    assert len(trace.result().probability) == len(traced)
    assert bark.text_to_semantic("A text.", sampling=SemanticSampling(**short)) == traced
    assert recorder.warm_ups == 1
    assert not has_rule(coarse_row({**coarse_requests(1)[0], "sampling": CoarseSampling(top_p=0.9)}))


# -- recorded once -------------------------------------------------------------------------------------------------


def test_each_size_and_end_is_recorded_once_and_replayed_for_every_other_token(recorder: OperationRecorder) -> None:
    """And a replay, which runs no Python, makes the same tokens."""
    network, requests = text_network(), [r for r in semantic_requests(24) if r["sampling"].top_k is None]
    steps = []
    for _ in range(2):
        rows = [semantic_row(request) for request in requests]
        passes: list[None] = []
        layers = network.shape.n_layer * len(rows)  # each prompt is read with a pass before it and one for each layer
        assert replay_rows(network, rows, 5, lambda: passes.append(None)) == [None] * len(rows)  # noqa: B023
        steps.append(len(passes) - layers - len(rows))
        for row, request in zip(rows, requests, strict=True):
            assert_same_or_tie(network, row, semantic_row, request)
    assert recorder.warm_ups + recorder.replays == sum(steps)
    assert steps[0] == steps[1]
    assert recorder.warm_ups == len(recorder.records) == len(set(recorder.records)), "the second run recorded nothing"
    assert {size for size, _ in recorder.records} <= {1, 2, 4, 8}
    assert {size for size, _ in recorder.records} >= {8, 1}, "five rows are run as eight, and the last ones as fewer"
    assert {end for _, end in recorder.records} == {512}


def test_coarse_windows_are_replayed_with_the_turn_of_each_row(recorder: OperationRecorder) -> None:
    """Windows of odd lengths, so that rows of one batch are at different codebooks."""
    network, requests = causal_pair("coarse").engine, [r for r in coarse_requests(9) if r["sampling"].top_k is None]
    rows = [coarse_row(request) for request in requests]
    assert replay_rows(network, rows, 4, lambda: None) == [None] * len(rows)
    for row, request in zip(rows, requests, strict=True):
        assert_same_or_tie(network, row, coarse_row, request)
    assert len(recorder.records) == len(set(recorder.records))
    assert {size for size, _ in recorder.records} == {1, 2, 4}
    assert all(end % 256 == 0 for _, end in recorder.records)


def test_weights_that_moved_are_recorded_anew(recorder: OperationRecorder) -> None:
    network, request = text_network(), semantic_requests(2)[1]

    def speak() -> list[int]:
        row = semantic_row(request)
        assert run(network, [row], 1) == [None]
        return row.tokens

    first, recorded = speak(), len(recorder.records)
    assert speak() == first
    assert len(recorder.records) == recorded
    weight = network.get_parameter("transformer.h.1.mlp.c_fc.weight")
    with torch.no_grad():
        weight.data = weight.data.clone()  # what a trip to another device and back does
    assert speak() == first
    assert len(recorder.records) == 2 * recorded
    with torch.no_grad():
        weight.data = weight.data.clone().mul_(2)
    assert speak() != first, "a graph of the old weights would say the same"
    let_go(network)
    speak()
    assert len(recorder.records) == 4 * recorded


def test_a_larger_batch_gets_larger_buffers_and_a_smaller_one_shares_them(recorder: OperationRecorder) -> None:
    network, requests = text_network(), semantic_requests(8)
    for size in (2, 4, 2, 1):
        assert run(network, [semantic_row(request) for request in requests[:size]], size) == [None] * size
    assert graphs_module._idle[network].buffers.batch == 4
    assert [bucket(rows) for rows in (1, 2, 3, 9, 32, 33, 64, 65)] == [1, 2, 4, 16, 32, 64, 64, 96]


def test_what_is_kept_does_not_keep_the_network() -> None:
    network = text_network()
    run(network, [semantic_row(semantic_requests(1)[0])], 1)
    assert len(graphs_module._idle) == 1
    del network
    gc.collect()
    assert len(graphs_module._idle) == 0


def test_unloading_lets_go() -> None:
    bark = Bark.load("random", graphs=True, manager=ModelManager())
    sampling = SemanticSampling(max_seconds=0.1, early_stop=False)
    first = bark.text_to_semantic("A text.", sampling=sampling)
    assert len(graphs_module._idle) == 1
    bark.unload()
    assert len(graphs_module._idle) == 0
    assert bark.text_to_semantic("A text.", sampling=sampling) == first


def test_networks_on_several_devices_go_the_ordinary_way() -> None:
    """As where a host keeps a part of the weights in main memory."""
    network = text_network()
    network.get_submodule("transformer.wpe").to("meta")
    assert graphs_module.where_weights_are(network) is None
    assert not graphs_module.can_replay(network, semantic_row(semantic_requests(1)[0]))


# -- nobody looks --------------------------------------------------------------------------------------------------


def test_values_are_fetched_once_in_eight_tokens_and_not_in_between() -> None:
    network = text_network()
    request = {**semantic_requests(1)[0], "sampling": SemanticSampling(max_seconds=1.0, early_stop=False)}
    row, fetched = semantic_row(request), []
    real = row.follow
    row.follow = lambda drawn: fetched.append(len(drawn)) or real(drawn)  # type: ignore[method-assign]
    with Looks() as looks:
        assert run(network, [row], 1) == [None]
    assert looks.count == 0
    assert fetched == [LOOK] * (len(row.tokens) // LOOK) + [len(row.tokens) % LOOK] * (len(row.tokens) % LOOK > 0)
    with Looks() as looks:
        run_rows(network, [semantic_row(request)], 1, 257 + 768, lambda: None)
    assert looks.count >= len(row.tokens), "the ordinary way fetches, or this test would prove nothing"


# -- as before -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [False, True])
def test_a_row_that_breaks_in_the_middle_does_not_harm_who_takes_its_place(graphs: bool) -> None:
    """Its keys and values are NaN, and those of its place that the next row has not reached are only masked."""
    network = causal_pair("text").engine
    requests = [
        {
            "text_ids": np.full(5, SUNO.text_offset + 900 + number),
            "speaker": None,
            "sampling": SemanticSampling(max_seconds=seconds, early_stop=False),
            "seed": number,
        }
        for number, seconds in enumerate((0.9, 0.5, 0.3, 0.3, 0.3))
    ]
    alone = [generate_semantic(network, spec=SUNO, **request) for request in requests]  # type: ignore[arg-type]
    others = {int(token) for tokens in (*alone[:1], *alone[2:]) for token in np.asarray(tokens)}
    step = next(n for n, token in enumerate(np.asarray(alone[1]).tolist()) if n > 7 and token not in others)
    table = network.get_submodule("transformer.wte")
    broken = network.get_parameter("transformer.wte.weight").detach().clone()
    broken[int(np.asarray(alone[1])[step])] = torch.nan
    table.weight = torch.nn.Parameter(broken)
    rows = [semantic_row(request) for request in requests]
    failures = decode_rows(network, rows, 2, 257 + 768, lambda: None, graphs)
    assert [failure is not None for failure in failures] == [False, True, False, False, False]
    assert "not numbers" in str(failures[1])
    assert len(rows[1].tokens) == step + 1
    assert [rows[number].result() for number in (0, 2, 3, 4)] == [alone[number] for number in (0, 2, 3, 4)]


def test_a_stopped_run_leaves_nothing_and_the_next_one_is_whole() -> None:
    bark = Bark.load("random", graphs=True)
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 30:
            raise KeyboardInterrupt

    sampling = SemanticSampling(max_seconds=1.0, early_stop=False)
    with pytest.raises(KeyboardInterrupt):
        bark.text_to_semantic("A text.", sampling=sampling, on_step=stop)
    assert len(graphs_module._idle) == 0
    whole = bark.text_to_semantic("A text.", sampling=sampling, on_step=lambda *step: seen.append(step))
    assert whole == Bark.load("random").text_to_semantic("A text.", sampling=sampling)
    counts = [done for done, _ in seen[30:]]
    assert counts == sorted(counts)
    assert {total for _, total in seen} == {768}
    assert counts[-1] == 768
    assert len(counts) > len(whole), "a call for every token, though the count moves where somebody looks"


def test_out_of_memory_is_tried_again_the_ordinary_way(monkeypatch: pytest.MonkeyPatch) -> None:
    bark, sampling = Bark.load("random", graphs=True), SemanticSampling(max_seconds=0.1, early_stop=False)

    def no_room(*given: Any) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(graphs_module, "Buffers", no_room)
    request = Request("A text.", semantic=sampling)
    alone = bark.text_to_semantic(request.text, sampling=sampling)
    (speech,) = dict(bark.say_many([request], batch_size=2)).values()
    assert isinstance(speech, Speech)
    assert speech.semantic == alone == Bark.load("random").text_to_semantic(request.text, sampling=sampling)


def test_two_threads_on_one_network_have_buffers_of_their_own() -> None:
    network, requests = text_network(), [r for r in semantic_requests(12) if r["sampling"].top_k is None]
    rows = [semantic_row(request) for request in requests]
    halves = [threading.Thread(target=replay_rows, args=(network, rows[n::2], 2, lambda: None)) for n in (0, 1)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()
    for row, request in zip(rows, requests, strict=True):
        assert_same_or_tie(network, row, semantic_row, request)


def test_the_order_of_cuda_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only lines that nothing here can run: warmed up aside and waited for, captured into one pool, replayed."""
    calls: list[str] = []

    class Stream:
        def __init__(self, name: str = "aside"):
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            calls.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            calls.append("replay")

    @contextlib.contextmanager
    def inside(name: str) -> Iterator[None]:
        calls.append(f"({name}")
        yield
        calls.append(")")

    def capture(graph: Graph, pool: str, capture_error_mode: str) -> Any:
        return inside(f"capture {pool} {capture_error_mode}")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream("here"))
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: inside(stream.name))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    recorder = CudaRecorder(torch.device("cuda"))
    recorder.warm_up(lambda: calls.append("step"))
    replay = recorder.record(lambda: calls.append("step"))
    replay()
    replay()
    warm = ["aside waits for here", "(aside", "step", ")", "here waits for aside"]
    assert calls == [*warm, "(capture pool thread_local", "step", ")", "replay", "replay"]
