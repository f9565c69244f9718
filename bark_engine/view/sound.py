"""What a sound looks like: its outline and its spectrogram, both in columns of equal time.

A column covers the time from `column / rate` to `(column + 1) / rate`; the last one may reach past the end. Long sound
is measured block by block, so that memory does not grow with it beyond the result.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..audio import Audio

WAVE_RATE = 150  # columns of the outline per second
SPECTROGRAM_RATE = 75  # columns of the spectrogram per second: one for each frame of the codec
BANDS = 80  # mel bands
TOP_HERTZ = 12_000.0  # the highest band ends here, or at half the sample rate where that is less
FLOOR_DB = 80.0  # how far below the loudest a spectrogram looks
WINDOW_SECONDS = 1_024 / 24_000  # of sound behind one column
_BLOCK = 1_024  # columns measured at a time

Floats = npt.NDArray[np.float32]


def columns_in(audio: Audio, rate: int) -> int:
    """How many columns at `rate` per second cover the sound; at least one."""
    return max(1, -(-len(audio.samples) * rate // audio.sample_rate))


def wave_columns(audio: Audio) -> Floats:
    """The outline: float32 `[columns, 2]`, the lowest and the highest sample of each 1/150 s.

    At less than 150 samples per second a column without a sample of its own repeats the one before it.
    """
    starts = np.arange(columns_in(audio, WAVE_RATE)) * audio.sample_rate // WAVE_RATE
    low = np.minimum.reduceat(audio.samples, starts)
    return np.stack([low, np.maximum.reduceat(audio.samples, starts)], axis=1)


def top_hertz(sample_rate: int) -> float:
    """Where the highest band of a spectrogram ends, in Hz."""
    return min(TOP_HERTZ, sample_rate / 2)


def spectrogram(audio: Audio) -> npt.NDArray[np.uint8]:
    """The log-mel spectrogram: bytes `[80, columns]`, band 0 lowest, 75 columns per second.

    255 is the loudest of the whole clip, 0 is 80 dB below it or less. A silent clip is 0 throughout.
    """
    columns = columns_in(audio, SPECTROGRAM_RATE)
    power = np.empty((BANDS, columns), dtype=np.float32)
    for first in range(0, columns, _BLOCK):
        power[:, first : first + _BLOCK] = _mel_power(audio, first, min(columns, first + _BLOCK))
    loudest = float(power.max())
    if loudest == 0.0:
        return np.zeros((BANDS, columns), dtype=np.uint8)
    decibels = 10.0 * np.log10(np.maximum(power / loudest, 10.0 ** (-FLOOR_DB / 10.0)))
    return np.rint((decibels + FLOOR_DB) * (255.0 / FLOOR_DB)).astype(np.uint8)


def _mel_power(audio: Audio, first: int, last: int) -> Floats:
    """Power `[bands, columns]` of the columns `first` … `last − 1`, each seen through a window around its middle."""
    from scipy import fft  # twice as fast as numpy's, and not needed before a sound is looked at

    length = window_length(audio.sample_rate)
    middles = (np.arange(first, last) * 2 + 1) * audio.sample_rate // (2 * SPECTROGRAM_RATE)
    begin = int(middles[0]) - length // 2
    end = int(middles[-1]) - length // 2 + length
    part = audio.samples[max(begin, 0) : max(end, 0)]
    padded = np.pad(part, (max(-begin, 0), max(end - max(begin, 0) - len(part), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[middles - middles[0]]
    spectrum: Any = fft.rfft(frames * _window(length), axis=-1)
    return mel_filters(audio.sample_rate) @ (spectrum.real**2 + spectrum.imag**2).T


def window_length(sample_rate: int) -> int:
    """Samples behind one column: about 43 ms, an even number, at least 16."""
    return max(16, 2 * round(WINDOW_SECONDS * sample_rate / 2))


@cache
def _window(length: int) -> Floats:
    return (0.5 - 0.5 * np.cos(2.0 * math.pi * np.arange(length) / length)).astype(np.float32)  # Hann


def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The mel scale in its common form, 2595 · log10(1 + f / 700)."""
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, dtype=np.float64) / 700.0)


@cache
def mel_filters(sample_rate: int) -> Floats:
    """Triangles `[80, bins]` that overlap by half, even on the mel scale, from 0 Hz to `top_hertz`."""
    bins = np.arange(window_length(sample_rate) // 2 + 1) * sample_rate / window_length(sample_rate)
    edges = np.linspace(0.0, float(mel(top_hertz(sample_rate))), BANDS + 2)
    places = mel(bins)[None]
    step = edges[1] - edges[0]
    # A band narrower than the space between two bins would see nothing: it is as wide as that space at least.
    middles = edges[1:-1, None]
    spacing = np.maximum(step, mel(700.0 * (10.0 ** (middles / 2595.0) - 1.0) + bins[1]) - middles)
    return np.maximum(0.0, 1.0 - np.abs(places - middles) / spacing).astype(np.float32)
