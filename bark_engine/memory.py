"""Memory that ran out: torch has no one type for it."""

import torch

# What CUDA, cuBLAS, cuDNN, MPS, DirectML and the CPU's allocator say, in small letters.
_TEXTS = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "not enough memory",
    "not enough gpu video memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _TEXTS)
