"""The data of a training: a folder of clips, each a text and the tokens of its sound.

    folder/clips.jsonl         one JSON object per line: {"name", "text", "speaker", "split"}
    folder/tokens/<name>.npz   `semantic_prompt` [S], `coarse_prompt` [2, F], `fine_prompt` [8, F], and `family`

Every `.npz` is an ordinary speaker prompt (`family` may be left out if it is Suno's), so each clip can be heard and
used as a voice. A clip may lack the coarse and the fine tokens; then it serves the semantic stage alone. `speaker` is
the name of its voice; the empty name means "the voice without a speaker prompt": such clips are never given a history
and never serve as one.
"""

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import BarkFileError, BarkInputError
from ..paths import safe_child
from ..progress import OnStep, silent
from ..speaker import FAMILY_KEY, KEYS, read_member, same_stretch
from ..spec import SUNO, BarkSpec

Tokens = npt.NDArray[np.integer]

CLIPS_FILE, TOKENS_FOLDER = "clips.jsonl", "tokens"
SPLITS = ("train", "validation")
FIELDS = ("name", "text", "speaker", "split")
STAGES = ("semantic", "coarse", "fine")
NEEDED = {"semantic": KEYS[:1], "coarse": KEYS[:2], "fine": KEYS[2:]}
"""The arrays that the training of each stage reads; the others are left in the file."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError)  # by zipfile


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance. Arrays that the stage at hand does not need are empty.

    semantic `[S]`, coarse `[2, F]`, fine `[8, F]`, without offsets, in the smallest type that holds them.
    """

    name: str
    text: str
    speaker: str
    split: str
    semantic: Tokens
    coarse: Tokens
    fine: Tokens

    def end(self, seconds: float, spec: BarkSpec) -> "Clip":
        """The last seconds of the clip, two semantic tokens at least; all of it where it is shorter."""
        count = max(2, round(seconds * spec.semantic_rate))
        frames = max(1, round(count * spec.frames_per_semantic))
        return replace(
            self, semantic=self.semantic[-count:], coarse=self.coarse[..., -frames:], fine=self.fine[..., -frames:]
        )


