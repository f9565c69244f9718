"""What a trace costs: each stage with a recorder and without, in turn, and the time spent inside the recorder.

    python benchmarks/trace_cost.py [--runs 7]

On nano, and on networks with Suno's heads and random weights: "small" is Bark small's size; "tiny" has two narrow
layers, so that the head and the draw are nearly all of the work: the worst case. Noise of the machine is larger than
the cost, so the least of several runs is compared, and the time inside is told as well.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))

from full_size import SIZES, network_weights

from bark_engine import (
    Bark,
    CoarseSampling,
    CoarseTokens,
    FineSampling,
    SemanticSampling,
    SemanticTokens,
    TraceRecorder,
)
from bark_engine.coarse import generate_coarse
from bark_engine.fine import generate_fine
from bark_engine.semantic import SemanticRow, generate_semantic
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer, FineTransformer

Stage = Callable[[TraceRecorder | None], Any]
SECONDS = 2.0


class TimedRecorder(TraceRecorder):
    """Adds up the seconds spent in it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def take(self, *given: Any) -> None:
        self._timed(super().take, *given)

    def see_end(self, *given: Any, **named: Any) -> None:
        self._timed(super().see_end, *given, **named)

    def fill(self, *given: Any) -> None:
        self._timed(super().fill, *given)

    def finish(self, *given: Any) -> None:
        self._timed(super().finish, *given)

    def _timed(self, job: Callable[..., Any], *given: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        answer = job(*given, **named)
        self.seconds += time.perf_counter() - begin
        return answer


def nano_stages() -> dict[str, Stage]:
    """nano's stages on one sentence."""
    nano = Bark.load("nano")
    speech = nano.say("The old lighthouse keeper counted the ships that passed.", seed=1)
    free = SemanticSampling(early_stop=False, max_seconds=SECONDS)
    text = "The old lighthouse keeper counted the ships that passed."
    return {
        "semantic": lambda trace: nano.text_to_semantic(text, seed=1, trace=trace),
        "semantic, no early stop": lambda trace: nano.text_to_semantic(text, sampling=free, trace=trace),
        "coarse": lambda trace: nano.semantic_to_coarse(speech.semantic, seed=1, trace=trace),
        "fine": lambda trace: nano.coarse_to_fine(speech.coarse, seed=1, trace=trace),
    }


def random_stages(size: str) -> dict[str, Stage]:
    """Stages with Suno's heads and random weights; fine has a whole window of real frames, the most it ever traces."""
    networks = {stage: _network(stage, size) for stage in ("text", "coarse", "fine")}
    ids = SUNO.text_offset + np.arange(100, 120)
    rng = np.random.default_rng(0)
    semantic = SemanticTokens(rng.integers(0, 10_000, 40))  # type: ignore[arg-type]
    coarse = CoarseTokens(rng.integers(0, 1_024, (2, SUNO.fine_window)))  # type: ignore[arg-type]

    def text(early_stop: bool) -> Stage:
        sampling = SemanticSampling(early_stop=early_stop, min_eos_p=None, max_seconds=SECONDS)
        given: Any = {"speaker": None, "sampling": sampling, "seed": 0}
        return lambda trace: generate_semantic(networks["text"], ids, SUNO, **given, trace=trace)

    given: Any = {"speaker": None, "seed": 0}
    samplings: Any = {"coarse": CoarseSampling(), "fine": FineSampling()}
    return {
        "semantic": text(early_stop=True),
        "semantic, no early stop": text(early_stop=False),
        "coarse": lambda trace: generate_coarse(
            networks["coarse"], semantic, SUNO, **given, sampling=samplings["coarse"], trace=trace
        ),
        "fine": lambda trace: generate_fine(
            networks["fine"], coarse, SUNO, **given, sampling=samplings["fine"], trace=trace
        ),
    }


def _network(stage: str, size: str) -> Any:
    shape = SIZES[size].shape(stage)
    with torch.device("meta"):
        network = (FineTransformer if shape.codebooks else CausalTransformer)(shape).eval()
    network.load_state_dict(network_weights(shape, torch.Generator().manual_seed(0)), assign=True)
    return network


def main() -> None:
    """Print one line for each stage."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=7)
    runs = arguments.parse_args().runs
    watched_row: Any = SemanticRow
    end_probability = SemanticRow._end_probability  # also a part of the cost

    for name, stages in (("nano", nano_stages()), ("tiny", random_stages("tiny")), ("small", random_stages("small"))):
        for stage, run in stages.items():
            plain, watched, inside = [], [], []
            for _ in range(runs):
                plain.append(_seconds(run, None))
                recorder = TimedRecorder()
                watched_row._end_probability = lambda *given: recorder._timed(end_probability, *given)  # noqa: B023
                watched.append(_seconds(run, recorder))
                watched_row._end_probability = end_probability
                inside.append(recorder.seconds / watched[-1])
            more = min(watched) / min(plain) - 1
            print(
                f"{name:6} {stage:24} {min(plain):8.3f} s without, {min(watched):8.3f} s with: {100 * more:+5.1f} %; "
                f"{100 * np.median(inside):.2f} % of the time inside"
            )


def _seconds(run: Stage, trace: TraceRecorder | None) -> float:
    begin = time.perf_counter()
    run(trace)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
