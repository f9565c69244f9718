"""A graphics card that is not there: tensors that say they lie on it, and refuse what a real one's would refuse.

They are ordinary tensors of the CPU, so everything computes, and with the CPU's values. What is pretended is where they
lie: an operation that mixes both places fails as on a real card, and so does numpy with a tensor from there. Kernels,
streams, memory and speed are not pretended.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

TOTAL, FREE = 24 << 30, 20 << 30  # bytes

_ACROSS = {Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_}  # may mix both places, in their own ways
_MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}
_READS = {Tensor.numpy, Tensor.__array__}
_GETS_DEVICE, _IS_CUDA = Tensor.device.__get__, Tensor.is_cuda.__get__  # type: ignore[attr-defined]
_CUDA = {
    "is_available": lambda: True,
    "device_count": lambda: 1,
    "current_device": lambda: 0,
    "get_device_capability": lambda device=None: (9, 0),
    "get_device_name": lambda device=None: "a pretended card",
    "mem_get_info": lambda device=None: (FREE, TOTAL),
    "memory_reserved": lambda device=None: 0,
    "memory_allocated": lambda device=None: 0,
    "empty_cache": lambda: None,
    "synchronize": lambda device=None: None,
}
_MPS = {
    "recommended_max_memory": lambda: TOTAL,
    "driver_allocated_memory": lambda: TOTAL - FREE,
    "empty_cache": lambda: None,
}


class TensorThere(Tensor):
    """A tensor on the pretended card."""

    place: ClassVar[torch.device] = torch.device("cuda", 0)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _Card(TorchFunctionMode):
    """Sees the calls in which no tensor of the card takes part yet: those that make one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


@contextmanager
def pretended_card(kind: str = "cuda") -> Iterator[None]:
    """One card of a kind, "cuda" or "mps", is there for this thread."""
    empty = torch.empty

    def unpinned(*size: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        return empty(*size, **kwargs)

    with ExitStack() as stack:
        if kind == "cuda":
            stack.enter_context(patch.multiple(torch.cuda, **_CUDA))
        else:
            stack.enter_context(patch.object(torch.backends.mps, "is_available", lambda: True))
            stack.enter_context(patch.multiple(torch.mps, **_MPS))
        stack.enter_context(patch.object(TensorThere, "place", torch.device(kind, 0)))
        stack.enter_context(patch.object(torch, "empty", unpinned))
        stack.enter_context(_Card())
        yield


def is_there(tensor: Any) -> bool:
    """Whether a tensor lies on the pretended card."""
    return isinstance(tensor, TensorThere)


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        if func == _GETS_DEVICE:
            return TensorThere.place if is_there(args[0]) else func(*args)
        if func == _IS_CUDA:
            return is_there(args[0]) and TensorThere.place.type == "cuda"
        if func is torch._has_compatible_shallow_copy_type:  # what a module asks before it moves a parameter
            return is_there(args[0]) == is_there(args[1]) and func(*args)
        if func in _MOVES:
            return _move(func, *args, **kwargs)
        if func in _READS and is_there(args[0]):
            raise TypeError(f"can't convert {TensorThere.place} device type tensor to numpy.")
        if func in _ACROSS:
            _check_across(func, *args)
            there = is_there(args[0])
        else:
            there = _check_together(func, args, kwargs)
        if kwargs.get("device") is not None:
            there = torch.device(kwargs["device"]).type == TensorThere.place.type
            kwargs = {**kwargs, "device": "cpu" if there else kwargs["device"]}
        made = func(*args, **kwargs)
        return tree_map_only(Tensor, _put_there, made) if there else made


def _put_there(tensor: Tensor) -> Tensor:
    if TensorThere.place.type == "mps" and tensor.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")
    return tensor if is_there(tensor) else tensor.as_subclass(TensorThere)


def _check_together(func: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether an operation happens on the card; raises where it would need tensors of both places."""
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    there = any(map(is_there, tensors))
    if there and any(tensor.dim() and not is_there(tensor) for tensor in tensors):  # single numbers may come from both
        where = ", ".join(f"{list(tensor.shape)} on {'the card' if is_there(tensor) else 'cpu'}" for tensor in tensors)
        raise RuntimeError(f"Expected all tensors to be on the same device: {func.__name__} of {where}")
    return there


def _check_across(func: Any, target: Tensor, index: Any, *value: Any) -> None:
    """Places on the card may be numbered by tensors of the CPU, but not the reverse; copies may go both ways."""
    if func is Tensor.copy_:
        return
    numbers = [part for part in tree_leaves(index) if isinstance(part, Tensor)]
    if not is_there(target) and any(map(is_there, numbers)):
        raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
    if numbers and value and isinstance(value[0], Tensor) and value[0].dim() and is_there(value[0]) != is_there(target):
        raise RuntimeError("Expected all tensors to be on the same device: the values that are to be put there")


def _move(func: Any, tensor: Tensor, *where: Any, copy: bool = False, **kwargs: Any) -> Tensor:
    if func is not Tensor.to:
        device, dtype = torch.device("cpu") if func is Tensor.cpu else TensorThere.place, tensor.dtype
    elif where and isinstance(where[0], Tensor):
        device, dtype = TensorThere.place if is_there(where[0]) else where[0].device, where[0].dtype
    else:
        device, dtype, *_ = torch._C._nn._parse_to(*where, **kwargs)
    there = is_there(tensor) if device is None else device.type == TensorThere.place.type
    made = tensor.to(dtype or tensor.dtype, copy=copy or there != is_there(tensor))
    if made is tensor:
        return tensor
    return _put_there(made) if there else made.as_subclass(Tensor)
