"""Where speech ended and a tail began: `find_tail` and `trim_tail`, to be used before the coarse stage is paid for.

Bark now and then goes on after the text: it falls silent, holds a sound, says the same again and again, or babbles.
Three signs are looked for; the earliest that is found is where speech ended.

- the end was seen: at a step the end token was likely (the trace tells), but the speech went on;
- stillness: to the end of the clip there are hardly any but a few ids, as in silence or a held sound;
- a loop: to the end of the clip the same stretch comes again and again.

The last two need no trace and know nothing about what an id means, so they serve every family. Babble that neither
repeats itself nor is still can be told from speech by the trace alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BarkInputError
from .spec import numbers_of
from .tokens import IntArray, SemanticTokens, require_type
from .trace import Trace

DEFAULT_STRICTNESS = 0.5

# Strictness 0 … 1 moves each bound from its first value to its second, in equal ratios. In the middle: Suno's own
# min_eos_p, and a second and a half, longer than the pause at the end of nearly all of Suno's own speaker prompts.
END_PROBABILITY = 0.8, 0.05
TAIL_SECONDS = 3.0, 0.75  # of stillness, or of repetition after the first time, before it counts

FIRST_SECONDS = 0.2  # an end that is seen sooner than this after the beginning is none: a clip must remain
BREATH_SECONDS = 0.1  # of stillness stay behind the speech, so that its last sound can fade

STILL_IDS = 3  # that a stillness is made of, at most; they come in any order
STILL_SHARE = 0.8  # of its tokens that are of these ids, at least
STILL_MISS = 2.0  # what a token of another id counts against one that fits
HELD_SECONDS = 0.3  # an id for as long as this is held: no part of a loop, and of a stillness if it is right before it

LOOP_SECONDS = 3.0  # the longest stretch whose repetition is looked for
LOOP_WITHIN = 600.0  # seconds up to the end in which a loop is looked for: a longer one loses only its last part
LOOP_APART = 1_024  # places between a stretch and its repetition, at most; all of them in a speech of one piece
LOOP_TIMES = 2  # that it comes again after the first, at least
LOOP_MISS = 1.5  # what a place counts that differs, is missing or is too much, against one that agrees


@dataclass(frozen=True, slots=True)
class Tail:
    """What was found: `step` tokens are speech, which are `seconds`; `reason` is a sentence, also where nothing is cut.

    cut: whether something follows that should go. Without, `step` is the number of all tokens.
    """

    step: int
    seconds: float
    reason: str
    cut: bool

    def as_dict(self) -> dict[str, Any]:
        """The form in which `Trace.tail` carries it."""
        return asdict(self)


def trim_tail(
    tokens: SemanticTokens, trace: Trace | None = None, strictness: float = DEFAULT_STRICTNESS
) -> tuple[SemanticTokens, Tail]:
    """The tokens `[T]` without their tail, and what `find_tail` found. Raises what `find_tail` raises."""
    tail = find_tail(tokens, trace, strictness)
    return (SemanticTokens(tokens.ids[: tail.step], tokens.family) if tail.cut else tokens), tail


def find_tail(tokens: SemanticTokens, trace: Trace | None = None, strictness: float = DEFAULT_STRICTNESS) -> Tail:
    """Where the speech in semantic tokens `[T]` ends; `trace` is that of the same tokens.

    strictness: 0 never finds a tail, 1 is quick to; see the bounds in this file. Raises BarkInputError for another
    strictness, and for a trace of other tokens.
    """
    require_type(tokens, SemanticTokens, "Trim Tail")
    if isinstance(strictness, bool) or not isinstance(strictness, Real) or not 0 <= strictness <= 1:
        raise BarkInputError(f"strictness must be a number of 0 (never) … 1 (strict); {strictness!r} was given.")
    if trace is not None:
        _require_same(tokens, trace)
    search = _Search(tokens, strictness)
    if not strictness:
        return search.nothing("Nothing is cut: strictness 0 never does.")
    found = [search.end_seen(trace), search.stillness(), search.loop()]
    tails = [tail for tail in found if tail is not None]
    if not tails:
        return search.nothing(_no_tail(trace))
    return min(tails, key=lambda tail: tail.step)


def _no_tail(trace: Trace | None) -> str:
    seen = "the model did not see the end before, and " if trace is not None else ""
    return f"Nothing is cut: {seen}the clip ends neither still nor in a loop."


def _require_same(tokens: SemanticTokens, trace: Trace) -> None:
    if not isinstance(trace, Trace):
        raise BarkInputError(f"The trace must be a Trace, not {type(trace).__name__}; a stage records one.")
    if trace.kind != "semantic" or trace.family != tokens.family or trace.probability.shape != tokens.shape:
        raise BarkInputError(
            f"The trace is of {trace.probability.shape[-1]:,} {trace.kind} tokens of the family {trace.family!r}, but "
            f"there are {len(tokens):,} semantic tokens of the family {tokens.family!r}. Give the trace that was "
            "recorded with these tokens, before anything was cut out of them, or none."
        )


class _Search:
    """The three signs in one clip; each method gives a Tail, or None where there is no such sign."""

    def __init__(self, tokens: SemanticTokens, strictness: float):
        self._ids, self._strictness = tokens.ids, strictness
        self._rate = numbers_of(tokens.family).semantic_rate
        self._shortest = self._steps(self._bound(TAIL_SECONDS))

    def nothing(self, reason: str) -> Tail:
        """No tail."""
        return Tail(len(self._ids), self._seconds(len(self._ids)), reason, cut=False)

    def end_seen(self, trace: Trace | None) -> Tail | None:
        """The first step at which the end was likely."""
        if trace is None or trace.end_probability is None:
            return None
        enough, first = self._bound(END_PROBABILITY), self._steps(FIRST_SECONDS)
        likely = np.flatnonzero(trace.end_probability[first : len(self._ids)] >= enough)
        if not len(likely):
            return None
        step = first + int(likely[0])
        return self._tail(
            step,
            f"the model saw the end with probability {trace.end_probability[step]:.2g} ({enough:.2g} is enough at this "
            "strictness), but went on",
        )

    def stillness(self) -> Tail | None:
        """The stretch at the end that is made of a few ids."""
        last = self._ids[-self._shortest :]
        few = Counter(last.tolist()).most_common(STILL_IDS)
        if len(last) < self._shortest or sum(count for _, count in few) < STILL_SHARE * len(last):
            return None
        still = [number for number, _ in few]
        step = self._before_held(_best_suffix(np.isin(self._ids, still), STILL_MISS))
        if len(self._ids) - step < self._shortest or step < self._steps(FIRST_SECONDS):
            return None
        kept = min(step + self._steps(BREATH_SECONDS), len(self._ids))
        return self._tail(
            kept, f"there is hardly anything but the ids {', '.join(map(str, sorted(still)))}: silence or a held sound"
        )

    def _before_held(self, step: int) -> int:
        """The step before all ids that are held right before `step`."""
        while step > 0:
            others = np.flatnonzero(self._ids[:step] != self._ids[step - 1])
            start = int(others[-1]) + 1 if len(others) else 0
            if step - start < self._steps(HELD_SECONDS):
                break
            step = start
        return step

    def loop(self) -> Tail | None:
        """The stretch at the end in which something comes again and again, after its first time.

        Runs of one id count as one place, because a model that repeats itself does not hold every sound equally long.
        Only the last LOOP_WITHIN seconds are searched, so that an hour takes no more memory than ten minutes.
        """
        before = max(len(self._ids) - self._steps(LOOP_WITHIN), 0)
        places = before + np.flatnonzero(np.diff(self._ids[before:], prepend=-1))  # where each run starts
        again, first = _repeated_suffix(self._ids[places])
        if again == len(places):
            return None
        step, period = int(places[again]), int(places[again] - places[first])
        runs = np.diff(places[again:], append=len(self._ids))
        rest = int(runs[runs < self._steps(HELD_SECONDS)].sum())  # a sound that is held is no repetition
        if (
            rest < max(self._shortest, LOOP_TIMES * period)
            or period > self._steps(LOOP_SECONDS)
            or step < self._steps(FIRST_SECONDS)
        ):
            return None
        length, times = self._seconds(period), 1 + (len(self._ids) - step) / period
        return self._tail(step, f"the {length:.2f} s before it come again and again, {times:.0f} times in all")

    def _tail(self, step: int, why: str) -> Tail:
        seconds, rest = self._seconds(step), self._seconds(len(self._ids) - step)
        return Tail(step, seconds, f"Speech ends at {seconds:.2f} s, {rest:.2f} s are cut: {why}.", cut=True)

    def _bound(self, bounds: Sequence[float]) -> float:
        lax, strict = bounds
        return lax * (strict / lax) ** self._strictness

    def _steps(self, seconds: float) -> int:
        return math.ceil(seconds * self._rate)

    def _seconds(self, steps: int) -> float:
        return steps / self._rate


def _best_suffix(fits: npt.NDArray[np.bool_], miss: float) -> int:
    """Where the part up to the end begins in which most places fit, `[N]` booleans; N where in none they do.

    A place that does not fit counts `miss` times one that does; the part with the best sum is taken, the longest of
    equals.
    """
    if not len(fits):
        return 0
    sums = np.cumsum(np.where(fits, 1.0, -miss)[::-1])  # of the last 1, 2, … places
    best = len(sums) - 1 - int(sums[::-1].argmax())
    return len(fits) - 1 - best if sums[best] > 0 else len(fits)


def _repeated_suffix(places: IntArray) -> tuple[int, int]:
    """The longest part up to the end, `[N]`, that was there before: where it begins, and where its model does.

    Both may overlap, so a stretch that comes four times gives the last three, and the first three as their model.
    `(N, N)` where nothing is alike. This is a local alignment (Smith and Waterman) of the places with themselves, each
    only with the LOOP_APART before it: an agreement counts 1, anything else -LOOP_MISS. Time and memory grow with N,
    a kilobyte for each place, and nothing is missed where N is at most LOOP_APART.
    """
    count = len(places)
    scores = np.zeros(count + 1, dtype=np.float32)  # of the best alignment that ends before (row, column), for one row
    moves = np.zeros((count + 1, min(count, LOOP_APART)), dtype=np.uint8)  # by which each of them came there
    slope = LOOP_MISS * np.arange(min(count, LOOP_APART), dtype=np.float32)
    for row in range(1, count + 1):
        low, width = _columns(row)
        agree = np.where(places[low - 1 : row - 1] == places[row - 1], 1.0, -LOOP_MISS).astype(np.float32)
        both, skipped = scores[low - 1 : row - 1] + agree, scores[low:row] - LOOP_MISS
        best = np.maximum(np.maximum(both, skipped), 0.0) + slope[:width]
        best = np.maximum.accumulate(best) - slope[:width]  # skips in the model
        move = np.where(abs(skipped - best) < 1e-3, _UP, _LEFT)
        move[abs(both - best) < 1e-3] = _DIAGONAL
        moves[row, :width] = np.where(best > 0, move, _NONE)
        scores[low:row] = best
    low, _ = _columns(count)
    row, column = count, low + int(scores[low:].argmax())
    while 0 < column < row and (move := moves[row, column - _columns(row)[0]]) != _NONE:
        row, column = row - (move != _LEFT), column - (move != _UP)
    return (row, column) if row < count else (count, count)


_NONE, _DIAGONAL, _UP, _LEFT = np.arange(4, dtype=np.uint8)  # an alignment begins, or grows in both, tail or model


def _columns(row: int) -> tuple[int, int]:
    """The first column that may be a model for this row's place, and how many there are; the last is `row - 1`."""
    low = max(row - LOOP_APART, 1)
    return low, row - low
