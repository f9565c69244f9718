"""The causal stages with one replay per token: on CUDA a recorded graph, elsewhere the same operations called.

`decode_rows` does what `run_rows` of batch.py does, a few tokens at a time: prompts are read as they always are, then
all rows make some tokens (one_token.py) without anybody looking, and then the rows are told what was drawn for them.
A graph is recorded for each batch size and each end of the cache that comes up, and kept with its buffers as long as
the network lives and its weights stay where they are.

Rows with top_k or top_p, rows that are traced, and networks that lie on several devices go the ordinary way.
"""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from .batch import OnPass, Row, run_rows
from .errors import BarkError
from .one_token import BROKEN, Buffers, DrawRule, Head, Noise, one_token
from .sampling import not_finite
from .transformer import CausalTransformer

SIZES = (1, 2, 4, 8, 16, 32)  # of a batch; larger ones are multiples of the last
ENDS = 256  # the cache is read up to a multiple of this

Step = Callable[[], None]


class ReplayedRow(Row, Protocol):
    """A row whose tokens can be drawn for it."""

    @property
    def rule(self) -> DrawRule | None:
        """How the next tokens are drawn; None where only the row itself can draw them."""
        ...

    @property
    def ahead(self) -> int:
        """How many tokens can be made before the row is finished or may want a prompt."""
        ...

    def head(self, network: CausalTransformer) -> Head:
        """What its stage draws from."""
        ...

    def follow(self, drawn: Sequence[int]) -> None:
        """Go on with these tokens, which were drawn by its rule; those behind its end count for nothing."""
        ...


class Recorder(Protocol):
    """Makes a replay out of a step. `torch.cuda.CUDAGraph` behind `CudaRecorder`; tests bring their own."""

    def warm_up(self, step: Step) -> None:
        """Do a step for real, before it is recorded."""
        ...

    def record(self, step: Step) -> Step:
        """What does the step again each time it is called; nothing is done by this."""
        ...


class CudaRecorder:
    """Records into CUDA graphs, which share their memory: they never run at one time."""

    def __init__(self, device: torch.device):
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Step) -> None:
        """On a side stream, so that libraries set up what they may not set up while something is recorded."""
        with torch.cuda.device(self._device):
            here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                step()
            here.wait_stream(aside)

    def record(self, step: Step) -> Step:
        """One graph; other threads may use the device meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(self._device),
            torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
        ):
            step()
        return graph.replay


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device, or None where steps are simply called."""
    return CudaRecorder(device) if device.type == "cuda" else None


