"""Token files: `save_tokens` writes one safetensors file, `load_tokens` reads it and what others wrote.

The file holds `semantic` I32 `[T]`, `coarse` I32 `[2, F]`, `fine` I32 `[8, F]`, those that there are, and in its
`__metadata__`, as texts: `bark_tokens` "1", `kinds`, `family`, `semantic_rate` and `frame_rate` (per second), `text`,
`speaker`, `models`, `seed` and `sampling` (JSON by stage), `version`. A `workflow` and a `prompt` beside them are what
ComfyUI's front end looks for when a safetensors file is dropped on it.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..atomic import replacing
from ..checkpoint.reading import kind_of
from ..errors import BarkFileError, BarkInputError
from ..spec import SUNO, known_family
from .about import FIELDS, STAGES, About, parse_json
from .foreign import MAX_FILE_BYTES, read_npy, read_npz, read_torch
from .take import Take

SUFFIX = ".safetensors"
SUFFIXES = (SUFFIX, ".npz", ".npy", ".pt", ".pth")  # what `load_tokens` may be able to read
MARK = "bark_tokens"
_JSON_FIELDS = ("seed", "sampling")
_WHOLE = ("I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64")  # safetensors' names of whole numbers


def save_tokens(
    path: str | os.PathLike[str], take: Take, workflow: Mapping[str, str] | None = None, overwrite: bool = False
) -> Path:
    """Write a take as one `.safetensors` file, complete or not at all; an older file stays until then.

    `workflow` maps further keys, in ComfyUI `prompt` and `workflow`, to texts. Raises BarkInputError for another
    suffix, BarkFileError where the file cannot be written, or is there already and `overwrite` is off.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise BarkInputError(f"Tokens are saved as {SUFFIX}; {path.name!r} ends otherwise. Add {SUFFIX}.")
    content = _safetensors(take, _metadata(take) | dict(workflow or {}))
    with replacing(path, "The tokens", overwrite) as temporary:
        temporary.write_bytes(content)
    return path


def load_tokens(path: str | os.PathLike[str], family: str = SUNO.family) -> Take:
    """Read a token file of `save_tokens`, a `.npz`, a dict saved by torch, or a `.npy`; its first bytes decide.

    `family` is for files that do not say which models made them: all but those of `save_tokens`. Raises BarkFileError
    that names the file and what is wrong with it.
    """
    path = Path(path)
    try:
        return _read(path, family)
    except FileNotFoundError:
        raise BarkFileError(f"There is no token file {path}. Check the name and the folder.") from None
    except (OSError, ValueError) as error:  # ValueError: an impossible path
        raise BarkFileError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _read(path: Path, family: str) -> Take:
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise BarkFileError(
            f"{path.name} has {size / 2**20:,.0f} MiB, far more than tokens need. It is something else, such as the "
            "weights of a model."
        )
    with path.open("rb") as file:
        start = file.read(6)
    if start == b"\x93NUMPY":
        return read_npy(path, family)
    kind = kind_of(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind == "torch":
        return read_npz(path, family) if start[:2] == b"PK" and _is_npz(path) else read_torch(path, family)
    raise BarkFileError(
        f"{path.name} is {kind}, not tokens. Load a .safetensors of Save Tokens, a .npz, a .npy, or a dict of tokens "
        "saved by torch."
    )


def _is_npz(path: Path) -> bool:
    """Whether a zip is numpy's and not torch's; its end may be missing, but each member begins with its name."""
    with path.open("rb") as file:
        beginning = file.read(30 + 300)
    name = beginning[30 : 30 + int.from_bytes(beginning[26:28], "little")]
    return name.endswith(b".npy")


# -- safetensors ---------------------------------------------------------------------------------------------------


def _metadata(take: Take) -> dict[str, str]:
    """What the header says of a take; what is not known is left out."""
    spec = known_family(take.family)
    rates = {"semantic_rate": f"{spec.semantic_rate:g}", "frame_rate": f"{spec.frame_rate:g}"} if spec else {}
    about = take.about.to_json()
    told = {name: json.dumps(value) if name in _JSON_FIELDS else value for name, value in about.items()}
    return {MARK: "1", "kinds": ",".join(take.tokens), "family": take.family, **rates, **told}


def _safetensors(take: Take, metadata: dict[str, str]) -> bytes:
    """The file's bytes. Written here because the package's own writer puts the metadata in random order."""
    header: dict[str, Any] = {"__metadata__": metadata}
    wide = any(np.asarray(tokens).max() >= 2**31 for tokens in take.tokens.values())  # of a family not known here
    data = b""
    for kind, tokens in take.tokens.items():
        array = np.asarray(tokens)
        piece = array.astype("<i8" if wide else "<i4").tobytes()
        header[kind] = {
            "dtype": "I64" if wide else "I32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(piece)],
        }
        data += piece
    words = json.dumps(header, separators=(",", ":")).encode("ascii")
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words + data


def _read_safetensors(path: Path) -> Take:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            kinds = [kind for kind in STAGES if kind in file.keys()]  # noqa: SIM118 (no mapping)
            others = [name for name in file.keys() if name not in STAGES]  # noqa: SIM118
            if not kinds:
                raise BarkFileError(
                    f"{path.name} holds no tokens: none of {', '.join(STAGES)}, but "
                    f"{', '.join(others[:5]) or 'nothing'}. It may be the weights of a model."
                )
            for kind in kinds:
                dtype = file.get_slice(kind).get_dtype()
                if dtype not in _WHOLE:
                    raise BarkFileError(f"{path.name}: its {kind} tokens must be whole numbers, not {dtype}.")
            arrays = {kind: file.get_tensor(kind) for kind in kinds}
    except SafetensorError as error:
        raise BarkFileError(f"{path.name} is damaged or cut short ({error}). Take a fresh copy.") from None
    if "family" not in metadata:
        raise BarkFileError(
            f"{path.name} does not say which family of models made its tokens, without which they mean nothing. "
            "Save them again with Save Tokens."
        )
    try:
        return Take.wrap(arrays, metadata["family"], _about(metadata, path.name))
    except BarkInputError as error:
        raise BarkFileError(f"{path.name}: {error}") from None


def _about(metadata: Mapping[str, str], source: str) -> About:
    told = {name: metadata[name] for name in FIELDS if name in metadata}
    return About.from_json(
        {name: parse_json(text, source) if name in _JSON_FIELDS else text for name, text in told.items()}, source
    )
