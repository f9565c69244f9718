"""The voices that nano is taught, as espeak-ng says them, and speech resampled to the codec's rate."""

import numpy as np
import numpy.typing as npt

from ...audio import Audio, resample
from ...spec import SUNO
from .espeak import Reading, Voice, espeak

DEFAULT = ""  # the speaker name of clips that never have a speaker prompt before them

VOICES = {
    DEFAULT: Voice("en-us"),
    "low": Voice("en-us+m3", pitch=30),
    "high": Voice("en-us+f2", pitch=55),
}

# Of every ten sentences, how many each voice says.
SHARES = {DEFAULT: 5, "low": 2, "high": 3}

TAIL_SECONDS = 0.12  # silence put after espeak-ng's last phone, so that the end of speech can be heard


def speaker_of(index: int) -> str:
    """The voice of the corpus' sentence number `index`: a fixed pattern with SHARES in every ten sentences."""
    pattern = [name for name, share in SHARES.items() for _ in range(share)]
    return pattern[(index * 7) % len(pattern)]


def speak(text: str, speaker: str) -> Reading:
    """What espeak-ng says for a sentence in one of VOICES, with TAIL_SECONDS of silence at the end.

    All-capital words are spoken as words: nano reads lower case.
    """
    reading = espeak().read(text, VOICES[speaker])
    tail = np.zeros(round(TAIL_SECONDS * reading.sample_rate), dtype=np.float32)
    return Reading(np.concatenate([reading.samples, tail]), reading.sample_rate, reading.phones)


def at_codec_rate(reading: Reading) -> npt.NDArray[np.float32]:
    """The samples of a reading at 24 kHz."""
    return resample(Audio(reading.samples, reading.sample_rate), SUNO.sample_rate).samples
