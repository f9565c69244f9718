"""Suno's Bark, stage by stage, in plain PyTorch: text → semantic → coarse → fine tokens → sound.

    from bark_engine import Bark
    speech = Bark.load("small").say("Hello.")

This list is the public surface; everything else may move.
"""

from . import editing
from .audio import Audio
from .bark import Bark
from .errors import (
    BarkDownloadError,
    BarkError,
    BarkFileError,
    BarkInputError,
    BarkMemoryError,
    BarkNameTakenError,
)
from .estimate import Estimate, Speed
from .library.model_sets import IncompleteModelsError
from .manager import ModelManager
from .many import Request
from .sampling import CoarseSampling, FineSampling, SemanticSampling
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .speech import Speech
from .tokens import CoarseTokens, FineTokens, SemanticTokens
from .trace import Trace, TraceRecorder

__all__ = [
    "Audio",
    "Bark",
    "BarkDownloadError",
    "BarkError",
    "BarkFileError",
    "BarkInputError",
    "BarkMemoryError",
    "BarkNameTakenError",
    "BarkSpec",
    "CoarseSampling",
    "CoarseTokens",
    "Estimate",
    "FineSampling",
    "FineTokens",
    "IncompleteModelsError",
    "ModelManager",
    "Request",
    "SemanticSampling",
    "SemanticTokens",
    "SpeakerPrompt",
    "Speech",
    "Speed",
    "Trace",
    "TraceRecorder",
    "editing",
]
