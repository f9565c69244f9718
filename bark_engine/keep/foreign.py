"""Tokens that other programs wrote: Suno's `.npz` prompts and full generations, torch files of them, plain `.npy`.

No pickle is ever executed: numpy reads plain arrays only, torch's own restricted unpickler the rest, with nothing more
allowed than what builds an array of numbers.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint.pickles import TorchFile
from ..errors import BarkFileError, BarkInputError
from ..speaker import FAMILY_KEY, KEYS, OTHER_KEYS, read_array, read_member
from .about import STAGES, About
from .take import Take

MAX_FILE_BYTES = 256 * 2**20  # an hour of fine tokens as int64 is 17 MB
_NAMES = dict(zip(STAGES, KEYS, strict=True))
_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, NotImplementedError)


def read_npz(path: Path, family: str) -> Take:
    """A `.npz` with any of the three arrays. Raises BarkFileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {
                kind: read_member(archive, members[name], path.name) for kind, name in _chosen(set(members)).items()
            }
            if FAMILY_KEY in members:
                family = _one_name(read_member(archive, members[FAMILY_KEY], path.name), path)
    except _DAMAGED_ZIP as error:
        raise BarkFileError(
            f"{path.name} cannot be read as a .npz of tokens ({error}). It may be cut short; take a fresh copy."
        ) from None
    return _take(arrays, family, path, "; ".join(members) or "nothing")


def read_npy(path: Path, family: str) -> Take:
    """A `.npy` of one kind, told by its shape: `[T]` semantic, `[2, F]` coarse, `[8, F]` fine. Raises BarkFileError."""
    array = read_array(path.read_bytes(), path.name)
    kind = "semantic" if array.ndim == 1 else {2: "coarse", 8: "fine"}.get(array.shape[0] if array.ndim == 2 else 0)
    if kind is None:
        raise BarkFileError(
            f"{path.name} is an array of shape {list(array.shape)}. Semantic tokens are [T], coarse ones [2, F], fine "
            "ones [8, F]; transpose it, or take out the part that is one of these."
        )
    return _take({kind: array}, family, path, "one array")


def read_torch(path: Path, family: str) -> Take:
    """A dict of tensors or numpy arrays saved by `torch.save`. Raises BarkFileError."""
    content = TorchFile(path, also=_ARRAY_GLOBALS).content
    if not isinstance(content, dict):
        raise BarkFileError(
            f"{path.name} holds a {type(content).__name__}; tokens are read from a dict with any of "
            f"{', '.join(KEYS)}. Save such a dict, or a .npz."
        )
    names = {name for name in content if isinstance(name, str)}
    arrays = {kind: content[name] for kind, name in _chosen(names).items() if content[name] is not None}
    if isinstance(content.get(FAMILY_KEY), str):
        family = content[FAMILY_KEY]
    return _take(arrays, family, path, ", ".join(sorted(names)[:12]) or "nothing")


def _chosen(names: set[str]) -> dict[str, str]:
    """Kind → the name under which it is there: Suno's name, else a plain one, else that of another layout."""
    chosen = {}
    for kind, name in _NAMES.items():
        others = [other for other, own in OTHER_KEYS.items() if own == name and other != "text"]
        # Suno's first prompts call semantic tokens "text"; anywhere else a text is a text.
        old = ["text"] if kind == "semantic" and "coarse_2" in names else []
        found = next((one for one in (name, *others, *old) if one in names), None)
        if found:
            chosen[kind] = found
    return chosen


def _one_name(array: np.ndarray[Any, Any], path: Path) -> str:
    if array.ndim or array.dtype.kind != "U":
        raise BarkFileError(f"{path.name}: its family must be one name, not {array.dtype} {list(array.shape)}.")
    return str(array)


def _take(arrays: dict[str, Any], family: str, path: Path, holds: str) -> Take:
    if not arrays:
        raise BarkFileError(
            f"{path.name} holds no tokens that can be told: it has {holds[:300]}. Looked for {', '.join(KEYS)}."
        )
    try:
        return Take.wrap(arrays, family, About(version=""))
    except BarkInputError as error:
        raise BarkFileError(f"{path.name}: {error}") from None


# -- numpy arrays in torch files -----------------------------------------------------------------------------------


def _reconstruct_named(module: str) -> Any:
    """What pickled arrays begin with, under the module name that a file gives (numpy 2 renamed it): an empty array.

    numpy's own would set aside as much memory as a file asks for.
    """

    def reconstruct(*_: Any) -> np.ndarray[Any, Any]:
        return np.empty(0, np.int8)

    reconstruct.__module__, reconstruct.__qualname__ = module, "_reconstruct"
    return reconstruct


_ARRAY_GLOBALS: tuple[Any, ...] = (
    _reconstruct_named("numpy.core.multiarray"),
    _reconstruct_named("numpy._core.multiarray"),
    np.ndarray,
    *(type(np.dtype(code)) for code in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")),
)
