"""Torch files (`.pt`, `.bin`, `.th`): the tensors inside, without executing anything and without reading the rest.

torch's own restricted unpickler reads the outline (`weights_only=True`); the numbers stay on disk, memory-mapped, so
the Adam state that fills two thirds of a Suno checkpoint is never read. Files in torch's old format (before 1.6, not
a zip) cannot be mapped and are read whole, therefore only when they are small.

This file knows no names of Bark's weights; see layouts.py.
"""

import _codecs
import contextlib
import pickle
import pickletools
import re
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import BarkError, BarkFileError, BarkMemoryError
from ..memory import is_out_of_memory

MAX_LEGACY_BYTES = 500_000_000  # EnCodec's .th has 93 MB; larger files of the old format would be read whole
MAX_OUTLINE_BYTES = 64 * 2**20  # data.pkl of text_2.pt with its Adam state has about 0.2 MB
DAMAGED = (  # what zipfile, pickle and torch raise on damaged files
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip entry: lengths of its name and of its extra field
_load_lock = threading.Lock()


def _scalar_named(module: str) -> Callable[..., Any]:
    """numpy's function that rebuilds a scalar, under the module name that a file gives.

    numpy 2 renamed `numpy.core` to `numpy._core`, files have either name, and torch compares names.
    """
    rebuild: Any = np.float64(0).__reduce__()[0]

    def scalar(*args: Any) -> Any:
        return rebuild(*args)

    scalar.__module__, scalar.__qualname__ = module, "scalar"
    return scalar


# All that `best_val_loss`, a numpy scalar, needs beyond torch's own list. They build numbers and do nothing else.
ALLOWED_GLOBALS: tuple[Any, ...] = (
    _scalar_named("numpy.core.multiarray"),
    _scalar_named("numpy._core.multiarray"),
    np.dtype,
    type(np.dtype("f8")),
    type(np.dtype("f4")),
    _codecs.encode,  # on torch's own list since 2.5
)

# Names that a sound torch file may have; used only to tell which name in a refused file is the foreign one.
_HARMLESS_MODULES = ("torch", "torch._utils", "torch.storage", "torch._tensor", "torch.nn.parameter", "collections")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)+")  # damage looks otherwise
_HARMLESS_NAMES = {f"{g.__module__}.{g.__qualname__}" for g in ALLOWED_GLOBALS} | {"builtins.set", "__builtin__.set"}


class TorchFile:
    """The object in a torch file, its tensors memory-mapped where the format allows it.

    `content` is whatever was saved; `remap` gives one of its tensors over a mapping of its own.
    """

    def __init__(self, path: Path, also: tuple[Any, ...] = ()):
        """`also` are globals that the outline may name beside ALLOWED_GLOBALS."""
        self.path = path
        self._allowed = ALLOWED_GLOBALS + also
        self._base: int | None = None  # address of the file's first byte in the shared mapping
        if path.suffix == ".safetensors":  # torch would go by the name and misread it
            raise BarkFileError(f"{path} is a torch checkpoint under the name of another format. Rename it to .pt.")
        with _explained(path):
            self.content = self._load_zip() if _is_zip(path) else self._load_legacy()

    def remap(self, tensor: Tensor) -> Tensor:
        """The same values over a new mapping, whose memory is given back as soon as the result is dropped."""
        if self._base is None:
            return tensor
        storage = tensor.untyped_storage()
        start = storage.data_ptr() - self._base
        with _explained(self.path):
            whole = torch.UntypedStorage.from_file(str(self.path), False, self.path.stat().st_size)
        piece = whole[start : start + storage.nbytes()]
        return torch.empty(0, dtype=tensor.dtype).set_(piece, tensor.storage_offset(), tensor.shape, tensor.stride())  # type: ignore[call-overload]

    def _load_zip(self) -> Any:
        records = _records(self.path)
        storages: list[tuple[int, int]] = []

        def on_cpu(storage: Any, _location: str) -> Any:
            storages.append((storage.data_ptr(), storage.nbytes()))
            return storage

        with _load_lock, _allowing(self._allowed):
            content = torch.load(self.path, map_location=on_cpu, weights_only=True, mmap=True)
        mapped = sorted(entry for entry in storages if entry[1])
        # torch believes the sizes in the pickle. They must be those of the zip, record by record, or a tensor would
        # be made of its neighbours' bytes.
        bases = {address - offset for (address, _), (offset, _) in zip(mapped, records, strict=False)}
        if [size for _, size in mapped] != [size for _, size in records] or len(bases) > 1:
            raise ValueError("the sizes in its outline are not those of its data")
        self._base = bases.pop() if bases else None
        return content

    def _load_legacy(self) -> Any:
        size = self.path.stat().st_size
        if size > MAX_LEGACY_BYTES:
            raise BarkFileError(
                f"{self.path} is a torch file in the format from before torch 1.6 and has {size / 1e6:,.0f} MB; such "
                f"files must be read whole, so more than {MAX_LEGACY_BYTES / 1e6:,.0f} MB are refused. Open it with "
                "torch once and save it again, or take a fresh copy."
            )
        with _load_lock, _allowing(self._allowed):
            return torch.load(self.path, map_location="cpu", weights_only=True)


