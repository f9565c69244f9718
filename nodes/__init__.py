"""The pack's table of contents: which nodes there are, in the order of the README."""

from comfy_api.latest import ComfyExtension, io

from .audio import SaveAudio
from .codec import DecodeFineTokens, EncodeAudio
from .cut import CoarseFromFine, JoinTokens, RepeatRange, ReplaceRange, SwapCodebooks, TrimTokens
from .inspect import InspectTokens
from .keep import LoadAudio, LoadTokens, SaveTokens
from .lists import JoinAudio, TextLines
from .load import LoadBarkModels
from .speak import TextToSpeech
from .speakers import (
    CropSpeakerPrompt,
    LoadSpeakerPrompt,
    MakeSpeakerPrompt,
    MixSpeakerPrompts,
    SaveSpeakerPrompt,
)
from .stages import CoarseToFine, SemanticToCoarse, TextToSemantic
from .tail import TrimTail


class BarkExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadBarkModels,
            TextLines,
            TextToSpeech,
            JoinAudio,
            LoadSpeakerPrompt,
            TextToSemantic,
            SemanticToCoarse,
            CoarseToFine,
            DecodeFineTokens,
            EncodeAudio,
            InspectTokens,
            TrimTokens,
            TrimTail,
            JoinTokens,
            ReplaceRange,
            RepeatRange,
            SwapCodebooks,
            CoarseFromFine,
            MakeSpeakerPrompt,
            MixSpeakerPrompts,
            CropSpeakerPrompt,
            SaveSpeakerPrompt,
            SaveTokens,
            LoadTokens,
            SaveAudio,
            LoadAudio,
        ]
