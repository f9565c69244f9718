"""Does it speak? A hundred sentences that nano never saw, judged by machines that did not train it.

    pip install -r benchmarks/requirements.txt && python benchmarks/nano_speaks.py --jobs 2

Needs espeak-ng, whose reading of each sentence (en-us, 175 words a minute) is what nano's is compared with. The goals:

  (a) the sentence is told from 19 others of similar length by its mel spectrogram: 95 of 100
  (b) pocketsphinx gets 85 % of the word accuracy that it reaches on espeak-ng itself, from a closed list of words;
      every sentence is read three times, because what it hears of one reading of all is only good to 2 % of the words
  (c) the length is within 30 % of espeak-ng's, and no more than 0.4 s is heard after the text is over: 95 of 100
  (d) the two speaker prompts are 60 Hz apart in median pitch, and each keeps the words, judged as in (a): 19 of 20
  (e) one sentence with 20 seeds, judged as in (a): 19 of 20

and all files together are at most 16 MB. Exit status 0 when every goal is met, 1 when one is missed, 2 when there is
nothing to judge. How the scores are made is in `speech_judge.py` and `recogniser.py`. `--instead espeak` puts
another voice in nano's place, which must pass; `--instead noise` and others must fail (see `readers.py`); `--instead
codec` is espeak-ng through nano's codec, the best that nano could do.
"""

import argparse
import json
import math
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from readers import CODEC, IMPOSTORS, ReaderPlan, Recording, Take, at_judge_rate, espeak, named_speakers, record  # noqa: E402
from recogniser import Recogniser  # noqa: E402
from spectrograms import compare  # noqa: E402
from speech_judge import (  # noqa: E402
    RATE,
    Floats,
    choose,
    ending,
    features,
    median_pitch,
    nearest_lengths,
    spoken,
    word_accuracy,
)

from bark_engine import BarkError  # noqa: E402
from bark_engine.audio_files import save_audio  # noqa: E402

SENTENCES = Path(__file__).with_name("nano_sentences.txt")
BUNDLED_SPEAKERS = ROOT / "bark_engine" / "assets" / "nano" / "speakers"
CANDIDATES = 20
PART = 0.95  # of the takes of (a), (c), (d) and (e) that must be right
ACCURACY_PART = 0.85
PITCH_APART = 60.0  # Hz
MEGABYTES = 16.0
READINGS = 3  # of each sentence, with other seeds, for (b)
SEED_SENTENCE = 0  # the one that is read with many seeds
PICTURES = 8
EVERY = 10  # takes between two lines of progress


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line of the list: the text to read, and the words as they are spoken (numbers spelled out)."""

    text: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table; `passed` is None for what is only told."""

    name: str
    got: str
    wanted: str
    passed: bool | None


@dataclass(frozen=True)
class Reference:
    """espeak-ng's reading of every sentence, as sound and as features, and the candidates of each choice."""

    sentences: tuple[Sentence, ...]
    sounds: tuple[Floats, ...]
    features: dict[int, Floats]
    candidates: tuple[list[int], ...]

    @classmethod
    def read(cls, sentences: Sequence[Sentence]) -> "Reference":
        """Let espeak-ng read all sentences."""
        sounds = tuple(at_judge_rate(espeak(sentence.text)) for sentence in sentences)
        lengths = [len(spoken(sound)) for sound in sounds]
        candidates = tuple(nearest_lengths(lengths, index, CANDIDATES) for index in range(len(sentences)))
        return cls(tuple(sentences), sounds, {i: features(spoken(sound)) for i, sound in enumerate(sounds)}, candidates)

    def judge(self, recording: Recording) -> dict[str, Any]:
        """What (a) and (c) say about a recording, with its pitch."""
        index = recording.take.index
        choice = choose(recording.sound, self.candidates[index], self.features)
        end = ending(recording.sound, self.sounds[index])
        return {
            "text": recording.take.text,
            "speaker": recording.take.speaker,
            "seed": recording.take.seed,
            "right": choice.chosen == index,
            "chosen": None if choice.chosen is None else self.sentences[choice.chosen].text,
            "margin": round(choice.margin, 4),
            "length_ratio": round(end.length_ratio, 3),
            "babble_seconds": round(end.babble_seconds, 3),
            "ends_well": end.good,
            "pitch": _or_none(median_pitch(recording.sound)),
            "audio_seconds": round(len(recording.sound) / RATE, 3),
            "compute_seconds": round(recording.seconds, 3),
            "refusal": recording.refusal,
        }


