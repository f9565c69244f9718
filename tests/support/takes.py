"""Takes of random tokens, for tests of what keeps them."""

import numpy as np

from bark_engine import FineTokens, SemanticTokens
from bark_engine.keep import About, Take

ABOUT = About(
    text="Grüße! ♪ [laughs] {a}",
    speaker="v2/de_speaker_3",
    models="large",
    seed={"semantic": 2**64 - 1, "fine": 0},
    sampling={"semantic": {"temperature": 0.7, "top_k": None, "early_stop": True}},
)


def codes(rows: int, frames: int, seed: int = 0) -> np.ndarray:
    """Random codes of so many codebooks."""
    return np.random.default_rng(seed).integers(0, 1_024, (rows, frames))


def random_take(kinds: str = "scf", frames: int = 75, about: About = ABOUT) -> Take:
    """Tokens of Suno's family, of the kinds with these first letters; the coarse ones are those of the fine ones."""
    fine = FineTokens(codes(8, frames))
    semantic = SemanticTokens(np.random.default_rng(1).integers(0, 10_000, max(1, frames * 2 // 3)))
    return Take(
        semantic if "s" in kinds else None,
        fine.coarse if "c" in kinds else None,
        fine if "f" in kinds else None,
        about,
    )
