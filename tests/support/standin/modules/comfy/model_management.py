"""Stand-in for `comfy.model_management`: one CPU, full loads, and the flag that interrupts."""

import enum
import logging
import threading
import weakref
from collections.abc import Sequence

import torch

from .model_patcher import ModelPatcher


class InterruptProcessingException(BaseException):
    """Raised where a node checks whether the user pressed stop."""


class VRAMState(enum.Enum):
    """The two that tests ask for."""

    NO_VRAM = 1
    NORMAL_VRAM = 3


vram_state = VRAMState.NORMAL_VRAM


class LoadedModel:
    """An entry of `current_loaded_models`; holds the patcher weakly, as the real one does."""

    def __init__(self, patcher: ModelPatcher):
        self._patcher = weakref.ref(patcher)

    @property
    def model(self) -> ModelPatcher | None:
        return self._patcher()

    def model_loaded_memory(self) -> int:
        """Everything is loaded fully here."""
        return self._patcher().model_size()


current_loaded_models: list[LoadedModel] = []
_interrupt = False
_interrupt_lock = threading.RLock()


def interrupt_current_processing(value: bool = True) -> None:
    """Set or clear the flag."""
    global _interrupt
    with _interrupt_lock:
        _interrupt = value


def processing_interrupted() -> bool:
    return _interrupt


def throw_exception_if_processing_interrupted() -> None:
    """Clears the flag when it raises."""
    global _interrupt
    with _interrupt_lock:
        if _interrupt:
            _interrupt = False
            raise InterruptProcessingException


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def get_free_memory(device: torch.device | None = None) -> int:
    return 1 << 30


def unet_offload_device() -> torch.device:
    return torch.device("cpu")


def should_use_fp16(device: torch.device | None = None) -> bool:
    return False


def should_use_bf16(device: torch.device | None = None) -> bool:
    return False


def load_models_gpu(
    models: Sequence[ModelPatcher],
    memory_required: float = 0,
    force_patch_weights: bool = False,
    minimum_memory_required: float | None = None,
    force_full_load: bool = False,
) -> None:
    """Load each model fully and put it first in `current_loaded_models`."""
    for patcher in models:
        if not isinstance(patcher, ModelPatcher):
            raise TypeError(f"{type(patcher).__name__} is no ModelPatcher")
        known = [entry for entry in current_loaded_models if entry.model is patcher]
        if not known:
            logging.getLogger("comfy").info("Requested to load %s", type(patcher.model).__name__)
        for entry in (*known, *(entry for entry in current_loaded_models if entry.model is None)):
            current_loaded_models.remove(entry)
        patcher.load()
        current_loaded_models.insert(0, LoadedModel(patcher))


def unload_all_models() -> None:
    for entry in current_loaded_models:
        if entry.model is not None:
            entry.model.detach()
    current_loaded_models.clear()


def soft_empty_cache(force: bool = False) -> None:
    """Nothing to give back on a CPU."""
