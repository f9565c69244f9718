"""From what was kept to sound: `finish` runs the stages that are still to be done, and no other."""

from dataclasses import asdict, replace
from typing import Any

from ..audio import Audio
from ..bark import Bark
from ..errors import BarkInputError
from ..progress import OnStep
from ..sampling import CoarseSampling, FineSampling
from ..speaker import SpeakerPrompt
from ..tokens import require_family
from .about import About
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
    counts each stage from its own beginning. The new take's `about` says with what the stages ran; a voice or models
    that are not those which the take names are left out, since stages differ then. Raises BarkInputError for tokens of
    another family than the models'.
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
    about = _about(bark, take, speaker, seed, {"coarse": coarse, "fine": fine})
    whole = Take(take.semantic, coarse_tokens, fine_tokens, about)
    return whole, bark.decode(fine_tokens, on_step)


def _about(bark: Bark, take: Take, speaker: SpeakerPrompt | None, seed: int | None, samplings: dict[str, Any]) -> About:
    """What is known of the finished take: what the take says of its own stages, and how the others ran here."""
    told, stages = take.about, missing_stages(take)
    if not stages:
        return told
    about = replace(
        told,
        speaker="",
        models="",
        seed={**told.seed, **{stage: seed_for(take, stage, seed) for stage in stages}},
        sampling={**told.sampling, **{stage: asdict(samplings[stage]) for stage in stages}},
    )
    names = {
        "speaker": _one(told.speaker, speaker.name if speaker else ""),
        "models": _one(told.models, bark.models.name),
    }
    try:
        return replace(about, **names)
    except BarkInputError:  # the name of a folder or file may be none that can be kept, and the sound is made
        return about


def _one(*names: str) -> str:
    """The one name among those given, or nothing, as for tokens that come from several nodes."""
    found = {name for name in names if name}
    return found.pop() if len(found) == 1 else ""


def missing_stages(take: Take) -> list[str]:
    """The stages that `finish` would run before the codec."""
    if take.fine is not None:
        return []
    return ["fine"] if take.coarse is not None else ["coarse", "fine"]


def seed_for(take: Take, stage: str, seed: int | None) -> int:
    """The seed with which `finish` runs a stage."""
    told = take.about.seed
    return told.get(stage, told.get("semantic", 0)) if seed is None else seed
