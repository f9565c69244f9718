"""A voice as tokens: `SpeakerPrompt` (Suno's "history prompt"), read from and written to `.npz` files.

Files in the wild differ (bark's own `announcer` is uint16, others int16; some carry extra keys or pickled extras),
so the three arrays are read one by one, without pickle, and everything else in the file is left alone.
"""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import replacing
from .errors import BarkFileError, BarkInputError
from .spec import SUNO, BarkSpec, known_family
from .tokens import CoarseTokens, FineTokens, SemanticTokens

KEYS = ("semantic_prompt", "coarse_prompt", "fine_prompt")  # bark/api.py, save_as_prompt
OTHER_KEYS = {
    "semantic": "semantic_prompt",  # training data sets
    "coarse": "coarse_prompt",
    "fine": "fine_prompt",
    "text": "semantic_prompt",  # Suno's first prompts, of April 2023
    "coarse_2": "coarse_prompt",
}
FAMILY_KEY = "family"  # ours; readers that do not know it pass it over
MAX_ARRAY_BYTES = 64 * 2**20  # an hour of fine tokens as int64 is 17 MB; a prompt uses seconds


# What zipfile raises for a damaged file (ValueError: for an impossible path), and numpy for a damaged array.
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError)
_DAMAGED_ARRAY = (ValueError, TypeError, LookupError, EOFError, RecursionError, MemoryError)
_DAMAGED_ARRAY += (SyntaxError, tokenize.TokenError)  # a header is a Python literal


@dataclass(frozen=True, slots=True)
class SpeakerPrompt:
    """What a voice sounds like: the tokens of one utterance, at most some 15 s of it.

    semantic `[S]`, coarse `[2, F]` and fine `[8, F]` describe the same stretch of sound, so F / S rounds to 1.5
    (75 / 49.9 frames per semantic token, checked to one decimal as in bark/generation.py). The ratio of a family that
    is not known yet is left to the moment when its models are (`check_stretch`). Arrays are accepted and wrapped.
    `name` is for people and does not count in comparisons.

    Raises BarkInputError for anything else.
    """

    semantic: SemanticTokens
    coarse: CoarseTokens
    fine: FineTokens
    name: str = field(default="", compare=False)
    family: str = ""

    def __post_init__(self) -> None:
        family = self.family or getattr(self.semantic, "family", SUNO.family)
        for part, kind in (("semantic", SemanticTokens), ("coarse", CoarseTokens), ("fine", FineTokens)):
            value = getattr(self, part)
            tokens = value if isinstance(value, kind) else kind(value, family=family)
            if tokens.family != family:
                raise BarkInputError(
                    f"The {part} tokens of this speaker prompt are of the family {tokens.family!r}, the others of "
                    f"{family!r}. Take all three from one set of models."
                )
            object.__setattr__(self, part, tokens)
        object.__setattr__(self, "family", family)
        if spec := known_family(family):
            check_stretch(self, spec)
        if len(self.semantic) < 2:
            raise BarkInputError("A speaker prompt of one semantic token is too short to be used; use at least two.")

    @property
    def seconds(self) -> float:
        """Length of the voice sample, in seconds."""
        return self.coarse.seconds

    @classmethod
    def load(cls, path: str | os.PathLike[str], family: str = SUNO.family) -> "SpeakerPrompt":
        """Read a `.npz` speaker prompt; the file's name becomes the prompt's.

        `family` is for files that do not say which models made them (only `save` writes that). Raises BarkFileError
        naming the file and the rule it breaks.
        """
        path = Path(path)
        try:
            with zipfile.ZipFile(path) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                others = {OTHER_KEYS[name]: info for name, info in members.items() if name in OTHER_KEYS}
                renamed = others | members  # a right name goes before another layout's
                missing = [key for key in KEYS if key not in renamed]
                if missing:
                    raise BarkFileError(
                        f"{path.name} is no speaker prompt: it lacks {', '.join(missing)}. It holds "
                        f"{', '.join(members) or 'nothing'}. A Bark speaker prompt is a .npz with {', '.join(KEYS)}."
                    )
                semantic, coarse, fine = (read_member(archive, renamed[key], path.name) for key in KEYS)
                if FAMILY_KEY in members:
                    family = str(read_member(archive, members[FAMILY_KEY], path.name))
        except FileNotFoundError:
            raise BarkFileError(f"There is no speaker prompt file {path}. Check the name and the folder.") from None
        except _DAMAGED_ZIP as error:
            raise BarkFileError(
                f"{path.name} cannot be read as a .npz speaker prompt ({error}). "
                "It may be cut short or another kind of file; take a fresh copy."
            ) from None
        try:
            return cls(
                SemanticTokens(semantic, family), CoarseTokens(coarse, family), FineTokens(fine, family), name=path.stem
            )
        except BarkInputError as error:
            raise BarkFileError(f"{path.name}: {error}") from None

    def save(self, path: str | os.PathLike[str], overwrite: bool = True) -> Path:
        """Write Suno's own `.npz` (three int64 arrays), complete or not at all; an older file stays until then.

        Models of another family than Suno's are named in a fourth array. Raises BarkFileError where the file cannot
        be written, or is there already and `overwrite` is off.
        """
        path = Path(path)
        if path.suffix.lower() != ".npz":
            raise BarkInputError(f"A speaker prompt is saved as .npz; {path.name!r} ends otherwise. Add .npz.")
        parts = zip(KEYS, (self.semantic, self.coarse, self.fine), strict=True)
        arrays = {key: np.asarray(tokens) for key, tokens in parts}
        if self.family != SUNO.family:
            arrays[FAMILY_KEY] = np.array(self.family)
        with replacing(path, "The speaker prompt", overwrite) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return path


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> np.ndarray[Any, Any]:
    """One array of a `.npz` that calls itself `source`, without pickle and not larger than tokens can be.

    Raises BarkFileError, and what zipfile raises for a damaged file.
    """
    if info.file_size > MAX_ARRAY_BYTES:
        raise BarkFileError(
            f"{source}: {info.filename} says it holds {info.file_size / 2**20:.0f} MiB, more than any tokens need. "
            "It is damaged or something else."
        )
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise zipfile.BadZipFile(f"{info.filename} is packed in a way that numpy never does")
    with archive.open(info) as file:
        return read_array(file.read(MAX_ARRAY_BYTES + 1), f"{source}: {info.filename}")


