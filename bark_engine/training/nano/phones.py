"""nano's semantic tokens: which phone is being said, and whether its beginning, middle or end is heard.

Token id = 3 · phone + part, at 49.9 per second. The phones are those of espeak-ng 1.51's voice en-us under their names
there (docs/phonemes.md of espeak-ng); all kinds of pause are one.
"""

import numpy as np
import numpy.typing as npt

from ...errors import BarkInputError
from ...spec import SUNO
from .espeak import Reading
from .listed import listed

PAUSE = "_"
PHONES = (
    PAUSE,
    *listed(
        "0 3 3: ? @ @- @2 @L A: A@ D E I I# I2 N O O2 O: O@ OI S T U U@ V Z a a# aI aI3 aI@ aU aa b d dZ e@ eI f g "
        "h i i: i@ i@3 j k l m n n- o@ oU p r r- s t t# t2 tS u: v w x z"
    ),
)
PARTS = 3  # beginning, middle, end

_PALATAL = ";"  # espeak-ng's mark of a palatal glide before u:, heard as the phone j
_INDEX = {name: number for number, name in enumerate(PHONES)}


def semantic_vocabulary() -> list[str]:
    """A readable name for every semantic id, such as "aI/2"."""
    return [f"{phone}/{part}" for phone in PHONES for part in range(PARTS)]


def phone_number(name: str) -> int:
    """The place of an espeak-ng phone in PHONES. Raises BarkInputError for one of another language or release."""
    if name.startswith("_"):
        name = PAUSE
    if name == _PALATAL:
        name = "j"
    try:
        return _INDEX[name]
    except KeyError:
        raise BarkInputError(
            f"espeak-ng said the phone {name!r}, which is not in nano's list. Use the voice en-us of espeak-ng 1.51."
        ) from None


def semantic_ids(reading: Reading) -> npt.NDArray[np.int64]:
    """The tokens of a reading, `[ceil(seconds · 49.9)]`: each from the phone heard at the token's middle.

    A phone too short to hold the middle of any token is left out.
    """
    seconds = len(reading.samples) / reading.sample_rate
    count = int(np.ceil(seconds * SUNO.semantic_rate))
    middles = (np.arange(count) + 0.5) / SUNO.semantic_rate * reading.sample_rate
    starts = np.array([start for start, _ in reading.phones])
    # Neighbouring pauses are one; before the first phone there is a pause of some ms.
    places = np.searchsorted(starts, middles, side="right") - 1
    numbers = [phone_number(name) for _, name in reading.phones]
    runs: list[tuple[int, int]] = []  # place of the first phone of the run, number of tokens
    for place in places:
        both_pauses = bool(runs) and place > 0 and runs[-1][0] >= 0 and numbers[place] == 0 == numbers[runs[-1][0]]
        if runs and (place == runs[-1][0] or both_pauses):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((int(place), 1))
    ids: list[int] = []
    for place, length in runs:
        number = numbers[place] if place >= 0 else 0
        ids += [PARTS * number + int(PARTS * (step + 0.5) / length) for step in range(length)]
    return np.array(ids, dtype=np.int64)
