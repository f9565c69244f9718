"""How near is the peak of memory to what `Bark.estimate` says before anything is loaded?

    python benchmarks/peak_memory.py                            small, 4 s of audio: one text and four at a time
    python benchmarks/peak_memory.py --size large --dtypes auto int8 float32 --seconds 0.5 4 --json output/peak.json

Writes models with random weights of true size as float32 safetensors. Each line is a process of its own on the CPU:
nano speaks a word, so that what the imports and torch's own buffers take is there before; then the models say something
short, because only from then on all stages are loaded, as the estimate has it; then they speak. Peaks are the operating
system's (VmHWM on Linux), so pages of mapped files count, too. 9 GB of disk for large.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from full_size import SIZES, write_models  # noqa: E402
from measuring import Work, highest_resident_bytes, machine, machine_line  # noqa: E402

from bark_engine import Bark, Request, SemanticSampling  # noqa: E402
from bark_engine.precision import PRECISIONS  # noqa: E402

HEAD = f"{'dtype':10}{'texts':>6}{'seconds':>9}{'estimate':>10}{'peak':>8}{'peak / estimate':>17}"


def speak(folder: Path, dtype: str, texts: int, seconds: float) -> dict[str, Any]:
    """Speak so many texts of so many seconds together in this process: the estimate and the peak, in bytes."""
    Bark.load("nano", device="cpu").say("Hello.")
    before = highest_resident_bytes()
    bark = Bark.load(folder, device="cpu", dtype=dtype)
    bark.say("w2000", semantic=SemanticSampling(max_seconds=0.1, early_stop=False))
    endless = SemanticSampling(max_seconds=seconds, early_stop=False)
    requests = [Request(text, seed=row, semantic=endless) for row, text in enumerate(Work(seconds, texts).texts)]
    estimate = bark.estimate(requests, batch_size=texts)
    for number, speech in bark.say_many(requests, batch_size=texts):
        if isinstance(speech, Exception):
            raise SystemExit(f"Text {number} failed: {speech}")
    peak = highest_resident_bytes() - before
    return {"dtype": dtype, "texts": texts, "seconds": seconds, "estimate": estimate.bytes, "peak": peak}


def lines(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """`speak` in a process of its own for each combination."""
    for dtype in arguments.dtypes:
        for texts in arguments.texts:
            for seconds in arguments.seconds:
                job = [str(folder), dtype, str(texts), str(seconds)]
                command = [sys.executable, __file__, "--speak", *job]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                yield json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure and tell; the exit status."""
    parser = argparse.ArgumentParser(description="Compare the peak of memory with the estimate.")
    parser.add_argument("--size", choices=tuple(SIZES), default="small", help="of the networks [small]")
    parser.add_argument("--dtypes", nargs="+", choices=PRECISIONS, default=["auto"], help="precisions [auto]")
    parser.add_argument("--texts", nargs="+", type=int, default=[1, 4], metavar="N", help="texts at a time [1 4]")
    parser.add_argument("--seconds", nargs="+", type=float, default=[4.0], metavar="S", help="of audio in each [4]")
    parser.add_argument("--folder", type=Path, help="where the weights are for a while [the system's temporary folder]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--speak", nargs=4, help=argparse.SUPPRESS)  # how the processes are told what to do
    arguments = parser.parse_args()
    if arguments.speak:
        folder, dtype, texts, seconds = arguments.speak
        print(json.dumps(speak(Path(folder), dtype, int(texts), float(seconds))))
        return 0
    facts, told = machine(torch.device("cpu")), []
    print(machine_line(facts))
    print(f"Bark {arguments.size}; bytes in GB\n{HEAD}", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bark-peak-") as temporary:
        folder = write_models(Path(temporary), SIZES[arguments.size], torch.float32).engine
        try:
            for one in lines(folder, arguments):
                told.append(one)
                print(
                    f"{one['dtype']:10}{one['texts']:6}{one['seconds']:9.1f}{one['estimate'] / 1e9:10.2f}"
                    f"{one['peak'] / 1e9:8.2f}{one['peak'] / one['estimate']:17.2f}",
                    flush=True,
                )
        except subprocess.CalledProcessError as error:
            print(f"A run failed ({error}); what it said is above.", file=sys.stderr)
            return 2
    if arguments.json:
        figures = {"size": arguments.size, "machine": facts, "runs": told}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
