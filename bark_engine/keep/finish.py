"""From what was kept to sound: `finish` runs the stages that are still to be done, and no other."""

from ..audio import Audio
from ..bark import Bark
from ..progress import OnStep
from ..sampling import CoarseSampling, FineSampling
from ..speaker import SpeakerPrompt
from ..tokens import require_family
from .take import Take


def finish(
    bark: Bark,
    take: Take,
    speaker: SpeakerPrompt | None = None,
    seed: int | None = None,
    coarse: CoarseSampling = CoarseSampling(),
    fine: FineSampling = FineSampling(),
    on_step: OnStep | None = None,
) -> tuple[Take, Audio]:
    """The take with every later kind of token, and its sound.

    Fine tokens only go through the codec; coarse ones through the fine stage first; semantic ones through both. Without
    a `seed`, a stage that runs uses the one that the take tells for it, else the take's semantic one, else 0. `on_step`
    counts each stage from its own beginning. Raises BarkInputError for tokens of another family than the models'.
    """
    for kind, tokens in take.tokens.items():
        require_family(tokens, bark.spec, f"The {kind} tokens")
    coarse_tokens, fine_tokens = take.coarse, take.fine
    if fine_tokens is None:
        if coarse_tokens is None:
            assert take.semantic is not None  # a take has one of the three
            coarse_tokens = bark.semantic_to_coarse(
                take.semantic, speaker, coarse, seed_for(take, "coarse", seed), on_step
            )
        fine_tokens = bark.coarse_to_fine(coarse_tokens, speaker, fine, seed_for(take, "fine", seed), on_step)
    whole = Take(take.semantic, coarse_tokens, fine_tokens, take.about)
    return whole, bark.decode(fine_tokens, on_step)


def missing_stages(take: Take) -> list[str]:
    """The stages that `finish` would run before the codec."""
    if take.fine is not None:
        return []
    return ["fine"] if take.coarse is not None else ["coarse", "fine"]


def seed_for(take: Take, stage: str, seed: int | None) -> int:
    """The seed with which `finish` runs a stage."""
    told = take.about.seed
    return told.get(stage, told.get("semantic", 0)) if seed is None else seed
