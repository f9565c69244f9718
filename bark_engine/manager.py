"""The shared model manager: what is loaded, in which precision, where; one copy for all who ask.

A stage is read the first time it runs and stays as long as some `Bark` holds it; a `Placement` decides where it runs
and moves it. When memory runs out, room is made, the job is tried once more in its frugal form, then there is a
sentence.
"""

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from .checkpoint import StageFile, load_stage
from .errors import BarkFileError, BarkInputError, BarkMemoryError
from .graphs import let_go
from .int8 import pack_int8_layers
from .memory import is_out_of_memory
from .placement import LocalPlacement, PlacedStage, Placement
from .precision import DTYPES, PRECISIONS, cpu_packs_int8, name_of

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StageKey:
    """What makes two requests the same copy: the file as it is now, the stage in it, the precision, the device."""

    path: Path
    modified: int  # nanoseconds; a file that was replaced is another file
    stage: str
    dtype: torch.dtype
    device: torch.device


class ManagedStage:
    """One stage of one file, shared by all who asked the manager for it. Nothing is read before its first `run`."""

    def __init__(self, file: StageFile, key: StageKey, placement: Placement):
        self.key = key
        self._file = file
        self._placement = placement
        self._lock = threading.Lock()  # the second asker waits for the first one's reading
        self._placed: PlacedStage | None = None
        self._release: weakref.finalize | None = None

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._placed is not None

    def run(self, job: Callable[[nn.Module, bool], T], working_bytes: int = 0) -> T:
        """Call `job(module, frugal)` with the stage on its device and `working_bytes` to spare there.

        When memory runs out, everything idle is moved away and the job is tried once more with `frugal` True.
        Raises BarkMemoryError after that, and whatever the job or the reading raises.
        """
        try:
            with self._load().running(working_bytes) as module:
                return job(module, False)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler: the exception held the failed run's tensors alive through its traceback.
        log.warning("Out of memory in the %s stage; making room and trying once more.", self.key.stage)
        gc.collect()
        let_go()
        self._placement.make_room()
        try:
            with self._load().running(working_bytes) as module:
                return job(module, True)
        except Exception as error:
            if isinstance(error, BarkMemoryError) or not is_out_of_memory(error):
                raise  # from reading the file, a sentence already: the memory of the system ran out, not the device's
        raise BarkMemoryError(  # outside of the handler, too: whoever keeps this error keeps no tensors
            f"The {self.key.stage} stage does not fit into the memory of {self.key.device}, also with everything "
            f"else moved away. {self._advice()}"
        )

    def unload(self) -> None:
        """Let go of the weights; memory is free as soon as nobody runs them. The next `run` reads again."""
        with self._lock:
            self._placed = None
            if self._release is not None:
                self._release()

    def _advice(self) -> str:
        """What a person can do about too little memory."""
        ways = ["a shorter sound"] if self.key.stage == "codec" else ["smaller models", "int8, float16 or bfloat16"]
        ways += ["the cpu"] if self.key.device.type != "cpu" else []
        return f"Use {', or '.join(ways)}."

    def _load(self) -> PlacedStage:
        with self._lock:
            if self._placed is None:
                log.info("Reading the %s stage from %s as %s.", self.key.stage, self.key.path, name_of(self.key.dtype))
                with torch.inference_mode(False):  # weights made inside it could never be moved or trained outside
                    placed = self._placement.place(self._read(), self.key.device)
                self._release = weakref.finalize(self, placed.release)
                self._release.atexit = False  # at the end of the process there is nobody left to give memory to
                self._placed = placed
            return self._placed

    def _read(self) -> nn.Module:
        module = load_stage(self._file, self.key.dtype)
        to_pack = self.key.dtype == torch.int8 and self.key.device.type == "cpu" and cpu_packs_int8()
        return pack_int8_layers(module) if to_pack else module


class ModelManager:
    """Hands out the stages, so that all who ask for the same thing get the same copy. Thread-safe."""

    def __init__(self, placement: Placement | None = None):
        self.placement: Placement = placement or LocalPlacement()
        self._stages: weakref.WeakValueDictionary[StageKey, ManagedStage] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def device(self, wanted: str) -> torch.device:
        """The device a name stands for; BarkInputError where it is unknown or missing."""
        return self.placement.device(wanted)

    def dtype(self, wanted: str, device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        """The precision a name stands for on a device, for the stage in a file and so many sequences at once.

        The codec's is always float32.

        Raises BarkInputError for an unknown name.
        """
        if wanted not in PRECISIONS:
            raise BarkInputError(f"The precision {wanted!r} is unknown. Allowed: {', '.join(PRECISIONS)}.")
        if file.stage == "codec":
            return torch.float32
        return self.placement.best_dtype(device, file, rows) if wanted == "auto" else DTYPES[wanted]

    def stage(self, file: StageFile, dtype: torch.dtype, device: torch.device) -> ManagedStage:
        """The stage of a file in a precision on a device; the same object for all who hold one."""
        try:
            modified = file.path.stat().st_mtime_ns
        except OSError as error:
            raise BarkFileError(
                f"{file.path} cannot be read ({error.strerror}). Put it back or load the models anew."
            ) from None
        key = StageKey(file.path.resolve(), modified, file.stage, dtype, device)
        with self._lock:
            stage = self._stages.get(key)
            if stage is None:
                stage = self._stages[key] = ManagedStage(file, key, self.placement)
            return stage

    def loaded(self) -> list[StageKey]:
        """What is in memory now."""
        with self._lock:
            return [key for key, stage in self._stages.items() if stage.loaded]

    def unload(self) -> None:
        """Let go of the weights of every stage; the next use of one reads it again."""
        with self._lock:
            stages = list(self._stages.values())
        for stage in stages:
            stage.unload()
        let_go()
        self.placement.make_room()


_shared: ModelManager | None = None
_shared_lock = threading.Lock()


def shared_manager() -> ModelManager:
    """The manager that every `Bark` of this process uses unless it is given another."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ModelManager()
        return _shared