def bucket(rows: int) -> int:
    """The batch size that so many rows are run as."""
    return next((size for size in SIZES if rows <= size), -(-rows // SIZES[-1]) * SIZES[-1])


Weights = tuple[torch.device, tuple[int, ...]]


def where_weights_are(network: CausalTransformer) -> Weights | None:
    """The device and the address of every weight; None where they lie on several devices."""
    weights = list(network.parameters())
    devices = {weight.device for weight in weights}
    return (devices.pop(), tuple(weight.data_ptr() for weight in weights)) if len(devices) == 1 else None


class Replayer:
    """The buffers of one network and the replays recorded on them. Holds addresses of weights, not the network."""

    def __init__(self, network: CausalTransformer, weights: Weights, head: Head, batch: int):
        self.weights, self.head = weights, head
        self.buffers = Buffers(network, head, batch)
        self._lengths = [0] * batch  # how far each place of the cache may be filled, known without a look
        self._recorder = recorder_for(weights[0])
        self._replays: dict[tuple[int, int], Step] = {}

    def suits(self, weights: Weights, head: Head, batch: int) -> bool:
        """Whether it can be used for these weights and so many rows."""
        return self.weights == weights and self.head == head and self.buffers.batch >= batch

    def read_prompt(self, network: CausalTransformer, place: int, row: ReplayedRow, on_pass: OnPass) -> None:
        """The prefill of one row, by itself."""
        prompt, rule = row.prompt(network), row.rule
        assert rule is not None
        alone = self.buffers.cache.row(place, prompt.shape[1])
        self.buffers.hidden[place] = network(prompt, alone, on_pass)[0]
        self.buffers.cache.lengths[place] = self._lengths[place] = alone.length
        self.buffers.set_rule(place, rule)

    def make(self, network: CausalTransformer, rows: int, steps: int, on_pass: OnPass) -> Tensor:
        """Make `steps` tokens for each of the first `rows`: `[steps, rows]`, as `Buffers.tokens`; to read it waits."""
        size, positions = bucket(rows), network.shape.block_size
        end = min(-(-(max(self._lengths[:rows]) + steps) // ENDS) * ENDS, positions)
        self.buffers.cache.moving[rows:] = False
        self.buffers.step.zero_()
        for _ in range(steps):
            on_pass()
            self._one_token(network, size, end)
        self._lengths[:rows] = [min(length + steps, positions) for length in self._lengths[:rows]]
        return self.buffers.tokens[:steps, :rows]

    def _one_token(self, network: CausalTransformer, size: int, end: int) -> None:
        step = partial(one_token, network, self.buffers, size, end)
        if self._recorder is None:
            step()
        elif replay := self._replays.get((size, end)):
            replay()
        else:
            self._recorder.warm_up(step)
            self._replays[size, end] = self._recorder.record(step)

    def take_out(self, active: list[int], done: Sequence[int]) -> None:
        """Take finished rows out, by their places, and put the last ones in their stead."""
        for place in reversed(done):
            last = len(active) - 1
            if place != last:
                self.buffers.move(last, place, self._lengths[last])
                self._lengths[place] = self._lengths[last]
                active[place] = active[last]
            active.pop()


_idle: weakref.WeakKeyDictionary[nn.Module, Replayer] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


@contextmanager
def _replayer(network: CausalTransformer, weights: Weights, head: Head, batch: int) -> Iterator[Replayer]:
    """The one kept for a network if it still suits, else a new one. Kept after, but not where the run broke off.

    Nobody else gets it meanwhile: a second thread that runs the same network has one of its own.
    """
    with _lock:
        kept = _idle.pop(network, None)
    if kept is None or not kept.suits(weights, head, batch):
        kept = None  # its memory is free before more is taken
        kept = Replayer(network, weights, head, batch)
    yield kept
    kept.buffers.stand_still()
    with _lock:
        _idle[network] = kept


def let_go(network: nn.Module | None = None) -> None:
    """Drop the graphs and buffers that are kept for a network, or all of them; the next use makes new ones."""
    with _lock:
        if network is None:
            _idle.clear()
        else:
            _idle.pop(network, None)


def decode_rows(
    network: CausalTransformer,
    rows: Sequence[Row],
    size: int,
    positions: int,
    on_pass: OnPass,
    graphs: bool,
) -> list[BarkError | None]:
    """`run_rows`, and with `graphs` one replay per token for the rows that allow it; see there."""
    graphs = graphs and where_weights_are(network) is not None
    replayed = [number for number, row in enumerate(rows) if graphs and has_rule(row)]
    others = [number for number in range(len(rows)) if number not in set(replayed)]
    failures: list[BarkError | None] = [None] * len(rows)
    if replayed:
        chosen = [rows[number] for number in replayed]
        for number, failure in zip(replayed, replay_rows(network, chosen, size, on_pass), strict=True):  # type: ignore[arg-type]
            failures[number] = failure
    if others:
        chosen = [rows[number] for number in others]
        for number, failure in zip(others, run_rows(network, chosen, size, positions, on_pass), strict=True):
            failures[number] = failure
    return failures


def can_replay(network: CausalTransformer, row: Row) -> bool:
    """Whether the tokens of this row can be drawn where the network is."""
    return has_rule(row) and where_weights_are(network) is not None


def has_rule(row: Row) -> bool:
    """Whether somebody else can draw for this row."""
    return getattr(row, "rule", None) is not None


def replay_alone(network: CausalTransformer, row: ReplayedRow, on_pass: OnPass) -> None:
    """Run one row until it is finished; raises what went wrong with it."""
    for failure in replay_rows(network, [row], 1, on_pass):
        if failure is not None:
            raise failure


def replay_rows(
    network: CausalTransformer, rows: Sequence[ReplayedRow], size: int, on_pass: OnPass
) -> list[BarkError | None]:
    """Run rows of one stage until all are finished, as `run_rows` does; all of them have a rule."""
    size, weights, head = min(size, len(rows)), where_weights_are(network), rows[0].head(network)
    assert weights is not None
    failures: list[BarkError | None] = [None] * len(rows)
    following = iter(range(len(rows)))
    active: list[int] = []  # numbers of the rows in the batch, by their place in the cache
    noise: dict[int, Noise] = {}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        threads = stack.enter_context(ThreadPoolExecutor(min(size, os.cpu_count() or 1)))
        replayer = stack.enter_context(_replayer(network, weights, head, bucket(size)))
        while True:
            while len(active) < size and (number := next(following, None)) is not None:
                active.append(number)
                noise[number] = _noise(rows[number], head, weights[0])
            if not active:
                return failures
            for place, number in enumerate(active):
                if rows[number].wants_prompt:
                    on_pass()
                    replayer.read_prompt(network, place, rows[number], on_pass)
            steps = min(head.steps, *(rows[number].ahead for number in active))
            _pour(threads, replayer.buffers, [noise[number] for number in active], steps)
            made = replayer.make(network, len(active), steps, on_pass)
            _draw(threads, [noise[number] for number in active], head.steps)  # while the device is at work
            for place, drawn in enumerate(made.cpu().T.tolist()):  # the one look
                failures[active[place]] = _follow(rows[active[place]], drawn)
                if failures[active[place]]:
                    replayer.buffers.cache.clear(place)
            done = [place for place, number in enumerate(active) if rows[number].finished or failures[number]]
            for place in done:
                del noise[active[place]]
            replayer.take_out(active, done)


def _noise(row: ReplayedRow, head: Head, device: torch.device) -> Noise:
    rule = row.rule
    assert rule is not None
    return Noise(rule, head.width, pinned=device.type == "cuda")


def _draw(threads: Executor, noise: Sequence[Noise], steps: int) -> None:
    """Draw random numbers for so many tokens of each row; each generator is used by one thread at a time."""
    list(threads.map(lambda own: own.draw(steps), noise))


def _pour(threads: Executor, buffers: Buffers, noise: Sequence[Noise], steps: int) -> None:
    """Give the device the random numbers of the next `steps` tokens."""
    _draw(threads, noise, steps)
    for place, own in enumerate(noise):
        own.pour(buffers.noise[place, :steps])


def _follow(row: ReplayedRow, drawn: Sequence[int]) -> BarkError | None:
    """Tell a row its tokens; what went wrong with it, if something did."""
    try:
        good = drawn.index(BROKEN) if BROKEN in drawn else len(drawn)
        row.follow(drawn[:good])
        if good < len(drawn):
            raise not_finite()
    except BarkError as error:
        return error
    return None
