"""A data folder from recordings: each becomes text, semantic tokens, coarse and fine tokens, or is refused.

Fine tokens are the codec's. Semantic tokens come from a tokenizer that is given, because Suno has never published
theirs: any function from samples to ids (`SemanticTokenizer`), such as a HuBERT with a quantizer that was trained to
imitate it.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from ..atomic import replacing
from ..audio import Audio, resample
from ..codec import Codec, encode_audio
from ..errors import BarkError, BarkFileError, BarkInputError
from ..paths import safe_child
from ..progress import OnStep, silent
from ..speaker import SpeakerPrompt
from ..spec import BarkSpec
from ..text import Tokenizer, text_to_ids
from .clips import CLIPS_FILE, TOKENS_FOLDER
from .recordings import Limits, Recording, fault_of, read_recording

REFUSED_FILE = "refused.jsonl"


class SemanticTokenizer(Protocol):
    """What turns sound into semantic tokens."""

    def __call__(self, samples: npt.NDArray[np.float32], sample_rate: int, /) -> npt.ArrayLike:
        """Mono samples `[n]` in −1 … 1 at `sample_rate` → ids `[S]`, `BarkSpec.semantic_rate` of them per second."""
        ...


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What was made. `refused` are names and reasons, also written to `refused.jsonl`; `seconds` of sound were kept."""

    kept: int
    seconds: float
    refused: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [f"refused: {name}: {reason}." for name, reason in self.refused]
        return "\n".join(
            [*lines, f"{self.kept:,} clips, {self.seconds / 60:.1f} minutes; {len(self.refused):,} refused."]
        )


