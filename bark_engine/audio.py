"""Sound as a value: `Audio`, and the same sound at another rate. Files are `audio_files.py`."""

from dataclasses import dataclass
from math import gcd

import numpy as np
import numpy.typing as npt

from .errors import BarkInputError

MAX_SAMPLE_RATE = 768_000  # Hz; far above any sound file, low enough to catch a wrong field


def checked_rate(sample_rate: float) -> int:
    """A sample rate in Hz as a whole number; BarkInputError for what cannot be one."""
    if not 1 <= sample_rate <= MAX_SAMPLE_RATE or sample_rate != int(sample_rate):
        raise BarkInputError(
            f"A sample rate must be a whole number in 1 … {MAX_SAMPLE_RATE:,} Hz; {sample_rate} is not."
        )
    return int(sample_rate)


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """One channel of sound: `samples` float32 `[n]` in −1 … 1 (read-only), `sample_rate` in Hz.

    Raises BarkInputError for another shape, for no samples, and for samples that are not finite.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int = 24_000

    def __post_init__(self) -> None:
        samples = np.array(self.samples, dtype=np.float32)
        if samples.ndim != 1 or samples.size == 0:
            raise BarkInputError(
                f"Audio must be one channel of at least one sample, [n]; this has shape {list(samples.shape)}."
            )
        if not np.isfinite(samples).all():
            raise BarkInputError("Audio holds samples that are not numbers (NaN or infinite). Use a clean recording.")
        samples.setflags(write=False)
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", checked_rate(self.sample_rate))

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def resample(audio: Audio, sample_rate: int) -> Audio:
    """The same sound at another rate, by scipy's polyphase filter (a Kaiser-windowed low-pass)."""
    if audio.sample_rate == sample_rate:
        return audio
    from scipy.signal import resample_poly  # scipy.signal takes half a second to import

    common = gcd(audio.sample_rate, sample_rate)
    return Audio(resample_poly(audio.samples, sample_rate // common, audio.sample_rate // common), sample_rate)
