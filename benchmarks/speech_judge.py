"""Scores for speech against a reading of the same text: the sentence, its length and end, its pitch, its words.

Only numpy and scipy, no files and no models: sounds are float32 `[n]` at RATE, and each function says what it measures
and where it is blind. `nano_speaks.py` puts them to use.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

Floats = npt.NDArray[np.floating]

RATE = 16_000  # Hz; what the recogniser hears too
HOP = 320  # samples from one frame to the next: 50 frames per second
WINDOW = 640  # samples of a frame, 40 ms: three periods of the lowest voice
FFT = 1_024
LOWEST, HIGHEST = 80.0, 7_600.0  # Hz, edges of the mel bands
BANDS = 40
RANGE_DB = 40.0  # what lies further below the loudest spot is not heard in the comparison; a codec's hiss lies there
COEFFICIENTS = 16  # of the cosine transform along the bands; finer ripple is the pitch, not the words
SPEECH_DB = -30.0  # a frame sounds when it is louder than this below the loud frames
SILENCE = 1e-3  # RMS of the loud frames (-60 dB); below it nothing is said at all
BAND = 0.2  # of the longer length: how far an alignment may stray from the straight one
BAND_SECONDS = 0.5  # and at least this far
LENGTH_TOLERANCE = 0.3
BABBLE_SECONDS = 0.4  # of sound after the aligned end; a drawn-out last vowel is less
PITCHES = (60.0, 400.0)  # Hz, where voices are looked for
VOICED = 0.5  # normalised autocorrelation from which a frame counts as voiced


def sounding(sound: Floats) -> npt.NDArray[np.bool_]:
    """Which frames `[F]` of a sound are heard: louder than SPEECH_DB below its 95th percentile; none in silence."""
    level = np.sqrt((_frames(sound) ** 2).mean(axis=1))
    loud = np.percentile(level, 95)
    if loud < SILENCE:
        return np.zeros(len(level), dtype=bool)
    return level > loud * 10 ** (SPEECH_DB / 20)


def spoken(sound: Floats) -> Floats:
    """The sound from its first to its last heard frame; empty for silence."""
    heard = np.flatnonzero(sounding(sound))
    return sound[max(0, heard[0] * HOP - HOP // 2) : heard[-1] * HOP + HOP // 2] if len(heard) else sound[:0]


def log_mel(sound: Floats, bands: int = BANDS, hop: int = HOP, range_db: float = RANGE_DB) -> Floats:
    """Energy in dB `[F, bands]` of mel-spaced triangles, nothing more than `range_db` below the loudest spot."""
    window = np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(_frames(sound, hop) * window, FFT)) ** 2 @ _mel_triangles(bands).T
    decibels = 10 * np.log10(power + 1e-12)
    return np.maximum(decibels, decibels.max() - range_db)


def features(sound: Floats) -> Floats:
    """What sentences are compared by, `[F, COEFFICIENTS]`: the log-mel spectrogram smoothed along the bands.

    The mean over time is taken out, so that loudness and the colour of a voice or a codec weigh less than the words.
    """
    smooth = np.asarray(dct(log_mel(sound), norm="ortho", axis=1))[:, :COEFFICIENTS]
    return smooth - smooth.mean(axis=0)


def align(ours: Floats, theirs: Floats, band: float | None = BAND) -> Floats:
    """Dynamic time warping: the mean distance of the best alignment of each beginning of `ours` with all of `theirs`.

    ours `[N, D]`, theirs `[M, D]` → `[N]`; the last entry is the alignment of both as a whole. A step in both sounds
    costs twice the distance of its frames, a step in one of them once; the sum is divided by n + M, so alignments of
    any shape compare. `band` is the part of the longer length that a path may stray from the straight line; None lets
    it go anywhere, which an end that is not known needs.
    """
    n, m = len(ours), len(theirs)
    squares = (ours**2).sum(axis=1)[:, None] + (theirs**2).sum(axis=1) - 2 * ours @ theirs.T
    distance = np.sqrt(np.maximum(squares, 0))
    rows, columns = np.indices((n, m))
    if band is not None:
        width = max(BAND_SECONDS * RATE / HOP, band * max(n, m))
        distance[np.abs(rows * (m / n) - columns) > width] = np.inf
    # Cells of one anti-diagonal depend only on the two before it, so each is one step of numpy.
    diagonals = np.full((n + m - 1, n), np.inf)
    diagonals[rows + columns, rows] = distance
    before, last = np.full(n + 1, np.inf), np.full(n + 1, np.inf)  # entry i + 1 is row i; entry 0 stays outside
    last[1] = 2 * diagonals[0, 0]
    ends = np.full(n, np.inf)
    if m == 1:
        ends[0] = last[1]
    for k in range(1, n + m - 1):
        step = diagonals[k]
        new = np.full(n + 1, np.inf)
        new[1:] = np.minimum(np.minimum(last[1:], last[:-1]) + step, before[:-1] + 2 * step)
        before, last = last, new
        if k >= m - 1:
            ends[k - m + 1] = new[k - m + 2]
    return ends / (np.arange(1, n + 1) + m)


def nearest_lengths(lengths: Sequence[float], index: int, count: int) -> list[int]:
    """The `count` sentences whose lengths are closest to that of `index`, which is the first of them."""
    apart = np.abs(np.asarray(lengths, dtype=float) - lengths[index])
    apart[index] = -1
    return [int(other) for other in np.argsort(apart, kind="stable")[:count]]


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome of a forced choice: the sentence chosen (None when nothing is heard) and by how much.

    `margin` is how much nearer, as a part, the true sentence is than the best other one; negative when it lost.
    """

    chosen: int | None
    margin: float


