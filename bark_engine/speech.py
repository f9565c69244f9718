"""What a text becomes: `Speech`."""

from dataclasses import dataclass

from .audio import Audio
from .speaker import SpeakerPrompt
from .tokens import CoarseTokens, FineTokens, SemanticTokens


@dataclass(frozen=True, slots=True)
class Speech:
    """What `Bark.say` returns: the sound, and the tokens of every stage on the way to it."""

    audio: Audio
    semantic: SemanticTokens
    coarse: CoarseTokens
    fine: FineTokens
    seed: int

    def as_speaker(self, name: str = "") -> SpeakerPrompt:
        """This speech as a voice for the next one."""
        return SpeakerPrompt(self.semantic, self.coarse, self.fine, name=name)
