"""How a stage reports: `on_step(done, total)`, called before every token or pass; it may raise to stop the stage."""

from collections.abc import Callable
from itertools import accumulate
from typing import ParamSpec

Given = ParamSpec("Given")
OnStep = Callable[[int, int], None]

# Share of the whole time that each stage takes, measured with full-size models on a CPU; only the counts of `say` and
# `say_many` depend on it.
SHARES = {"text": 0.2, "coarse": 0.6, "fine": 0.18, "codec": 0.02}
_BEGINNINGS = dict(zip(SHARES, accumulate(SHARES.values(), initial=0.0), strict=False))


def silent(done: int, total: int) -> None:
    """An `on_step` for callers that do not want to know."""


def along(stage: str, part: float) -> float:
    """How far a speech is on its whole way, 0 … 1, when this part (0 … 1) of a stage is done."""
    return _BEGINNINGS[stage] + SHARES[stage] * part


class Stopped(Exception):  # noqa: N818 (not an error: the wish of whoever watches the progress)
    """Carries what a report raised past code that handles errors of the work, which must not take it for one."""

    def __init__(self, reason: Exception):
        self.reason = reason


def guarded(report: Callable[Given, None]) -> Callable[Given, None]:
    """An `on_step` or `on_progress`, with anything it raises wrapped as `Stopped`."""

    def guard(*given: Given.args, **named: Given.kwargs) -> None:
        try:
            report(*given, **named)
        except Exception as reason:
            raise Stopped(reason) from reason

    return guard
