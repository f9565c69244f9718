"""The curves of a run as a picture: `draw_curves` turns `log.jsonl` into `curves.png`.

Lines, letters and the PNG are those of `drawing.py`.
"""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..atomic import replacing
from ..drawing import Colour, Image, line, png, text, ticks
from ..errors import BarkFileError

Points = list[tuple[float, float]]

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 44, 44  # margins around the plot, in pixels
BLACK, GREY, LIGHT = (40, 40, 40), (160, 160, 160), (228, 228, 228)
TRAINING, VALIDATION, RATE = (70, 130, 200), (210, 80, 40), (175, 190, 175)


@dataclass(frozen=True)
class _Plot:
    """Where figures are in the picture: steps from left to right, values from the bottom up."""

    image: Image
    last_step: float
    low: float
    high: float

    def place(self, step: float, value: float) -> tuple[float, float]:
        across, up = step / self.last_step, (value - self.low) / (self.high - self.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def curve(self, points: Points, colour: Colour, thickness: int = 2) -> None:
        places = [self.place(*point) for point in points]
        for start, end in pairwise(places):
            line(self.image, start, end, colour, thickness)
        if len(places) == 1:
            line(self.image, places[0], places[0], colour, 3 * thickness)


def draw_curves(run: Path) -> Path:
    """Draw the training and the validation loss and the learning rate of a run folder; returns the PNG.

    The learning rate has no scale of its own: it fills the lowest fifth, and its highest value is written above.
    Raises BarkFileError where the log is missing or has no figures yet.
    """
    run = Path(run)
    training, validation, rates = _read_log(run / "log.jsonl")
    values = [value for _, value in training + validation]
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    image = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    last = max(step for step, _ in training + validation)
    plot = _Plot(image, max(1.0, last), low - room, high + room)
    _draw_axes(plot)
    if rates:
        highest = max(rate for _, rate in rates) or 1.0
        part = 0.2 * (plot.high - plot.low) / highest
        plot.curve([(step, plot.low + rate * part) for step, rate in rates], RATE)
    plot.curve(training, TRAINING)
    plot.curve(validation, VALIDATION)
    _label(image, LEFT, 16, "training loss", TRAINING)
    best = min((value for _, value in validation), default=None)
    _label(image, LEFT + 200, 16, f"validation loss best {best:.4f}" if best is not None else "", VALIDATION)
    if rates:
        _label(image, LEFT + 540, 16, f"learning rate {max(rate for _, rate in rates):.1e}", GREY)
    path = run / "curves.png"
    with replacing(path, "The picture of the curves") as temporary:
        temporary.write_bytes(png(image))
    return path


def _read_log(path: Path) -> tuple[Points, Points, Points]:
    """Training losses, validation losses and learning rates by step."""
    try:
        entries = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines() if row.strip()]
    except (OSError, ValueError) as error:
        raise BarkFileError(f"The log {path} cannot be read ({error}). Give the folder of a training run.") from None
    curves: dict[str, Points] = {"loss": [], "validation_loss": [], "lr": []}
    for entry in entries:
        for name, points in curves.items():
            if math.isfinite(entry.get(name, math.nan)):
                points.append((float(entry["step"]), float(entry[name])))
    if not curves["loss"] and not curves["validation_loss"]:
        raise BarkFileError(f"The log {path} has no losses yet. Draw it when the training has begun.")
    return curves["loss"], curves["validation_loss"], curves["lr"]


def _draw_axes(plot: _Plot) -> None:
    for value in ticks(plot.low, plot.high):
        x, y = plot.place(0, value)
        line(plot.image, (x, y), (WIDTH - RIGHT, y), LIGHT, 1)
        label = f"{value:.4g}"
        _label(plot.image, LEFT - 10 - 12 * len(label), round(y) - 7, label, BLACK)
    for step in ticks(0, plot.last_step):
        x, y = plot.place(step, plot.low)
        line(plot.image, (x, y), (x, y + 5), GREY, 1)
        label = f"{step:.0f}"
        _label(plot.image, round(x) - 6 * len(label), HEIGHT - BOTTOM + 12, label, BLACK)
    corner = (LEFT, HEIGHT - BOTTOM)
    line(plot.image, corner, (WIDTH - RIGHT, HEIGHT - BOTTOM), GREY, 1)
    line(plot.image, corner, (LEFT, TOP), GREY, 1)


def _label(image: Image, left: int, top: int, content: str, colour: Colour) -> None:
    """Words or a figure, whose exponent goes without its plus."""
    text(image, left, top, content.replace("+", ""), colour)
