"""One file of weights, whatever its format: names, shapes and precisions first, the numbers only when asked for.

`open_weights` looks at the first bytes, never at the file name. Nothing here knows Bark; see layouts.py.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import BarkFileError
from .pickles import TorchFile, fault_of_the_system

FOLDER_FILES = (  # what transformers' save_pretrained writes, in its own order of preference
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
MAX_JSON_BYTES = 16 * 2**20

# safetensors' names of precisions; anything else it may hold is shown as it is written there.
_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8", "BOOL": "bool"}
_OTHER_FORMATS = (
    (b"GGUF", "a GGUF file, made for another program"),
    (b"lmgg", "a ggml file, made for another program"),
    (b"version https://git-lfs", "a Git LFS pointer: the note that a file exists elsewhere, not the file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x89PNG", "a picture"),
    (b"RIFF", "a sound file"),
    (b"<", "a web page, probably saved in place of a download"),
    (b"{", "a JSON text"),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known of a tensor before its numbers are read; `precision` is torch's name, such as "float32"."""

    shape: tuple[int, ...]
    precision: str


@dataclass(slots=True)
class Weights:
    """The tensors of one file (or of all shards of one), by name.

    `tensor` is memory-mapped where the format allows it and stays valid after this object is gone; `passing` is the
    same values for one look: their memory is given back as soon as the result is dropped.
    """

    path: Path
    kind: str  # "safetensors" or "torch"
    infos: dict[str, TensorInfo]
    tensor: Callable[[str], Tensor]
    passing: Callable[[str], Tensor]
    model_args: dict[str, Any] | None = None  # of a Suno checkpoint; None where the state dict is not wrapped
    metadata: dict[str, str] = field(default_factory=dict)  # of a safetensors header
    files: tuple[Path, ...] = ()  # what the weights lie in, if not in `path`

    @property
    def file_bytes(self) -> int:
        """Size of the file or of all shards together."""
        return sum(file.stat().st_size for file in self.files or (self.path,))


def open_weights(path: Path) -> Weights:
    """Open a file, the index of a split file, or a transformers folder. Raises BarkFileError and BarkMemoryError."""
    path = weights_path(path)
    kind = kind_of(path)
    if kind == "safetensors":
        return _open_safetensors(path)
    if kind == "torch":
        return _open_torch(path)
    if kind == "index":
        return _open_shards(path)
    raise BarkFileError(
        f"{path} is {kind}, not weights. Give a Suno .pt, a .safetensors, a pytorch_model.bin, an EnCodec .th, or a "
        "folder saved by transformers."
    )


def weights_path(path: Path) -> Path:
    """The path itself, or the file to read in a transformers folder. Raises BarkFileError where there is none."""
    path = Path(path)
    if path.is_dir():
        for name in FOLDER_FILES:
            if (path / name).is_file():
                return path / name
        raise BarkFileError(f"The folder {path} has none of {', '.join(FOLDER_FILES)}. Name a file in it.")
    if not path.is_file():
        raise BarkFileError(f"There is no file {path}. Check the name, or download the models first.")
    return path


