"""How much memory and time loading takes, measured on synthetic full-size files in the exact layouts.

    python benchmarks/load_memory.py

Writes a `text_2.pt` like Suno's (5.4 GB with its Adam state) and its conversion to float16 in a temporary folder,
loads each in a process of its own, prints the peak memory above what the imports take, and deletes the files. Needs
7 GB of disk and 3 GB of memory. Peaks are the operating system's (VmHWM on Linux), so pages of mapped files count too.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOAT32_BYTES = 4 * 446_088_192  # weights of the large text stage
CASES = (  # job, file, precision to load or store, bytes to compare the peak with
    ("convert", "text_2.pt", "float16", FLOAT32_BYTES),
    ("load", "text_2.pt", "float32", FLOAT32_BYTES),
    ("load", "text_2.pt", "float16", FLOAT32_BYTES),
    ("load", "text.safetensors", "float16", FLOAT32_BYTES // 2),
    ("load", "text.safetensors", "float32", FLOAT32_BYTES),
)


def make_large_text(path: Path) -> None:
    """A checkpoint of zeros with the names, sizes and Adam state of Suno's."""
    import numpy as np
    import torch
    from full_size import SIZES, with_optimizer_state, zeros

    from bark_engine.random_models import suno_arguments
    from bark_engine.transformer import CausalTransformer

    shape = SIZES["large"].shape("text")
    with torch.device("meta"):
        outline = CausalTransformer(shape).state_dict()
    checkpoint = {
        "model": {f"_orig_mod.{name}": zeros(tensor.shape) for name, tensor in outline.items()},
        "model_args": suno_arguments(shape),
        "best_val_loss": np.float64(2.0),
    }
    torch.save(with_optimizer_state(checkpoint), path)


def measure(job: str, path: Path, dtype_name: str) -> dict[str, float]:
    """Do one job in this process; seconds, and peak memory above what the imports had taken."""
    import torch
    from measuring import highest_resident_bytes

    from bark_engine.checkpoint import convert, describe, load_stage

    dtype = getattr(torch, dtype_name)
    torch.aminmax(torch.zeros(9).to(dtype))  # what torch sets up on first use is no part of the weights
    before, started = highest_resident_bytes(), time.perf_counter()
    if job == "convert":
        convert(path, path.parent, dtype)
    else:
        load_stage(describe(path)[0], dtype)
    return {"seconds": time.perf_counter() - started, "peak": highest_resident_bytes() - before}


def _in_own_process(*job: str) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--job", *job]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout or "{}")


def main() -> None:
    """Make the files, run every case, print the table."""
    parser = argparse.ArgumentParser(description="Peak memory and time of loading full-size checkpoints.")
    parser.add_argument("--folder", type=Path, help="where the files are for a while [the system's temporary folder]")
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)  # how the processes are told what to do
    arguments = parser.parse_args()
    sys.path.append(str(ROOT))
    if arguments.job:
        job, path, dtype = arguments.job
        if job == "make":
            make_large_text(Path(path))
        else:
            print(json.dumps(measure(job, Path(path), dtype)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        _in_own_process("make", str(Path(folder, "text_2.pt")), "")
        print(f"{'job':8} {'file':17} {'GB':>5} {'as':8} {'peak GB':>8} {'÷ weights':>10} {'s':>6}", flush=True)
        for job, name, dtype, weights in CASES:
            path = Path(folder, name)
            result = _in_own_process(job, str(path), dtype)
            print(
                f"{job:8} {name:17} {path.stat().st_size / 1e9:5.2f} {dtype:8} {result['peak'] / 1e9:8.2f} "
                f"{result['peak'] / weights:10.2f} {result['seconds']:6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
