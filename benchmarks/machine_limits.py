"""What this machine could do at best, and how near each stage of a measured run comes to it.

    python benchmarks/machine_limits.py [--device cuda] [--threads N]
    python benchmarks/side_by_side.py --json output/speed.json && \
    python benchmarks/machine_limits.py --from output/speed.json

Measured are the bandwidth of reading, and the rate of products with the weights of Bark's width (4,096 × 1,024) for 1,
16, 257 (a text prompt) and 1,024 rows (a window of the fine stage). The weights are taken in turn from more of them
than a cache holds, as a network's are. "int8" are the engine's own layers, in the way they choose on this machine.

The floor of a stage is the time of what cannot be left out, at those rates:

  text, coarse  every step reads the weights of all layers, and the rows of the head that are drawn from; prompts are
                products of many rows. Coarse windows are counted as if each were read anew, as in float32; where those
                that only grow go on instead, a stage can be faster than this
  fine          six passes of products over 1,024 frames in each window
  codec         has none here: it is a few per cent of the whole

Keys and values, norms, sums, the heads of many rows and sampling are not counted. Takes under two minutes.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from measuring import machine, machine_line, threads  # noqa: E402

from bark_engine import BarkError  # noqa: E402
from bark_engine.int8 import Int8Linear, pack_int8_layers  # noqa: E402
from bark_engine.placement import check_device  # noqa: E402
from bark_engine.precision import cpu_packs_int8, wide_dtype  # noqa: E402
from bark_engine.spec import SUNO  # noqa: E402

WIDTH, HIDDEN = 1_024, 4_096  # of the large networks' MLP
ROWS = (1, 16, 257, 1_024)
READ_BYTES = 1 << 29  # more than any cache
WEIGHTS_BYTES = 1 << 28  # of all matrices that are taken in turn
SECONDS = 1.5  # spent on each figure
BYTES = {"float32": 4, "autocast": 4, "float16": 2, "bfloat16": 2, "int8": 1}  # of a weight in attention or MLP
ENGINE = "bark_engine"  # which keeps its heads in float32, whatever the precision


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes read per second; multiply-adds per second by precision and rows."""

    bandwidth: float
    products: dict[str, dict[int, float]]

    def rate(self, precision: str, rows: int) -> float | None:
        """Multiply-adds per second in a precision, at the measured number of rows that is nearest."""
        rates = self.products.get(precision)
        return rates[min(rates, key=lambda known: abs(known - rows))] if rates else None


@dataclass(frozen=True, slots=True)
class Floor:
    """The least seconds of a stage: for reading weights step by step, and for products of many rows."""

    reading: float
    products: float

    @property
    def seconds(self) -> float:
        """Both together."""
        return self.reading + self.products


def measure_limits(device: torch.device) -> Limits:
    """All figures of a device."""
    kinds = ["float32", "bfloat16", *(["float16"] if device.type == "cuda" else [])]
    products = {kind: {rows: product_rate(device, getattr(torch, kind), rows) for rows in ROWS} for kind in kinds}
    products["int8"] = {rows: int8_rate(device, rows) for rows in ROWS}
    return Limits(read_bandwidth(device), products)