def read_sentences(path: Path = SENTENCES) -> list[Sentence]:
    """The list: `text`, or `text<TAB>spoken words` where the text has numbers or abbreviations."""
    sentences = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text, _, words = line.partition("\t")
        sentences.append(Sentence(text, tuple(re.sub(r"[^a-z' ]", " ", (words or text).lower()).split())))
    return sentences


def plan_takes(sentences: Sequence[Sentence], quick: bool) -> dict[str, list[Take]]:
    """What must be read, by part of the benchmark: every sentence, again for (b), some by each voice, one often."""
    step, voices, seeds = (5, 5, 5) if quick else (1, 20, 20)
    apart = len(sentences) // voices
    numbers = range(0, len(sentences), step)
    takes = {"sentences": [Take(i, sentences[i].text) for i in numbers]}
    takes["again"] = [Take(i, sentences[i].text, seed=seed) for seed in range(1, READINGS) for i in numbers]
    for speaker in ("low", "high"):
        takes[speaker] = [Take(i, sentences[i].text, speaker) for i in range(apart // 2, len(sentences), apart)]
    takes["seeds"] = [Take(SEED_SENTENCE, sentences[SEED_SENTENCE].text, seed=seed) for seed in range(seeds)]
    return takes


def record_all(plan: ReaderPlan, takes: dict[str, list[Take]], jobs: int) -> dict[str, list[Recording]]:
    """Every take of every part as a recording, with a line of progress now and then."""
    recordings = iter(record(plan, [take for part in takes.values() for take in part], jobs))
    done, total, started = 0, sum(map(len, takes.values())), time.monotonic()
    results: dict[str, list[Recording]] = {}
    for part, wanted in takes.items():
        results[part] = []
        for _ in wanted:
            results[part].append(next(recordings))
            done += 1
            if done % EVERY == 0 or done == total:
                left = (time.monotonic() - started) / done * (total - done)
                print(f"read {done} of {total}, {left:.0f} s left", flush=True)
    return results


def hear(
    recogniser: Recogniser, reference: Reference, indices: Sequence[int], sounds: Iterable[Floats]
) -> dict[str, Any]:
    """What pocketsphinx heard: word accuracy of all and of each reading of all sentences, and the words of each."""
    pairs, heard = [], []
    for done, (index, sound) in enumerate(zip(indices, sounds, strict=True), start=1):
        words = recogniser.hear(sound)
        heard.append(" ".join(words))
        pairs.append((recogniser.alike(reference.sentences[index].words), recogniser.alike(words)))
        if done % EVERY == 0:
            print(f"heard {done} of {len(indices)}", flush=True)
    size = len(set(indices))
    each = [word_accuracy(pairs[start : start + size]) for start in range(0, len(pairs), size)]
    return {"accuracy": word_accuracy(pairs), "readings": each, "heard": heard}


def judge(
    reference: Reference, recordings: dict[str, list[Recording]], recogniser: Recogniser
) -> tuple[list[Goal], dict[str, Any]]:
    """The goals (a) to (e), and the figures behind them."""
    rows = {part: [reference.judge(recording) for recording in made] for part, made in recordings.items()}
    indices = [recording.take.index for recording in recordings["sentences"]]
    heard = [*recordings["sentences"], *recordings["again"]]
    ours = hear(recogniser, reference, [one.take.index for one in heard], (one.sound for one in heard))
    theirs = hear(recogniser, reference, indices, (reference.sounds[index] for index in indices))
    for row, words in zip([*rows["sentences"], *rows["again"]], ours["heard"], strict=True):
        row["heard"] = words
    for row, words in zip(rows["sentences"], theirs["heard"], strict=True):
        row["heard_from_espeak"] = words
    part = ours["accuracy"] / max(theirs["accuracy"], 1e-6)
    pitch = {name: _median(row["pitch"] for row in rows[name]) for name in ("low", "high")}
    apart = pitch["high"] - pitch["low"]
    goals = [
        _counted(f"(a) right of {CANDIDATES} sentences", [row["right"] for row in rows["sentences"]]),
        Goal(
            "(b) words heard, part of espeak-ng's",
            f"{part:.3f} ({ours['accuracy']:.1%} of {theirs['accuracy']:.1%})",
            f"≥ {ACCURACY_PART}",
            part >= ACCURACY_PART,
        ),
        _counted("(c) right length, no babble", [row["ends_well"] for row in rows["sentences"]]),
        Goal(
            "(d) pitch of the voices",
            f"{pitch['low']:.0f} and {pitch['high']:.0f} Hz" if not math.isnan(apart) else "not heard",
            f"≥ {PITCH_APART:.0f} Hz apart",
            apart >= PITCH_APART,
        ),
        *(_counted(f"(d) right sentence, {name} voice", [row["right"] for row in rows[name]]) for name in pitch),
        _counted("(e) right sentence, many seeds", [row["right"] for row in rows["seeds"]]),
    ]
    figures = {
        "word_accuracy": ours["accuracy"],
        "word_accuracy_of_readings": ours["readings"],
        "word_accuracy_of_espeak": theirs["accuracy"],
        "median_pitch": {name: _or_none(hertz) for name, hertz in pitch.items()},
        "takes": rows,
    }
    return goals, figures


def measure(plan: ReaderPlan, figures: dict[str, Any], jobs: int) -> list[Goal]:
    """The size of the models, which is judged, and their speed, which is only told: it is the machine's too."""
    takes = [row for rows in figures["takes"].values() for row in rows]
    factor = sum(row["compute_seconds"] for row in takes) / max(1e-9, sum(row["audio_seconds"] for row in takes))
    how = "alone" if jobs == 1 else f"{jobs} side by side"
    goals = [Goal("real-time factor", f"{factor:.2f} ({how}, {os.cpu_count()} cores)", "(≤ 1)", None)]
    figures["real_time_factor"] = factor
    if not plan.instead:
        figures["megabytes"] = megabytes(plan)
        good = figures["megabytes"] <= MEGABYTES
        goals.append(Goal("all files together", f"{figures['megabytes']:.1f} MB", f"≤ {MEGABYTES:.0f} MB", good))
    return goals


def megabytes(plan: ReaderPlan) -> float:
    """What the models, their vocabulary and the speaker prompts weigh, in millions of bytes."""
    from bark_engine import Bark

    models = Bark.load(plan.models).models
    files = {stage.path for stage in (models.text, models.coarse, models.fine, models.codec)}
    return sum(path.stat().st_size for path in {*files, models.vocabulary, *plan.speakers.values()}) / 1e6


def show(goals: Sequence[Goal], figures: dict[str, Any]) -> None:
    """The table, and below it every take that went wrong."""
    judged = [rows for part, rows in figures["takes"].items() if part != "again"]  # those are only listened to
    wrong = [row for rows in judged for row in rows if not row["right"] or not row["ends_well"]]
    for row in wrong:
        trouble = [] if row["right"] else [row["refusal"] or f"taken for {row['chosen']!r}"]
        if not row["ends_well"]:
            trouble.append(f"length × {row['length_ratio']:.2f}, babble {row['babble_seconds']:.1f} s")
        who = " ".join(filter(None, (row["speaker"], f"seed {row['seed']}" if row["seed"] else "")))
        print(f"  {row['text']}{f' [{who}]' if who else ''}: {'; '.join(trouble)}")
    each = ", ".join(f"{accuracy:.1%}" for accuracy in figures["word_accuracy_of_readings"])
    print(f"  words heard of each reading of all sentences: {each}")
    for goal in goals:
        mark = {True: "met", False: "MISSED", None: ""}[goal.passed]
        print(f"{goal.name:38} {goal.got:26} {goal.wanted:14} {mark}".rstrip())


def draw(folder: Path, name: str, reference: Reference, recordings: Sequence[Recording]) -> None:
    """Spectrograms of some sentences, ours above espeak-ng's, as `folder/NN.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    for recording in recordings[:: max(1, len(recordings) // PICTURES)][:PICTURES]:
        index = recording.take.index
        title = f"{index + 1}. {recording.take.text}"
        compare(folder / f"{index + 1:03}.png", title, (name, recording.sound), ("espeak-ng", reference.sounds[index]))


def keep_sounds(folder: Path, recordings: dict[str, list[Recording]]) -> None:
    """Every recording as `folder/PART_NNN.wav` at the judge's rate."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, made in recordings.items():
        for recording in made:
            number = recording.take.seed if part == "seeds" else recording.take.index + 1
            name = f"{part}_{recording.take.seed}" if part == "again" else part
            save_audio(folder / f"{name}_{number:03}.wav", recording.sound[None], RATE)


def write_json(path: Path, plan: ReaderPlan, goals: Sequence[Goal], figures: dict[str, Any], jobs: int) -> None:
    """Everything in the table and behind it."""
    told = {
        "models": plan.instead or plan.models,
        "temperature": plan.temperature,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "jobs": jobs,
        "goals": [{"name": g.name, "got": g.got, "wanted": g.wanted, "passed": g.passed} for g in goals],
    }
    path.write_text(json.dumps(told | figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _counted(name: str, right: Sequence[bool]) -> Goal:
    wanted = math.ceil(PART * len(right))
    return Goal(name, f"{sum(right)} of {len(right)}", f"≥ {wanted}", sum(right) >= wanted)


def _median(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else float("nan")


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Judge a small Bark by machines that did not train it.")
    parser.add_argument("--models", default="nano", metavar="NAME|FOLDER", help="what to judge [nano]")
    parser.add_argument(
        "--speakers",
        nargs=2,
        metavar=("low=FILE", "high=FILE"),
        default=[f"{name}={BUNDLED_SPEAKERS / name}.npz" for name in ("low", "high")],
        help="the two speaker prompts [those of nano]",
    )
    parser.add_argument(
        "--instead",
        choices=[CODEC, *IMPOSTORS],
        default="",
        help="judge the codec alone, or an impostor",
    )
    parser.add_argument("--temperature", type=float, metavar="T", help="of the semantic and coarse stages [0.7]")
    parser.add_argument("--quick", action="store_true", help="20 sentences, 5 by each voice, 5 seeds")
    parser.add_argument(
        "--jobs", type=int, choices=range(1, 65), default=1, metavar="N", help="processes that read [1]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help=f"write {PICTURES} spectrograms there")
    parser.add_argument("--sounds", type=Path, metavar="FOLDER", help="write what was read there, as WAV")
    parser.add_argument("--no-judge", action="store_true", help="exit with 0 also when a goal is missed")
    return parser.parse_args()


def main() -> int:
    """Read, judge, tell; the exit status."""
    arguments = _arguments()
    try:
        sentences = read_sentences()
        speakers = {} if arguments.instead else named_speakers(arguments.speakers)
        texts = tuple(sentence.text for sentence in sentences)
        plan = ReaderPlan(arguments.models, speakers, arguments.temperature, arguments.instead, texts)
        reference = Reference.read(sentences)
        recogniser = Recogniser([sentence.words for sentence in sentences])  # before minutes are spent on reading
        recordings = record_all(plan, plan_takes(sentences, arguments.quick), arguments.jobs)
        if arguments.sounds:
            keep_sounds(arguments.sounds, recordings)
        if arguments.pictures:
            draw(arguments.pictures, arguments.instead or arguments.models, reference, recordings["sentences"])
        goals, figures = judge(reference, recordings, recogniser)
        goals += measure(plan, figures, arguments.jobs)
    except BarkError as error:
        print(error, file=sys.stderr)
        return 2
    show(goals, figures)
    if arguments.json:
        write_json(arguments.json, plan, goals, figures, arguments.jobs)
    return 0 if arguments.no_judge or all(goal.passed is not False for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
