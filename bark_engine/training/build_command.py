"""`python -m bark_engine train build`: recordings and their texts → a data folder."""

import argparse
from pathlib import Path

from ..checkpoint import load_stage
from ..codec import Codec
from ..errors import BarkInputError
from ..library.model_sets import find_model_set
from ..text import Tokenizer
from .build import Builder, load_tokenizer
from .recordings import Limits, find_recordings
from .screen import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `train build`."""
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS", help="WAV files with metadata.csv or .txt files")
    parser.add_argument("data", type=Path, metavar="FOLDER", help="the data folder; other speakers in it stay")
    parser.add_argument("--models", required=True, metavar="NAME|PATH", help="whose codec and vocabulary are used")
    parser.add_argument("--tokenizer", required=True, metavar="MODULE:FUNCTION", help="sound → semantic tokens")
    parser.add_argument(
        "--speaker", metavar="NAME", help='whose voice it is; "" is the voice without a prompt [RECORDINGS]'
    )
    parser.add_argument("--validation", type=float, default=0.05, metavar="SHARE", help="of clips, set aside [0.05]")
    parser.add_argument("--max-pause", type=float, default=Limits().max_pause, metavar="S", help="longest pause [1.5]")
    parser.add_argument(
        "--min-rate", type=float, default=Limits().min_rate, metavar="C", help="characters per second [3]"
    )
    parser.add_argument(
        "--max-rate", type=float, default=Limits().max_rate, metavar="C", help="characters per second [30]"
    )


def run(arguments: argparse.Namespace) -> None:
    """Build as told, and say what was refused and why. Raises BarkError with a sentence for the person."""
    if not 0 <= arguments.validation < 1:
        raise BarkInputError(f"--validation is a share of 0 … 1, such as 0.05; {arguments.validation:g} was given.")
    tokenizer = load_tokenizer(arguments.tokenizer)
    recordings = find_recordings(arguments.recordings)
    models = find_model_set(arguments.models, allow_paths=True)
    codec = load_stage(models.codec)
    assert isinstance(codec, Codec)
    builder = Builder(
        models.spec,
        Tokenizer.load(models.vocabulary, models.spec.lower_case),
        codec,
        tokenizer,
        Limits(max_pause=arguments.max_pause, min_rate=arguments.min_rate, max_rate=arguments.max_rate),
    )
    speaker = arguments.recordings.resolve().name if arguments.speaker is None else arguments.speaker
    screen = Screen()
    report = builder.build(recordings, arguments.data, speaker, arguments.validation, screen.progress("recordings"))
    screen.line(str(report))
