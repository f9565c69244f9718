"""The fine stage: two codebooks → eight, a whole window of 1,024 frames at once.

For each window the codebooks 2 … 7 are predicted in turn, each pass seeing the codebooks below it. Windows overlap by
half; what a later window finds already filled it reads, and it overwrites from its own first new frame on. Frames of
padding are sampled like real ones and feed the later codebooks. Source: `generate_fine` in bark/generation.py.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .progress import OnStep, silent
from .sampling import FineSampling, draw_rows, generator
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import CoarseTokens, FineTokens
from .trace import TraceRecorder
from .transformer import FineTransformer


def generate_fine(
    network: FineTransformer,
    coarse: CoarseTokens,
    spec: BarkSpec,
    *,
    speaker: SpeakerPrompt | None,
    sampling: FineSampling,
    seed: int,
    on_step: OnStep | None = None,
    trace: TraceRecorder | None = None,
) -> FineTokens:
    """Coarse tokens `[2, F]` → fine tokens `[8, F]`, whose first two rows are the coarse ones.

    `on_step(done, total)` is called before every pass (six per window), and again before each layer of it, because a
    pass takes seconds on a slow processor; it may raise to stop. `trace` looks on.
    """
    row = FineRow(coarse, spec, speaker, sampling, seed, trace)
    fill_windows(network, [row], spec, on_step or silent)
    return row.result()


class FineRow:
    """One sound on its way: all its codes, of which window by window is filled."""

    def __init__(
        self,
        coarse: CoarseTokens,
        spec: BarkSpec,
        speaker: SpeakerPrompt | None,
        sampling: FineSampling,
        seed: int,
        trace: TraceRecorder | None = None,
    ):
        self._spec, self._sampling, self._rng = spec, sampling, generator(seed)
        history = np.zeros((spec.fine_codebooks, 0), dtype=np.int64)
        if speaker:
            history = np.asarray(speaker.fine)[:, -spec.fine_hop :]
        before, frames = history.shape[1], coarse.frames
        length = max(before + frames, spec.fine_window) if sampling.pad else before + frames
        self.windows = plan_windows(before, frames, spec) if length >= spec.fine_window else [(0, before)]
        self._codes = np.full((spec.fine_codebooks, length), spec.fine_pad, np.int64)
        self._codes[:, :before] = history
        self._new = slice(before, before + frames)
        self._codes[: spec.coarse_codebooks, self._new] = np.asarray(coarse)
        self._trace = trace
        if trace:
            trace.start_fine(spec, frames)

    def window(self, number: int) -> npt.NDArray[np.int64]:
        """The codes of a window as they are now, `[F, K]`."""
        start, _ = self.windows[number]
        return self._codes[:, start : start + self._spec.fine_window].T

    def keep(self, number: int, window: Tensor) -> None:
        """Put a filled window back."""
        start, _ = self.windows[number]
        self._codes[:, start : start + self._spec.fine_window] = window.T.cpu().numpy()
        if self._trace:
            finished = min(start + self._spec.fine_window, self._new.stop)
            self._trace.finish(self._codes[0, self._new.start : finished])

    def take(self, number: int, codebook: int, logits: Tensor) -> Tensor:
        """Draw a code of a window's codebook for each new frame from its logits `[F, 1024]`."""
        codes, distributions = draw_rows(logits, self._sampling.temperature, self._rng)
        if self._trace:
            first = sum(self.windows[number]) - self._new.start
            sounding = slice(max(0, -first), self._new.stop - self._new.start - first)  # not the past, not the padding
            self._trace.fill(codebook, max(0, first), codes[sounding], distributions[sounding])
        return codes

    def result(self) -> FineTokens:
        """The tokens of the finished sound."""
        return FineTokens(self._codes[:, self._new], family=self._spec.family)


def fill_windows(network: FineTransformer, rows: Sequence[FineRow], spec: BarkSpec, on_step: OnStep) -> None:
    """Fill all windows of some rows, which share every pass; `on_step` as in `generate_fine`."""
    most = max(len(row.windows) for row in rows)
    passes = spec.fine_codebooks - spec.coarse_codebooks
    total = most * passes
    with torch.inference_mode():
        for number in range(most):
            for here in _of_one_length([row for row in rows if number < len(row.windows)], number):
                _fill(network, here, number, spec, lambda done, before=number * passes: on_step(before + done, total))
        on_step(total, total)


def _fill(
    network: FineTransformer, rows: Sequence[FineRow], number: int, spec: BarkSpec, on_pass: Callable[[int], None]
) -> None:
    """Predict the codebooks of one window of each row, all equally long; `on_pass(done)` is called in every pass."""
    device = network.transformer.wpe.weight.device
    windows = torch.tensor(np.stack([row.window(number) for row in rows]), device=device)  # [B, F, K]
    firsts = [row.windows[number][1] for row in rows]
    for done, codebook in enumerate(range(spec.coarse_codebooks, spec.fine_codebooks)):
        logits = network(windows, codebook, min(firsts), spec.codebook_size, on_layer=partial(on_pass, done))
        for window, row, first, own in zip(windows, rows, firsts, logits, strict=True):
            window[first:, codebook] = row.take(number, codebook, own[first - min(firsts) :]).to(device)
    for window, row in zip(windows, rows, strict=True):
        row.keep(number, window)


def _of_one_length(rows: Sequence[FineRow], number: int) -> list[list[FineRow]]:
    """Rows whose windows are equally long, which can share a pass; without padding a short sound has a shorter one."""
    groups: dict[int, list[FineRow]] = {}
    for row in rows:
        groups.setdefault(len(row.window(number)), []).append(row)
    return list(groups.values())


def plan_windows(history: int, frames: int, spec: BarkSpec) -> list[tuple[int, int]]:
    """Where each window starts, and its first frame that is predicted, counted from that start.

    `history` frames of a speaker prompt (512 at most) come before `frames` new ones; all is padded to 1,024.
    """
    length = max(history + frames, spec.fine_window)
    loops = max(0, math.ceil((frames - (spec.fine_window - history)) / spec.fine_hop)) + 1
    windows = []
    for number in range(loops):
        start = min(number * spec.fine_hop, length - spec.fine_window)
        first_new = min(history + number * spec.fine_hop, length - spec.fine_hop)
        windows.append((start, first_new - start))
    return windows
