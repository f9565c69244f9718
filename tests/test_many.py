"""Many requests at once: a row gets what it gets alone, whoever sits beside it; one bad request fails alone."""

import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bark_engine
from bark_engine import (
    Bark,
    BarkError,
    BarkInputError,
    BarkMemoryError,
    CoarseSampling,
    FineSampling,
    ModelManager,
    Request,
    SemanticSampling,
    SemanticTokens,
    SpeakerPrompt,
    Speech,
)
from bark_engine import many as many_module
from bark_engine import spec as spec_module
from bark_engine.batch import run_rows
from bark_engine.checkpoint import StageFile
from bark_engine.coarse import CoarseRow, generate_coarse
from bark_engine.fine import FineRow, fill_windows, generate_fine
from bark_engine.many import bytes_per_row, rows_that_fit
from bark_engine.progress import along, silent
from bark_engine.semantic import SemanticRow, generate_semantic
from bark_engine.spec import SUNO
from bark_engine.text import text_to_ids
from bark_engine.tokens import CoarseTokens
from bark_engine.transformer import CausalTransformer, RowCache
from support.tiny_models import as_speaker, causal_pair, fine_pair, one_thread, prompt_arrays  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = (2, 4, 8, 16)
VOICES = [None, as_speaker(prompt_arrays(40)), as_speaker(prompt_arrays(300))]


