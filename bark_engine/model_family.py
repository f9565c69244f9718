"""Which files belong together: the numbers of a family (`spec.json`), and weights and vocabulary that fit them."""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from .checkpoint import StageFile
from .codec import CodecShape
from .errors import BarkFileError
from .spec import SUNO, BarkSpec, register_family
from .text import UNKNOWN, Tokenizer

SPEC_FILE = "spec.json"
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


def common_spec(files: Mapping[str, StageFile]) -> BarkSpec:
    """The numbers that all these stages share (Suno's for none); the family is registered."""
    specs = {stage: spec_beside(file.path.parent) for stage, file in files.items()}
    families = {stage: spec or SUNO for stage, spec in specs.items()}
    networks = [spec for stage, spec in families.items() if stage != "codec"]
    if "codec" in files and specs["codec"] is None and networks and same_codec(networks[0]):
        families["codec"] = networks[0]  # EnCodec by itself belongs to no family
    if len(set(families.values())) > 1:
        listed = ", ".join(f"{stage}: {spec.family} ({files[stage].path})" for stage, spec in families.items())
        raise BarkFileError(
            f"The stages do not belong together: {listed}. Tokens of one family mean another sound in another; "
            "choose stages of one family."
        )
    return register_family(next(iter(families.values()), SUNO))


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


def check_vocabulary(path: Path, spec: BarkSpec) -> None:
    """Refuse a vocabulary of other models: another would turn every word into another, without an error."""
    stat = path.stat()
    fault = _fault_of_vocabulary(path, stat.st_mtime_ns, stat.st_size, spec)
    if fault:
        raise BarkFileError(fault)


@lru_cache(maxsize=32)
def _fault_of_vocabulary(path: Path, changed: int, size: int, spec: BarkSpec) -> str | None:
    """What is wrong with a vocabulary, read once per state of the file (`changed` in ns, `size` in bytes)."""
    try:
        tokenizer = Tokenizer.load(path)
    except BarkFileError as error:
        return str(error)
    room = spec.text_pad - spec.text_offset
    if spec.family != SUNO.family:
        if tokenizer.size > room:
            return (
                f"{path} has {tokenizer.size:,} entries, but models of the family {spec.family!r} know {room:,}. "
                "Use the vocabulary that belongs to them."
            )
    elif tokenizer.size != room or tokenizer.encode(UNKNOWN) != [UNKNOWN_ID]:
        return (
            f"{path} is not the vocabulary of Suno's models, multilingual cased BERT: that has {room:,} entries with "
            f"{UNKNOWN} as number {UNKNOWN_ID}; this has {tokenizer.size:,}. Use the vocab.txt of suno/bark."
        )
    return None
