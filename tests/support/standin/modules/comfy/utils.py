"""Stand-in for `comfy.utils`: the progress bar, throttled as 0.9.2 and later do it."""

import time
from collections.abc import Callable
from typing import Any

SECONDS_BETWEEN_REPORTS = 0.1
_hook: Callable[[int, int], None] | None = None


def set_progress_bar_global_hook(hook: Callable[[int, int], None] | None) -> None:
    """Called by the executor before a prompt."""
    global _hook
    _hook = hook


class ProgressBar:
    """Counts, and tells the hook now and then."""

    def __init__(self, total: int, node_id: str | None = None):
        self.total = total
        self.current = 0
        self._last = 0.0

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = total if total is not None else self.total
        self.current = min(value, self.total)
        now = time.monotonic()
        if _hook is not None and (now - self._last >= SECONDS_BETWEEN_REPORTS or self.current >= self.total):
            self._last = now
            _hook(self.current, self.total)
