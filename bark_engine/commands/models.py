"""Models and voices as the command line asks for them, and what a person should know about some models."""

import argparse
from collections.abc import Mapping
from typing import Any

from ..bark import Bark
from ..checkpoint.layouts import STAGES
from ..errors import BarkInputError
from ..library.model_sets import find_or_download
from ..library.places import SPEAKERS_FOLDER, downloads_folder, own_roots
from ..library.speakers import find_speaker, speaker_file
from ..precision import PRECISIONS
from ..speaker import SpeakerPrompt
from .bar import Bar

NOTES = {
    "nano": "This is nano, the small reader of English that comes with the pack. For Bark's own voices, laughter and "
    "other languages use --models small or --models large with Suno's weights (add --download to fetch them).",
    "random": "These models have random weights: they prove the path and make noise, not speech.",
}
"""What a person should know about the models that need no weights of Suno's."""


def add_stage_arguments(parser: argparse.ArgumentParser) -> None:
    """Other models for single stages, such as a voice of one's own for coarse; the same wherever --models is."""
    for stage in STAGES:
        parser.add_argument(
            f"--{stage}",
            dest=f"{stage}_models",
            metavar="NAME|PATH",
            help=f"other models for the {stage} stage alone, as for --models",
        )


def own_stages(arguments: argparse.Namespace) -> dict[str, Any]:
    """The stages that are given models of their own, as `Bark.load` takes them."""
    chosen = {stage: getattr(arguments, f"{stage}_models") for stage in STAGES}
    return {stage: models for stage, models in chosen.items() if models is not None}


def models_in_words(bark: Bark, arguments: argparse.Namespace) -> str:
    """Such as "large models (coarse: models/my_voice)"."""
    own = ", ".join(f"{stage}: {models}" for stage, models in own_stages(arguments).items())
    return f"{bark.models.name} models" + (f" ({own})" if own else "")


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how the models run; the same for every command that runs them."""
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu [auto]")
    parser.add_argument("--dtype", default="auto", help=f"{', '.join(PRECISIONS)} [auto]")
    parser.add_argument("--temperature", type=float, metavar="T", help="of the semantic and coarse stages [0.7]")
    parser.add_argument("--download", action="store_true", help="fetch Suno's weights first where they are missing")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which files are used")


def fetch(models: str, stages: Mapping[str, str]) -> None:
    """Download the models, with others for some stages, where they are missing, with a bar."""
    with Bar("download") as bar:
        find_or_download(models, downloads_folder(), bar.downloaded, stages=stages, allow_paths=True)


def voice(wanted: str | None, bark: Bark, download: bool) -> SpeakerPrompt | None:
    """A speaker prompt by file or by name."""
    if wanted is None:
        return None
    if wanted.lower().endswith(".npz"):
        return SpeakerPrompt.load(wanted, family=bark.spec.family)
    folders = [root / SPEAKERS_FOLDER for root in own_roots()]
    return find_speaker(wanted, folders=folders, download=download, family=bark.spec.family)


def is_voice(name: str) -> bool:
    """Whether `voice` knows it as the name of a voice, rather than as that of a file, or not at all."""
    try:
        speaker_file(name, [])
    except BarkInputError:
        return False
    return not name.lower().endswith(".npz")