def _is_zip(path: Path) -> bool:
    """Whether it begins as a zip; `zipfile.is_zipfile` looks at the end, which a truncated one lacks."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _records(path: Path) -> list[tuple[int, int]]:
    """Offset and size of every tensor record of a torch zip, in file order; records without bytes are left out."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = archive.infolist()
        outline = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
        if len(outline) != 1:
            raise BarkFileError(
                f"{path} is a zip archive but not a torch checkpoint. Unpack it, or take a fresh copy of the weights."
            )
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise BarkFileError(
                f"{path} was compressed after it was saved, so its weights cannot be mapped. "
                "Unpack and re-pack it without compression, or take a fresh copy."
            )
        if outline[0].file_size > MAX_OUTLINE_BYTES:
            raise ValueError("its outline is absurdly long")
        folder = outline[0].filename.removesuffix("data.pkl") + "data/"
        return sorted(
            (_data_offset(file, entry.header_offset), entry.file_size)
            for entry in entries
            if entry.filename.startswith(folder) and entry.file_size
        )


def _data_offset(file: BinaryIO, header_offset: int) -> int:
    file.seek(header_offset)
    name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return header_offset + _LOCAL_HEADER.size + name + extra


@contextlib.contextmanager
def _allowing(names: tuple[Any, ...]) -> Iterator[None]:
    """Let torch's restricted unpickler use `names` for a moment, on top of its own list.

    The list is the whole process's. Names that somebody else put there are not added, or leaving would remove them.
    """
    before = torch.serialization.get_safe_globals()
    ours = [name for name in names if name not in before]
    if hasattr(torch.serialization, "safe_globals"):  # torch ≥ 2.5
        with torch.serialization.safe_globals(ours):
            yield
        return
    torch.serialization.add_safe_globals(ours)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what torch says about a bad file into a BarkFileError that names the file, and the foreign global if any.

    Raises BarkMemoryError where the system has no room for it.
    """
    try:
        yield
    except (OSError, *DAMAGED) as error:
        if fault := fault_of_the_system(path, error):
            raise fault from None
        foreign = foreign_globals(path)
        if foreign:
            raise BarkFileError(
                f"{path} is not only weights: loading it would run {', '.join(foreign[:3])}, which was not done. "
                "Do not trust this file; take the weights from their maker, as safetensors if there is a choice."
            ) from None
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise BarkFileError(f"{path} is damaged or incomplete ({reason}). Take a fresh copy.") from error


def fault_of_the_system(path: Path, error: BaseException) -> BarkError | None:
    """The sentence where a file may be whole: memory ran out while it was opened, or the disk refuses. Else None."""
    if is_out_of_memory(error):
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        return BarkMemoryError(
            f"Memory ran out while {path} was opened ({reason}). Close other programs, or use smaller models; where "
            "memory is to spare, the file is damaged."
        )
    if isinstance(error, OSError):
        return BarkFileError(f"{path} cannot be read ({error.strerror or error}). Check the disk and the rights.")
    return None


def foreign_globals(path: Path) -> list[str]:
    """Names in a pickle that weights have no use for, such as `posix.system`; read without executing anything."""
    with contextlib.suppress(*DAMAGED, OSError):
        if _is_zip(path):
            with zipfile.ZipFile(path) as archive:
                outlines = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
                names: list[str] = []
                for entry in outlines:
                    if entry.file_size <= MAX_OUTLINE_BYTES:
                        with archive.open(entry) as file:
                            names += _globals_of(file)
        else:
            with path.open("rb") as file:
                names = [name for _ in range(5) for name in _globals_of(file)]  # the old format has up to 5 pickles
        return sorted({name for name in names if _NAME.fullmatch(name) and not _harmless(name)})
    return []


def _harmless(name: str) -> bool:
    return name.rpartition(".")[0] in _HARMLESS_MODULES or name in _HARMLESS_NAMES


def _globals_of(file: Any) -> list[str]:
    """Every global that one pickle names; stops quietly where the pickle does not parse."""
    found: list[str] = []
    strings: list[str] = []  # as pushed; STACK_GLOBAL takes the last two
    memo: dict[int, str] = {}
    last: Any = None
    with contextlib.suppress(*DAMAGED):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("GLOBAL", "INST"):
                found.append(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                found.append(".".join(strings[-2:]))
            elif opcode.name == "MEMOIZE" or opcode.name.endswith("PUT"):
                if isinstance(last, str):
                    memo[len(memo) if argument is None else argument] = last
                elif opcode.name == "MEMOIZE":
                    memo[len(memo)] = ""
                continue
            elif opcode.name.endswith("GET"):
                argument = memo.get(int(argument or 0), "")
            last = argument if "UNICODE" in opcode.name or opcode.name.endswith(("GET", "STRING")) else None
            if isinstance(last, str):
                strings.append(last)
    return found
