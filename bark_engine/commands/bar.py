"""The progress bar of the command line."""

import sys
from collections.abc import Callable

from ..progress import OnStep


class Bar:
    """A progress bar on a terminal's standard error; nothing elsewhere, so that errors stay one line."""

    WIDTH = 40

    def __init__(self, label: str):
        self._label = label
        self._live = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._last:
            sys.stderr.write("\n")

    @property
    def step(self) -> OnStep:
        """An `on_step` that draws."""
        return lambda done, total: self._draw(done / total, "")

    @property
    def downloaded(self) -> Callable[[int, int, str], None]:
        """An `on_progress` of a download that draws."""
        return lambda done, total, name: self._draw(
            done / max(total, 1), f" {name} {done / 2**20:.0f}/{total / 2**20:.0f} MiB"
        )

    def _draw(self, part: float, note: str) -> None:
        line = f"{self._label} [{'#' * round(part * self.WIDTH):<{self.WIDTH}}] {part:4.0%}{note}"
        if self._live and line != self._last:
            sys.stderr.write(f"\r{line}\033[K")
            sys.stderr.flush()
            self._last = line
