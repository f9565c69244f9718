"""The pack's table of contents: which nodes there are, in the order of the README."""

from comfy_api.latest import ComfyExtension, io

from .audio import SaveAudio
from .codec import DecodeFineTokens, EncodeAudio
from .lists import TextLines
from .load import LoadBarkModels
from .speak import TextToSpeech
from .speakers import LoadSpeakerPrompt, MakeSpeakerPrompt, SaveSpeakerPrompt
from .stages import CoarseToFine, SemanticToCoarse, TextToSemantic


class BarkExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadBarkModels,
            TextLines,
            TextToSpeech,
            LoadSpeakerPrompt,
            TextToSemantic,
            SemanticToCoarse,
            CoarseToFine,
            DecodeFineTokens,
            EncodeAudio,
            MakeSpeakerPrompt,
            SaveSpeakerPrompt,
            SaveAudio,
        ]
