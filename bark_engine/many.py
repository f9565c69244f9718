"""Many texts, one batch: `Request`, and the way of a list of them through all stages (`Bark.say_many`).

Requests are taken in groups. A group goes through one stage after another, so that each stage is on its device once;
within a stage the rows of the batch change as in batch.py, the longest first, so that they end at about one time.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .audio import Audio
from .batch import Row
from .coarse import CoarseRow
from .errors import BarkError, BarkInputError, BarkMemoryError
from .fine import FineRow, fill_windows
from .graphs import decode_rows
from .memory import is_out_of_memory
from .precision import cache_dtype
from .progress import OnStep, Stopped, along, guarded, silent
from .sampling import CoarseSampling, FineSampling, SemanticSampling, check_seed, require_sampling
from .semantic import SemanticRow
from .speaker import SpeakerPrompt
from .speech import Speech
from .tokens import CoarseTokens, FineTokens, SemanticTokens
from .transformer import CausalTransformer, NetworkShape, cache_bytes

if TYPE_CHECKING:
    from .bark import Bark

log = logging.getLogger(__name__)

GROUP = 4  # batches that go through the stages together
FINE_ROWS = 4  # windows in one pass of the fine stage: enough to fill a processor, and little memory
MOST_ROWS = {"cuda": 32}  # of a batch whose size nobody gave; elsewhere OTHER_ROWS
OTHER_ROWS = 16
SHARE_OF_MEMORY = 0.25  # of what could be had, for the rows of such a batch

T = TypeVar("T")
Outcome = T | BarkError


@dataclass(frozen=True, slots=True)
class Request:
    """One text to be spoken, with a voice, seed and sampling of its own: the arguments of `Bark.say`."""

    text: str
    speaker: SpeakerPrompt | None = None
    seed: int = 0
    semantic: SemanticSampling = SemanticSampling()
    coarse: CoarseSampling = CoarseSampling()
    fine: FineSampling = FineSampling()

    def check(self) -> None:
        """Raise BarkInputError for arguments of the wrong kind."""
        kinds = (self.semantic, SemanticSampling), (self.coarse, CoarseSampling), (self.fine, FineSampling)
        for sampling, wanted in kinds:
            require_sampling(sampling, wanted)
        check_seed(self.seed)


def say_many(
    bark: "Bark", requests: Iterable[Request], batch_size: int | None, on_step: OnStep | None
) -> Iterator[tuple[int, Speech | BarkError]]:
    """See `Bark.say_many`."""
    if not isinstance(requests, Iterable):
        raise BarkInputError(f"say_many takes many requests, such as a list of them, not {type(requests).__name__}.")
    return _until_stopped(bark, requests, checked_batch_size(batch_size), on_step or silent)


def checked_batch_size(batch_size: Any) -> int | None:
    """A number of rows as a plain whole number, or None; refuses what is neither (BarkInputError)."""
    if batch_size is None:
        return None
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or int(batch_size) < 1:
        raise BarkInputError(f"batch_size must be a whole number of 1 or more, or None; {batch_size!r} was given.")
    return int(batch_size)


def _until_stopped(
    bark: "Bark", requests: Iterable[Request], batch_size: int | None, on_step: OnStep
) -> Iterator[tuple[int, Speech | BarkError]]:
    """All groups; what `on_step` raises is never taken for what became of a request, and comes out as it is."""
    try:
        yield from _groups(bark, requests, batch_size, guarded(on_step))
    except Stopped as stop:
        if isinstance(stop.reason, StopIteration):
            raise BarkError(
                "on_step raised StopIteration, which whoever asks for the speeches would take for their end. Raise any "
                "other exception to stop."
            ) from stop.reason
        raise stop.reason from stop.reason.__cause__


def _groups(
    bark: "Bark", requests: Iterable[Request], batch_size: int | None, on_step: OnStep
) -> Iterator[tuple[int, Speech | BarkError]]:
    total = len(requests) if isinstance(requests, Sized) else 0
    following, first = iter(requests), 0
    most = batch_size or most_rows(bark.device)
    group = list(islice(following, GROUP * most))
    rows = min(most, len(group))
    size = rows if batch_size else rows_that_fit(bark, rows, bark.device, bark.wanted_dtype)
    if size < rows:
        log.info("Memory for %d of %d texts at a time.", size, rows)
    while group:
        known = max(total, first + len(group))
        for number, outcome in _Group(bark, group, rows, size, _Report(on_step, first, len(group), known)).speak():
            yield first + number, outcome
        first += len(group)
        group = list(islice(following, GROUP * most))


def most_rows(device: torch.device) -> int:
    """How many rows a batch has at most whose size nobody gave."""
    return MOST_ROWS.get(device.type, OTHER_ROWS)


def rows_that_fit(bark: "Bark", rows: int, device: torch.device, dtype: str) -> int:
    """How many of so many rows may share a step so that their caches take SHARE_OF_MEMORY at most; at least 1.

    Counted is what a stage could have on the device if everything that is idle made way for it; `dtype` is the name of
    a precision.
    """
    room = bark.manager.placement.room(device)
    if room is None:
        return rows
    return max(1, min(rows, int(SHARE_OF_MEMORY * room) // bytes_per_row(bark, rows, device, dtype)))


def bytes_per_row(bark: "Bark", rows: int, device: torch.device, dtype: str) -> int:
    """Keys and values of one of so many rows at its longest, in the stage where that is more."""
    spec = bark.spec
    stages = (bark.models.text, spec.text_positions), (bark.models.coarse, spec.coarse_positions)
    return max(
        cache_bytes(file.shape, positions, cache_dtype(bark.manager.dtype(dtype, device, file, rows), device, rows))
        for file, positions in stages
        if isinstance(file.shape, NetworkShape)
    )


class _Report:
    """How far each request of a group is on its way, told as one count of 1,000 for each request of all groups."""

    def __init__(self, on_step: OnStep, first: int, group: int, requests: int):
        self._on_step, self._first, self._requests = on_step, first, requests
        self._along = [0.0] * group

    def __call__(self, stage: str, parts: Mapping[int, float]) -> None:
        """So much (0 … 1) of a stage is done, by the number of the request. Where it is run again, nobody goes back."""
        for number, part in parts.items():
            self._along[number] = max(self._along[number], along(stage, part))
        self.tell()

    def end(self, number: int) -> None:
        """A request has come to its end, whatever became of it."""
        self._along[number] = 1.0

    def tell(self) -> None:
        """Call `on_step`."""
        self._on_step(round(1_000 * (self._first + sum(self._along))), 1_000 * self._requests)


@dataclass(frozen=True)
class _Group:
    """Some requests on their way through the stages; an outcome is what a stage made, or why it could not.

    A batch of `rows` was asked for, which decides the precision; memory allows `size` of them at a time.
    """

    bark: "Bark"
    requests: Sequence[Request]
    rows: int
    size: int
    report: _Report

    def speak(self) -> Iterator[tuple[int, Speech | BarkError]]:
        """All of the group, as they finish."""
        for number, outcome in self._outcomes():
            self.report.end(number)
            yield number, outcome
        self.report.tell()

    def _outcomes(self) -> Iterator[tuple[int, Speech | BarkError]]:
        semantic = self._semantic(self._texts())
        coarse = self._coarse(semantic)
        for number, outcome in enumerate(coarse):
            if isinstance(outcome, BarkError):
                yield number, outcome
        good = [number for number, outcome in enumerate(coarse) if not isinstance(outcome, BarkError)]
        for start in range(0, len(good), FINE_ROWS):
            numbers = good[start : start + FINE_ROWS]
            for number, tokens in zip(numbers, self._fine(numbers, coarse, len(numbers)), strict=True):
                audio = tokens if isinstance(tokens, BarkError) else _attempt(self._decode, number, tokens)
                made: Any = (audio, semantic[number], coarse[number], tokens, int(self.requests[number].seed))
                yield number, audio if isinstance(audio, BarkError) else Speech(*made)

    def _decode(self, number: int, tokens: FineTokens) -> Audio:
        return self.bark.decode(tokens, lambda done, total: self.report("codec", {number: done / total}))

    def _texts(self) -> list[Any]:
        """The ids of each text."""

        def ids(request: Request) -> Any:
            if not isinstance(request, Request):
                raise BarkInputError(f"say_many takes requests, Request(text, …), not {type(request).__name__}.")
            return self.bark.check_request(request)

        return [_attempt(ids, request) for request in self.requests]

    def _semantic(self, texts: Sequence[Any]) -> list[Outcome[SemanticTokens]]:
        def row(network: CausalTransformer, number: int) -> SemanticRow:
            request = self.requests[number]
            return SemanticRow(texts[number], self.bark.spec, request.speaker, request.semantic, request.seed)

        lengths = [0 if isinstance(ids, BarkError) else len(ids) for ids in texts]
        return self._run("text", texts, row, lengths, lambda rows: self.bark.spec.text_positions, _part_of_text)

    def _coarse(self, semantic: Sequence[Outcome[SemanticTokens]]) -> list[Outcome[CoarseTokens]]:
        def row(network: CausalTransformer, number: int) -> CoarseRow:
            request, tokens = self.requests[number], semantic[number]
            assert isinstance(tokens, SemanticTokens)
            given: Any = (tokens, self.bark.spec, request.speaker, request.coarse, request.seed)
            return CoarseRow(*given, continues=not network.exact)

        lengths = [0 if isinstance(tokens, BarkError) else len(tokens) for tokens in semantic]
        return self._run("coarse", semantic, row, lengths, lambda rows: max(r.positions for r in rows), _part_of_coarse)

    def _run(
        self,
        stage: str,
        given: Sequence[Any],
        row_of: Callable[[CausalTransformer, int], Any],
        lengths: Sequence[int],
        positions: Callable[[Sequence[Any]], int],
        part_of: Callable[[Any], float],
    ) -> list[Any]:
        """A causal stage for all requests that have come so far; the errors of the others stay where they are.

        `part_of` tells how much of the stage is done for a row.
        """
        outcomes = list(given)
        numbers = [number for number, outcome in enumerate(given) if not isinstance(outcome, BarkError)]
        numbers.sort(key=lambda number: -lengths[number])
        if not numbers:
            return outcomes

        def job(network: Any, frugal: bool) -> list[Any]:
            def run(size: int) -> list[Any]:
                rows: list[Row] = [row_of(network, number) for number in numbers]

                def watch() -> None:
                    parts = (part_of(one) for one in rows)
                    self.report(stage, dict(zip(numbers, parts, strict=True)))

                graphs = self.bark.graphs and not frugal
                failures = decode_rows(network, rows, size, positions(rows), watch, graphs)
                return [
                    failure or _attempt(lambda row: row.result(), row)  # type: ignore[attr-defined]
                    for failure, row in zip(failures, rows, strict=True)
                ]

            return _with_fewer_rows(run, self.size // 2) if frugal else run(self.size)

        made = _attempt(self.bark.run_stage, stage, job, self.rows, self.size)
        for place, number in enumerate(numbers):
            outcomes[number] = made if isinstance(made, BarkError) else made[place]
        return outcomes

    def _fine(self, numbers: Sequence[int], coarse: Sequence[Any], rows: int) -> list[Outcome[FineTokens]]:
        """The fine stage for some requests, which share its passes; `rows` of them decide the precision.

        Where one of them goes wrong, each is run by itself, so that it fails alone.
        """

        def row(number: int) -> FineRow:
            request = self.requests[number]
            return FineRow(coarse[number], self.bark.spec, request.speaker, request.fine, request.seed)

        def job(network: Any, frugal: bool) -> list[FineTokens]:
            made = {number: row(number) for number in numbers}
            for chosen in ([number] for number in numbers) if frugal else (numbers,):

                def watch(done: int, total: int, chosen: Sequence[int] = chosen) -> None:
                    self.report("fine", dict.fromkeys(chosen, done / total))

                fill_windows(network, [made[number] for number in chosen], self.bark.spec, watch)
            return [one.result() for one in made.values()]

        made = _attempt(self.bark.run_stage, "fine", job, rows, len(numbers))
        if not isinstance(made, BarkError):
            return list(made)
        if len(numbers) == 1 or isinstance(made, BarkMemoryError):  # which was tried one by one already
            return [made] * len(numbers)
        return [outcome for number in numbers for outcome in self._fine([number], coarse, rows)]


def _with_fewer_rows(run: Callable[[int], T], rows: int) -> T:
    """What `run(rows)` gives, with half as many rows for as long as memory runs out."""
    while rows > 1:
        try:
            return run(rows)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        gc.collect()  # outside of the handler, whose traceback holds the tensors of the failed run
        rows //= 2
        log.warning("Still too little memory; going on with %d rows.", rows)
    return run(1)


def _part_of_text(row: SemanticRow) -> float:
    """How much of the text stage is done, 0 … 1, of the longest that this speech can become."""
    return 1.0 if row.finished else len(row.tokens) / (len(row.tokens) + row.ahead)


def _part_of_coarse(row: CoarseRow) -> float:
    """How much of the coarse stage is done, 0 … 1."""
    return row.step / row.total


def _attempt(job: Callable[..., T], *given: Any) -> Outcome[T]:
    try:
        return job(*given)
    except BarkError as error:
        return error
