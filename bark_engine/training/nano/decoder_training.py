"""Train nano's decoder further, on the tokens that it will be given: those of the fine stage.

Encoder and codebooks stay as they are, so no token changes its meaning and the stages trained on them stay valid. Some
of the codes are those of the encoder; in the others all but the coarse ones are drawn by the fine stage from the true
coarse ones, as text-to-speech systems train their vocoders on predicted features over true durations. What the fine
stage cannot know the decoder then learns not to trust.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...codec import Codec
from ...fine import generate_fine
from ...progress import OnStep, silent
from ...sampling import FineSampling
from ...spec import SUNO, BarkSpec
from ...tokens import CoarseTokens
from ...transformer import FineTransformer
from .codec_run import CodecPlan, CodecRun
from .codec_training import GAIN, SpectralLoss, as_kernels, as_matrices, scale_output

WARM_UP_FRAMES = 12  # before each piece: the decoder looks back, and a piece has no past
PIECES, PIECE_FRAMES = 12, 60  # per step
DRAWN = 0.8  # part of the pieces whose fine codes are the fine stage's
WAVE_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class DecoderPlan(CodecPlan):
    """A plan for weights that are good already: shorter, and in smaller steps."""

    steps: int = 1_000
    rate: float = 0.003
    bias_rate: float = 2e-4


@dataclass(frozen=True, slots=True)
class Spoken:
    """A clip: float32 samples `[320 · F]` at 24 kHz, the encoder's codes `[8, F]` and the fine stage's `[8, F]`."""

    samples: np.ndarray
    codes: np.ndarray
    drawn: np.ndarray


def spoken(
    clips: Sequence[np.ndarray], codec: Codec, fine: FineTransformer, spec: BarkSpec, on_step: OnStep | None = None
) -> list[Spoken]:
    """Encode clips and let the fine stage draw what follows the coarse codes."""
    on_step = on_step or silent
    encoded: list[tuple[np.ndarray, np.ndarray]] = []
    for number, clip in enumerate(clips):
        on_step(number, 2 * len(clips))
        frames = len(clip) // spec.hop_length
        with torch.inference_mode():
            codes = codec.encode(torch.tensor(clip[None, None, : frames * spec.hop_length]))[0].numpy()
        encoded.append((clip[: frames * spec.hop_length], codes))
    made: list[Spoken] = []
    for number, (samples, codes) in enumerate(encoded):
        on_step(len(clips) + number, 2 * len(clips))
        coarse = CoarseTokens(codes[: spec.coarse_codebooks], family=spec.family)
        quickly = FineSampling(pad=False)  # other codes than with padding, but no worse ones
        drawn = generate_fine(fine, coarse, spec, speaker=None, sampling=quickly, seed=number)
        made.append(Spoken(samples, codes, np.asarray(drawn)))
    return made


def train_decoder(
    codec: Codec,
    clips: Sequence[Spoken],
    held_out: Sequence[Spoken],
    folder: Path,
    plan: DecoderPlan,
    report: Callable[[str], None] | None = None,
) -> Codec:
    """Train the decoder of a codec, which is as the engine reads it before and after; gives it back.

    Log and state go to `folder`, and what is there is continued; a run that was stopped equals one that was not.
    """
    codec.requires_grad_(False)
    decoder, loss_of = codec.decoder, SpectralLoss()
    scale_output(decoder, GAIN)
    as_matrices(decoder)
    decoder.requires_grad_(True).train()
    run, sums = CodecRun(decoder, folder, plan, report), []
    while not run.finished:
        codes, wave = _pieces(clips, np.random.default_rng((plan.seed, run.step)))
        wanted = wave[:, WARM_UP_FRAMES * SUNO.hop_length :] * GAIN
        made = decoder(codec.quantizer.decode(codes))[:, 0, WARM_UP_FRAMES * SUNO.hop_length :]
        spectral = loss_of(made, wanted)
        sums.append(spectral.item())
        if run.update(spectral + WAVE_WEIGHT * F.l1_loss(made, wanted)):
            run.record({"loss": round(float(np.mean(sums)), 4)}, _validate(codec, held_out, loss_of))
            sums = []
    as_kernels(decoder)
    scale_output(decoder, 1 / GAIN)
    return codec.eval()


def _pieces(clips: Sequence[Spoken], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """PIECES random pieces: codes `[8, B, F]` for the quantizer and their sound `[B, n]`."""
    frames = WARM_UP_FRAMES + PIECE_FRAMES
    codes = np.zeros((PIECES, SUNO.fine_codebooks, frames), dtype=np.int64)
    waves = np.zeros((PIECES, frames * SUNO.hop_length), dtype=np.float32)
    for row in range(PIECES):
        clip = clips[int(rng.integers(len(clips)))]
        while clip.codes.shape[1] < frames:
            clip = clips[int(rng.integers(len(clips)))]
        start = int(rng.integers(clip.codes.shape[1] - frames + 1))
        source = clip.drawn if rng.random() < DRAWN else clip.codes
        codes[row] = source[:, start : start + frames]
        waves[row] = clip.samples[start * SUNO.hop_length : (start + frames) * SUNO.hop_length]
    return torch.from_numpy(codes).transpose(0, 1), torch.from_numpy(waves)


def _validate(codec: Codec, clips: Sequence[Spoken], loss_of: SpectralLoss) -> dict[str, float]:
    """Spectral loss on whole held-out clips: from the encoder's codes, and from those that the fine stage drew."""
    codec.eval()
    losses: dict[str, list[float]] = {"validation": [], "validation_drawn": []}
    with torch.inference_mode():
        for clip in clips:
            for name, codes in zip(losses, (clip.codes, clip.drawn), strict=True):
                made = codec.decode(torch.from_numpy(codes.astype(np.int64))[None])[:, 0]
                losses[name].append(loss_of(made, torch.tensor(clip.samples)[None] * GAIN).item())
    codec.train()
    return {name: round(float(np.mean(values)), 4) for name, values in losses.items()}
