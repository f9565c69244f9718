"""What is looked at, on one axis of time: `View` holds tokens, sound and trace together, each where there is one."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..audio import Audio
from ..errors import BarkInputError
from ..spec import BarkSpec, numbers_of
from ..tokens import CoarseTokens, FineTokens, SemanticTokens, Tokens
from ..trace import Trace
from .sound import spectrogram

ROUNDING = 0.01  # seconds: how far a hand-set end may lie behind the last sample and still mean it


@dataclass(frozen=True)
class View:
    """Any of the three kinds of tokens, a sound and a trace, to be looked at together; at least one of them.

    Their lengths may differ; their families may not (BarkInputError): the same number means another sound there.
    """

    semantic: SemanticTokens | None = None
    coarse: CoarseTokens | None = None
    fine: FineTokens | None = None
    audio: Audio | None = None
    trace: Trace | None = None

    def __post_init__(self) -> None:
        if not any(part is not None for part in (*self.tokens.values(), self.audio, self.trace)):
            raise BarkInputError(
                "There is nothing to look at. Connect semantic, coarse or fine tokens, audio, or a trace."
            )
        found = {part.family: name for name, part in self._with_family()}
        if len(found) > 1:
            told = " and ".join(f"{name} ({family!r})" for family, name in found.items())
            raise BarkInputError(
                f"The inputs come from models of different families: {told}. Connect what one set of models made; "
                "use one inspector for each family."
            )

    @property
    def tokens(self) -> dict[str, Tokens | None]:
        """The three kinds by name, None where there is none."""
        return {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}

    @property
    def family(self) -> str:
        """The family of tokens and trace; empty where there is only sound."""
        return next((part.family for _, part in self._with_family()), "")

    @property
    def spec(self) -> BarkSpec:
        """The numbers of that family, Suno's where they are not known here."""
        return numbers_of(self.family)

    @property
    def lengths(self) -> dict[str, float]:
        """Seconds of each thing that is there."""
        lengths = {name: tokens.seconds for name, tokens in self.tokens.items() if tokens is not None}
        if self.audio is not None:
            lengths["audio"] = self.audio.seconds
        if self.trace is not None:
            lengths["trace"] = self.trace.probability.shape[-1] / self.rate(self.trace.kind)
        return lengths

    @property
    def seconds(self) -> float:
        """Length of the longest of them."""
        return max(self.lengths.values())

    @cached_property
    def spectrogram(self) -> npt.NDArray[np.uint8]:
        """That of the sound, `[80, columns]`, measured once for the browser and the picture; needs `audio`."""
        assert self.audio is not None
        return spectrogram(self.audio)

    def rate(self, kind: str) -> float:
        """Tokens or frames of a kind per second."""
        return self.spec.semantic_rate if kind == "semantic" else self.spec.frame_rate

    def selection(self, start: float, end: float) -> tuple[float, float]:
        """A range in seconds, checked; an `end` of 0 means to the end (BarkInputError)."""
        whole = self.seconds
        end = end or whole
        if not (math.isfinite(start) and math.isfinite(end)) or not 0.0 <= start < end:
            raise BarkInputError(
                f"The selection runs from {start:g} s to {end:.6g} s. The start must be 0 or more, and smaller than "
                "the end; an end of 0 means to the end."
            )
        if end > whole + ROUNDING:
            raise BarkInputError(
                f"The selection ends at {end:g} s, but what is shown lasts {whole:.2f} s. Choose an end up to "
                "that, or 0 for all of it."
            )
        return start, min(end, whole)

    def _with_family(self) -> Iterator[tuple[str, Tokens | Trace]]:
        parts = {**self.tokens, "trace": self.trace}
        return ((name, part) for name, part in parts.items() if part is not None)
