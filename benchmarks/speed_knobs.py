"""What the knobs that trade exactness for speed gain, and how far they move what is drawn from.

    python benchmarks/speed_knobs.py                differences only, on nano: a minute or two
    python benchmarks/speed_knobs.py --size large   gains as well, on random weights of true size

Difference: with nano, each knob is led along the tokens that the defaults spoke and asked at each of them what it would
draw from. Top 1 is how often its likeliest token is that of the defaults; the divergence (Kullback-Leibler, in nats)
stands beside what the distributions hold (their entropy). In the fine stage the frames of padding are drawn, as in use.

Gain: how many times as fast the stage is on random weights in the precision that `auto` chooses, taking turns with the
defaults, best of `--repeats`. Speed does not depend on what the weights say.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from full_size import SIZES, write_models  # noqa: E402
from precision_agreement import TEXTS, compare, distributions  # noqa: E402

from bark_engine import Bark, BarkError, CoarseSampling, FineSampling, SemanticSampling, SemanticTokens  # noqa: E402
from bark_engine import Speech as Said  # noqa: E402
from bark_engine.spec import SUNO  # noqa: E402


@dataclass(frozen=True)
class Knob:
    """A sampling of one stage, and how a person writes it."""

    stage: str
    label: str
    sampling: Any


DEFAULTS = {"coarse": CoarseSampling(), "fine": FineSampling()}
KNOBS = (
    Knob("coarse", "max_history=315", CoarseSampling(max_history=315)),
    Knob("coarse", "max_history=60", CoarseSampling(max_history=60)),
    Knob("coarse", "window=120", CoarseSampling(window=120)),
    Knob("coarse", "max_history=315, window=240", CoarseSampling(max_history=315, window=240)),
    Knob("coarse", "max_history=60, window=300", CoarseSampling(max_history=60, window=300)),
    Knob("fine", "pad=False", FineSampling(pad=False)),
)


def differences(seconds: float) -> list[dict[str, float]]:
    """What `compare` says of each knob, over all TEXTS one by one and joined."""
    bark = Bark.load("nano", dtype="float32", device="cpu")
    texts = (*TEXTS, " ".join(TEXTS))  # the last one is longer than what the coarse stage looks back on
    speeches = [bark.say(text, semantic=SemanticSampling(max_seconds=seconds)) for text in texts]
    pairs = list(zip(texts, speeches, strict=True))

    def drawn_from(stage: str, sampling: Any) -> Tensor:
        if stage == "fine":
            return torch.cat([fine_distributions(bark, speech, sampling) for speech in speeches])
        return torch.cat([distributions(bark, stage, text, speech, sampling) for text, speech in pairs])

    wanted = {stage: drawn_from(stage, sampling) for stage, sampling in DEFAULTS.items()}
    return [compare(wanted[knob.stage], drawn_from(knob.stage, knob.sampling)) for knob in KNOBS]


def fine_distributions(bark: Bark, speech: Said, sampling: FineSampling) -> Tensor:
    """What the fine stage draws from in all six passes over one window, each on the true codes below it."""
    spec, frames = bark.spec, min(speech.fine.frames, bark.spec.fine_window)
    true = torch.tensor(np.array(speech.fine.codes[:, :frames].T))
    codes = torch.full((1, spec.fine_window if sampling.pad else frames, spec.fine_codebooks), spec.fine_pad)
    codes[0, :frames, : spec.coarse_codebooks] = true[:, : spec.coarse_codebooks]
    rng = torch.Generator().manual_seed(0)
    seen: list[Tensor] = []

    def job(network: Any, frugal: bool) -> None:
        with torch.inference_mode():
            for codebook in range(spec.coarse_codebooks, spec.fine_codebooks):
                logits = network(codes, codebook, 0, spec.codebook_size)[0]
                drawn_from = (logits / float(sampling.temperature or 1)).softmax(dim=-1)
                seen.append(drawn_from[:frames])
                codes[0, :, codebook] = torch.multinomial(drawn_from, 1, generator=rng)[:, 0]
                codes[0, :frames, codebook] = true[:, codebook]

    bark.run_stage("fine", job)
    return torch.cat(seen)


def gains(folder: Path, size: str, seconds: float, repeats: int) -> list[float]:
    """How many times as fast each knob makes its stage for one clip without a speaker prompt."""
    bark = Bark.load(write_models(folder, SIZES[size], torch.float32).engine, device="cpu")
    rng = np.random.default_rng(0)
    semantic = SemanticTokens(rng.integers(SUNO.semantic_vocab, size=round(seconds * SUNO.semantic_rate)))
    coarse = bark.semantic_to_coarse(semantic)  # also the warm-up

    def time_of(stage: str, sampling: Any) -> float:
        started = time.perf_counter()
        if stage == "coarse":
            bark.semantic_to_coarse(semantic, sampling=sampling)
        else:
            bark.coarse_to_fine(coarse, sampling=sampling)
        return time.perf_counter() - started

    bark.coarse_to_fine(coarse)
    best: dict[Any, float] = {}
    for _ in range(repeats):
        for stage, sampling in [*DEFAULTS.items(), *((knob.stage, knob.sampling) for knob in KNOBS)]:
            best[sampling] = min(best.get(sampling, float("inf")), time_of(stage, sampling))
    return [best[DEFAULTS[knob.stage]] / best[knob.sampling] for knob in KNOBS]


def main() -> int:
    """Measure and tell; the exit status."""
    parser = argparse.ArgumentParser(description="What the speed knobs gain, and what they change.")
    parser.add_argument("--size", choices=SIZES, help="of the networks that are timed [none: differences only]")
    parser.add_argument("--seconds", type=float, default=12.0, help="of audio, at most 15 [12]")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="timed runs of each knob [2]")
    parser.add_argument("--folder", type=Path, help="where the weights are for a while [the system's temporary folder]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    if not 0.5 <= arguments.seconds <= 15 or arguments.repeats < 1:
        parser.error("--seconds must be within 0.5 … 15 and --repeats 1 or more.")
    try:
        told = differences(arguments.seconds)
        gained: list[float] | None = None
        if arguments.size:
            with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bark-knobs-") as folder:
                gained = gains(Path(folder), arguments.size, arguments.seconds, arguments.repeats)
    except (BarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'stage':8}{'knob':34}{'times as fast':>14}{'top 1':>9}{'divergence':>12}{'entropy':>9}")
    for number, (knob, one) in enumerate(zip(KNOBS, told, strict=True)):
        gain = f"{gained[number]:.2f}" if gained else "-"
        print(
            f"{knob.stage:8}{knob.label:34}{gain:>14}{one['top_1']:9.1%}{one['divergence']:12.4f}{one['entropy']:9.3f}"
        )
    if arguments.json:
        records = [{"stage": k.stage, "knob": k.label, **one} for k, one in zip(KNOBS, told, strict=True)]
        figures = {"size": arguments.size, "seconds": arguments.seconds, "gains": gained, "differences": records}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