def read_array(data: bytes, source: str) -> np.ndarray[Any, Any]:
    """The array in the bytes of a `.npy` file, without pickle; whole numbers kept as floats become int64.

    Raises BarkFileError that calls the file `source`.
    """
    try:
        _check_header(data)
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except _DAMAGED_ARRAY as error:
        raise BarkFileError(
            f"{source} cannot be used ({error}). A speaker prompt holds three plain arrays of whole "
            "numbers; pickled objects are never opened."
        ) from None
    if array.dtype.kind == "f" and array.size and bool(np.all(np.mod(array, 1) == 0)):
        return array.astype(np.int64)
    return array


def _check_header(data: bytes) -> None:
    """Refuse a header that promises more numbers than follow it, before numpy sets memory aside for them."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(stream)
    promised = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and promised != len(data) - stream.tell():
        raise ValueError(f"its header promises {promised} bytes and {len(data) - stream.tell()} follow")


def same_stretch(semantic: int, frames: int, spec: BarkSpec) -> bool:
    """Whether so many semantic tokens and frames can be one stretch of sound, checked to one decimal as Suno does."""
    return round(frames / semantic, 1) == round(spec.frames_per_semantic, 1)


def check_stretch(speaker: SpeakerPrompt, spec: BarkSpec) -> None:
    """Refuse (BarkInputError) a speaker prompt whose coarse or fine tokens are not as long as its semantic ones."""
    semantic, ratio = len(speaker.semantic), spec.frames_per_semantic
    for kind, frames in (("coarse", speaker.coarse.frames), ("fine", speaker.fine.frames)):
        if not same_stretch(semantic, frames, spec):
            advice = f"So few tokens are too short: no number of frames fits; use {_least(spec)} tokens or more."
            if right := _frames_that_fit(semantic, spec):
                advice = f"{semantic} tokens go with {right} frames: cut all three to the same stretch of sound."
            raise BarkInputError(
                f"A speaker prompt needs about {ratio:.2f} {kind} frames per semantic token; this one has {frames} "
                f"frames for {semantic} tokens ({frames / semantic:.2f}). {advice}"
            )


def _frames_that_fit(semantic: int, spec: BarkSpec) -> int | None:
    """The number of frames that goes best with so many semantic tokens, or None where the rounding lets none."""
    exact = semantic * spec.frames_per_semantic
    nearest = sorted({math.floor(exact), math.ceil(exact)}, key=lambda frames: abs(frames - exact))
    return next((frames for frames in nearest if frames and same_stretch(semantic, frames, spec)), None)


def _least(spec: BarkSpec) -> int:
    """The number of semantic tokens from which on some number of frames always fits."""
    # With ten and more, one frame moves the ratio by a tenth at most, and cannot step over the right one.
    return 1 + max((count for count in range(1, 10) if _frames_that_fit(count, spec) is None), default=0)


def require_speaker(speaker: Any) -> None:
    """Refuse anything but a SpeakerPrompt or None (BarkInputError)."""
    if speaker is not None and not isinstance(speaker, SpeakerPrompt):
        raise BarkInputError(
            f"A speaker must be a SpeakerPrompt or None, not {type(speaker).__name__}. "
            'Load one with SpeakerPrompt.load("voice.npz").'
        )
