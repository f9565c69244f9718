"""What the training commands show: a line now and then, so that a log file can be followed."""

import math
import shutil
import sys
import time

from ..progress import OnStep
from .loop import Report

SECONDS_BETWEEN_LINES = 15.0  # where standard output is no terminal
BAR = 20  # characters of the progress bar on a terminal


class Screen:
    """One line that renews itself on a terminal; elsewhere a line every few seconds, and for every validation."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._last = -math.inf
        self._pending = False
        self._first: tuple[int, float] | None = None
        self._loss: float | None = None

    def line(self, text: str) -> None:
        """A line that stays."""
        sys.stdout.write(("\n" if self._pending else "") + text + "\n")
        sys.stdout.flush()
        self._pending = False

    def progress(self, what: str) -> OnStep:
        """An `on_step` that counts things which are read or made."""
        return lambda done, total: self._renew(f"{what} {done:,}/{total:,}", force=False)

    def step(self, report: Report) -> None:
        """Progress of the training."""
        now = time.monotonic()
        if self._first is None:
            self._first = (report.step, now)
        steps, seconds = report.step - self._first[0], now - self._first[1]
        left = (report.steps - report.step) * seconds / steps if steps else math.nan
        self._loss = report.loss if self._loss is None else 0.95 * self._loss + 0.05 * report.loss
        filled = BAR * report.step // report.steps
        bar = f"[{'#' * filled}{' ' * (BAR - filled)}] " if self._live else ""
        text = (
            f"{bar}step {report.step:,}/{report.steps:,} loss {self._loss:.4f} lr {report.lr:.2e} "
            f"{report.targets_per_second:,.0f} tokens/s, {_clock(left)} left"
        )
        if report.validation_loss is not None:
            self.line(f"{text}, validation loss {report.validation_loss:.4f}")
        else:
            self._renew(text, force=report.step == report.steps)

    def _renew(self, text: str, force: bool) -> None:
        now = time.monotonic()
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r{text[:width]}\033[K")
            sys.stdout.flush()
            self._pending = True
        elif force or now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            self.line(text)


def _clock(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours}:{minutes:02}:{int(seconds) % 60:02}"
