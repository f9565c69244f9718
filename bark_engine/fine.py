"""The fine stage: two codebooks → eight, a whole window of 1,024 frames at once.

For each window the codebooks 2 … 7 are predicted in turn, each pass seeing the codebooks below it. Windows overlap by
half; what a later window finds already filled it reads, and it overwrites from its own first new frame on. Frames of
padding are sampled like real ones and feed the later codebooks. Source: `generate_fine` in bark/generation.py.
"""

import math
from functools import partial

import numpy as np
import torch

from .progress import OnStep, silent
from .sampling import FineSampling, draw_rows, generator
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import CoarseTokens, FineTokens
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
) -> FineTokens:
    """Coarse tokens `[2, F]` → fine tokens `[8, F]`, whose first two rows are the coarse ones.

    `on_step(done, total)` is called before every pass (six per window), and again before each layer of it, because a
    pass takes seconds on a slow processor; it may raise to stop.
    """
    on_step = on_step or silent
    rng = generator(seed)
    history = np.asarray(speaker.fine)[:, -spec.fine_hop :] if speaker else np.zeros((spec.fine_codebooks, 0), np.int64)
    windows = plan_windows(history.shape[1], coarse.frames, spec)
    length = max(history.shape[1] + coarse.frames, spec.fine_window)
    codes = np.full((spec.fine_codebooks, length), spec.fine_pad, dtype=np.int64)
    codes[:, : history.shape[1]] = history
    new = slice(history.shape[1], history.shape[1] + coarse.frames)
    codes[: spec.coarse_codebooks, new] = np.asarray(coarse)
    to_predict = range(spec.coarse_codebooks, spec.fine_codebooks)
    total = len(windows) * len(to_predict)
    with torch.inference_mode():
        device = network.transformer.wpe.weight.device
        for number, (start, first_new) in enumerate(windows):
            window = torch.tensor(codes[:, start : start + spec.fine_window].T, device=device)[None]  # [1, F, K]
            for codebook in to_predict:
                done = number * len(to_predict) + codebook - spec.coarse_codebooks
                report = partial(on_step, done, total)
                logits = network(window, codebook, first_new, spec.codebook_size, on_layer=report)[0]
                window[0, first_new:, codebook] = draw_rows(logits, sampling.temperature, rng).to(device)
            codes[:, start : start + spec.fine_window] = window[0].T.cpu().numpy()
        on_step(total, total)
    return FineTokens(codes[:, new], family=spec.family)


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
