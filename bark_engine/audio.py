"""Sound as a value: `Audio`, and the same sound at another rate. Files are `audio_files.py`."""

from dataclasses import dataclass
from math import gcd
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BarkInputError

MAX_SAMPLE_RATE = 768_000  # Hz; far above any sound file, low enough to catch a wrong field


def checked_rate(sample_rate: Any) -> int:
    """A sample rate in Hz as a whole number; BarkInputError for what cannot be one."""
    is_number = isinstance(sample_rate, Real) and not isinstance(sample_rate, bool)
    given: Any = sample_rate if is_number else 0
    if not 1 <= given <= MAX_SAMPLE_RATE or given != int(given):
        raise BarkInputError(
            f"A sample rate must be a whole number in 1 … {MAX_SAMPLE_RATE:,} Hz; {sample_rate!r} is not."
        )
    return int(given)


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """One channel of sound: `samples` float32 `[n]` in −1 … 1 (read-only), `sample_rate` in Hz.

    Lists, numpy arrays and torch tensors are accepted. Raises BarkInputError for another shape, for no samples, for
    whole numbers (which count in steps of a file, not to 1), and for samples that are not finite.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int = 24_000

    def __post_init__(self) -> None:
        samples = _own_samples(self.samples)
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

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew by pickle and copy.deepcopy, because numpy's own copies can be written to.
        return type(self), (self.samples, self.sample_rate)


def _own_samples(values: Any) -> npt.NDArray[np.float32]:
    """A float32 copy of any array-like of floating point."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point():  # whole numbers must not become floats before they are refused
            values = values.float()  # numpy does not know bfloat16
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise BarkInputError(f"Audio must be an array of samples ({error}).") from None
    if array.size and array.dtype.kind != "f":
        raise BarkInputError(
            f"Audio samples must be floating point in −1 … 1, not {array.dtype}. Divide whole numbers by the largest "
            "that their format holds, 32,768 for 16 bits."
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is refused
        return np.array(array, dtype=np.float32)


def resample(audio: Audio, sample_rate: int) -> Audio:
    """The same sound at another rate, by scipy's polyphase filter (a Kaiser-windowed low-pass)."""
    if audio.sample_rate == sample_rate:
        return audio
    from scipy.signal import resample_poly  # scipy.signal takes half a second to import

    common = gcd(audio.sample_rate, sample_rate)
    return Audio(resample_poly(audio.samples, sample_rate // common, audio.sample_rate // common), sample_rate)
