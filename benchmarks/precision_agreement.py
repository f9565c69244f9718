"""What narrow weights cost in quality: how far each precision's distributions are from those of float32.

    python benchmarks/precision_agreement.py [--models nano] [--seconds 4] [--json FILE]

Every precision is led along the same tokens (those that float32 speaks), step by step as in use, and asked at each of
them what it would have drawn from. Two figures for each stage: how often its likeliest token is float32's (top 1), and
the Kullback-Leibler divergence of its distribution from float32's in nats, at the stage's default temperature. Beside
them stands how much the distributions hold (their entropy), which tells whether a divergence is large.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parent.parent))

from bark_engine import Bark, BarkError, CoarseSampling, FineSampling, SemanticSampling, Speech
from bark_engine.coarse import CoarseRow
from bark_engine.precision import DTYPES
from bark_engine.semantic import SemanticRow
from bark_engine.text import text_to_ids

STAGES = ("text", "coarse", "fine")
COARSE = CoarseSampling()
TEXTS = (
    "The kettle is on, so please sit down for a minute.",
    "Nobody told me that the museum is closed on Mondays.",
    "Could you bring two more chairs from the kitchen?",
)


def distributions(bark: Bark, stage: str, text: str, speech: Speech, coarse: CoarseSampling = COARSE) -> Tensor:
    """What a stage would draw from at each of the tokens of a speech, `[tokens, V]` probabilities."""
    if stage == "fine":
        return bark.run_stage("fine", lambda network, frugal: _fine(network, bark, speech))
    ids = text_to_ids(text, bark.tokenizer, bark.spec)
    if stage == "text":
        sampling = SemanticSampling(early_stop=False)
        row: Any = SemanticRow(ids, bark.spec, None, sampling, 0)
        tokens = speech.semantic.ids.tolist()
    else:
        sampling = coarse
        row = CoarseRow(speech.semantic, bark.spec, None, sampling, 0, bark.dtype_of("coarse") != torch.float32)
        tokens = speech.coarse.codes.T.flatten().tolist()
    return bark.run_stage(stage, lambda network, frugal: _led(network, row, tokens, float(sampling.temperature or 1)))


def _led(network: Any, row: Any, tokens: list[int], temperature: float) -> Tensor:
    """A causal stage, led along tokens instead of drawing its own."""
    seen: list[Tensor] = []
    with torch.inference_mode():
        cache = network.new_cache(network.shape.block_size)
        for token in tokens:
            if row.wants_prompt:
                cache.length = 0
                hidden = network(row.prompt(network), cache)
            else:
                hidden = network(network.embed(torch.tensor([[row.latest]])), cache)
            seen.append(network.logits(hidden, *row.candidates(network))[0] / temperature)
            row.accept(token)
    return torch.stack(seen).softmax(dim=-1)


def _fine(network: Any, bark: Bark, speech: Speech) -> Tensor:
    """All six passes over one window, each on the true codes below it."""
    codes = torch.full((1, bark.spec.fine_window, bark.spec.fine_codebooks), bark.spec.fine_pad)
    frames = min(speech.fine.frames, bark.spec.fine_window)
    codes[0, :frames] = torch.tensor(speech.fine.codes[:, :frames].T)
    seen: list[Tensor] = []
    with torch.inference_mode():
        for codebook in range(bark.spec.coarse_codebooks, bark.spec.fine_codebooks):
            given = codes.clone()
            given[..., codebook:] = bark.spec.fine_pad
            logits = network(given, codebook, 0, bark.spec.codebook_size)[0, :frames]
            seen.append(logits / float(FineSampling().temperature or 1))
    return torch.cat(seen).softmax(dim=-1)


def compare(wanted: Tensor, got: Tensor) -> dict[str, float]:
    """Two sets of distributions `[tokens, V]`: part with the same likeliest token, mean divergence and entropy."""
    divergence = torch.special.xlogy(wanted, wanted) - torch.special.xlogy(wanted, got.clamp_min(1e-30))
    return {
        "top_1": float((wanted.argmax(-1) == got.argmax(-1)).float().mean()),
        "divergence": float(divergence.sum(-1).mean()),
        "entropy": float(-torch.special.xlogy(wanted, wanted).sum(-1).mean()),
    }


def measure(models: str, seconds: float, precisions: list[str]) -> Iterator[dict[str, Any]]:
    """A record for each stage and precision, over all TEXTS; one copy of the models is in memory beside float32's."""
    exact = Bark.load(models, dtype="float32")
    limit = SemanticSampling(max_seconds=seconds)
    speeches = [exact.say(text, seed=number, semantic=limit) for number, text in enumerate(TEXTS)]
    wanted = {
        stage: torch.cat([distributions(exact, stage, *pair) for pair in zip(TEXTS, speeches, strict=True)])
        for stage in STAGES
    }
    for precision in precisions:
        other = Bark.load(models, dtype=precision)
        for stage in STAGES:
            got = torch.cat([distributions(other, stage, *pair) for pair in zip(TEXTS, speeches, strict=True)])
            yield {"stage": stage, "precision": precision, "tokens": len(got), **compare(wanted[stage], got)}
        del other


def main() -> int:
    """Measure, tell; the exit status."""
    parser = argparse.ArgumentParser(description="How far narrow weights move what is drawn from.")
    parser.add_argument("--models", default="nano", metavar="NAME|FOLDER", help="what to measure [nano]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of three speeches, at most [4]")
    parser.add_argument(
        "--precisions", nargs="+", choices=list(DTYPES)[1:], default=list(DTYPES)[1:], help="which [all but float32]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    records = []
    try:
        print(f"{'stage':8}{'precision':>10}{'tokens':>8}{'top 1':>9}{'divergence':>12}{'entropy':>9}")
        for record in measure(arguments.models, arguments.seconds, arguments.precisions):
            records.append(record)
            print(
                f"{record['stage']:8}{record['precision']:>10}{record['tokens']:8,}{record['top_1']:9.2%}"
                f"{record['divergence']:12.5f}{record['entropy']:9.3f}",
                flush=True,
            )
    except BarkError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps({"models": arguments.models, "records": records}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
