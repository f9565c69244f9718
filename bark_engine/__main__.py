"""The command line: `python -m bark_engine TEXT -o FILE`, and the commands `decode FILE`, `convert SRC DST`, `train`.

Exit status 0 and the file, or 2 and one line on standard error (130 when interrupted).
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .bark import Bark
from .checkpoint import convert
from .commands import decode
from .commands.bar import Bar
from .commands.models import (
    NOTES,
    add_device_arguments,
    add_stage_arguments,
    fetch,
    models_in_words,
    own_stages,
    voice,
)
from .commands.output import check_output, write_sound
from .errors import BarkError
from .keep import About, Take
from .library.model_sets import DEFAULT_MODELS
from .precision import DTYPES
from .sampling import CoarseSampling, FineSampling, SemanticSampling
from .speaker import SpeakerPrompt


class _OneLineParser(argparse.ArgumentParser):
    """Refuses bad arguments with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise BarkError(f"{message}. See: python -m bark_engine --help")


def _speak_parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m bark_engine",
        description="Speak a text with Bark and write a sound file: 24 kHz, 16-bit WAV, or another format by its name.",
        epilog="python -m bark_engine decode FILE -o SOUND makes sound of kept tokens; "
        "python -m bark_engine convert SRC DST [--dtype D] rewrites weights as safetensors; "
        "python -m bark_engine train STAGE --data FOLDER --output RUN trains a stage (see train --help); "
        "to speak the word convert, or a word that starts with a dash, write: python -m bark_engine -o FILE -- convert",
    )
    parser.add_argument("text", metavar="TEXT", help="what to say; at most 256 text tokens, about 13 s of speech")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="a .wav, .flac, .mp3 or .opus to write")
    parser.add_argument(
        "--models",
        default=DEFAULT_MODELS,
        metavar="NAME|PATH",
        help=f"nano, small, large, a folder or a file [{DEFAULT_MODELS}]",
    )
    add_stage_arguments(parser)
    parser.add_argument("--speaker", metavar="NAME|FILE", help="a speaker prompt, such as v2/en_speaker_6 or voice.npz")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same sound [0]")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="stop after S seconds of speech")
    parser.add_argument(
        "--keep-tokens", action="store_true", help="put all tokens inside the sound file, from where decode reads them"
    )
    add_device_arguments(parser)
    return parser


def _decode_parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m bark_engine decode",
        description="Make sound of the tokens in a file: fine ones need the codec alone, others the later stages.",
    )
    decode.add_arguments(parser)
    return parser


def _convert_parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m bark_engine convert",
        description="Rewrite Bark weights of any known format as safetensors, without optimizer state.",
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="a checkpoint file or a folder of them")
    parser.add_argument("destination", metavar="DST", type=Path, help="a folder, or one .safetensors file")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES), help="precision to write [float32]")
    return parser


def train(given: Sequence[str]) -> None:
    """Run `train STAGE`, `train build` or `train merge`; see training/."""
    kind = given[0] if given[:1] in (["build"], ["merge"]) else ""
    # Imported where it is wanted: a third of a second that nothing else needs.
    job = import_module(f".training.{kind}_command" if kind else ".training.command", __package__)
    description = {
        "build": "Make a data folder from recordings and their texts.",
        "merge": "Make an adapter a part of the weights.",
        "": "Train one stage on a folder of clips; the same command goes on with a run that was stopped. "
        "train build makes such a folder from recordings, train merge makes an adapter a part of weights.",
    }[kind]
    parser = _OneLineParser(prog=f"python -m bark_engine train {kind}".rstrip(), description=description)
    job.add_arguments(parser)
    job.run(parser.parse_args(given[1:] if kind else given))


def speak(arguments: argparse.Namespace) -> None:
    """Run the main job: text in, sound file out."""
    started = time.monotonic()
    output = check_output(arguments.output)
    if arguments.download:
        fetch(arguments.models, own_stages(arguments))
    bark = Bark.load(arguments.models, **own_stages(arguments), device=arguments.device, dtype=arguments.dtype)
    speaker = voice(arguments.speaker, bark, arguments.download)
    chosen = {} if arguments.temperature is None else {"temperature": arguments.temperature}
    samplings: dict[str, Any] = {
        "semantic": SemanticSampling(max_seconds=arguments.max_seconds, **chosen),
        "coarse": CoarseSampling(**chosen),
        "fine": FineSampling(),
    }
    about = _about(arguments, bark, speaker, samplings) if arguments.keep_tokens else None
    with Bar("speak") as bar:
        speech = bark.say(arguments.text, speaker=speaker, seed=arguments.seed, **samplings, on_step=bar.step)
    write_sound(output, speech.audio, Take.of(speech, about) if about else None)
    if bark.spec.family in NOTES:
        print(NOTES[bark.spec.family])
    print(
        f"Wrote {output}: {speech.audio.seconds:.1f} s at {speech.audio.sample_rate} Hz with the "
        f"{models_in_words(bark, arguments)}, seed {speech.seed}, in {time.monotonic() - started:.1f} s."
    )


def _about(
    arguments: argparse.Namespace, bark: Bark, speaker: SpeakerPrompt | None, samplings: Mapping[str, Any]
) -> About:
    """What is written beside the tokens that are kept."""
    return About(
        text=arguments.text,
        speaker=speaker.name if speaker else "",
        models=bark.models.name,
        seed={stage: int(arguments.seed) for stage in samplings},
        sampling={stage: asdict(knobs) for stage, knobs in samplings.items()},
    )


def convert_weights(arguments: argparse.Namespace) -> None:
    """Run `convert` and say what it saved."""
    with Bar("convert") as bar:
        report = convert(arguments.source, arguments.destination, DTYPES[arguments.dtype], on_step=bar.step)
    print(report)


def _with_log(arguments: argparse.Namespace) -> argparse.Namespace:
    """The same arguments; what the engine logs is shown from now on as they ask."""
    logging.basicConfig(level=logging.INFO if arguments.verbose else logging.ERROR, format="%(message)s")
    if arguments.download and not arguments.verbose:
        _quiet_hub()
    return arguments


def _quiet_hub() -> None:
    """Keep the hub's library from telling each of its retries; what matters of them is in the one line at the end."""
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()


def _forgive_encodings() -> None:
    """Let `?` stand for what a stream cannot write, such as → in a Windows file, where it would end in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):  # neither None nor what others put there has it
            reconfigure(errors="replace")


def _interrupted(given: Sequence[str]) -> str:
    """What is there after an interrupt, and how to go on."""
    if given[:2] == ["train", "build"]:
        return "Interrupted; the list of clips is as it was before. Run the command again: it makes all of them."
    if given[:2] == ["train", "merge"]:
        return "Interrupted; files that were complete stay, nothing is half-written. Run the command again."
    if given[:1] == ["train"]:
        return "Interrupted; what the run had saved stays. The same command goes on from there."
    if "--download" in given:
        return "Interrupted; no sound was written. What was downloaded stays: the same command goes on from there."
    return "Interrupted; nothing was written."


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command line; returns the exit status."""
    _forgive_encodings()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["convert"]:
            convert_weights(_convert_parser().parse_args(given[1:]))
        elif given[:1] == ["train"]:
            train(given[1:])
        elif given[:1] == ["decode"]:
            print(decode.run(_with_log(_decode_parser().parse_args(given[1:]))))
        else:
            speak(_with_log(_speak_parser().parse_args(given)))
    except BarkError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:  # of a path that the system cannot even look for, such as an endless name
        print(f"{error.strerror or error}: {str(error.filename or '')[:200]}. Check the paths.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(_interrupted(given), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
