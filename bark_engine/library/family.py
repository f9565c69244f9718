"""Which files belong together: the numbers of a family (`spec.json`), and weights and vocabulary that fit them."""

import logging
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ..checkpoint import StageFile
from ..codec import CodecShape
from ..errors import BarkFileError, BarkInputError
from ..spec import SUNO, BarkSpec, register_family
from ..text import UNKNOWN, Tokenizer

log = logging.getLogger(__name__)

SPEC_FILE = "spec.json"
_homes: dict[str, Path] = {}  # the spec.json that a family was first known by
UNKNOWN_ID = 100  # of [UNK] in multilingual BERT's vocabulary, which Suno's models were trained with


def same_codec(spec: BarkSpec) -> bool:
    """Whether a family uses EnCodec 24 kHz as Suno's does."""
    return (spec.sample_rate, spec.hop_length, spec.codebook_size) == (
        SUNO.sample_rate,
        SUNO.hop_length,
        SUNO.codebook_size,
    )


def spec_beside(folder: Path) -> BarkSpec | None:
    """The numbers from a `spec.json` in the folder, or None where there is none."""
    path = folder / SPEC_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BarkFileError(f"{path} cannot be read ({error}). Take a fresh copy of the model folder.") from None
    return BarkSpec.from_json(text, str(path))


def common_spec(files: Mapping[str, StageFile], missing: Mapping[str, str | Path] | None = None) -> BarkSpec:
    """The numbers that all these stages share (Suno's for none); the family is registered.

    `missing` are stages of Suno's that were asked for by these names and are not there yet.
    """
    specs = {stage: spec_beside(file.path.parent) for stage, file in files.items()}
    families = {stage: spec or SUNO for stage, spec in specs.items()} | dict.fromkeys(missing or (), SUNO)
    networks = [spec for stage, spec in families.items() if stage != "codec"]
    if "codec" in files and specs["codec"] is None and networks and same_codec(networks[0]):
        families["codec"] = networks[0]  # EnCodec by itself belongs to no family
    if len(set(families.values())) > 1:
        sources = {stage: str(file.path) for stage, file in files.items()} | {
            stage: f"Suno's {name}, which is not here" for stage, name in (missing or {}).items()
        }
        listed = ", ".join(f"{stage}: {spec.family} ({sources[stage]})" for stage, spec in families.items())
        raise BarkFileError(
            f"The stages do not belong together: {listed}. Tokens of one family mean another sound in another; "
            "choose stages of one family."
        )
    spec = next(iter(families.values()), SUNO)
    home = next((files[stage].path.parent / SPEC_FILE for stage, own in specs.items() if own), None)
    return _register(spec, home) if home else register_family(spec)


def _register(spec: BarkSpec, home: Path) -> BarkSpec:
    """`register_family` for the numbers in a file, with a sentence that says which files contradict each other.

    Other numbers never replace those in use: tokens and models made with these may still be in memory.
    """
    try:
        register_family(spec)
    except BarkInputError as error:
        first = _homes.get(spec.family)
        if first == home:
            raise BarkFileError(
                f"{home} has changed since the family {spec.family!r} was first used, and tokens with its old numbers "
                "may be in use. Restart the program (ComfyUI, for the nodes), or give the family another name there."
            ) from None
        raise BarkFileError(
            f"{error} This is {home}{f', the other {first}' if first else ''}. If that is one and the same, moved and "
            "changed, restart the program (ComfyUI, for the nodes)."
        ) from None
    _homes.setdefault(spec.family, home)
    return spec


def check_shape(stage: str, file: StageFile, spec: BarkSpec) -> None:
    """Refuse weights that are too small for the numbers of their family."""
    shape = file.shape
    if isinstance(shape, CodecShape):
        fits = shape.codebook_size == spec.codebook_size and math.prod(shape.ratios) == spec.hop_length
    elif stage == "fine":
        fits = shape.codebooks == spec.fine_codebooks and shape.input_vocab > spec.fine_pad
    else:
        fits = shape.input_vocab > (spec.semantic_infer if stage == "text" else spec.coarse_infer)
    if not fits:
        raise BarkFileError(
            f"{file.path} does not fit the numbers of the family {spec.family!r}: {shape}. Models with other "
            "vocabularies or another codec need a spec.json beside them that says so."
        )


def check_vocabulary(path: Path, spec: BarkSpec, borrowed: bool = False) -> None:
    """Refuse a vocabulary of other models: another would turn every word into another, without an error.

    For Suno's family a `borrowed` one, found away from the weights, must be Suno's to the entry. One that lies beside
    the weights may be smaller, which is then said in the log. Raises BarkFileError.
    """
    stat = path.stat()
    size, unknown, fault = _read_vocabulary(path, stat.st_mtime_ns, stat.st_size)
    room = spec.text_pad - spec.text_offset
    if fault:
        raise BarkFileError(fault)
    if size > room:
        raise BarkFileError(
            f"{path} has {size:,} entries, but models of the family {spec.family!r} know {room:,}. "
            "Use the vocabulary that belongs to them; for Suno's models that is the vocab.txt of suno/bark."
        )
    if spec.family != SUNO.family or (size, unknown) == (room, UNKNOWN_ID):
        return
    if borrowed or size == room:
        raise BarkFileError(
            f"{path} is not the vocabulary of Suno's models, multilingual cased BERT: that has {room:,} entries with "
            f"{UNKNOWN} as number {UNKNOWN_ID}; this has {size:,} with it as {unknown}. Use the vocab.txt of suno/bark."
        )
    log.warning(
        "%s has %d entries, the vocabulary of Suno's models %d: models that were not trained with it will say other "
        "words. Suno's is the vocab.txt of suno/bark.",
        path,
        size,
        room,
    )


@lru_cache(maxsize=32)
def _read_vocabulary(path: Path, changed: int, size: int) -> tuple[int, int, str | None]:
    """Entries of a vocabulary, the number of its [UNK], and what is wrong with it; read once per state of the file.

    `changed` in ns and `size` in bytes are that state.
    """
    try:
        tokenizer = Tokenizer.load(path)
    except BarkFileError as error:
        return 0, 0, str(error)
    return tokenizer.size, tokenizer.encode(UNKNOWN)[0], None
