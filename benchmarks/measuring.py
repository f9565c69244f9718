"""What the speed benchmarks share: the work that is timed, clocks by stage, peak memory, and what machine this is."""

import contextlib
import ctypes
import gc
import math
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bark_engine.coarse import trim_history
from bark_engine.fine import plan_windows
from bark_engine.sampling import CoarseSampling
from bark_engine.speaker import SpeakerPrompt
from bark_engine.spec import SUNO

Ids = npt.NDArray[np.int64]

STAGES = ("semantic", "coarse", "fine", "codec")
NETWORK_STAGES = STAGES[:3]
SPEAKER_TOKENS = 400  # more than any stage reads: 256 semantic, 630 flattened coarse, 512 frames of fine
WORDS = 12  # of each text
CLOCK_TICK = 0.02  # seconds between two looks at the process's memory


@dataclass(frozen=True, slots=True)
class Work:
    """What every contender has to speak: `batch` texts without an end, `seconds` of audio each.

    Row r is drawn with the seed `seed + r`, set anew before each stage.
    """

    seconds: float
    batch: int = 1
    speaker: SpeakerPrompt | None = None
    seed: int = 0

    @property
    def semantic_tokens(self) -> int:
        """Semantic tokens of a row, T: the first count that lasts longer than `seconds`, as Suno's loop has it."""
        tokens, lasted = 0, 0.0
        while tokens < SUNO.max_semantic:
            tokens, lasted = tokens + 1, lasted + 1 / SUNO.semantic_rate
            if lasted > self.seconds:
                break
        return tokens

    @property
    def frames(self) -> int:
        """Frames of a row, F."""
        return SUNO.frames_for(self.semantic_tokens)

    @property
    def audio_seconds(self) -> float:
        """Audio of all rows together."""
        return self.batch * self.frames / SUNO.frame_rate

    @property
    def seeds(self) -> list[int]:
        """The seed of each row."""
        return [self.seed + row for row in range(self.batch)]

    @property
    def tokens(self) -> dict[str, int]:
        """What each stage makes in all rows: T, 2 · F and 6 · F tokens; the codec reads 8 · F."""
        given, whole = SUNO.coarse_codebooks, SUNO.fine_codebooks
        row = (self.semantic_tokens, given * self.frames, (whole - given) * self.frames, whole * self.frames)
        return dict(zip(STAGES, (self.batch * count for count in row), strict=True))

    @property
    def coarse_prompts(self) -> list[int]:
        """Positions that are read at the start of each window of a row in the coarse stage."""
        rules = CoarseSampling()
        _, history = trim_history(self.speaker, SUNO, math.floor(rules.max_history / SUNO.coarse_per_semantic))
        begun = range(len(history), len(history) + SUNO.coarse_codebooks * self.frames, rules.window)
        return [SUNO.coarse_semantic_window + 1 + min(flat, rules.max_history) for flat in begun]

    @property
    def fine_windows(self) -> int:
        """Windows of a row in the fine stage, each of six passes."""
        history = min(self.speaker.fine.frames, SUNO.fine_hop) if self.speaker else 0
        return len(plan_windows(history, self.frames, SUNO))

    def facts(self) -> dict[str, Any]:
        """All of this for the JSON file."""
        return {
            "batch": self.batch,
            "semantic_tokens": self.semantic_tokens,
            "frames": self.frames,
            "audio_seconds": self.audio_seconds,
            "speaker": self.speaker is not None,
            "seed": self.seed,
            "tokens": self.tokens,
            "text_prompt": SUNO.text_length + 1,
            "coarse_prompts": self.coarse_prompts,
            "fine_windows": self.fine_windows,
        }

    @property
    def text_ids(self) -> list[list[int]]:
        """A text for each row as WordPiece ids `[WORDS]`, without the offset of the model's ids."""
        ids = np.random.default_rng(self.seed).integers(1_000, 100_000, (self.batch, WORDS))
        return ids.tolist()

    @property
    def texts(self) -> list[str]:
        """The same as words of the vocabulary that full_size.py writes: "w1000 w2345 …"."""
        return [" ".join(f"w{number}" for number in ids) for ids in self.text_ids]


def random_speaker(seed: int = 0) -> SpeakerPrompt:
    """A speaker prompt that fills the history of every stage."""
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, SUNO.codebook_size, (SUNO.fine_codebooks, SUNO.frames_for(SPEAKER_TOKENS)))
    semantic = rng.integers(0, SUNO.semantic_vocab, SPEAKER_TOKENS)
    return SpeakerPrompt(semantic, fine[: SUNO.coarse_codebooks], fine, name="random")  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a contender made: for each row semantic `[T]`, coarse `[2, F]` and fine `[8, F]`, and samples in all."""

    semantic: list[Ids]
    coarse: list[Ids]
    fine: list[Ids]
    samples: int


class StageClock:
    """Adds up the seconds that each stage takes; on CUDA it waits for the device before it reads the time."""

    def __init__(self, device: torch.device):
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._device = device

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside as part of a stage."""
        started = self.now()
        yield
        self.seconds[name] += self.now() - started

    def now(self) -> float:
        """Seconds on a clock that only differences of mean anything."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@dataclass(slots=True)
class Timings:
    """The runs of a contender: seconds of each run, whole and by stage."""

    whole: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})

    def add(self, whole: float, clock: StageClock) -> None:
        """Keep one more run."""
        self.whole.append(whole)
        for name, seconds in clock.seconds.items():
            self.stages[name].append(seconds)


def percentile(seconds: Sequence[float], percent: float) -> float:
    """The value that so many per cent of some runs do not exceed, interpolated between runs."""
    return float(np.percentile(seconds, percent))


class MemoryWatch:
    """The most memory taken between `begin` and `peak`, in bytes, above what was taken at `begin`.

    On CUDA it is the memory of tensors on the device, as torch counts it. Elsewhere it is the process's resident
    memory, looked at every CLOCK_TICK; pages of mapped files count. Where the system does not tell it (no /proc) it
    is the growth of the process's highest mark, which only the first contender that goes higher can raise.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stop = threading.Event()
        self._highest = self._before = 0
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Give back what earlier contenders left, and start to watch."""
        give_memory_back()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return
        self._before = self._highest = resident_bytes()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def peak(self) -> int:
        """The growth up to now; watching goes on from here with a new highest mark."""
        if self._device.type == "cuda":
            highest = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            highest = max(self._highest, resident_bytes())
            self._highest = resident_bytes()
        return max(0, highest - self._before)

    def end(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(CLOCK_TICK):
            self._highest = max(self._highest, resident_bytes())


def resident_bytes() -> int:
    """Resident memory of this process now, or its highest mark where only that is told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return highest_resident_bytes()


def highest_resident_bytes() -> int:
    """The most that was ever resident of this process, as the operating system counts it."""
    with contextlib.suppress(OSError):  # Linux: what getrusage says there begins with the peak of the parent
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def give_memory_back() -> None:
    """Free what nobody holds, also what the allocators keep for later: it would be missing in the next growth."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many of torch's threads, or as many as there are; put back at the end."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device) -> dict[str, Any]:
    """What a timing depends on, for the table and the JSON file."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The same in a line."""
    return (
        f"{facts['processor']} ({facts['instructions']}), {facts['threads']} threads of {facts['cores']} cores, "
        f"device {facts['device']}, torch {facts['torch']}, Python {facts['python']}"
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
