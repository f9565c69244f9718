"""The colours of the picture: one for each token id, and those of everything else.

They are those of the view in the browser on a dark ground (web/js/inspector/colours.js; a test compares the two), so
that an id is known again wherever it is seen.
"""

import math

import numpy as np
import numpy.typing as npt

from ..drawing import Colour, Image

BACKGROUND: Colour = (14, 16, 22)
LANE: Colour = (27, 30, 40)  # behind what is drawn
GRID: Colour = (120, 128, 150)
TEXT: Colour = (236, 238, 245)
DIM: Colour = (156, 163, 180)
REPEAT: Colour = (255, 255, 255)
WAVE: Colour = (0x6F, 0xB3, 0xC8)
PROBABILITY: Colour = (0x7F, 0xC8, 0xA9)
ENTROPY: Colour = (0xB7, 0xA3, 0xE3)
END: Colour = (0xF2, 0xB4, 0x6D)
SELECTION: Colour = (0x8A, 0xB4, 0xF8)
HEAT = ("15171c", "1d2b4a", "33508a", "5a7bb0", "9fb0b8", "e3d6a4", "fff6d8")  # silence to loud, evenly lighter

Integers = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float64]


def id_colours(ids: Integers) -> Image:
    """Semantic ids `[…]` → colours `[…, 3]`: any hue, so that neighbours differ and repeats catch the eye."""
    return _oklch(0.5 + 0.2 * _scatter(ids + 7919), np.full(ids.shape, 0.095), 360.0 * _scatter(ids))


def code_colours(codes: Integers) -> Image:
    """Codes `[K, …]` → colours `[K, …, 3]`: each codebook keeps to its part of the colour circle."""
    codebook = np.arange(len(codes)).reshape(-1, *[1] * (codes.ndim - 1))
    shade, nuance = _scatter(codes + 131 * codebook), _scatter(codes + 7919)
    return _oklch(0.3 + 0.38 * shade, 0.05 + 0.04 * nuance, 205.0 + codebook * 22 + (nuance - 0.5) * 40.0)


def heat(levels: npt.NDArray[np.uint8]) -> Image:
    """Loudness 0 … 255 `[…]` → colours `[…, 3]`, from almost black by blue to almost white."""
    places = np.linspace(0.0, 255.0, len(HEAT))
    channels = zip(*(bytes.fromhex(anchor) for anchor in HEAT), strict=True)
    ramp = np.stack([np.interp(np.arange(256), places, channel) for channel in channels], axis=-1)
    return _whole(ramp)[levels]


def _scatter(ids: Integers) -> Floats:
    """Whole numbers → 0 … 1, evenly spread, neighbours far apart: two rounds of multiplying and folding 32 bits."""
    mixed = (ids.astype(np.uint64) + 0x9E3779B9) * 0x85EBCA6B & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return (mixed ^ mixed >> 16) / 2.0**32


def _oklch(light: Floats, chroma: Floats, degrees: Floats) -> Image:
    """Björn Ottosson's OKLCH → sRGB bytes `[…, 3]`: equal lightness looks equally light, whatever the hue."""
    angle = degrees * (math.pi / 180.0)
    a, b = chroma * np.cos(angle), chroma * np.sin(angle)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.291485548 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.707614701 * short,
        ],
        axis=-1,
    ).clip(0.0, 1.0)
    return _whole(255.0 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055))


def _whole(values: Floats) -> Image:
    """Rounded as JavaScript rounds: a half goes up."""
    return np.floor(values + 0.5).astype(np.uint8)
