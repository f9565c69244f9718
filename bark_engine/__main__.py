"""The command line: `python -m bark_engine TEXT -o FILE`, and the commands `convert SRC DST` and `train STAGE`.

Exit status 0 and the file, or 2 and one line on standard error (130 when interrupted).
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from .audio_files import FORMATS, save_audio
from .bark import Bark
from .checkpoint import convert
from .errors import BarkError, BarkInputError
from .library.model_sets import DEFAULT_MODELS, find_or_download
from .library.places import downloads_folder
from .library.speakers import find_speaker
from .precision import DTYPES, PRECISIONS
from .progress import OnStep
from .sampling import CoarseSampling, FineSampling, SemanticSampling
from .speaker import SpeakerPrompt

NOTES = {
    "nano": "This is nano, the small reader of English that comes with the pack. For Bark's own voices, laughter and "
    "other languages use --models small or --models large with Suno's weights (add --download to fetch them).",
    "random": "These models have random weights: they prove the path and make noise, not speech.",
}
"""What a person should know about the models that need no weights of Suno's."""


class _OneLineParser(argparse.ArgumentParser):
    """Refuses bad arguments with one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        raise BarkError(f"{message}. See: python -m bark_engine --help")


def _speak_parser() -> argparse.ArgumentParser:
    parser = _OneLineParser(
        prog="python -m bark_engine",
        description="Speak a text with Bark and write a 24 kHz, 16-bit WAV file.",
        epilog="python -m bark_engine convert SRC DST [--dtype D] rewrites weights as safetensors; "
        "python -m bark_engine train STAGE --data FOLDER --output RUN trains a stage (see train --help); "
        "to speak the word convert, or a word that starts with a dash, write: python -m bark_engine -o FILE -- convert",
    )
    parser.add_argument("text", metavar="TEXT", help="what to say; at most 256 text tokens, about 13 s of speech")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the WAV file to write")
    parser.add_argument(
        "--models",
        default=DEFAULT_MODELS,
        metavar="NAME|PATH",
        help=f"nano, small, large, a folder or a file [{DEFAULT_MODELS}]",
    )
    parser.add_argument("--speaker", metavar="NAME|FILE", help="a speaker prompt, such as v2/en_speaker_6 or voice.npz")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same sound [0]")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu [auto]")
    parser.add_argument("--dtype", default="auto", help=f"{', '.join(PRECISIONS)} [auto]")
    parser.add_argument("--temperature", type=float, metavar="T", help="of the semantic and coarse stages [0.7]")
    parser.add_argument("--max-seconds", type=float, metavar="S", help="stop after S seconds of speech")
    parser.add_argument("--download", action="store_true", help="fetch Suno's weights first where they are missing")
    parser.add_argument("-v", "--verbose", action="store_true", help="say which files are used")
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
    """Run the main job: text in, WAV file out."""
    started = time.monotonic()
    _check_output(arguments.output)
    if arguments.download:
        with _Bar("download") as bar:
            find_or_download(arguments.models, downloads_folder(), bar.downloaded, allow_paths=True)
    bark = Bark.load(arguments.models, device=arguments.device, dtype=arguments.dtype)
    speaker = _speaker(arguments.speaker, bark, arguments.download)
    chosen = {} if arguments.temperature is None else {"temperature": arguments.temperature}
    with _Bar("speak") as bar:
        speech = bark.say(
            arguments.text,
            speaker=speaker,
            seed=arguments.seed,
            semantic=SemanticSampling(max_seconds=arguments.max_seconds, **chosen),
            coarse=CoarseSampling(**chosen),
            fine=FineSampling(),
            on_step=bar.step,
        )
    save_audio(arguments.output, speech.audio.samples[None], speech.audio.sample_rate, "wav")
    if bark.spec.family in NOTES:
        print(NOTES[bark.spec.family])
    print(
        f"Wrote {arguments.output}: {speech.audio.seconds:.1f} s at {speech.audio.sample_rate} Hz with the "
        f"{bark.models.name} models, seed {speech.seed}, in {time.monotonic() - started:.1f} s."
    )


def convert_weights(arguments: argparse.Namespace) -> None:
    """Run `convert` and say what it saved."""
    with _Bar("convert") as bar:
        report = convert(arguments.source, arguments.destination, DTYPES[arguments.dtype], on_step=bar.step)
    print(report)


def _check_output(output: Path) -> None:
    """Refuse what cannot become the WAV file before minutes are spent on its sound."""
    if output.is_dir():
        raise BarkInputError(f"{output} is a folder. Name the file to write in it, such as {output / 'hello.wav'}.")
    others = {kind.suffix for kind in FORMATS.values()} - {FORMATS["wav"].suffix}
    if output.suffix.lower() in others:
        raise BarkInputError(
            f"The command line writes WAV, and {output} has the name of another format. "
            f"Name it {output.with_suffix('.wav').name}."
        )


def _speaker(wanted: str | None, bark: Bark, download: bool) -> SpeakerPrompt | None:
    """A speaker prompt by file or by name."""
    if wanted is None:
        return None
    if wanted.endswith(".npz"):
        return SpeakerPrompt.load(wanted, family=bark.spec.family)
    return find_speaker(wanted, folders=[downloads_folder() / "speakers"], download=download, family=bark.spec.family)


def _quiet_hub() -> None:
    """Keep the hub's library from telling each of its retries; what matters of them is in the one line at the end."""
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.set_verbosity_error()


class _Bar:
    """A progress bar on a terminal's standard error; nothing elsewhere, so that errors stay one line."""

    WIDTH = 40

    def __init__(self, label: str):
        self._label = label
        self._live = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._last:
            sys.stderr.write("\n")

    @property
    def step(self) -> OnStep:
        """An `on_step` that draws."""
        return lambda done, total: self._draw(done / total, "")

    @property
    def downloaded(self) -> Callable[[int, int, str], None]:
        """An `on_progress` of a download that draws."""
        return lambda done, total, name: self._draw(
            done / max(total, 1), f" {name} {done / 2**20:.0f}/{total / 2**20:.0f} MiB"
        )

    def _draw(self, part: float, note: str) -> None:
        line = f"{self._label} [{'#' * round(part * self.WIDTH):<{self.WIDTH}}] {part:4.0%}{note}"
        if self._live and line != self._last:
            sys.stderr.write(f"\r{line}\033[K")
            sys.stderr.flush()
            self._last = line


def main(arguments: Sequence[str] | None = None) -> int:
    """The whole command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["convert"]:
            convert_weights(_convert_parser().parse_args(given[1:]))
        elif given[:1] == ["train"]:
            train(given[1:])
        else:
            parsed = _speak_parser().parse_args(given)
            logging.basicConfig(level=logging.INFO if parsed.verbose else logging.ERROR, format="%(message)s")
            if parsed.download and not parsed.verbose:
                _quiet_hub()
            speak(parsed)
    except BarkError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:  # of a path that the system cannot even look for, such as an endless name
        print(f"{error.strerror or error}: {str(error.filename or '')[:200]}. Check the paths.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
