"""The lanes of the picture: each paints one thing into its own strip of pixels `[height, width, 3]`.

All lanes share an `Axis`, so that equal columns of pixels are equal moments. A column of pixels shows what is there at
the middle of its time; where many values fall into one column, each lane says which of them it shows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..drawing import Colour, Image, blend
from . import colours
from .runs import run_starts

_HIGHEST_RUN = 32  # repeats that reach the full height of their row; more stay there


@dataclass(frozen=True, slots=True)
class Axis:
    """Time across `width` columns of pixels: the first begins at 0, the last ends at `seconds`."""

    width: int
    seconds: float

    def column(self, seconds: float) -> int:
        """The first column whose middle is not before a moment, kept inside."""
        return min(self.width - 1, max(0, int(seconds / self.seconds * self.width + 0.5)))

    def positions(self, rate: float, count: int) -> npt.NDArray[np.int64]:
        """Which of `count` values, `rate` per second, is at the middle of each column; ends where they end.

        Values too short for the middle of any column still get the first one.
        """
        middles = (np.arange(self.width) + 0.5) * (self.seconds / self.width)
        found = np.floor(middles * rate).astype(np.int64)
        return found[: max(1, int(np.searchsorted(found, count)))].clip(max=count - 1)


def paint_wave(area: Image, axis: Axis, samples: npt.NDArray[np.float32], rate: float) -> None:
    """The outline of samples `[n]`, from the lowest to the highest in a column of pixels, scaled to the peak."""
    shown = axis.positions(rate, len(samples))
    low, high = np.minimum.reduceat(samples, shown), np.maximum.reduceat(samples, shown)
    peak = max(float(np.abs(samples).max()), 1e-9)
    middle = (len(area) - 1) / 2.0
    top, bottom = np.rint(middle * (1.0 - high / peak)), np.rint(middle * (1.0 - low / peak))
    rows = np.arange(len(area))[:, None]
    area[:, : len(shown)][(rows >= top) & (rows <= bottom)] = colours.WAVE


def paint_spectrogram(area: Image, axis: Axis, levels: npt.NDArray[np.uint8], rate: float) -> None:
    """The log-mel spectrogram `[bands, columns]`, lowest band at the bottom; the loudest of a column of pixels."""
    shown = axis.positions(rate, levels.shape[1])
    loudest = np.maximum.reduceat(levels, shown, axis=1)
    bands = np.arange(len(area))[::-1] * len(levels) // len(area)
    area[:, : len(shown)] = colours.heat(loudest[bands])


def paint_ids(area: Image, axis: Axis, ids: npt.NDArray[np.integer], rate: float) -> None:
    """Semantic tokens `[T]` as blocks, a colour for each id; a dark seam where the id changes, none in a repeat."""
    shown = axis.positions(rate, len(ids))
    area[:, : len(shown)] = colours.id_colours(ids[shown])
    if axis.width / axis.seconds / rate >= 3.0:  # pixels per token
        run = np.searchsorted(run_starts(ids), shown, side="right")
        area[:, np.flatnonzero(run[1:] != run[:-1]) + 1] = colours.BACKGROUND


def paint_repeats(area: Image, axis: Axis, ids: npt.NDArray[np.integer], rate: float) -> None:
    """Bars that hang under repeats of `ids [T]`: the more repeats of one id, the longer; none under a single token."""
    starts = run_starts(ids)
    lengths = np.diff(starts, append=len(ids))
    shown = axis.positions(rate, len(ids))
    longest = np.maximum.reduceat(np.repeat(lengths, lengths), shown)
    share = np.minimum(np.log2(longest) / np.log2(_HIGHEST_RUN), 1.0)
    height = np.ceil(share * len(area))
    area[:, : len(shown)][np.arange(len(area))[:, None] < height] = colours.REPEAT


def paint_codes(area: Image, axis: Axis, codes: npt.NDArray[np.integer], rate: float) -> None:
    """Codes `[K, F]` as a map: codebook 0 on top, a colour for each code of a codebook."""
    shown = axis.positions(rate, codes.shape[1])
    rows = np.arange(len(area)) * len(codes) // len(area)
    area[:, : len(shown)] = colours.code_colours(codes[:, shown])[rows]
    area[np.flatnonzero(rows[1:] != rows[:-1]) + 1] = colours.BACKGROUND


def paint_curve(
    area: Image, axis: Axis, values: npt.NDArray[np.float32], rate: float, highest: float, colour: Colour, fill: bool
) -> None:
    """Values `[N]` from 0 (bottom) to `highest` (top), each level for its own time; a column of pixels shows the span
    of all its values. `fill` colours the ground below. Values that are not numbers leave a gap."""
    shown = axis.positions(rate, len(values))
    lowest, most = np.fmin.reduceat(values, shown), np.fmax.reduceat(values, shown)
    scale = (len(area) - 3) / highest
    top = len(area) - 2 - np.rint(np.clip(most, 0.0, highest) * scale)
    bottom = len(area) - 2 - np.rint(np.clip(lowest, 0.0, highest) * scale)
    # Join each column with the one before it, so that a steep step is a line and not two dots.
    joined_top, joined_bottom = top.copy(), bottom.copy()
    joined_top[1:] = np.fmin(top[1:], np.where(np.isnan(top[1:]), np.nan, bottom[:-1]))
    joined_bottom[1:] = np.fmax(bottom[1:], np.where(np.isnan(bottom[1:]), np.nan, top[:-1]))
    rows = np.arange(len(area))[:, None]
    part = area[:, : len(shown)]
    if fill:
        below = rows > top
        ground = part[below]
        blend(ground, colour, 0.22)
        part[below] = ground
    part[(rows >= joined_top) & (rows <= joined_bottom + 1)] = colour
