"""How a stage reports: `on_step(done, total)`, called before every token or pass; it may raise to stop the stage."""

from collections.abc import Callable

OnStep = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """An `on_step` for callers that do not want to know."""
