"""The steps that make nano, one command each: `python -m bark_engine.training.nano STEP --work FOLDER`.

docs/nano.md has the commands in order, with the three trainings between them. Every step goes on where it was stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ...atomic import replacing
from ...checkpoint import describe, load_stage, save_stage
from ...codec import Codec
from ...errors import BarkError, BarkFileError
from .codec_training import SHAPE, CodecPlan, folded, train_codec
from .corpus import audio_clips, spoken_sentences, write_clips
from .export import export
from .family import nano_spec, text_vocabulary

SEED = 0  # of the order of the sentences and of every training
HELD_OUT = 20  # clips that the codec is measured on and never trained on


def corpus(arguments: argparse.Namespace) -> str:
    """spec.json, vocab.txt and the clips of the text stage."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "spec.json").write_text(nano_spec().to_json() + "\n", encoding="utf-8")
    (arguments.work / "vocab.txt").write_text("\n".join(text_vocabulary()) + "\n", encoding="utf-8")
    texts = spoken_sentences(arguments.sentences, SEED)
    count, seconds = write_clips(arguments.work / "data-text", texts, on_step=_say("clips"))
    return f"{count:,} clips, {seconds / 3600:.1f} h, in {arguments.work / 'data-text'}"


def codec(arguments: argparse.Namespace) -> str:
    """The codec, from the sound of some of the sentences."""
    texts = spoken_sentences(arguments.of, SEED)[: arguments.sentences]
    clips = list(audio_clips(texts, _say("sentences")))
    held_out = [clip[: 4 * nano_spec().sample_rate] for clip in clips[:HELD_OUT]]
    run = arguments.work / "codec"
    plan = CodecPlan(steps=arguments.steps, seed=SEED)
    trained = train_codec(clips[HELD_OUT:], held_out, run, plan, report=_line)
    plain = Codec(SHAPE)
    plain.load_state_dict(folded(trained))
    with replacing(run / "codec.safetensors", "The codec") as temporary:
        save_stage(plain, "codec", temporary)
    return f"the codec is {run / 'codec.safetensors'}; its figures are in {run / 'log.jsonl'}"


def sound(arguments: argparse.Namespace) -> str:
    """The clips of the coarse and fine stages, with the codec's tokens."""
    file = arguments.work / "codec" / "codec.safetensors"
    if not file.is_file():
        raise BarkFileError(f"There is no {file} yet. Run the step codec first.")
    network = load_stage(describe(file)[0], torch.float32)
    assert isinstance(network, Codec)
    texts = spoken_sentences(arguments.of, SEED)[: arguments.sentences]
    count, seconds = write_clips(arguments.work / "data-sound", texts, network, _say("clips"))
    return f"{count:,} clips, {seconds / 3600:.1f} h, in {arguments.work / 'data-sound'}"


def _export(arguments: argparse.Namespace) -> str:
    return export(arguments.work, arguments.output)


def _say(what: str):
    """An `on_step` that writes a line now and then."""

    def step(done: int, total: int) -> None:
        if done % 1_000 == 0:
            _line(f"{what} {done:,}/{total:,}")

    return step


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one step; returns the exit status, 2 with one line on standard error for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m bark_engine.training.nano", description=__doc__)
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for name, function, sentences in (
        ("corpus", corpus, 40_000),
        ("codec", codec, 1_600),
        ("sound", sound, 8_000),
        ("export", _export, 0),
    ):
        step = steps.add_parser(name, help=(function.__doc__ or "the files of nano, half as large, with their card"))
        step.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where everything is made")
        if sentences:
            step.add_argument("--sentences", type=int, default=sentences, metavar="N", help=f"how many [{sentences:,}]")
        if name in ("codec", "sound"):
            step.add_argument("--of", type=int, default=40_000, metavar="N", help="size of the corpus [40,000]")
        if name == "codec":
            step.add_argument("--steps", type=int, default=CodecPlan.steps, help="updates of the weights")
        if name == "export":
            step.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where nano is put")
        step.set_defaults(function=function)
    parsed = parser.parse_args(arguments)
    try:
        _line(parsed.function(parsed))
    except BarkError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
