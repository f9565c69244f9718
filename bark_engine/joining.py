"""Sounds one after another: `join_sounds`, for a long text that was spoken in pieces."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .audio_files import resample_channels
from .errors import BarkInputError

PAUSE = 0.25  # seconds between two sentences, as in suno-bark's notebooks/long_form_generation.ipynb
MAX_PAUSE = 60.0  # seconds


def join_sounds(
    sounds: Sequence[tuple[npt.ArrayLike, int]], pause: float = PAUSE
) -> tuple[npt.NDArray[np.float32], int]:
    """Samples `[C, n]` and rate (Hz) of each sound → all of them in their order, `[C, n]`, and the rate.

    `pause` seconds of silence lie between two of them. The rate is the highest of all, so that none loses anything; a
    mono sound goes to every channel of what has more. Raises BarkInputError for no sound at all, channels that cannot
    be brought together, a pause outside 0 … 60 s, and samples that are none.
    """
    if not sounds:
        raise BarkInputError("There are no sounds to join. Give at least one.")
    if not (math.isfinite(pause) and 0.0 <= pause <= MAX_PAUSE):
        raise BarkInputError(f"The pause must be 0 … {MAX_PAUSE:g} seconds; {pause:g} was given.")
    rate = max(rate for _, rate in sounds)
    parts = [resample_channels(samples, own, rate) for samples, own in sounds]
    counts = sorted({len(part) for part in parts} | {1})
    if len(counts) > 2:
        raise BarkInputError(
            f"Sounds of {' and '.join(map(str, counts[1:]))} channels cannot be joined. Mix them down first; mono goes "
            "with anything."
        )
    silence = np.zeros((counts[-1], round(pause * rate)), dtype=np.float32)
    joined: list[npt.NDArray[np.float32]] = []
    for part in parts:
        joined += [silence, np.broadcast_to(part, (counts[-1], part.shape[1]))]
    return np.concatenate(joined[1:], axis=1), rate
