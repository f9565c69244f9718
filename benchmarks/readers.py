"""Who reads the sentences: espeak-ng (the reference), a set of Bark models, and impostors that prove the judge.

A reader is called with a text, the name of a speaker prompt ("" for none) and a seed, and gives `Audio`. `record` lets
one read many texts in several processes; it is described by a `ReaderPlan`, which travels to them.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from speech_judge import RATE, Floats

from bark_engine.audio import Audio, resample
from bark_engine.errors import BarkError, BarkInputError

Reader = Callable[[str, str, int], Audio]

WORDS_PER_MINUTE = 175
ESPEAK_RATE = 22_050  # Hz, of all its voices but mbrola's
WAV_HEADER = 44  # bytes; espeak-ng writes the plain kind, with wrong lengths in it when it writes to a pipe
REFERENCE_VOICE = "en-us"
OTHER_VOICES = {"": ("en-us+f2", 55), "low": ("en-us+m3", 30), "high": ("en-us+f2", 60)}  # name and pitch, 0 … 99
CODEC = "codec"


@dataclass(frozen=True, slots=True)
class Take:
    """One reading to be made: which sentence of the list, by which speaker prompt, with which seed."""

    index: int
    text: str
    speaker: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A take as sound `[n]` at RATE, how long it took in seconds, and what the reader said when it could not."""

    take: Take
    sound: Floats
    seconds: float
    refusal: str = ""


@dataclass(frozen=True)
class ReaderPlan:
    """Models (a name or folder) with speaker prompt files by name, or `instead` CODEC or one of IMPOSTORS.

    `sentences` are the texts that impostors mix up; `temperature` is that of the semantic and coarse stages (None:
    the engine's defaults).
    """

    models: str = "nano"
    speakers: dict[str, Path] = field(default_factory=dict)
    temperature: float | None = None
    instead: str = ""
    sentences: tuple[str, ...] = ()

    def make(self) -> Reader:
        """The reader itself. Raises BarkError for models and speaker prompts that are not to be had."""
        if self.instead == CODEC:
            return codec_reader(self)
        return IMPOSTORS[self.instead](self.sentences) if self.instead else bark_reader(self)