def read_bandwidth(device: torch.device) -> float:
    """Bytes per second, from summing a long vector or multiplying a tall matrix with one row, whichever is faster."""
    matrix = torch.ones(READ_BYTES // 4 // WIDTH, WIDTH, device=device)
    row = torch.ones(WIDTH, device=device)
    fastest = min(_fastest(lambda: matrix.sum(), device), _fastest(lambda: torch.mv(matrix, row), device))
    return READ_BYTES / fastest


def product_rate(device: torch.device, dtype: torch.dtype, rows: int) -> float:
    """Multiply-adds per second of `[rows, 1024] × [1024, 4096]`."""
    given = torch.randn(rows, WIDTH, device=device).to(dtype)
    count = WEIGHTS_BYTES // (HIDDEN * WIDTH * dtype.itemsize)
    weights = [torch.randn(HIDDEN, WIDTH, device=device).to(dtype) for _ in range(count)]
    return _rate(lambda weight: F.linear(given, weight), weights, rows, device)


def int8_rate(device: torch.device, rows: int) -> float:
    """The same with int8 weights, by the engine's layers."""
    given = torch.randn(rows, WIDTH, device=device).to(wide_dtype(device))
    layers = nn.ModuleList(Int8Linear(WIDTH, HIDDEN, bias=False) for _ in range(WEIGHTS_BYTES // (HIDDEN * WIDTH)))
    for layer in layers:
        layer.get_parameter("weight").random_(-127, 128)
        layer.get_parameter("scale").fill_(1.0)
    layers = pack_int8_layers(layers) if device.type == "cpu" and cpu_packs_int8() else layers.to(device)
    return _rate(lambda layer: layer(given), list(layers.children()), rows, device)


def _rate(product: Callable[[Any], Any], weights: Sequence[Any], rows: int, device: torch.device) -> float:
    """Multiply-adds per second. On CUDA a product is shorter than a look at the clock, so all are timed together."""
    together = len(weights) if device.type == "cuda" else 1
    following = cycle(weights)

    def some() -> None:
        for weight in islice(following, together):
            product(weight)

    return together * rows * WIDTH * HIDDEN / _fastest(some, device)


def _fastest(job: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest of many tries, after one that does not count: other programs make all but it slower."""

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    job()
    best, end = float("inf"), now() + SECONDS
    while (started := now()) < end:
        job()
        best = min(best, now() - started)
    return best


# -- floors ----------------------------------------------------------------------------------------------------------


def layer_weights(network: dict[str, Any]) -> int:
    """Weights of attention and MLP in all layers: 12 · H² each."""
    return 12 * network["n_embd"] ** 2 * network["n_layer"]


def prompt_products(network: dict[str, Any], positions: int, causal: bool) -> int:
    """Multiply-adds of one pass over so many positions; a causal one needs half of the attention's."""
    attention = 2 * positions**2 * network["n_embd"] * network["n_layer"]
    return layer_weights(network) * positions + (attention // 2 if causal else attention)


def floors(speed: dict[str, Any], contender: dict[str, Any], limits: Limits) -> dict[str, Floor | None]:
    """The floor of each stage of a contender, from the figures of side_by_side.py. None where a rate is not known."""
    work, networks, batch = speed["work"], speed["networks"], speed["work"]["batch"]
    turns = batch // contender["rows_together"]  # how often all steps are made
    steps = {"semantic": work["semantic_tokens"], "coarse": SUNO.coarse_codebooks * work["frames"]}
    drawn_from = {"semantic": SUNO.semantic_vocab, "coarse": SUNO.codebook_size}  # rows of the head
    prompts = {"semantic": [work["text_prompt"]], "coarse": work["coarse_prompts"]}
    found: dict[str, Floor | None] = {}
    for stage, network in (("semantic", networks["text"]), ("coarse", networks["coarse"])):
        precision = contender["precision"][stage]
        head = 4 if contender["name"] == ENGINE else BYTES[precision]
        read = layer_weights(network) * BYTES[precision] + drawn_from[stage] * network["n_embd"] * head
        products = batch * sum(prompt_products(network, length, True) for length in prompts[stage])
        alone = turns * (steps[stage] - len(prompts[stage]))  # a prompt gives a token of its own
        rate = limits.rate(_multiplied_in(precision), max(prompts[stage]))
        found[stage] = Floor(alone * read / limits.bandwidth, products / rate) if rate else None
    fine, passes = networks["fine"], SUNO.fine_codebooks - SUNO.coarse_codebooks
    one_pass = prompt_products(fine, SUNO.fine_window, False)
    rate = limits.rate(_multiplied_in(contender["precision"]["fine"]), SUNO.fine_window)
    found["fine"] = Floor(0.0, batch * work["fine_windows"] * passes * one_pass / rate) if rate else None
    return found


def _multiplied_in(precision: str) -> str:
    return "bfloat16" if precision == "autocast" else precision


def floor_lines(speed: dict[str, Any], limits: Limits) -> list[str]:
    """A line for each stage of each contender: its time, its floor, and how many times the floor it takes."""
    lines = [
        f"{'':14} {'stage':9} {'precision':9} {'took s':>8} {'floor s':>8} {'reading':>8} {'products':>8} {'×':>6}"
    ]
    for contender in speed["contenders"]:
        for stage, floor in floors(speed, contender, limits).items():
            took, precision = contender["stages"][stage]["p50"], contender["precision"][stage]
            start = f"{contender['name']:14} {stage:9} {precision:9} {took:8.2f}"
            if floor is None:
                lines.append(f"{start} {'not known':>8}")
                continue
            parts = f"{floor.seconds:8.3f} {floor.reading:8.3f} {floor.products:8.3f}"
            lines.append(f"{start} {parts} {took / floor.seconds:6.1f}")
    return lines


def limit_lines(limits: Limits) -> list[str]:
    """The table of the machine itself."""
    lines = [
        f"reading {limits.bandwidth / 1e9:.1f} GB/s",
        f"{'10⁹ multiply-adds a second':28}" + "".join(f"{f'{rows:,} rows':>12}" for rows in ROWS),
    ]
    for kind, rates in limits.products.items():
        cells = "".join(f"{f'{rate / 1e9:,.1f}':>12}" for rate in rates.values())
        lines.append(f"{kind:28}{cells}")
    return lines


# -- the command -----------------------------------------------------------------------------------------------------


def read_speed(path: Path) -> dict[str, Any]:
    """The figures that `side_by_side.py --json` wrote. Raises BarkError for anything else."""
    try:
        speed = json.loads(path.read_text(encoding="utf-8"))
        complete = all((speed["work"]["fine_windows"], speed["networks"]["text"], speed["contenders"][0]["stages"]))
    except OSError as error:
        raise BarkError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, LookupError, TypeError):
        raise BarkError(f"{path} was not written by side_by_side.py --json.") from None
    if not complete:
        raise BarkError(f"{path} has no figures in it.")
    return speed


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit status."""
    parser = argparse.ArgumentParser(description="The machine's own limits, and how near a run comes to them.")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:N or auto [cpu]")
    parser.add_argument("--threads", type=int, metavar="N", help="torch's threads [as torch chooses]")
    parser.add_argument("--from", dest="speed", type=Path, metavar="FILE", help="what side_by_side.py --json wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the limits there")
    arguments = parser.parse_args(argv)
    if arguments.threads is not None and not 1 <= arguments.threads <= 1_024:
        parser.error(f"--threads must be within 1 … 1024; {arguments.threads} was given.")
    try:
        device = check_device(arguments.device)
        speed = read_speed(arguments.speed) if arguments.speed else None
        with threads(arguments.threads), torch.inference_mode():
            facts, limits = machine(device), measure_limits(device)
        lines = [machine_line(facts), *limit_lines(limits)]
        lines += ["", *floor_lines(speed, limits)] if speed else []
        print("\n".join(lines))
        if arguments.json:
            told = {"machine": facts, "bytes_per_second": limits.bandwidth, "multiply_adds_per_second": limits.products}
            arguments.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    except (BarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
