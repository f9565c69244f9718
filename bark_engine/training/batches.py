"""Which examples make up which batch: drawn, sorted by length, put together.

Nothing here has a state that must be saved: batch n is a function of the seed, the data and n. The clips are walked
through in an order that is shuffled anew in every epoch. A pool of examples large enough for `POOL` batches is sorted
by length and cut, so that little padding is needed; the batches of a pool come in random order.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from ..spec import BarkSpec
from ..text import Tokenizer, text_to_ids
from .clips import Clip, ClipFolder
from .layouts import Example, IntArray, draw_coarse_example, draw_fine_example, semantic_example

POOL = 8  # batches that are sorted together
VALIDATION_SEED = 20_230_420  # any number; fixed, so that the losses of different runs can be compared
MEASURED_CLIPS = 64  # from whose lengths the size of a pool is worked out

_ORDER, _POOL, _VALIDATION, _LENGTHS = range(4)  # what a random stream is for


class ExampleSource:
    """Draws examples of one stage from a data folder.

    `history` is how often a clip is given another clip of its speaker, `history_seconds` how much of its end at most
    (0: all). `tokenizer` is needed by the semantic stage.
    """

    def __init__(
        self,
        folder: ClipFolder,
        spec: BarkSpec,
        history: float,
        tokenizer: Tokenizer | None = None,
        history_seconds: float = 0.0,
    ):
        self.folder = folder
        self.spec = spec
        self._history = history
        self._history_seconds = history_seconds
        self._tokenizer = tokenizer
        self._text_ids: dict[int, IntArray] = {}

    def draw(self, number: int, rng: np.random.Generator) -> Example:
        """One example of a clip: with a history or without, one of its passes, for fine one of its codebooks."""
        clip = self.folder.clips[number]
        history = self.folder.history_for(number, self._history, rng)
        if history is not None and self._history_seconds:
            history = history.end(self._history_seconds, self.spec)
        if self.folder.stage == "semantic":
            return semantic_example(clip, history, self._text(number, clip), self.spec)
        if self.folder.stage == "coarse":
            return draw_coarse_example(clip, history, self.spec, rng)
        return draw_fine_example(clip, history, self.spec, rng)

    def _text(self, number: int, clip: Clip) -> IntArray:
        if number not in self._text_ids:
            assert self._tokenizer is not None
            self._text_ids[number] = text_to_ids(clip.text, self._tokenizer, self.spec)
        return self._text_ids[number]

    def validation(self, clips: int) -> list[Example]:
        """The examples that are measured: one of each of `clips` validation clips, always the same ones."""
        numbers = self.folder.split("validation")
        rng = np.random.default_rng([VALIDATION_SEED, _VALIDATION])
        chosen = sorted(rng.permutation(numbers)[:clips].tolist())
        return [self.draw(number, np.random.default_rng([VALIDATION_SEED, _VALIDATION, number])) for number in chosen]


class BatchStream:
    """The endless sequence of training batches of a seed; `batch(n)` can be asked for in any order.

    `numbers` are the clips that are learned from. `batch_positions` is about how many positions a batch has.
    """

    def __init__(self, source: ExampleSource, numbers: Sequence[int], batch_positions: int, seed: int):
        self._source, self._numbers, self._seed = source, np.asarray(numbers), seed
        rng = np.random.default_rng([seed, _LENGTHS])
        mean = np.mean([source.draw(int(clip), rng).length for clip in rng.choice(self._numbers, size=MEASURED_CLIPS)])
        self._pool_size = max(POOL, round(POOL * batch_positions / float(mean)))
        self._latest: tuple[int, list[list[Example]]] = (-1, [])

    def batch(self, number: int) -> list[Example]:
        """The examples of batch `number`, from 0."""
        pool = number // POOL
        if self._latest[0] != pool:
            self._latest = (pool, self._make_pool(pool))
        return self._latest[1][number % POOL]

    def _make_pool(self, pool: int) -> list[list[Example]]:
        rng = np.random.default_rng([self._seed, _POOL, pool])
        first = pool * self._pool_size
        clips = self._clips(first, first + self._pool_size)
        examples = sorted((self._source.draw(clip, rng) for clip in clips), key=lambda example: example.length)
        batches = cut_evenly(examples, POOL)
        return [batches[place] for place in rng.permutation(POOL)]

    def _clips(self, first: int, last: int) -> list[int]:
        """Clips `first` … `last` − 1 of all epochs one after another."""
        size = len(self._numbers)
        chosen: list[int] = []
        for epoch in range(first // size, (last - 1) // size + 1):
            order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(self._numbers)
            chosen += order[max(0, first - epoch * size) : last - epoch * size].tolist()
        return chosen


def cut_evenly(examples: list[Example], parts: int) -> list[list[Example]]:
    """Cut a list into `parts` pieces with about equal numbers of positions, none of them empty."""
    ends = np.cumsum([example.length for example in examples])
    steps = np.arange(1, parts)
    cuts = np.searchsorted(ends, ends[-1] * steps / parts)
    cuts = np.maximum.accumulate(np.maximum(cuts, steps) - steps) + steps  # each at least one after the one before
    cuts = np.minimum(cuts, len(examples) - parts + steps)
    bounds = [0, *cuts.tolist(), len(examples)]
    return [examples[first:last] for first, last in itertools.pairwise(bounds)]


def cut_by_size(examples: list[Example], batch_positions: int) -> list[list[Example]]:
    """Sort by length and cut into batches of about `batch_positions` positions; for validation."""
    if not examples:
        return []
    ordered = sorted(examples, key=lambda example: example.length)
    total = sum(example.length for example in ordered)
    return cut_evenly(ordered, min(len(ordered), max(1, round(total / batch_positions))))