def kind_of(path: Path) -> str:
    """ "safetensors", "torch" or "index" by the first bytes; otherwise what the file is instead, in words."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise BarkFileError(
            f"{path} cannot be read ({error.strerror or error}). Check the disk and the rights."
        ) from None
    if not start:
        return "an empty file (a download that failed?)"
    # First, because the length of its header may begin with the byte of a pickle; a pickle's ninth byte is no brace.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**40:
        return "safetensors"
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return "torch"
    if start.lstrip().startswith(b"{") and "weight_map" in read_json(path):
        return "index"
    return next((words for magic, words in _OTHER_FORMATS if start.lstrip().startswith(magic)), "of an unknown format")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a small text file. Raises BarkFileError."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("too long")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BarkFileError(
            f"{path} cannot be read ({error.strerror or error}). Check the disk and the rights."
        ) from None
    except (ValueError, RecursionError) as error:
        raise BarkFileError(f"{path} is not valid JSON ({error}). Take a fresh copy.") from None
    if not isinstance(values, dict):
        raise BarkFileError(f"{path} must hold a JSON object. Take a fresh copy.")
    return values


def _open_safetensors(path: Path) -> Weights:
    with _explained(path):
        shared = safe_open(path, framework="pt", device="cpu")  # validates all of the header
        infos = {}
        for name in shared.keys():  # noqa: SIM118 (the handle is no mapping)
            part = shared.get_slice(name)
            precision = str(part.get_dtype())
            infos[name] = TensorInfo(tuple(part.get_shape()), _PRECISIONS.get(precision, precision))

        def tensor(name: str) -> Tensor:
            with _explained(path):
                return shared.get_tensor(name)

        def passing(name: str) -> Tensor:
            with _explained(path), safe_open(path, framework="pt", device="cpu") as own:  # a mapping of its own
                return own.get_tensor(name)

        return Weights(path, "safetensors", infos, tensor, passing, metadata=shared.metadata() or {})


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what safetensors says about a bad file into a BarkFileError that names the file.

    Raises BarkMemoryError where the system has no room for it.
    """
    try:
        yield
    except (SafetensorError, OSError, ValueError, RuntimeError, TypeError, MemoryError) as error:
        if fault := fault_of_the_system(path, error):
            raise fault from None
        raise BarkFileError(f"{path} is damaged or incomplete ({str(error)[:160]}). Take a fresh copy.") from None


def _open_torch(path: Path) -> Weights:
    file = TorchFile(path)
    content = file.content
    if not isinstance(content, dict):
        raise BarkFileError(f"{path} holds a single {type(content).__name__}, not named weights. Take a fresh copy.")
    wrapped = isinstance(content.get("model"), dict)
    state = content["model"] if wrapped else content
    for name, value in state.items():
        plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided
        if not isinstance(name, str) or not plain or value.is_quantized or value.device.type != "cpu":
            raise BarkFileError(
                f"{path} is a torch file, but its entry {str(name)[:80]!r} is not a plain tensor, so it is no "
                "checkpoint of a Bark stage as far as is known. Give the file with the stage's state dict."
            )
    arguments = content.get("model_args") if wrapped else None
    return Weights(
        path,
        "torch",
        {name: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()},
        tensor=lambda name: state[name].detach(),
        passing=lambda name: file.remap(state[name].detach()),
        model_args=arguments if isinstance(arguments, dict) else {} if wrapped else None,
    )


def shards_of(index: Path) -> dict[Path, str]:
    """The files that an index lists, with their names. Each must be a plain name of a weights file beside it."""
    places = read_json(index)["weight_map"]
    if not isinstance(places, dict) or not places:
        raise BarkFileError(f"{index} lists no weights. Take a fresh copy.")
    shards: dict[Path, str] = {}
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or "\\" in name or ":" in name or name in ("", ".."):
            raise BarkFileError(f"{index} points to {name!r}, which is not a file beside it. Take a fresh copy.")
        shards[index.parent / name] = name
    for shard, name in shards.items():
        if not shard.is_file():
            raise BarkFileError(f"{index} needs {name} beside it, which is missing. Fetch all parts.")
        if kind_of(shard) not in ("safetensors", "torch"):
            raise BarkFileError(f"{index} points to {name!r}, which holds no weights. Take a fresh copy.")
    return shards


def _open_shards(index: Path) -> Weights:
    """All shards of a split file as one."""
    shards = {name: open_weights(shard) for shard, name in shards_of(index).items()}
    places = read_json(index)["weight_map"]
    for tensor, part in places.items():
        if tensor not in shards[part].infos:
            raise BarkFileError(f"{index} says that {tensor} is in {part}, but it is not. Take a fresh copy of both.")
    return Weights(
        index,
        next(iter(shards.values())).kind,
        {tensor: shards[part].infos[tensor] for tensor, part in places.items()},
        tensor=lambda name: shards[places[name]].tensor(name),
        passing=lambda name: shards[places[name]].passing(name),
        files=tuple(shard.path for shard in shards.values()),
    )
