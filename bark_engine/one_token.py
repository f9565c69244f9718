"""One token of several rows as one fixed sequence of tensor operations on buffers that stay where they are.

    hidden ─► logits ─► filter, temperature, draw ─► has it ended? ─► next ids ─► all layers over the cache ─► hidden

Nothing in it looks at a value or depends on one, so it can be recorded once and replayed for every token (graphs.py).
What a row draws is what it draws alone: `torch.multinomial` for one token is argmax(probabilities / q) with q drawn
from an exponential distribution, so q is drawn ahead on the CPU by the row's own generator, and the device divides.

Shape letters as in transformer.py; "rows" are those of the batch, S the tokens made between two looks at them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .transformer import CausalTransformer, NetworkShape, RowCache

NEVER = 2.0  # a probability that no end token has
BROKEN = -1  # stands for a token whose logits were not finite


@dataclass(frozen=True, slots=True)
class Head:
    """Which part of a network's head a stage draws from, and how often it looks at what was drawn.

    Rows `first … last` of the head are computed. They are `turns` groups of `width` ids, drawn from in turn; ids
    behind the last group are never drawn. `end` is the index of the end token, None where nothing ends by itself. At
    most `steps` tokens are made between two looks.
    """

    first: int
    last: int
    width: int
    turns: int
    steps: int
    end: int | None = None

    @property
    def ids(self) -> int:
        """How many ids can be drawn in all."""
        return self.width * self.turns


@dataclass(frozen=True, slots=True)
class DrawRule:
    """How a row draws its next tokens.

    rng: where its random numbers come from, one draw over `candidates` ids for each token. temperature: 0 or None
    always takes the likeliest. ends_at: the probability of the end token from which on the row ends, or `NEVER`. turn:
    the group of the head that comes next.
    """

    rng: torch.Generator
    temperature: float | None
    candidates: int
    ends_at: float = NEVER
    turn: int = 0


class StaticRows(RowCache):
    """A `RowCache` whose memory is all there from the start and which is read up to an end that somebody else sets.

    Rows with `moving` False stand still: what they write lands on one place that nobody sees.
    """

    def __init__(self, shape: NetworkShape, batch: int, device: torch.device, dtype: torch.dtype):
        super().__init__(shape, batch, shape.block_size, device, dtype)
        self._reserve(shape.block_size)
        self.moving = torch.zeros(batch, dtype=torch.bool, device=device)

    def read_up_to(self, rows: int, end: int) -> None:
        """From now on the first `rows` are in use, and read up to position `end`, which no row in use reaches."""
        self.rows, self._end = rows, end

    def begin_step(self) -> Tensor:
        """As `RowCache.begin_step`, without a look at the lengths."""
        positions = self.lengths[: self.rows]
        self.mask = (self._places[: self._end] <= positions[:, None])[:, None, None]  # [rows, 1, 1, end]
        return positions

    def end_step(self) -> None:
        """Count the new position of each row that moves. A row that is full is over, and stays at its last one."""
        lengths = self.lengths[: self.rows]
        lengths.add_(self.moving[: self.rows]).clamp_(max=len(self._places) - 1)


class Buffers:
    """Everything that one token reads and writes, for up to `batch` rows of one network.

    tokens: what was drawn, `[S, B]`; `Head.end` from a row's end on, `BROKEN` where its logits were not finite.
    """

    def __init__(self, network: CausalTransformer, head: Head, batch: int):
        device = network.lm_head.weight.device
        self.head, self.batch = head, batch
        self.cache = StaticRows(network.shape, batch, device, network.cache_dtype(batch))
        self.hidden = torch.zeros(batch, network.shape.n_embd, device=device)
        self.noise = torch.ones(batch, head.steps, head.width, device=device)
        self.tokens = torch.zeros(head.steps, batch, dtype=torch.int64, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)
        self.turn = torch.zeros(batch, dtype=torch.int64, device=device)
        self.temperature = torch.ones(batch, device=device)
        self.likeliest = torch.zeros(batch, dtype=torch.bool, device=device)  # whether it is always taken
        self.candidates = torch.zeros(batch, dtype=torch.int64, device=device)
        self.ends_at = torch.full((batch,), NEVER, device=device)
        self.numbers = torch.arange(batch, device=device)
        self.indices = torch.arange(head.width, device=device)

    def set_rule(self, place: int, rule: DrawRule) -> None:
        """Let the row at a place draw like this from now on, and move."""
        self.turn[place] = rule.turn
        self.temperature[place] = rule.temperature or 1.0
        self.likeliest[place] = not rule.temperature
        self.candidates[place] = rule.candidates
        self.ends_at[place] = rule.ends_at
        self.cache.moving[place] = True

    def move(self, source: int, target: int, length: int) -> None:
        """Put the row at one place, with `length` positions, in another."""
        one_each = (self.hidden, self.turn, self.temperature, self.likeliest, self.candidates, self.ends_at)
        for values in (*one_each, self.cache.lengths, self.cache.moving):
            values[target] = values[source]
        for part in (self.cache.keys, self.cache.values):
            part[:, target, :, :length] = part[:, source, :, :length]

    def stand_still(self) -> None:
        """Make all places idle."""
        self.cache.moving.zero_()
        self.cache.lengths.zero_()


def one_token(network: CausalTransformer, buffers: Buffers, rows: int, end: int) -> None:
    """Draw a token for each of the first `rows`, keep it, and read it into the cache, which is seen up to `end`."""
    logits = head_logits(network, buffers, rows)
    tokens, ids = draw_on_device(buffers, logits)
    keep(buffers, tokens)
    buffers.cache.read_up_to(rows, end)
    buffers.hidden[:rows] = network.step_rows(network.embed(ids[:, None]), buffers.cache)


def head_logits(network: CausalTransformer, buffers: Buffers, rows: int) -> Tensor:
    """The logits `[rows, width]` that come next: of each row's own turn."""
    head = buffers.head
    logits = network.logits(buffers.hidden[:rows], head.first, head.last)[:, : head.ids]
    if head.turns == 1:
        return logits
    return logits.view(rows, head.turns, head.width)[buffers.numbers[:rows], buffers.turn[:rows]]


