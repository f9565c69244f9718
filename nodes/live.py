"""The live strip: while a stage runs, the browser that queued it is sent the tokens that have come so far."""

import time
from collections.abc import Callable
from typing import Any

from ..bark_engine import TraceRecorder
from ..bark_engine.progress import OnStep
from . import host

EVENT = "bark.live"
SECONDS_BETWEEN = 0.12  # with the message at the end still no more than ten in any second

Send = Callable[[str, dict[str, Any]], None]


def progress(trace: TraceRecorder) -> OnStep:
    """`host.progress()` for a stage that `trace` looks on, which also feeds the strip under the running node.

    Each message is `{"kind", "first", "ids", "rows", "total", "done"}`: the ids that are new, the first of them being
    number `first` of all; a message with `first` 0 begins a new strip. Nothing is sent where no browser listens.
    """
    on_step, send = host.progress(), host.sender()
    if send is None:
        return on_step
    strip = LiveStrip(trace, send)

    def both(done: int, total: int) -> None:
        on_step(done, total)
        strip.update(finished=done == total)

    return both


class LiveStrip:
    """Tells what is new, not too often."""

    def __init__(self, trace: TraceRecorder, send: Send, clock: Callable[[], float] = time.monotonic):
        self._trace, self._send, self._clock = trace, send, clock
        self._sent = 0
        self._last: float | None = None

    def update(self, finished: bool) -> None:
        """Send what has come since the last message, if that was long enough ago or there will be no more."""
        now, ids = self._clock(), self._trace.ids
        if self._trace.kind is None or not (finished or self._last is None or now - self._last >= SECONDS_BETWEEN):
            return
        if len(ids) < self._sent:  # memory ran out, and the stage began again
            self._sent = 0
        elif len(ids) == self._sent and self._last is not None and not finished:
            return
        total = len(ids) if finished else self._trace.total
        given = {"kind": self._trace.kind, "rows": self._trace.rows, "total": total, "done": finished}
        self._send(EVENT, {"first": self._sent, "ids": ids[self._sent :], **given})
        self._sent, self._last = len(ids), now
