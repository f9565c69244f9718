"""Many speeches at once: rows of a batch that begin, go on and end each at its own time.

A row that ends leaves, and the next one that waits takes its place, so the batch stays full. Each row has its own
random numbers and sees only what it would see alone: in float32 its tokens are those it gets alone, unless two logits
are equal to within rounding. What a row is (its prompt, how it draws, when it ends) is the stage's business:
`SemanticRow`, `CoarseRow`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .errors import BarkError
from .transformer import CausalTransformer, RowCache

OnPass = Callable[[], None]  # called before every pass of the whole batch, and before every layer of a long one


class Row(Protocol):
    """One sequence of a causal stage."""

    @property
    def finished(self) -> bool:
        """Whether it is complete."""
        ...

    @property
    def wants_prompt(self) -> bool:
        """Whether everything is read anew before the next token."""
        ...

    @property
    def latest(self) -> int:
        """The last token taken."""
        ...

    def prompt(self, network: CausalTransformer) -> Tensor:
        """What is read then, as embeddings `[1, T, H]`."""
        ...

    def candidates(self, network: CausalTransformer) -> tuple[int, int]:
        """The rows of the head whose logits are drawn from."""
        ...

    def take(self, logits: Tensor) -> None:
        """Draw the next token from them, `[V]`."""
        ...


def run_rows(
    network: CausalTransformer, rows: Sequence[Row], size: int, positions: int, on_pass: OnPass
) -> list[BarkError | None]:
    """Run rows until all are finished, `size` of them at a time, in their order; gives what went wrong with each.

    `positions` is the most that one of them needs in the cache. `on_pass()` may raise to stop. A row that raises
    BarkError is taken out, and the others go on.
    """
    size = min(size, len(rows))
    failures: list[BarkError | None] = [None] * len(rows)
    following = iter(range(len(rows)))
    active: list[int] = []  # numbers of the rows in the batch, by their place in the cache
    with torch.inference_mode():
        cache = network.new_rows(size, positions)
        hidden = torch.zeros(size, network.shape.n_embd, device=cache.keys.device)
        while True:
            while len(active) < size and (number := next(following, None)) is not None:
                active.append(number)
            if not active:
                return failures
            cache.rows = len(active)
            on_pass()
            for place, number in enumerate(active):
                if rows[number].wants_prompt:
                    hidden[place] = _read_prompt(network, cache, place, rows[number], on_pass)
            errors = _take_all(network, hidden, [rows[number] for number in active])
            for place, error in enumerate(errors):
                failures[active[place]] = error
                if error:
                    cache.clear(place)
            _close_gaps(cache, active, [place for place, n in enumerate(active) if rows[n].finished or errors[place]])
            if active:  # also those that will read a prompt next: one position in sixty that nobody needs
                ids = torch.tensor([[rows[number].latest] for number in active], device=cache.keys.device)
                hidden[: len(active)] = network.step_rows(network.embed(ids), cache)


def _read_prompt(network: CausalTransformer, cache: RowCache, place: int, row: Row, on_pass: OnPass) -> Tensor:
    """The prefill of one row, by itself; the hidden state `[H]` after it."""
    prompt = row.prompt(network)
    alone = cache.row(place, prompt.shape[1])
    hidden = network(prompt, alone, on_pass)[0]
    cache.lengths[place] = alone.length
    return hidden


def _take_all(network: CausalTransformer, hidden: Tensor, rows: Sequence[Row]) -> list[BarkError | None]:
    """Let each row draw from its logits; those that look at the same part of the head share one product."""
    errors: list[BarkError | None] = [None] * len(rows)
    parts: dict[tuple[int, int], list[int]] = {}
    for place, row in enumerate(rows):
        parts.setdefault(row.candidates(network), []).append(place)
    for (first, last), places in parts.items():
        logits = network.logits(hidden[places], first, last).cpu()
        for place, own in zip(places, logits, strict=True):
            try:
                rows[place].take(own)
            except BarkError as error:
                errors[place] = error
    return errors


def _close_gaps(cache: RowCache, active: list[int], done: Sequence[int]) -> None:
    """Take the finished rows out and put the last ones in their places."""
    for place in reversed(done):
        last = len(active) - 1
        if place != last:
            cache.move(last, place)
            active[place] = active[last]
        active.pop()
    cache.rows = len(active)