@dataclass(frozen=True)
class ClipFolder:
    """The clips of a folder that can be used for one stage, in the order of `clips.jsonl`.

    `skipped` counts those without the tokens that the stage needs. `digest` stands for the list of clips: two folders
    with equal `clips.jsonl` have the same one.
    """

    path: Path
    stage: str
    clips: tuple[Clip, ...]
    skipped: int
    digest: str
    _by_speaker: dict[tuple[str, str], list[int]] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: Path, spec: BarkSpec, stage: str, on_step: OnStep | None = None) -> "ClipFolder":
        """Read all clips that `stage` ("semantic", "coarse" or "fine") can use; some 2,000 a second.

        `on_step(done, total)` is called for every clip. Raises BarkFileError for a list or tokens that are missing,
        damaged, of another family, out of range or too long; the sentence names the file and the line.
        """
        path = Path(path)
        entries = list(_read_list(path / CLIPS_FILE))
        on_step = on_step or silent
        clips = []
        for number, entry in enumerate(entries):
            on_step(number, len(entries))
            clip = _read_clip(path / TOKENS_FOLDER, entry, spec, stage)
            if clip is not None:
                clips.append(clip)
        if not clips:
            raise BarkFileError(
                f"None of the {len(entries):,} clips of {path} has the tokens that the {stage} stage learns from "
                f"({', '.join(NEEDED[stage])}). Add them to the .npz files."
            )
        by_speaker: dict[tuple[str, str], list[int]] = {}
        for number, clip in enumerate(clips):
            by_speaker.setdefault((clip.split, clip.speaker), []).append(number)
        digest = _digest(path / CLIPS_FILE)
        return cls(path, stage, tuple(clips), len(entries) - len(clips), digest, by_speaker)

    def split(self, name: str) -> list[int]:
        """Numbers of the clips of a split, "train" or "validation"."""
        return [number for number, clip in enumerate(self.clips) if clip.split == name]

    def history_for(self, number: int, probability: float, rng: np.random.Generator) -> Clip | None:
        """Another clip of the same speaker and split, with this probability; None otherwise.

        Always None for clips of the voice without a prompt, and where the speaker has no other clip.
        """
        clip = self.clips[number]
        drawn = rng.random()  # always one number, so that what follows does not depend on the speaker
        others = self._by_speaker[clip.split, clip.speaker]
        if not clip.speaker or len(others) < 2 or drawn >= probability:
            return None
        place = int(rng.integers(len(others) - 1))
        other = others[place]
        return self.clips[others[-1] if other == number else other]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One line of `clips.jsonl`, and where it stands, for errors."""

    name: str
    text: str
    speaker: str
    split: str
    where: str


def _read_list(path: Path) -> Iterator[_Entry]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise BarkFileError(
            f"There is no {path}. A data folder holds {CLIPS_FILE}, one JSON object per line with "
            f"{', '.join(FIELDS)}, and {TOKENS_FOLDER}/<name>.npz for each."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BarkFileError(f"{path} cannot be read as UTF-8 text ({error}). Check the file.") from None
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _parse_line(line, f"{path}, line {number:,}")
        if entry.name in seen:
            raise BarkFileError(f"{entry.where}: the name {entry.name!r} is there twice. Every clip needs its own.")
        seen.add(entry.name)
        yield entry
    if not seen:
        raise BarkFileError(f"{path} lists no clips. Write one JSON object per line with {', '.join(FIELDS)}.")


def _parse_line(line: str, where: str) -> _Entry:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BarkFileError(f"{where} is not valid JSON ({error}).") from None
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in FIELDS):
        raise BarkFileError(f"{where} must be a JSON object with the texts {', '.join(FIELDS)}; it is {line[:80]!r}.")
    if values["split"] not in SPLITS:
        raise BarkFileError(f"{where}: split must be one of {', '.join(SPLITS)}, not {values['split']!r}.")
    if not values["name"]:
        raise BarkFileError(f"{where}: the name is empty; it must be that of a file in {TOKENS_FOLDER}/.")
    return _Entry(values["name"], values["text"], values["speaker"], values["split"], where)


def _read_clip(folder: Path, entry: _Entry, spec: BarkSpec, stage: str) -> Clip | None:
    """The clip with the arrays that the stage needs, checked; None where the file lacks them."""
    try:
        path = safe_child(folder, entry.name + ".npz")
    except BarkInputError as error:
        raise BarkFileError(f"{entry.where}: {error}") from None
    arrays = _read_arrays(path, NEEDED[stage], spec, entry.where)
    if arrays is None:
        return None
    limits = (None, spec.semantic_vocab), (spec.coarse_codebooks, spec.codebook_size)
    limits += ((spec.fine_codebooks, spec.codebook_size),)
    for key, (rows, size) in zip(KEYS, limits, strict=True):
        if key in arrays:
            arrays[key] = _checked(arrays[key], rows, size, path, key)
    semantic, coarse, fine = (arrays.get(key, np.zeros(0, dtype=np.int16)) for key in KEYS)
    if stage == "semantic" and len(semantic) > spec.max_semantic:
        raise BarkFileError(
            f"{path} has {len(semantic):,} semantic tokens; the model says {spec.max_semantic} at most in one go. "
            "Cut the clip and its text."
        )
    if stage == "coarse" and not _belong_together(len(semantic), coarse.shape[1], spec):
        raise BarkFileError(
            f"{path} has {coarse.shape[1]:,} coarse frames for {len(semantic):,} semantic tokens; "
            f"{round(len(semantic) * spec.frames_per_semantic):,} go with them. Cut both to the same stretch of sound."
        )
    return Clip(entry.name, entry.text, entry.speaker, entry.split, semantic, coarse, fine)


def _read_arrays(path: Path, keys: tuple[str, ...], spec: BarkSpec, where: str) -> dict[str, Tokens] | None:
    """Some arrays of whole numbers of an `.npz`; None where one is not in the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = set(archive.namelist())
            family = SUNO.family
            if f"{FAMILY_KEY}.npy" in members:
                family = str(_array(archive, FAMILY_KEY, path))
            if family != spec.family:
                raise BarkFileError(
                    f"{path} was made by models of the family {family!r}, but {spec.family!r} is trained: the same "
                    "number means another sound there. Give the models, or the spec.json, of the data."
                )
            if not all(f"{key}.npy" in members for key in keys):
                return None
            arrays = {key: _array(archive, key, path) for key in keys}
    except FileNotFoundError:
        raise BarkFileError(f"{where}: there is no {path}. Make its tokens, or take the line out.") from None
    except _DAMAGED as error:
        raise BarkFileError(f"{path} cannot be read as .npz tokens ({error}). Make it again.") from None
    for key, array in arrays.items():
        if array.dtype.kind not in "iu":
            raise BarkFileError(f"{path}: {key} must hold whole numbers, not {array.dtype}.")
    return arrays


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> Tokens:
    try:
        return read_member(archive, archive.getinfo(f"{key}.npy"), path.name)
    except BarkFileError as error:
        raise BarkFileError(f"{path} cannot be read as .npz tokens. {error} Make it again.") from None


def _checked(array: Tokens, rows: int | None, size: int, path: Path, key: str) -> Tokens:
    """The array in the smallest type; a wrong shape or ids outside 0 … size − 1 are refused (BarkFileError)."""
    shape = "[T]" if rows is None else f"[{rows}, F]"
    right = array.ndim == 1 if rows is None else array.ndim == 2 and array.shape[0] == rows
    if not right or array.size == 0:
        raise BarkFileError(f"{path}: {key} must have shape {shape}, not empty; it has shape {list(array.shape)}.")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= size:
        raise BarkFileError(
            f"{path}: {key} must lie in 0 … {size - 1:,}; it runs from {low:,} to {high:,}. "
            "The tokens are of another family, or still carry an offset."
        )
    return array.astype(np.int16 if size <= 2**15 else np.int32)


def _belong_together(semantic: int, frames: int, spec: BarkSpec) -> bool:
    """The rule of a SpeakerPrompt; for very short clips, whose ratio is coarse, two frames more or less are fine."""
    return same_stretch(semantic, frames, spec) or abs(frames - semantic * spec.frames_per_semantic) < 2


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
