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
from ...spec import register_family
from ...text import Tokenizer
from ...transformer import CausalTransformer, FineTransformer
from ..networks import read_network, stage_in
from .by_heart import grown, kept_whole, misread
from .codec_run import CodecPlan
from .codec_training import SHAPE, folded, soften, train_codec
from .corpus import audio_clips, spoken_sentences, write_clips
from .decoder_training import DecoderPlan, spoken, train_decoder
from .export import SOURCES, export
from .family import BY_HEART, nano_spec, text_vocabulary, words_by_heart
from .sentences import common_words

CORPUS = 50_000  # texts
WORDS = 12_000  # the commonest ones, which are tried
SEED = 0  # of the order of the sentences and of every training
FIRST_CODEC = Path("codec", "codec.safetensors")  # made by the step codec, and what all tokens are made with
LETTERS = Path("letters")  # what belongs to a text stage that knows no words by heart
LETTERS_TEXT = Path("semantic-letters/best/text.safetensors")  # such a stage, trained
GROWN = Path("grown.safetensors")
HELD_OUT = 20  # clips that the codec is measured on and never trained on


def corpus(arguments: argparse.Namespace) -> str:
    """The clips of the text stage, spec.json and vocab.txt, and in `letters` those without the words known by heart."""
    for folder, by_heart in ((arguments.work, None), (arguments.work / LETTERS, ())):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.json").write_text(nano_spec(by_heart).to_json() + "\n", encoding="utf-8")
        (folder / "vocab.txt").write_text("\n".join(text_vocabulary(by_heart)) + "\n", encoding="utf-8")
    texts = spoken_sentences(arguments.sentences, SEED)
    count, seconds = write_clips(arguments.work / "data-text", texts, on_step=_say("clips"))
    return f"{count:,} clips, {seconds / 3600:.1f} h, in {arguments.work / 'data-text'}"


def words(arguments: argparse.Namespace) -> str:
    """What a text stage that has only letters misreads, and that stage with a row for each word of by_heart.txt."""
    file = arguments.work / LETTERS_TEXT
    if not file.is_file():
        raise BarkFileError(f"There is no {file} yet. Run the training of the semantic stage on letters first.")
    spec, vocabulary = nano_spec(by_heart=()), text_vocabulary(by_heart=())
    network = read_network(stage_in(file, "semantic"), "semantic", spec)
    assert isinstance(network, CausalTransformer)
    frequency = common_words()
    asked = list(frequency)[: arguments.words]
    tokenizer = Tokenizer(vocabulary, "nano's letters", spec.lower_case)
    found = misread(asked, network, tokenizer, spec, _say("words"))
    chosen = kept_whole(found, frequency, vocabulary)
    listed, known = arguments.work / LETTERS / BY_HEART.name, words_by_heart()
    with replacing(listed, "The list of words") as temporary:
        temporary.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    with replacing(arguments.work / LETTERS / GROWN, "The weights") as temporary:
        save_stage(grown(network, known), "text", temporary)
    return (
        f"{len(found):,} of {len(asked):,} words are misread; {len(chosen):,} of them, in {listed}, can be learned by "
        f"heart. {len(known):,} were given rows, those of {BY_HEART}; {len(set(chosen) & set(known)):,} are in both"
    )


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
    soften(plain)
    return _keep_codec(plain, run)


def sound(arguments: argparse.Namespace) -> str:
    """The clips of the coarse and fine stages, with the codec's tokens."""
    file = arguments.work / FIRST_CODEC
    if not file.is_file():
        raise BarkFileError(f"There is no {file} yet. Run the step codec first.")
    network = load_stage(describe(file)[0], torch.float32)
    assert isinstance(network, Codec)
    texts = spoken_sentences(arguments.of, SEED)[: arguments.sentences]
    count, seconds = write_clips(arguments.work / "data-sound", texts, network, _say("clips"))
    return f"{count:,} clips, {seconds / 3600:.1f} h, in {arguments.work / 'data-sound'}"


def decoder(arguments: argparse.Namespace) -> str:
    """The codec's decoder once more, on the tokens that the fine stage gives it."""
    files = [arguments.work / path for path in (FIRST_CODEC, SOURCES["fine"])]
    for file in files:
        if not file.is_file():
            raise BarkFileError(f"There is no {file} yet. Run the step codec and the training of the fine stage first.")
    network, fine = (load_stage(describe(file)[0], torch.float32) for file in files)
    assert isinstance(network, Codec)
    assert isinstance(fine, FineTransformer)
    spec = register_family(nano_spec())
    texts = spoken_sentences(arguments.of, SEED)[: arguments.sentences]
    clips = spoken(list(audio_clips(texts, _say("sentences"))), network, fine, spec, _say("clips"))
    run = arguments.work / "decoder"
    plan = DecoderPlan(steps=arguments.steps, seed=SEED)
    return _keep_codec(train_decoder(network, clips[HELD_OUT:], clips[:HELD_OUT], run, plan, report=_line), run)


def _keep_codec(codec: Codec, run: Path) -> str:
    with replacing(run / "codec.safetensors", "The codec") as temporary:
        save_stage(codec, "codec", temporary)
    return f"the codec is {run / 'codec.safetensors'}; its figures are in {run / 'log.jsonl'}"


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
    plans = {"codec": CodecPlan().steps, "decoder": DecoderPlan().steps}
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for name, function, sentences in (
        ("corpus", corpus, CORPUS),
        ("words", words, 0),
        ("codec", codec, 1_600),
        ("sound", sound, 5_500),
        ("decoder", decoder, 500),
        ("export", _export, 0),
    ):
        step = steps.add_parser(name, help=(function.__doc__ or "the files of nano, half as large, with their card"))
        step.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where everything is made")
        if sentences:
            step.add_argument("--sentences", type=int, default=sentences, metavar="N", help=f"how many [{sentences:,}]")
        if name in ("codec", "sound", "decoder"):
            step.add_argument("--of", type=int, default=CORPUS, metavar="N", help=f"size of the corpus [{CORPUS:,}]")
        if name in plans:
            step.add_argument(
                "--steps", type=int, default=plans[name], help=f"updates of the weights [{plans[name]:,}]"
            )
        if name == "words":
            step.add_argument("--words", type=int, default=WORDS, metavar="N", help=f"how many are tried [{WORDS:,}]")
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
