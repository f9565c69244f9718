"""Stand-in for `comfy_execution.utils`: which node of which prompt is running."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import NamedTuple


class ExecutionContext(NamedTuple):
    """The running node."""

    prompt_id: str
    node_id: str
    list_index: int | None


_current: contextvars.ContextVar[ExecutionContext | None] = contextvars.ContextVar("current", default=None)


def get_executing_context() -> ExecutionContext | None:
    """None outside of a prompt."""
    return _current.get()


@contextlib.contextmanager
def executing(prompt_id: str, node_id: str, list_index: int | None = None) -> Iterator[None]:
    """What the executor puts around a node."""
    token = _current.set(ExecutionContext(prompt_id, node_id, list_index))
    try:
        yield
    finally:
        _current.reset(token)