def semantic_requests(count: int) -> list[dict]:
    rng = np.random.default_rng(1)
    return [
        {
            "text_ids": SUNO.text_offset + rng.integers(100, 100_000, rng.integers(1, 40)),
            "speaker": VOICES[number % 3],
            "sampling": SemanticSampling(
                temperature=float(rng.uniform(0.3, 1.2)),
                top_k=int(rng.integers(5, 500)) if number % 5 == 0 else None,
                top_p=0.9 if number % 7 == 0 else None,
                max_seconds=float(rng.uniform(0.05, 0.9)),
                early_stop=number % 4 != 0,
            ),
            "seed": number,
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def alone() -> list[SemanticTokens | str]:
    """What each of two hundred requests gets by itself: tokens, or a sentence."""
    network = causal_pair("text", end_boost=1.5).engine
    outcomes: list[SemanticTokens | str] = []
    for request in semantic_requests(200):
        try:
            outcomes.append(generate_semantic(network, spec=SUNO, **request))
        except BarkError as error:
            outcomes.append(str(error))
    return outcomes


@pytest.mark.parametrize("size", SIZES)
def test_two_hundred_semantic_rows_get_what_they_get_alone(size: int, alone: list[SemanticTokens | str]) -> None:
    network = causal_pair("text", end_boost=1.5).engine
    requests = semantic_requests(200)
    rows = [SemanticRow(r["text_ids"], SUNO, r["speaker"], r["sampling"], r["seed"]) for r in requests]
    assert run_rows(network, rows, size, 257 + 768, lambda: None) == [None] * 200
    for row, wanted in zip(rows, alone, strict=True):
        if isinstance(wanted, str):
            with pytest.raises(BarkError, match=wanted[:30]):
                row.result()
        else:
            assert row.result() == wanted
    assert len({len(row.tokens) for row in rows}) > 20, "rows that all end together would prove little"


@pytest.mark.parametrize("size", SIZES)
def test_coarse_rows_get_what_they_get_alone(size: int) -> None:
    """With windows of different lengths, so that the rows read their prompts at different steps."""
    network = causal_pair("coarse").engine
    rng = np.random.default_rng(2)
    requests = [
        {
            "semantic": SemanticTokens(rng.integers(0, 10_000, rng.integers(1, 60))),  # type: ignore[arg-type]
            "speaker": VOICES[number % 3],
            "sampling": CoarseSampling(
                temperature=float(rng.uniform(0.3, 1.2)),
                top_k=50 if number % 4 == 0 else None,
                max_history=int(rng.integers(60, 630)),
                window=int(rng.integers(7, 100)),
            ),
            "seed": number,
        }
        for number in range(40)
    ]
    rows = [CoarseRow(r["semantic"], SUNO, r["speaker"], r["sampling"], r["seed"]) for r in requests]
    failures = run_rows(network, rows, size, max(row.positions for row in rows), lambda: None)
    assert failures == [None] * len(rows)
    for request, row in zip(requests, rows, strict=True):
        assert row.result() == generate_coarse(network, spec=SUNO, **request)


NANO_VOICES = Path(bark_engine.__file__).parent / "assets" / "nano" / "speakers"


@cache
def nano_takes() -> list[tuple[Request, SemanticTokens, CoarseTokens]]:
    """Two hundred requests to nano, and the tokens that each gets by itself."""
    nano = Bark.load("nano", dtype="float32")
    voices = [None, *(SpeakerPrompt.load(NANO_VOICES / f"{name}.npz", "nano") for name in ("low", "high"))]
    rng = np.random.default_rng(5)
    takes = []
    for number in range(200):
        request = Request(
            f"Sentence number {number}.",
            voices[number % 3],
            number,
            SemanticSampling(float(rng.uniform(0.3, 1.0)), max_seconds=float(rng.uniform(0.1, 0.4)), early_stop=False),
            CoarseSampling(float(rng.uniform(0.3, 1.0)), top_k=40 if number % 5 == 0 else None),
        )
        semantic = nano.text_to_semantic(request.text, request.speaker, request.semantic, request.seed)
        coarse = nano.semantic_to_coarse(semantic, request.speaker, request.coarse, request.seed)
        takes.append((request, semantic, coarse))
    return takes


@pytest.mark.parametrize("size", SIZES)
def test_two_hundred_requests_to_nano_get_what_they_get_alone(size: int) -> None:
    nano = Bark.load("nano", dtype="float32")
    takes = nano_takes()

    def semantic(network: CausalTransformer, frugal: bool) -> list[SemanticRow]:
        ids = [text_to_ids(request.text, nano.tokenizer, nano.spec) for request, *_ in takes]
        rows = [
            SemanticRow(text, nano.spec, request.speaker, request.semantic, request.seed)
            for text, (request, *_) in zip(ids, takes, strict=True)
        ]
        assert run_rows(network, rows, size, nano.spec.text_length + 1 + nano.spec.max_semantic, lambda: None)
        return rows

    def coarse(network: CausalTransformer, frugal: bool) -> list[CoarseRow]:
        rows = [
            CoarseRow(tokens, nano.spec, request.speaker, request.coarse, request.seed) for request, tokens, _ in takes
        ]
        assert run_rows(network, rows, size, max(row.positions for row in rows), lambda: None)
        return rows

    assert [row.result() for row in nano.run_stage("text", semantic)] == [tokens for _, tokens, _ in takes]
    assert [row.result() for row in nano.run_stage("coarse", coarse)] == [tokens for *_, tokens in takes]


def test_sixty_four_mixed_requests_share_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of the whole batch against the ideal: those of all rows, divided among the places of the batch."""
    steps: list[tuple[CausalTransformer, int]] = []
    real = CausalTransformer.step_rows

    def counted(self: CausalTransformer, embeddings: torch.Tensor, cache: RowCache) -> torch.Tensor:
        steps.append((self, cache.rows))
        return real(self, embeddings, cache)

    monkeypatch.setattr(CausalTransformer, "step_rows", counted)
    rng = np.random.default_rng(6)
    requests = [
        Request(
            "Hello.", None, n, SemanticSampling(max_seconds=seconds, early_stop=False), fine=FineSampling(pad=False)
        )
        for n, seconds in enumerate(rng.uniform(0.1, 1.2, 64).tolist())
    ]
    size = 8
    assert len(dict(Bark.load("nano", dtype="float32").say_many(requests, batch_size=size))) == 64
    for network in {id(network): network for network, _ in steps}.values():
        rows = [count for stepped, count in steps if stepped is network]
        assert len(rows) <= 1.3 * sum(rows) / size


def test_fine_rows_get_what_they_get_alone() -> None:
    """Of one, two and three windows, with and without a past."""
    network = fine_pair().engine
    rng = np.random.default_rng(3)
    requests = [
        {
            "coarse": CoarseTokens(rng.integers(0, 1_024, (2, frames))),  # type: ignore[arg-type]
            "speaker": VOICES[number % 3],
            "sampling": FineSampling(temperature=None if number == 2 else 0.5),
            "seed": number,
        }
        for number, frames in enumerate((30, 1_100, 75, 1_600))
    ]
    rows = [FineRow(r["coarse"], SUNO, r["speaker"], r["sampling"], r["seed"]) for r in requests]
    fill_windows(network, rows, SUNO, silent)
    assert {len(row.windows) for row in rows} == {1, 2, 3}
    for request, row in zip(requests, rows, strict=True):
        assert row.result() == generate_fine(network, spec=SUNO, **request)


def test_a_row_that_fails_is_taken_out_and_the_others_go_on() -> None:
    network = causal_pair("text", end_boost=1.5).engine
    requests = semantic_requests(6)
    rows = [SemanticRow(r["text_ids"], SUNO, r["speaker"], r["sampling"], r["seed"]) for r in requests]

    def refuse(logits: torch.Tensor) -> None:
        raise BarkError("no more")

    rows[2].take = refuse  # type: ignore[method-assign]
    failures = run_rows(network, rows, 3, 257 + 768, lambda: None)
    assert [str(failure) if failure else None for failure in failures] == [None, None, "no more", None, None, None]
    assert rows[4].result() == generate_semantic(network, spec=SUNO, **requests[4])


# -- the facade ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bark() -> Bark:
    return Bark.load("random")


def short(number: int, **changes: object) -> Request:
    values = {"seed": number, "semantic": SemanticSampling(max_seconds=0.2 + 0.1 * (number % 4))}
    return Request(f"Number {number}.", **{**values, **changes})  # type: ignore[arg-type]


def test_say_many_says_what_say_says(bark: Bark) -> None:
    voice = bark.say("A voice.", seed=3, semantic=SemanticSampling(max_seconds=0.5)).as_speaker()
    requests = [short(number, speaker=voice if number % 2 else None) for number in range(6)]
    got = dict(bark.say_many(requests, batch_size=4))
    assert sorted(got) == list(range(6))
    for number, r in enumerate(requests):
        alone = bark.say(r.text, r.speaker, r.seed, r.semantic, r.coarse, r.fine)
        speech = got[number]
        assert isinstance(speech, Speech)
        assert (speech.semantic, speech.coarse, speech.fine) == (alone.semantic, alone.coarse, alone.fine)
        assert np.array_equal(speech.audio.samples, alone.audio.samples)
        assert speech.seed == number


def test_one_bad_request_fails_alone_with_its_sentence(bark: Bark) -> None:
    requests = [Request(" "), short(1, seed=-1), short(2, fine=CoarseSampling()), short(3), "no request"]
    got = dict(bark.say_many(requests, batch_size=2))  # type: ignore[arg-type]
    assert [isinstance(got[number], BarkError) for number in range(5)] == [True, True, True, False, True]
    words = ["empty", "seed must be", "FineSampling", "", "takes requests"]
    assert all(word in str(got[number]) for number, word in enumerate(words) if word)


def test_requests_are_taken_as_they_are_needed(bark: Bark) -> None:
    """A few batches at a time, so an endless list costs no memory."""
    taken = []

    def endless() -> Iterator[Request]:
        for number in itertools.count():
            taken.append(number)
            yield short(number)

    stream = bark.say_many(endless(), batch_size=1)
    assert taken == []
    next(stream)
    assert len(taken) <= 5


def test_it_counts_a_thousand_for_each_and_can_be_stopped(bark: Bark) -> None:
    seen = []
    requests = [short(number) for number in range(3)]
    list(bark.say_many(requests, batch_size=2, on_step=lambda done, total: seen.append((done, total))))
    assert {total for _, total in seen} == {3_000}
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 3_000

    def stop(done: int, total: int) -> None:
        if done > 500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(bark.say_many(requests, batch_size=2, on_step=stop))
    assert len(dict(bark.say_many(requests[:1]))) == 1, "stopped in the middle, and still whole"


def test_the_count_of_a_batch_never_stands_still(bark: Bark) -> None:
    """Rows of equal length, which all end at once: in every stage the count moves with their tokens and passes."""
    sampling = SemanticSampling(max_seconds=0.5, early_stop=False)
    seen: list[int] = []
    requests = [Request("Hello.", seed=number, semantic=sampling) for number in range(4)]
    assert len(dict(bark.say_many(requests, 4, lambda done, total: seen.append(done)))) == 4
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, 4_000)
    for stage, parts in (("text", 20), ("coarse", 60), ("fine", 6), ("codec", 8)):
        begin, end = 4_000 * along(stage, 0), 4_000 * along(stage, 1)
        inside = [begin, *(count for count in seen if begin < count < end), end]
        assert len(inside) > parts
        assert max(np.diff(inside)) <= (end - begin) / parts + 1


@pytest.mark.parametrize("reason", [BarkError("enough"), BarkInputError("no"), MemoryError(), ValueError("full")])
@pytest.mark.parametrize("limit", [0, 300, 1_000, 1_700, 1_970])
def test_whatever_on_step_raises_comes_out_as_it_is(bark: Bark, reason: Exception, limit: int) -> None:
    """In every stage: it is neither what became of a request nor memory that ran out."""
    asked: list[int] = []

    def stop(done: int, total: int) -> None:
        asked.append(done)
        if done >= limit:
            raise reason

    with pytest.raises(type(reason)) as raised:
        list(bark.say_many([short(1), short(2)], batch_size=2, on_step=stop))
    assert raised.value is reason
    assert sum(done >= limit for done in asked) == 1


def test_the_end_of_an_iteration_is_not_how_on_step_stops_one(bark: Bark) -> None:
    def stop(done: int, total: int) -> None:
        raise StopIteration

    with pytest.raises(BarkError, match=r"on_step raised StopIteration.*Raise any other exception to stop"):
        list(bark.say_many([short(1), short(2)], on_step=stop))


def test_whole_numbers_of_numpy_are_plain_ones_from_here_on(bark: Bark) -> None:
    sizes: Any = np.int64(2), np.uint8(2)
    for size in sizes:
        got = dict(bark.say_many([short(1, seed=np.int64(7)), short(2)], batch_size=size))
        assert [type(got[0].seed), got[0].seed] == [int, 7]  # type: ignore[union-attr]
        told = bark.estimate([short(1)] * 3, batch_size=size)
        assert told == bark.estimate([short(1)] * 3, batch_size=2)
        assert {type(told.bytes), type(told.working)} == {int}


def test_a_voice_with_ids_that_the_models_lack_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a family that was not known when it was made: nobody could tell then that its ids are none."""
    nano = Bark.load("nano")
    with monkeypatch.context() as before:
        before.delitem(spec_module._families, "nano")
        given: Any = np.arange(40) + 200, np.zeros((2, 60), int), np.zeros((8, 60), int)  # nano has 204 semantic ids
        voice = SpeakerPrompt(*given, name="old", family="nano")
    few = SemanticSampling(max_seconds=0.1)
    got = dict(nano.say_many([Request("Hello.", voice, semantic=few), Request("Hello.", semantic=few)]))
    assert isinstance(got[0], BarkInputError)
    assert "The semantic tokens of the speaker prompt 'old' must lie in 0 … 203" in str(got[0])
    assert isinstance(got[1], Speech)


def test_the_batch_size_is_checked_at_once_and_chosen_by_memory(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (0, -1, 1.5, True):
        with pytest.raises(BarkInputError, match="batch_size must be a whole number"):
            bark.say_many([], batch_size=size)  # type: ignore[arg-type]
        with pytest.raises(BarkInputError, match="batch_size must be a whole number"):
            bark.estimate([short(1)], batch_size=size)  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match="many requests, such as a list of them, not Request"):
        bark.say_many(short(1))  # type: ignore[arg-type]
    assert list(bark.say_many([])) == []
    shape = bark.models.text.shape
    assert bytes_per_row(bark, 16, bark.device, "float32") == 2 * shape.n_layer * (256 + 1 + 768) * shape.n_embd * 4  # type: ignore[union-attr]
    for room, rows in ((None, 16), (0, 1), (4 * 5 * bytes_per_row(bark, 16, bark.device, "float32"), 5), (10**12, 16)):
        monkeypatch.setattr(bark.manager.placement, "room", lambda device, room=room: room)
        assert rows_that_fit(bark, 16, bark.device, "float32") == rows


def test_precision_follows_the_requests_and_not_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free memory is another each time; the tokens of a list must not be."""
    bark = Bark.load("random", manager=ModelManager())
    asked: list[tuple[int, int]] = []

    def best(device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        return torch.bfloat16 if rows > 2 else torch.float32

    def decoded(network: Any, rows: Any, size: int, *rest: Any) -> list[BarkError | None]:
        asked.append((size, network.transformer.precision.itemsize))
        return run_rows(network, rows, size, *rest[:2])

    monkeypatch.setattr(bark.manager.placement, "best_dtype", best)
    monkeypatch.setattr(many_module, "decode_rows", decoded)
    for room in (0, None):
        monkeypatch.setattr(bark.manager.placement, "room", lambda device, room=room: room)
        for count in (2, 4):
            list(bark.say_many([short(number) for number in range(count)]))
    sizes = [size for size, _ in asked[::2]]
    widths = [width for _, width in asked[::2]]
    assert (sizes, widths) == ([1, 1, 2, 4], [4, 2, 4, 2])


def test_a_batch_for_which_memory_runs_out_gets_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    bark = Bark.load("random", manager=ModelManager())
    tried: list[int] = []

    def decoded(network: Any, rows: Any, size: int, *rest: Any) -> list[BarkError | None]:
        tried.append(size)
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_rows(network, rows, size, *rest[:2])

    requests = [short(number) for number in range(8)]
    wanted = dict(bark.say_many(requests, batch_size=2))
    monkeypatch.setattr(many_module, "decode_rows", decoded)
    got = dict(bark.say_many(requests, batch_size=8))
    assert tried == [8, 4, 2] * 2  # two stages
    assert all(got[number].fine == wanted[number].fine for number in range(8))  # type: ignore[union-attr]


def test_what_fails_in_the_fine_stage_fails_alone(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its neighbours shared their passes with it, and get what they get without it."""

    class Broken(FineRow):
        def __init__(self, coarse: CoarseTokens, spec: Any, speaker: Any, sampling: FineSampling, seed: int):
            super().__init__(coarse, spec, speaker, sampling, seed)
            self.seed = seed

        def take(self, number: int, codebook: int, logits: torch.Tensor) -> torch.Tensor:
            if self.seed == 2 and codebook == 4:
                raise BarkError("no code")
            return super().take(number, codebook, logits)

    requests = [short(number, fine=FineSampling(pad=False)) for number in range(4)]
    wanted = dict(bark.say_many(requests, batch_size=4))
    monkeypatch.setattr(many_module, "FineRow", Broken)
    counts: list[int] = []
    got = dict(bark.say_many(requests, batch_size=4, on_step=lambda done, total: counts.append(done)))
    assert [str(got[2]), len(got)] == ["no code", 4]
    assert all(got[number].fine == wanted[number].fine for number in (0, 1, 3))  # type: ignore[union-attr]
    assert counts == sorted(counts), "what is done again is not counted back"
    assert counts[-1] == 4_000


def test_what_fails_late_fails_alone(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeches that are finished are not lost when memory runs out behind them."""
    real, decoded = bark.decode, []

    def decode(*given: Any) -> Any:
        decoded.append(given)
        if len(decoded) == 2:
            raise BarkMemoryError("no room")
        return real(*given)

    monkeypatch.setattr(bark, "decode", decode)
    outcomes = list(bark.say_many([short(number) for number in range(3)]))
    assert [type(outcome).__name__ for _, outcome in outcomes] == ["Speech", "BarkMemoryError", "Speech"]


def test_a_stage_without_room_is_what_became_of_each(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(many_module, "decode_rows", no_room)
    outcomes = dict(bark.say_many([Request(" "), short(1), short(2)]))
    assert "empty" in str(outcomes[0])
    assert all(isinstance(outcomes[number], BarkMemoryError) for number in (1, 2))
