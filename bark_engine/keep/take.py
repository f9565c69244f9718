"""What is kept: `Take`, any of the tokens of one utterance, and what is known of how they were made."""

from dataclasses import dataclass, field
from typing import Any

from ..errors import BarkInputError
from ..speech import Speech
from ..tokens import KINDS, CoarseTokens, FineTokens, SemanticTokens, Tokens
from .about import About


@dataclass(frozen=True, slots=True)
class Take:
    """Semantic `[T]`, coarse `[2, F]` and fine tokens `[8, F]` of one family, at least one of the three.

    They are kept as they are: nobody asks whether they describe the same sound, since a take may be cut or half made.
    `about` does not count in comparisons. Raises BarkInputError for none, for another type, for two families.
    """

    semantic: SemanticTokens | None = None
    coarse: CoarseTokens | None = None
    fine: FineTokens | None = None
    about: About = field(default_factory=About, compare=False)

    def __post_init__(self) -> None:
        for kind, wanted in KINDS.items():
            given = getattr(self, kind)
            if given is not None and not isinstance(given, wanted):
                raise BarkInputError(
                    f"The {kind} tokens of a take must be {wanted.__name__}, not {type(given).__name__}. "
                    f"Wrap an array as {wanted.__name__}(array)."
                )
        if not self.tokens:
            raise BarkInputError("A take holds no tokens. Give at least one of semantic, coarse and fine.")
        families = {tokens.family for tokens in self.tokens.values()}
        if len(families) > 1:
            listed = ", ".join(f"{kind}: {tokens.family}" for kind, tokens in self.tokens.items())
            raise BarkInputError(
                f"A take is of one family of models, but these tokens are of several ({listed}). "
                "Keep the tokens of each family in a file of its own."
            )

    @property
    def tokens(self) -> dict[str, Tokens]:
        """The tokens that are there by their kind: "semantic", "coarse", "fine", in this order."""
        return {kind: tokens for kind in KINDS if (tokens := getattr(self, kind)) is not None}

    @property
    def family(self) -> str:
        """The family of the models that made all of them."""
        return next(iter(self.tokens.values())).family

    @property
    def seconds(self) -> float:
        """How long the sound is that they describe; the longest of the kinds."""
        return max(tokens.seconds for tokens in self.tokens.values())

    @classmethod
    def of(cls, speech: Speech, about: About | None = None) -> "Take":
        """The tokens of a speech; without `about`, only its seed is told."""
        about = about or About(seed=dict.fromkeys(KINDS, speech.seed))
        return cls(speech.semantic, speech.coarse, speech.fine, about)

    @classmethod
    def wrap(cls, arrays: dict[str, Any], family: str, about: About) -> "Take":
        """From arrays by kind. Raises BarkInputError for one that cannot be such tokens."""
        tokens: dict[str, Any] = {kind: KINDS[kind](array, family) for kind, array in arrays.items()}
        return cls(**tokens, about=about)
