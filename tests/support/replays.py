"""Stand-ins for CUDA graphs: steps are recorded as the tensor operations that they are, and replayed without Python.

`OperationRecorder` does on any device what a CUDA graph does: what it replays are the operations of the recorded step
on the memory that they ran on, with every number that came from Python frozen. A step that decides anything by itself
therefore comes out wrong.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map, tree_map_only

from bark_engine.one_token import Buffers

Step = Callable[[], None]


class _Result:
    """Stands for what an earlier operation gives when it is replayed."""

    def __init__(self, operation: int, part: int | None):
        self.operation, self.part = operation, part


class _Operations(TorchDispatchMode):
    """Writes down every operation; tensors that it did not see being made are the memory that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any]] = []
        self._made: dict[int, tuple[Tensor, _Result]] = {}  # by id; the tensor is kept so that no other gets its id

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations.append((func, *tree_map_only(Tensor, self._placeholder, (args, kwargs))))
        result = func(*args, **kwargs)
        parts = enumerate(result) if isinstance(result, (tuple, list)) else [(None, result)]
        for part, tensor in parts:
            if isinstance(tensor, Tensor):
                self._made[id(tensor)] = tensor, _Result(len(self.operations) - 1, part)
        return result

    def _placeholder(self, tensor: Tensor) -> Any:
        known = self._made.get(id(tensor))
        return known[1] if known else tensor

    def replay(self) -> None:
        results: list[Any] = []

        def value(given: Any) -> Any:
            if not isinstance(given, _Result):
                return given
            result = results[given.operation]
            return result if given.part is None else result[given.part]

        for func, args, kwargs in self.operations:
            results.append(func(*tree_map(value, args), **tree_map(value, kwargs)))


class OperationRecorder:
    """A `Recorder` that counts what it is asked for. `records` has the batch size and the end of each recording."""

    def __init__(self) -> None:
        self.warm_ups = self.replays = 0
        self.records: list[tuple[int, int]] = []

    def warm_up(self, step: Step) -> None:
        """As a `Recorder`."""
        self.warm_ups += 1
        step()

    def record(self, step: Any) -> Step:
        """As a `Recorder`; `step` is one_token, bound to its arguments."""
        _, buffers, rows, end = step.args
        self.records.append((rows, end))
        operations = _Operations()
        with _unchanged(buffers), operations:
            step()

        def replay() -> None:
            self.replays += 1
            operations.replay()

        return replay


@contextmanager
def _unchanged(buffers: Buffers) -> Iterator[None]:
    """Put back what is computed inside: to record a CUDA graph computes nothing."""
    tensors = [*vars(buffers).values(), *vars(buffers.cache).values()]
    before = [(tensor, tensor.clone()) for tensor in tensors if isinstance(tensor, Tensor)]
    yield
    for tensor, value in before:
        tensor.copy_(value)


class Looks(TorchDispatchMode):
    """Counts how often a value is fetched for Python, which on a graphics card waits for all that was asked before."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)
        return func(*args, **(kwargs or {}))