@dataclass(frozen=True)
class Builder:
    """What clips are made with: the numbers of the family, its text tokenizer and codec, and a semantic tokenizer."""

    spec: BarkSpec
    text_tokenizer: Tokenizer
    codec: Codec
    semantic_tokenizer: SemanticTokenizer
    limits: Limits = field(default_factory=Limits)

    def build(
        self,
        recordings: Sequence[Recording],
        folder: Path,
        speaker: str,
        validation: float = 0.05,
        on_step: OnStep | None = None,
    ) -> BuildReport:
        """Make the clips of one speaker in a data folder (clips.py); those of others that are there stay.

        `validation` is the share of clips that is set aside, chosen by their names, so that it stays the same when
        more are added. `on_step(done, total)` is called for every recording and may raise to stop; nothing is listed
        then. Raises BarkInputError where no recording can be used, or a name belongs to another speaker already.
        """
        on_step = on_step or silent
        others = self._others(folder, speaker, {recording.name for recording in recordings})
        lines, refused, seconds = [], [], 0.0
        for number, recording in enumerate(recordings):
            on_step(number, len(recordings))
            try:
                prompt = self.tokens(recording)
                path = safe_child(folder / TOKENS_FOLDER, recording.name + ".npz")
            except BarkInputError as error:
                refused.append((recording.name, str(error).rstrip(".")))
                continue
            prompt.save(path)
            seconds += prompt.seconds
            lines.append({"name": recording.name, "text": recording.text, "speaker": speaker, "split": "train"})
        on_step(len(recordings), len(recordings))
        if not lines:
            raise BarkInputError(
                f"None of the {len(recordings):,} recordings can be used. The first was refused because "
                f"{refused[0][1] if refused else 'there is none'}."
            )
        _set_aside(lines, validation)
        _write_lines(folder / CLIPS_FILE, [*others, *lines], "The list of clips")
        _write_lines(
            folder / REFUSED_FILE,
            [{"name": name, "reason": why} for name, why in refused],
            "The list of what was refused",
        )
        return BuildReport(len(lines), seconds, tuple(refused))

    def tokens(self, recording: Recording) -> SpeakerPrompt:
        """All tokens of a recording. Raises BarkInputError, with the reason, where it cannot be used."""
        if not recording.path.is_file():
            raise BarkInputError(f"there is no file {recording.path}")
        audio = read_recording(recording.path)
        fault = fault_of(audio, recording.text, self.spec, self.limits)
        if fault:
            raise BarkInputError(fault)
        text_to_ids(recording.text, self.text_tokenizer, self.spec)
        audio = resample(audio, self.spec.sample_rate)
        codes = np.asarray(encode_audio(self.codec, audio, self.spec))
        ids = self._semantic(audio)
        return self._together(ids, codes, recording.name)

    def _semantic(self, audio: Audio) -> npt.NDArray[np.int64]:
        ids = np.asarray(self.semantic_tokenizer(audio.samples, audio.sample_rate))
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not ids.size:
            raise BarkInputError(
                f"the semantic tokenizer gave {ids.dtype} of shape {list(ids.shape)} instead of whole numbers [S]"
            )
        return ids.astype(np.int64)

    def _together(self, ids: npt.NDArray[np.int64], codes: npt.NDArray[np.int64], name: str) -> SpeakerPrompt:
        """Both kinds of tokens, cut to the same stretch of sound as in inference."""
        expected = codes.shape[1] / self.spec.frames_per_semantic
        if abs(len(ids) - expected) > max(3.0, 0.03 * expected):
            raise BarkInputError(
                f"the semantic tokenizer made {len(ids):,} tokens where {expected:.0f} belong to {codes.shape[1]:,} "
                f"frames; it must make {self.spec.semantic_rate:g} per second"
            )
        ids = ids[: min(len(ids), self.spec.max_semantic)]
        while self.spec.frames_for(len(ids)) > codes.shape[1]:
            ids = ids[:-1]
        codes = codes[:, : self.spec.frames_for(len(ids))]
        family = self.spec.family
        return SpeakerPrompt(ids, codes[: self.spec.coarse_codebooks], codes, name=name, family=family)  # type: ignore[arg-type]

    def _others(self, folder: Path, speaker: str, names: set[str]) -> list[dict[str, str]]:
        """The lines of a data folder that will stay."""
        path = folder / CLIPS_FILE
        if not path.exists():
            return []
        try:
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
            taken = [line["name"] for line in lines if line["speaker"] != speaker and line["name"] in names]
            kept = [line for line in lines if line["name"] not in names]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BarkFileError(f"{path} cannot be read ({error}). Use another folder, or mend it.") from None
        if taken:
            raise BarkInputError(
                f"{folder} has a clip named {taken[0]!r} of another speaker. Rename the recordings, or use a folder of "
                "their own."
            )
        return kept


def load_tokenizer(given: str) -> SemanticTokenizer:
    """The function that `module:function` names; the current folder is looked in as well.

    Raises BarkInputError where there is none.
    """
    module, _, function = given.partition(":")
    if not module or not function:
        raise BarkInputError(
            f"A semantic tokenizer is given as module:function, such as my_hubert:tokens; {given!r} is none. The "
            "function takes mono samples (float32 [n]) and their rate, and returns the ids."
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function, None)
    except BarkError:
        raise
    except Exception as error:  # somebody else's module may raise anything
        raise BarkInputError(f"The module {module!r} of the semantic tokenizer cannot be imported: {error}.") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(found):
        raise BarkInputError(f"The module {module!r} has no function {function!r}. Check the spelling.")
    return cast("SemanticTokenizer", found)


def _set_aside(lines: list[dict[str, str]], share: float) -> None:
    """Mark the clips that are for validation: by a hash of the name, and at least one of two or more."""
    places = {line["name"]: _place(line["name"]) for line in lines}
    chosen = {name for name, place in places.items() if place < share}
    if not chosen and share > 0 and len(lines) > 1:
        chosen = {min(places, key=lambda name: places[name])}
    for line in lines:
        line["split"] = "validation" if line["name"] in chosen else "train"


def _place(name: str) -> float:
    """A number of 0 … 1 that belongs to a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _write_lines(path: Path, lines: Sequence[dict[str, str]], what: str) -> None:
    with replacing(path, what) as temporary:
        temporary.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
