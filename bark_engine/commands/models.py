"""Models and voices as the command line asks for them, and what a person should know about some models."""

import argparse

from ..bark import Bark
from ..library.model_sets import find_or_download
from ..library.places import downloads_folder
from ..library.speakers import find_speaker
from ..precision import PRECISIONS
from ..speaker import SpeakerPrompt
from .bar import Bar

NOTES = {
    "nano": "This is nano, the small reader of English that comes with the pack. For Bark's own voices, laughter and "
    "other languages use --models small or --models large with Suno's weights (add --download to fetch them).",
    "random": "These models have random weights: they prove the path and make noise, not speech.",
}
"""What a person should know about the models that need no weights of Suno's."""


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Where and how the models run; the same for every command that runs them."""
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu [auto]")
    parser.add_argument("--dtype", default="auto", help=f"{', '.join(PRECISIONS)} [auto]")
    parser.add_argument("--temperature", type=float, metavar="T", help="of the semantic and coarse stages [0.7]")
    parser.add_argument("--download", action="store_true", help="fetch Suno's weights first where they are missing")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which files are used")


def fetch(models: str) -> None:
    """Download the models where they are missing, with a bar."""
    with Bar("download") as bar:
        find_or_download(models, downloads_folder(), bar.downloaded, allow_paths=True)


def voice(wanted: str | None, bark: Bark, download: bool) -> SpeakerPrompt | None:
    """A speaker prompt by file or by name."""
    if wanted is None:
        return None
    if wanted.endswith(".npz"):
        return SpeakerPrompt.load(wanted, family=bark.spec.family)
    return find_speaker(wanted, folders=[downloads_folder() / "speakers"], download=download, family=bark.spec.family)