def espeak(text: str, voice: str = REFERENCE_VOICE, rate: int = WORDS_PER_MINUTE, pitch: int = 50) -> Audio:
    """espeak-ng's reading at 24 kHz, always the same for the same arguments. Raises BarkError where it is missing."""
    command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "--stdout", "--", text]
    try:
        wav = subprocess.run(command, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise BarkError(
            "espeak-ng, which reads the sentences for comparison, is missing. apt-get install espeak-ng"
        ) from None
    except subprocess.CalledProcessError as error:
        raise BarkError(f"espeak-ng could not read {text!r} as {voice}: {error.stderr.decode().strip()}") from None
    samples = (np.frombuffer(wav, dtype="<i2", offset=WAV_HEADER) / 32_768).astype(np.float32)
    return resample(Audio(samples, ESPEAK_RATE), 24_000)


def at_judge_rate(audio: Audio) -> Floats:
    """The samples `[n]` of a sound at the judge's RATE."""
    return resample(audio, RATE).samples


def bark_reader(plan: ReaderPlan) -> Reader:
    """Bark with default sampling, loaded and warm, so that the first take is not charged for reading the weights."""
    from bark_engine import Bark, CoarseSampling, SemanticSampling, SpeakerPrompt

    bark = Bark.load(plan.models)
    speakers = {name: SpeakerPrompt.load(path, bark.spec.family) for name, path in plan.speakers.items()}
    chosen: dict[str, Any] = {} if plan.temperature is None else {"temperature": plan.temperature}
    coarse = CoarseSampling(**chosen)

    def read(text: str, speaker: str, seed: int, **limits: Any) -> Audio:
        semantic = SemanticSampling(**chosen, **limits)
        voice = speakers[speaker] if speaker else None
        return bark.say(text, speaker=voice, seed=seed, semantic=semantic, coarse=coarse).audio

    read("Hello.", "", 0, max_seconds=0.5)
    return read


def codec_reader(plan: ReaderPlan) -> Reader:
    """espeak-ng with nano's voices, through the codec of the models and back: what the models could reach at best."""
    from bark_engine import Bark
    from bark_engine.training.nano.voices import VOICES

    bark = Bark.load(plan.models)

    def read(text: str, speaker: str, seed: int) -> Audio:
        voice = VOICES[speaker]
        return bark.decode(bark.encode(espeak(text, voice.name, voice.rate, voice.pitch)))

    return read


def record(plan: ReaderPlan, takes: Sequence[Take], jobs: int) -> Iterator[Recording]:
    """Read all takes, in their order, in this process or in `jobs` others that share the processor's cores."""
    with ExitStack() as stack:
        if jobs == 1:
            _start(plan, None)
            results = map(_record_one, takes)
        else:
            threads = max(1, (os.cpu_count() or 1) // jobs)
            pool = ProcessPoolExecutor(jobs, get_context("spawn"), _start, (plan, threads))
            stack.callback(pool.shutdown, cancel_futures=True)
            results = pool.map(_record_one, takes)
        yield from results


_reader: Reader | None = None  # of this process


def _start(plan: ReaderPlan, threads: int | None) -> None:
    global _reader
    if threads:
        import torch

        torch.set_num_threads(threads)
    _reader = plan.make()


def _record_one(take: Take) -> Recording:
    assert _reader is not None
    started = time.perf_counter()
    try:
        audio = _reader(take.text, take.speaker, take.seed)
    except BarkError as error:  # such as models that stop at once; silence then fails every check
        return Recording(take, np.zeros(RATE // 10, np.float32), time.perf_counter() - started, str(error))
    return Recording(take, at_judge_rate(audio), time.perf_counter() - started)


def _other_espeak(sentences: Sequence[str]) -> Reader:
    """espeak-ng with other voices, slower; the seed moves the pitch a little. Must pass everything."""

    def read(text: str, speaker: str, seed: int) -> Audio:
        voice, pitch = OTHER_VOICES[speaker]
        return espeak(text, voice, WORDS_PER_MINUTE - 10, pitch + seed % 10)

    return read


def _of_same_length(make: Callable[[int, int], Floats]) -> Callable[[Sequence[str]], Reader]:
    """Readers that make `(samples, seed)` → sound as long as espeak-ng's reading, with no regard to the text."""

    def reader(sentences: Sequence[str]) -> Reader:
        return lambda text, speaker, seed: Audio(make(len(espeak(text).samples), seed).astype(np.float32))

    return reader


def _shuffled(sentences: Sequence[str]) -> Reader:
    """A good voice that reads another sentence of the list, one of similar length."""
    by_length = sorted(sentences, key=len)
    other = _other_espeak(sentences)
    return lambda text, speaker, seed: other(by_length[by_length.index(text) - 1], speaker, seed)


def _babbling(sentences: Sequence[str]) -> Reader:
    """The sentence, and then two seconds of another one."""
    other = _other_espeak(sentences)

    def read(text: str, speaker: str, seed: int) -> Audio:
        more = other(sentences[sentences.index(text) - 1] + " " + text, speaker, seed).samples[: 2 * 24_000]
        return Audio(np.concatenate([other(text, speaker, seed).samples, more]))

    return read


def _halved(sentences: Sequence[str]) -> Reader:
    """Only the first half of the sentence."""
    other = _other_espeak(sentences)

    def read(text: str, speaker: str, seed: int) -> Audio:
        samples = other(text, speaker, seed).samples
        return Audio(samples[: len(samples) // 2])

    return read


def _one_voice(sentences: Sequence[str]) -> Reader:
    """The sentence, but by one and the same voice whatever the speaker prompt."""
    other = _other_espeak(sentences)
    return lambda text, speaker, seed: other(text, "", seed)


def _noise(samples: int, seed: int) -> Floats:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples)


IMPOSTORS: dict[str, Callable[[Sequence[str]], Reader]] = {
    "espeak": _other_espeak,
    "one-voice": _one_voice,
    "noise": _of_same_length(_noise),
    "silence": _of_same_length(lambda samples, seed: np.zeros(samples)),
    "shuffled": _shuffled,
    "babble": _babbling,
    "half": _halved,
}
"""Readers for `--instead`: the first must pass everything, each of the others must fail what it is bad at."""


def named_speakers(given: Sequence[str]) -> dict[str, Path]:
    """`low=FILE high=FILE` as a mapping. Raises BarkInputError for anything else, and for files that do not exist."""
    pairs = [word.partition("=") for word in given]
    speakers = {name: Path(file) for name, _, file in pairs}
    if sorted(speakers) != ["high", "low"] or len(pairs) != 2:
        raise BarkInputError(
            f"Give one speaker prompt file for each of the two voices, low=FILE high=FILE, not {' '.join(given)!r}."
        )
    for path in speakers.values():
        if not path.is_file():
            raise BarkInputError(f"The speaker prompt {path} does not exist. Name two .npz files: low=FILE high=FILE.")
    return speakers
