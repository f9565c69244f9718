"""Memory that ran out: torch has no one type for it."""

import torch

from .errors import BarkMemoryError

# What CUDA, cuBLAS, cuDNN, MPS, DirectML, the CPU's allocator, and systems that refuse a mapping say, in small letters.
_TEXTS = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "paging file is too small",
    "not enough memory",
    "not enough gpu video memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError, BarkMemoryError)):
        return True
    # Of a system's error only its own words: the rest is the name of a file.
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    return isinstance(error, (RuntimeError, OSError)) and any(text in said.lower() for text in _TEXTS)
