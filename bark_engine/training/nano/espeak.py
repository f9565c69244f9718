"""Speech with known phones: espeak-ng as a library, sound and phoneme events from one call.

Training data for nano only; nothing else in the engine needs espeak-ng (Debian: `apt-get install libespeak-ng1`).
"""

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ...errors import BarkError, BarkInputError

# Values of espeak-ng/speak_lib.h, API revision 12 (espeak-ng 1.49 and later).
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 1
_POSITION_CHARACTER = 1
_UTF8 = 1
_EVENT_LIST_END = 0
_EVENT_PHONEME = 7
_PARAMETERS = {"rate": 1, "pitch": 3, "range": 4}


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice of espeak-ng: its name with a variant, words per minute, pitch and pitch range (0 … 99)."""

    name: str
    rate: int = 175
    pitch: int = 50
    range: int = 50


@dataclass(frozen=True, slots=True)
class Reading:
    """What espeak-ng said: float32 samples `[n]`, their rate, and each phone with the sample it starts at."""

    samples: npt.NDArray[np.float32]
    sample_rate: int
    phones: tuple[tuple[int, str], ...]


class _Identity(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Identity),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The library, opened once per process (`espeak()`); it keeps global state and is not safe to share by threads."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise BarkError(
                f"The library espeak-ng was not found ({error}). nano's training data are spoken by it; "
                "on Debian: apt-get install libespeak-ng1"
            ) from None
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self.sample_rate <= 0:
            raise BarkError("espeak-ng did not start; its data are missing. On Debian: apt-get install espeak-ng-data")
        self._pieces: list[bytes] = []
        self._phones: list[tuple[int, str]] = []
        self._callback = _Callback(self._collect)  # kept, or it would be collected under the library's feet
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if samples and count:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while (event := events[index]).type != _EVENT_LIST_END:
            if event.type == _EVENT_PHONEME:
                self._phones.append((event.sample, event.id.string.decode()))
            index += 1
        return 0

    def read(self, text: str, voice: Voice) -> Reading:
        """Speak a text.

        espeak-ng carries its noise and the phase of the voice on from text to text: the same texts in the same order
        from the start of a process give the same samples, a text by itself the same words in other ones.

        Raises BarkInputError for a voice that espeak-ng does not have, and for a text it says nothing for.
        """
        self._pieces.clear()
        self._phones.clear()
        if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise BarkInputError(f"espeak-ng has no voice {voice.name!r}. See: espeak-ng --voices and --voices=variant")
        for field, number in _PARAMETERS.items():
            self._library.espeak_SetParameter(number, getattr(voice, field), 0)
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        whole = np.frombuffer(b"".join(self._pieces), dtype=np.int16)
        samples = np.divide(whole, 32_768, dtype=np.float32)
        if not len(samples) or not self._phones:
            raise BarkInputError(f"espeak-ng says nothing for {text!r}.")
        return Reading(samples, self.sample_rate, tuple(self._phones))


@cache
def espeak() -> Espeak:
    """The library, opened at the first call."""
    return Espeak()