def draw_on_device(buffers: Buffers, logits: Tensor) -> tuple[Tensor, Tensor]:
    """From logits `[rows, width]` the tokens as they are kept, `[rows]`, and the ids that the network reads next.

    The numbers are those of `sampling.probabilities` and `sampling.draw`. Rows that end or break stop moving.
    """
    head, rows = buffers.head, len(logits)
    moving = buffers.cache.moving[:rows]
    broken = ~logits.isfinite().all(dim=-1)
    logits = logits.masked_fill(buffers.indices >= buffers.candidates[:rows, None], -torch.inf)
    distribution = torch.softmax(logits / buffers.temperature[:rows, None], dim=-1)
    certain = (buffers.indices == logits.argmax(dim=-1, keepdim=True)).to(distribution.dtype)
    distribution = torch.where(buffers.likeliest[:rows, None], certain, distribution)
    noise = buffers.noise[:rows].index_select(1, buffers.step)[:, 0]
    tokens = (distribution / noise).argmax(dim=-1)
    if head.end is not None:
        ends = (tokens == head.end) | (distribution[:, head.end] >= buffers.ends_at[:rows])
        tokens = tokens.masked_fill(ends | ~moving, head.end)
        moving.logical_and_(~ends | broken)
    ids = tokens + head.first + head.width * buffers.turn[:rows]
    tokens = tokens.masked_fill(broken & moving, BROKEN)
    moving.logical_and_(~broken)
    return tokens, ids.masked_fill(~moving, head.first)


def keep(buffers: Buffers, tokens: Tensor) -> None:
    """Note the tokens `[rows]` of this step, and go on to the next one."""
    rows = len(tokens)
    buffers.tokens[:, :rows].index_copy_(0, buffers.step, tokens[None])
    buffers.step.add_(1)
    buffers.turn[:rows].add_(1).remainder_(buffers.head.turns)


class Noise:
    """A row's random numbers, drawn ahead on the CPU: for each of its tokens one q for every candidate.

    What is drawn beyond the row's end is harmless: its generator is its own. With `pinned`, copies to the device do
    not wait.
    """

    def __init__(self, rule: DrawRule, width: int, pinned: bool):
        self._rng, self._candidates, self._width, self._pinned = rule.rng, rule.candidates, width, pinned
        self._ahead = torch.empty(0, width)

    def draw(self, steps: int) -> None:
        """See that there is enough for so many tokens."""
        missing = steps - len(self._ahead)
        if missing <= 0:
            return
        block = torch.empty(steps, self._width, pin_memory=self._pinned)  # never one that a copy may still read
        block[: len(self._ahead)] = self._ahead
        for row in block[len(self._ahead) :]:
            row[: self._candidates].exponential_(1, generator=self._rng)  # one call for each token, as multinomial does
            row[self._candidates :] = 1.0
        self._ahead = block

    def pour(self, target: Tensor) -> None:
        """Fill `[S, width]` with what the next S tokens need."""
        self.draw(len(target))
        target.copy_(self._ahead[: len(target)], non_blocking=self._pinned)
        self._ahead = self._ahead[len(target) :]
