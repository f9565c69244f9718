"""bark_engine as a contender of side_by_side.py: `Bark.say`, or `Bark.say_many` for more than one text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from full_size import Folders
from measuring import Spoken, StageClock, Work

from bark_engine import Bark, BarkError, Request, SemanticSampling
from bark_engine.manager import ModelManager
from bark_engine.precision import name_of

T = TypeVar("T")
STAGE_NAMES = {"text": "semantic", "coarse": "coarse", "fine": "fine", "codec": "codec"}  # network → what it makes


class TimedBark(Bark):
    """A `Bark` that puts every use of a stage under a clock, and remembers in which precision it ran."""

    clock: StageClock | None = None
    precision: dict[str, str]

    def run_stage(self, stage: str, job: Callable[[Any, bool], T], *given: Any, **named: Any) -> T:
        """As `Bark.run_stage`."""

        def watched(network: Any, frugal: bool) -> T:
            if stage != "codec":  # which is always float32
                self.precision[STAGE_NAMES[stage]] = name_of(network.transformer.precision)
            return job(network, frugal)

        if self.clock is None:
            return super().run_stage(stage, watched, *given, **named)
        with self.clock.stage(STAGE_NAMES[stage]):
            return super().run_stage(stage, watched, *given, **named)


class Engine:
    """This pack's engine, with a manager of its own, so that nothing of the process's shared one counts."""

    loaded_from = "safetensors, converted from Suno's files"
    batches = True

    def __init__(self, device: torch.device, dtype: str, graphs: bool = False, name: str = "bark_engine"):
        self.name, self._graphs = name, graphs
        self.version = _version()
        self.precision: dict[str, str] = {}
        self._device, self._dtype = device, dtype
        self._bark: TimedBark | None = None

    @property
    def bark(self) -> TimedBark:
        """The loaded models."""
        assert self._bark is not None
        return self._bark

    def load(self, folders: Folders, work: Work) -> None:
        """Every stage to its device, in the precision that it takes for so many rows."""
        how: Any = {"device": str(self._device), "dtype": self._dtype, "graphs": self._graphs}
        bark = TimedBark.load(folders.engine, **how, manager=ModelManager())
        assert isinstance(bark, TimedBark)
        self._bark, bark.precision = bark, self.precision
        for stage in STAGE_NAMES:
            bark.run_stage(stage, lambda network, frugal: None, *([work.batch] if stage != "codec" else []))
        bark.tokenizer  # noqa: B018 (is read on first use)

    def speak(self, work: Work, clock: StageClock) -> Spoken:
        """One text by `say`, more by `say_many` in one batch."""
        sampling = SemanticSampling(early_stop=False, max_seconds=work.seconds)
        self.bark.clock = clock
        if work.batch == 1:
            speeches = [self.bark.say(work.texts[0], work.speaker, work.seed, sampling)]
        else:
            texts = zip(work.texts, work.seeds, strict=True)
            requests = [Request(text, work.speaker, seed, sampling) for text, seed in texts]
            made = dict(self.bark.say_many(requests, work.batch))
            speeches = [_good(made[row]) for row in range(work.batch)]
        self.bark.clock = None
        return Spoken(
            [np.asarray(speech.semantic) for speech in speeches],
            [np.asarray(speech.coarse) for speech in speeches],
            [np.asarray(speech.fine) for speech in speeches],
            sum(len(speech.audio.samples) for speech in speeches),
        )

    def free(self) -> None:
        """Let go of the weights."""
        if self._bark is not None:
            self._bark.unload()
        self._bark = None


def _good(outcome: Any) -> Any:
    if isinstance(outcome, BarkError):
        raise outcome
    return outcome


def _version() -> str:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return found[1] if found else "?"