def choose(sound: Floats, candidates: Sequence[int], readings: Mapping[int, Floats]) -> Choice:
    """Which of the candidates' readings, as `features`, is nearest to a sound; the first candidate is the true one."""
    speech = spoken(sound)
    if len(speech) < WINDOW:
        return Choice(None, -1.0)
    ours = features(speech)
    costs = np.array([align(ours, readings[candidate])[-1] for candidate in candidates])
    if not np.isfinite(costs[0]):  # so long or so short that no path within the band exists
        return Choice(None, -1.0)
    return Choice(candidates[int(costs.argmin())], float(1 - costs[0] / costs[1:].min()))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a sound ends: its length as a part of the reading's, and the seconds heard after the text is over."""

    length_ratio: float
    babble_seconds: float

    @property
    def good(self) -> bool:
        """Length within LENGTH_TOLERANCE, and at most BABBLE_SECONDS of babble."""
        return abs(self.length_ratio - 1) <= LENGTH_TOLERANCE and self.babble_seconds <= BABBLE_SECONDS


def ending(sound: Floats, reading: Floats) -> Ending:
    """Compare the end of a sound with that of a reading of the same text.

    Lengths are from the first to the last heard frame; silence before and after does not count. The text is over at
    the frame where the best alignment of all of the reading with a beginning of the sound ends; every later frame
    that is heard is babble. A last word that is not in the reading, or not like it, therefore counts as babble too.
    """
    ours, theirs = spoken(sound), spoken(reading)
    if len(ours) < WINDOW:
        return Ending(0.0, 0.0)
    ends = align(features(ours), features(theirs), band=None)
    return Ending(len(ours) / len(theirs), float(sounding(ours)[int(ends.argmin()) + 1 :].sum()) * HOP / RATE)


def median_pitch(sound: Floats) -> float:
    """The median over voiced frames of the pitch in Hz; NaN when no frame is voiced.

    A frame's pitch is the first lag whose autocorrelation is near the best, which takes the voice itself and not the
    octave below it; frames of two windows, so that the lowest pitch has several periods in each.
    """
    length = 2 * WINDOW
    heard = sounding(sound)
    frames = _frames(sound, HOP, length)[heard]
    if not len(frames):
        return float("nan")
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(length)
    window = np.hanning(length)
    auto, taper = (np.fft.irfft(np.abs(np.fft.rfft(x, 2 * length)) ** 2) for x in (frames, window))
    shortest, longest = int(RATE / PITCHES[1]), int(RATE / PITCHES[0])
    # The window's own decay is divided out, or long lags would never win.
    likeness = auto[:, : longest + 2] / (auto[:, :1] + 1e-12) * (taper[0] / taper[: longest + 2])
    inner = likeness[:, shortest : longest + 1]
    peak = (inner >= likeness[:, shortest - 1 : longest]) & (inner >= likeness[:, shortest + 1 : longest + 2])
    scores = np.where(peak, inner, -1)
    best = scores.max(axis=1)
    lags = shortest + (scores >= 0.9 * best[:, None]).argmax(axis=1)
    voiced = best > VOICED
    return float(np.median(RATE / lags[voiced])) if voiced.any() else float("nan")


def edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest words to insert, leave out or replace to get from one sequence to the other."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        above, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


def word_accuracy(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """1 − edits / words over pairs of (words said, words heard); below 0 when more is put in than was said."""
    pairs = list(pairs)
    return 1 - sum(edits(said, heard) for said, heard in pairs) / max(1, sum(len(said) for said, _ in pairs))


def _frames(sound: Floats, hop: int = HOP, window: int = WINDOW) -> Floats:
    """Overlapping frames `[F, window]`, the first centred on sample 0; F = 1 + (n − 1) // hop."""
    padded = np.pad(sound, window // 2)
    return np.lib.stride_tricks.sliding_window_view(padded, window)[: len(sound) : hop]


@cache
def _mel_triangles(bands: int) -> Floats:
    """Weights `[bands, FFT // 2 + 1]` of triangles with corners equally spaced in mel (O'Shaughnessy's formula)."""
    lowest, highest = (2_595 * np.log10(1 + hertz / 700) for hertz in (LOWEST, HIGHEST))
    corners = 700 * (10 ** (np.linspace(lowest, highest, bands + 2) / 2_595) - 1)
    left, middle, right = (corners[i : i + bands, None] for i in range(3))
    hertz = np.arange(FFT // 2 + 1) * RATE / FFT
    return np.maximum(0, np.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)))
