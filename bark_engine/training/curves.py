"""The curves of a run as a picture: `draw_curves` turns `log.jsonl` into `curves.png`.

The engine needs no plotting library for anything else, so the few lines and letters that a curve takes are drawn here
into a numpy array, and written as PNG with zlib.
"""

import json
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..atomic import replacing
from ..errors import BarkFileError

Image = npt.NDArray[np.uint8]  # [rows, columns, 3]
Points = list[tuple[float, float]]

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 44, 44  # margins around the plot, in pixels
BLACK, GREY, LIGHT = (40, 40, 40), (160, 160, 160), (228, 228, 228)
TRAINING, VALIDATION, RATE = (70, 130, 200), (210, 80, 40), (175, 190, 175)

# 5 × 7 letters, a row of five bits per pair of hex digits, from the top.
_GLYPHS = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    ".": "00000000000c0c", "-": "0000001f000000", " ": "00000000000000", "a": "00000e010f110f", "b": "10101619111e00",
    "c": "00000e1010110e", "d": "01010d1311110f", "e": "00000e111f100e", "f": "0609081c080808", "g": "000f11110f010e",
    "h": "10101619111111", "i": "04000c0404040e", "k": "10101214181412", "l": "0c04040404040e", "m": "00001a15151111",
    "n": "00001619111111", "o": "00000e1111110e", "p": "00001e111e1010", "r": "00001619101010", "s": "00000e100e011e",
    "t": "08081c08080906", "u": "0000111111130d", "v": "00001111110a04",
}  # fmt: skip


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

    def curve(self, points: Points, colour: tuple[int, int, int], thickness: int = 2) -> None:
        places = [self.place(*point) for point in points]
        for start, end in pairwise(places):
            _line(self.image, start, end, colour, thickness)
        if len(places) == 1:
            _line(self.image, places[0], places[0], colour, 3 * thickness)


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
    _text(image, LEFT, 16, "training loss", TRAINING)
    best = min((value for _, value in validation), default=None)
    _text(image, LEFT + 200, 16, f"validation loss best {best:.4f}" if best is not None else "", VALIDATION)
    if rates:
        _text(image, LEFT + 540, 16, f"learning rate {max(rate for _, rate in rates):.1e}", GREY)
    path = run / "curves.png"
    with replacing(path, "The picture of the curves") as temporary:
        temporary.write_bytes(png(image))
    return path


def png(image: Image) -> bytes:
    """A picture `[rows, columns, 3]` of bytes as a PNG file (RGB, 8 bits, no interlacing)."""
    rows, columns, _ = image.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = np.concatenate([np.zeros((rows, 1), np.uint8), image.reshape(rows, 3 * columns)], axis=1)  # filter 0
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def _read_log(path: Path) -> tuple[Points, Points, Points]:
    """Training losses, validation losses and learning rates by step."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise BarkFileError(f"The log {path} cannot be read ({error}). Give the folder of a training run.") from None
    curves: dict[str, Points] = {"loss": [], "validation_loss": [], "lr": []}
    for line in lines:
        for name, points in curves.items():
            if math.isfinite(line.get(name, math.nan)):
                points.append((float(line["step"]), float(line[name])))
    if not curves["loss"] and not curves["validation_loss"]:
        raise BarkFileError(f"The log {path} has no losses yet. Draw it when the training has begun.")
    return curves["loss"], curves["validation_loss"], curves["lr"]


def _draw_axes(plot: _Plot) -> None:
    for value in _ticks(plot.low, plot.high):
        x, y = plot.place(0, value)
        _line(plot.image, (x, y), (WIDTH - RIGHT, y), LIGHT, 1)
        label = f"{value:.4g}"
        _text(plot.image, LEFT - 10 - 12 * len(label), round(y) - 7, label, BLACK)
    for step in _ticks(0, plot.last_step):
        x, y = plot.place(step, plot.low)
        _line(plot.image, (x, y), (x, y + 5), GREY, 1)
        label = f"{step:.0f}"
        _text(plot.image, round(x) - 6 * len(label), HEIGHT - BOTTOM + 12, label, BLACK)
    corner = (LEFT, HEIGHT - BOTTOM)
    _line(plot.image, corner, (WIDTH - RIGHT, HEIGHT - BOTTOM), GREY, 1)
    _line(plot.image, corner, (LEFT, TOP), GREY, 1)


def _ticks(low: float, high: float) -> Sequence[float]:
    """Four to ten round values in a range: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _line(
    image: Image, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int], thickness: int
) -> None:
    count = int(max(abs(end[0] - start[0]), abs(end[1] - start[1]))) + 2
    columns = np.rint(np.linspace(start[0], end[0], count)).astype(int)
    rows = np.rint(np.linspace(start[1], end[1], count)).astype(int)
    for across in range(thickness):
        for down in range(thickness):
            image[(rows + down).clip(0, HEIGHT - 1), (columns + across).clip(0, WIDTH - 1)] = colour


def _text(image: Image, left: int, top: int, text: str, colour: tuple[int, int, int]) -> None:
    """Letters of 10 × 14 pixels, 12 apart; what has no glyph is left blank."""
    for number, char in enumerate(text.replace("+", "")):
        glyph = bytes.fromhex(_GLYPHS.get(char, _GLYPHS[" "]))[:7]
        dots = np.array([[row >> bit & 1 for bit in range(4, -1, -1)] for row in glyph], dtype=bool)
        dots = dots.repeat(2, axis=0).repeat(2, axis=1)
        x = left + 12 * number
        if 0 <= x <= WIDTH - 10:
            image[top : top + 14, x : x + 10][dots] = colour
