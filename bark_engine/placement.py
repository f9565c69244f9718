"""Where a stage runs: the `Placement` protocol, and the engine's own implementation for CUDA, MPS and the CPU.

A stage waits in main memory and is moved to its device when it is used. Others leave that device only when there is
no room. ComfyUI brings its own placement (`nodes/host.py`), which leaves these decisions to the host.
"""

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from .checkpoint import StageFile, narrowed_weights
from .errors import BarkInputError
from .graphs import let_go
from .precision import best_on_cpu, wide_dtype

DEVICES = ("auto", "cuda", "mps", "cpu")


class PlacedStage(Protocol):
    """One stage's weights, under the care of a placement."""

    def running(self, working_bytes: int) -> AbstractContextManager[nn.Module]:
        """Bring the stage to its device with `working_bytes` to spare; it stays there for the `with` block."""
        ...

    def release(self) -> None:
        """Forget the stage; its memory is free once nobody runs it."""
        ...


class Placement(Protocol):
    """Chooses devices and precisions, and moves stages."""

    def device(self, wanted: str) -> torch.device:
        """The device that "auto", "cuda", "cuda:1", "mps" or "cpu" stands for; BarkInputError where it is missing."""
        ...

    def best_dtype(self, device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        """What "auto" precision means on this device for the stage in a file, for so many sequences at once."""
        ...

    def place(self, stage: nn.Module, device: torch.device) -> PlacedStage:
        """Take care of a stage that was just read into main memory."""
        ...

    def room(self, device: torch.device) -> int | None:
        """Bytes that a run could have on a device if all that is idle left it, or None where nobody knows."""
        ...

    def make_room(self) -> None:
        """Move everything that is not running off the accelerators and drop their caches (after out of memory)."""
        ...


def module_bytes(stage: nn.Module) -> int:
    """Bytes of all parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*stage.parameters(), *stage.buffers()))


def check_device(wanted: str) -> torch.device:
    """The device a person asked for by name, if this machine has it ("auto": CUDA, else MPS, else the CPU).

    One device has one answer ("cuda" is the current one, such as cuda:0), because stages are shared by device. Raises
    BarkInputError for an unknown name or a device that is not there.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = str(wanted).partition(":")
    there = {"cuda": cuda, "mps": mps, "cpu": True}
    if kind not in there or (index and not index.isdigit()):
        raise BarkInputError(f"The device {wanted!r} is unknown. Allowed: {', '.join(DEVICES)}, or one such as cuda:1.")
    in_range = not index or (int(index) < torch.cuda.device_count() if kind == "cuda" else index == "0")
    if not there[kind] or not in_range:
        available = ", ".join(name for name, here in there.items() if here)
        raise BarkInputError(f"The device {wanted!r} is not available here. Available: {available}. Or use auto.")
    if kind == "cuda":
        return torch.device("cuda", int(index) if index else torch.cuda.current_device())
    return torch.device(kind)


def is_on(there: torch.device, wanted: torch.device) -> bool:
    """Whether a tensor's device is the wanted one, which may have no number: tensors on "mps" say "mps:0"."""
    return there.type == wanted.type and (wanted.index is None or there.index == wanted.index)


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken on a device, or None where that cannot be asked."""
    if device.type == "cpu":
        return _available_main_memory()
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        if not hasattr(torch.mps, "recommended_max_memory"):  # torch 2.4
            return None
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def _available_main_memory() -> int | None:
    """What Linux says that programs can still take, files that it keeps in memory counted as free; else None."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def drop_caches() -> None:
    """Give memory that torch keeps for later back to the devices."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class LocalPlacement:
    """The engine's own placement. Thread-safe: a running stage is never moved.

    `free` answers how many bytes a device has left (None: do not know, assume that there is room).
    """

    def __init__(self, free: Callable[[torch.device], int | None] = free_bytes):
        self._free = free
        self._lock = threading.RLock()
        self._stages: list[_LocalStage] = []  # least recently used first

    def device(self, wanted: str) -> torch.device:
        """See `check_device`."""
        return check_device(wanted)

    def best_dtype(self, device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        """CUDA: bfloat16 from compute capability 8.0 on, else float16. CPU: see `best_on_cpu`. MPS: float32."""
        if device.type == "cuda":
            return wide_dtype(device)
        if device.type == "cpu":
            return best_on_cpu(file.stage, narrowed_weights(file.shape), rows)
        return torch.float32

    def place(self, stage: nn.Module, device: torch.device) -> "_LocalStage":
        """Take care of a stage in main memory; it moves on its first use."""
        placed = _LocalStage(self, stage, device)
        with self._lock:
            self._stages.append(placed)
        return placed

    def room(self, device: torch.device) -> int | None:
        """What is free, and what the idle stages there hold."""
        with self._lock:
            free = self._free(device)
            idle = [stage for stage in self._stages if stage.can_go_home and stage.device == device]
            return None if free is None else free + sum(module_bytes(stage.module) for stage in idle)

    def make_room(self) -> None:
        """Send every idle stage home and drop the devices' caches."""
        with self._lock:
            for stage in self._stages:
                stage.send_home()
        drop_caches()

    def bring(self, stage: "_LocalStage", working_bytes: int) -> None:
        """Move a stage to its device; others on it leave, least recently used first, while it does not fit."""
        with self._lock:
            if stage in self._stages:  # a released stage may still finish its run, but is not kept in order
                self._stages.remove(stage)
                self._stages.append(stage)
            needed = working_bytes + (0 if stage.away else module_bytes(stage.module))
            for other in self._stages:
                room = self._free(stage.device)
                if room is None or room >= needed:
                    break
                if other is not stage and other.away and other.device == stage.device and other.send_home():
                    drop_caches()
            stage.go()

    def forget(self, stage: "_LocalStage") -> None:
        """Stop caring for a stage."""
        with self._lock:
            if stage in self._stages:
                self._stages.remove(stage)


class _LocalStage:
    """A stage, the device it runs on, and how many are running it now."""

    def __init__(self, placement: LocalPlacement, module: nn.Module, device: torch.device):
        self.module = module
        self.device = device
        self.away = device.type == "cpu"  # on its device
        self._placement = placement
        self._users = 0

    @contextlib.contextmanager
    def running(self, working_bytes: int) -> Iterator[nn.Module]:
        with self._placement._lock:
            self._placement.bring(self, working_bytes)
            self._users += 1
        try:
            yield self.module
        finally:
            with self._placement._lock:
                self._users -= 1

    def release(self) -> None:
        self._placement.forget(self)

    def go(self) -> None:
        """To its device, as a whole: where there is too little room, what has arrived goes home again."""
        if self.away:
            return
        try:
            self.module.to(self.device)
        except BaseException:
            self.module.to("cpu")
            raise
        self.away = True

    @property
    def can_go_home(self) -> bool:
        """Whether it lies idle on an accelerator."""
        return self.away and not self._users and self.device.type != "cpu"

    def send_home(self) -> bool:
        """Back to main memory, unless it is running or lives there; says whether it went."""
        if not self.can_go_home:
            return False
        let_go(self.module)
        self.module.to("cpu")
        self.away = False
        return True
