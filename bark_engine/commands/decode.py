"""`python -m bark_engine decode FILE -o SOUND`: kept tokens to sound, through the stages that are still to be done."""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from ..bark import Bark
from ..errors import BarkFileError, BarkInputError
from ..keep import Take, finish, load_take
from ..keep.finish import missing_stages, seed_for
from ..library.download import SIZES
from ..library.sources import NANO, RANDOM, list_model_sets
from ..sampling import CoarseSampling
from ..spec import SUNO
from .bar import Bar
from .models import (
    NOTES,
    add_device_arguments,
    add_stage_arguments,
    fetch,
    is_voice,
    models_in_words,
    own_stages,
    voice,
)
from .output import check_output, write_sound


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `decode`."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a sound with tokens inside, or a token file")
    parser.add_argument("-o", "--output", metavar="SOUND", required=True, help="a .wav, .flac, .mp3 or .opus to write")
    parser.add_argument("--models", metavar="NAME|PATH", help="as for speaking [those that the file names, or fits]")
    add_stage_arguments(parser)
    parser.add_argument("--speaker", metavar="NAME|FILE", help="a voice, where stages are still to be done")
    parser.add_argument("--seed", type=int, help="where stages are still to be done [the one in the file]")
    parser.add_argument("--keep-tokens", action="store_true", help="put the tokens inside the sound file again")
    add_device_arguments(parser)


def run(arguments: argparse.Namespace) -> str:
    """Do it; returns what to say at the end, one sentence a line. Raises BarkError."""
    started = time.monotonic()
    output = check_output(arguments.output)
    if arguments.models and arguments.download:
        fetch(arguments.models, own_stages(arguments))
    given = _load(arguments.models, arguments) if arguments.models else None
    take = load_take(arguments.file, given.spec.family if given else SUNO.family)
    bark = given or _bark_for(take, arguments)
    to_do = missing_stages(take)
    speaker = voice(arguments.speaker, bark, arguments.download)
    coarse = CoarseSampling() if arguments.temperature is None else CoarseSampling(arguments.temperature)
    with Bar("decode") as bar:
        whole, audio = finish(bark, take, speaker, arguments.seed, coarse, on_step=bar.step)
    write_sound(output, audio, whole if arguments.keep_tokens else None)
    seeds = [f"{stage} with seed {seed_for(take, stage, arguments.seed)}" for stage in to_do]
    made = f" (made: {', '.join(seeds)})" if seeds else ""
    lines = [NOTES[bark.models.name]] if bark.models.name == RANDOM else []
    if to_do and take.about.speaker and speaker is None:
        given_as = "it" if is_voice(take.about.speaker) else "its .npz"
        lines.append(
            f"The file names the voice {take.about.speaker}: give {given_as} as --speaker to go on in that voice."
        )
    lines.append(
        f"Wrote {output}: {audio.seconds:.1f} s at {audio.sample_rate} Hz from the {', '.join(take.tokens)} "
        f"tokens in {arguments.file}{made}, with the {models_in_words(bark, arguments)}, "
        f"in {time.monotonic() - started:.1f} s."
    )
    return "\n".join(lines)


def _bark_for(take: Take, arguments: argparse.Namespace) -> Bark:
    """The models that the file names, where they are here, else the first here that are of its family."""
    missing = []
    for name in _candidates(take):
        if arguments.download and name in SIZES:
            fetch(name, own_stages(arguments))
        try:
            bark = _load(name, arguments)
        except BarkFileError as error:
            missing.append(str(error))
            continue
        if bark.spec.family == take.family:
            return bark
    raise BarkInputError(
        f"The tokens in {arguments.file} were made by models of the family {take.family!r}, of which there are none "
        f"here. Name them with --models.{' ' + missing[0] if missing else ''}"
    )


def _candidates(take: Take) -> Iterator[str]:
    """Names of models to try. What a file says is taken for a name in the list, never for a path."""
    known = list_model_sets([])
    if take.about.models in known:
        yield take.about.models
    if take.family == NANO:
        yield NANO
    yield from (name for name in known if name not in (take.about.models, NANO, RANDOM))
    if take.family == SUNO.family:
        yield from SIZES


def _load(models: str, arguments: argparse.Namespace) -> Bark:
    return Bark.load(models, **own_stages(arguments), device=arguments.device, dtype=arguments.dtype)
