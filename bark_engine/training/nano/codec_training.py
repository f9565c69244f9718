"""Train nano's codec: an EnCodec of 2.5 M parameters on speech of three voices, judged by spectra and samples.

The loss is that of the field's simple recipe: L1 of log-mel spectra at several window lengths, spectral convergence
(Yamamoto et al., "Parallel WaveGAN", 2020, eq. 3), the distance of the samples and the quantizer's commitment loss.
There is no discriminator. Three things make it learn from the first step (docs/log.md): speech is brought to about unit
loudness (GAIN, folded into the first and last layers at the end), the layers are scaled to it (`build_codec`), and the
weights are moved by Muon. The samples weigh much until there is something to quantize, and little afterwards, when the
tokens should carry what is heard.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...codec import Codec, CodecShape
from ...spec import SUNO
from .codec_run import CodecPlan, CodecRun

SHAPE = CodecShape(filters=16, dimension=32, lstm_layers=1)
GAIN = 8.0
UNQUANTIZED_STEPS = 400
FINE_SCALE = 0.03  # of the codebooks that the fine stage fills; see `soften`
WAVE_WEIGHT, LATER_WAVE_WEIGHT = 2.0, 0.1  # of the samples in the loss, before and after
COARSE_ALONE = 0.6  # part of the steps in which only the coarse codebooks are decoded
CLIPS, CLIP_FRAMES = 10, 60  # per step: ten pieces of 0.8 s

# (FFT size, hop, mel bands); windows are as long as the FFT
RESOLUTIONS = ((256, 64, 40), (512, 128, 64), (1_024, 256, 80), (2_048, 512, 128))


def mel_filters(fft: int, bands: int, sample_rate: int) -> Tensor:
    """Triangular filters on the mel scale of O'Shaughnessy (1987), `[fft / 2 + 1, bands]`, each summing to 1."""
    top = 2_595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands + 2, dtype=torch.float64) / 2_595) - 1)
    bins = torch.arange(fft // 2 + 1, dtype=torch.float64)[:, None] * sample_rate / fft
    up = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(up, down).clamp_min(0)
    return (filters / filters.sum(dim=0).clamp_min(1e-8)).float()


class SpectralLoss(nn.Module):
    """Distance of two waveforms `[B, n]` at several resolutions; 0 for equal ones."""

    FLOOR = 1e-2  # amplitude below which differences do not count, for speech at unit loudness

    def __init__(self) -> None:
        super().__init__()
        for fft, _, bands in RESOLUTIONS:
            self.register_buffer(f"window{fft}", torch.hann_window(fft))
            self.register_buffer(f"filters{fft}", mel_filters(fft, bands, SUNO.sample_rate))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The mean over the resolutions, a scalar."""
        total = made.new_zeros(())
        for fft, hop, _ in RESOLUTIONS:
            a, b = (self._spectrum(wave, fft, hop) for wave in (made, wanted))
            filters = self.get_buffer(f"filters{fft}")
            mel_a, mel_b = (a @ filters + self.FLOOR).log(), (b @ filters + self.FLOOR).log()
            convergence = torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp_min(1e-3)
            total = total + F.l1_loss(mel_a, mel_b) + 0.5 * convergence
        return total / len(RESOLUTIONS)

    def _spectrum(self, wave: Tensor, fft: int, hop: int) -> Tensor:
        window = self.get_buffer(f"window{fft}")
        spectrum = torch.stft(wave, fft, hop, window=window, return_complex=True, pad_mode="constant")
        return torch.view_as_real(spectrum).square().sum(-1).add(1e-9).sqrt().transpose(1, 2) / math.sqrt(fft)


def build_codec(waves: Tensor) -> Codec:
    """A codec to be trained on waves like these `[B, 1, n]`, with the kernels as matrices, which Muon needs.

    The layers are scaled one after another so that each puts out deviation 1 for these waves (LSUV, Mishkin and Matas
    2016, without its orthogonal start). With PyTorch's own start the thirty convolutions shrink the signal to nothing
    beside their biases, and training stays at the mean spectrum for thousands of steps.
    """
    codec = Codec(SHAPE)
    convolutions = [layer for layer in codec.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]

    def scale(layer: nn.Module, _: object, out: Tensor) -> Tensor:
        factor = 1 / out.std()
        layer.get_parameter("weight").data *= factor
        return out * factor

    hooks = [layer.register_forward_hook(scale) for layer in convolutions]
    with torch.no_grad():
        for layer in convolutions:
            layer.get_parameter("bias").zero_()
        codec.decoder(codec.encoder(waves))
        for hook in hooks:
            hook.remove()
        # Begin quietly: noise as loud as speech is farther from it than silence.
        last_convolution(codec.decoder).get_parameter("weight").mul_(0.3)
    as_matrices(codec)
    for layer in codec.quantizer.vq.layers:
        # EnCodec's own revival of unused codes is undone by the moving average of the same step; see revive_codes.
        layer._codebook.threshold_ema_dead_code = 0
    return codec


def last_convolution(decoder: nn.Module) -> nn.Module:
    """The layer that puts the samples out."""
    return [layer for layer in decoder.modules() if isinstance(layer, nn.Conv1d)][-1]


def scale_output(decoder: nn.Module, factor: float) -> None:
    """Multiply all that a decoder puts out."""
    layer = last_convolution(decoder)
    with torch.no_grad():
        layer.get_parameter("weight").mul_(factor)
        layer.get_parameter("bias").mul_(factor)


def as_matrices(network: nn.Module) -> None:
    """Hold the kernels of all convolutions as matrices, until `as_kernels`."""
    for layer in [layer for layer in network.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]:
        parametrize.register_parametrization(layer, "weight", _AsMatrix(layer.get_parameter("weight"), layer))


def as_kernels(network: nn.Module) -> None:
    """Undo `as_matrices`."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d) and parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")


class _AsMatrix(nn.Module):
    """Holds a kernel as a matrix `[out, in · width]`."""

    def __init__(self, weight: Tensor, layer: nn.Module):
        super().__init__()
        self._transposed = isinstance(layer, nn.ConvTranspose1d)  # whose kernels are [in, out, width]
        self._size = weight.transpose(0, 1).shape if self._transposed else weight.shape

    def forward(self, matrix: Tensor) -> Tensor:
        weight = matrix.view(self._size)
        return weight.transpose(0, 1) if self._transposed else weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        return (weight.transpose(0, 1) if self._transposed else weight).flatten(1)


def folded(codec: Codec) -> dict[str, Tensor]:
    """The weights of a trained codec as the engine reads them: plain kernels, GAIN inside the outer layers."""
    as_kernels(codec)
    first = next(layer for layer in codec.encoder.modules() if isinstance(layer, nn.Conv1d))
    with torch.no_grad():
        first.weight.mul_(GAIN)
    scale_output(codec.decoder, 1 / GAIN)
    return codec.state_dict()


def soften(codec: Codec, coarse_codebooks: int = SUNO.coarse_codebooks) -> None:
    """Make the vectors of all but the coarse codebooks FINE_SCALE as long.

    A fine network of a million weights knows little about the codes of these codebooks, and the wrong ones are noise.
    Short vectors are little noise (docs/log.md).
    """
    with torch.no_grad():
        for layer in codec.quantizer.vq.layers[coarse_codebooks:]:
            layer._codebook.embed *= FINE_SCALE  # the averages are of use to the training alone, which is over


def train_codec(
    clips: list[np.ndarray],
    held_out: list[np.ndarray],
    folder: Path,
    plan: CodecPlan,
    report: Callable[[str], None] | None = None,
) -> Codec:
    """Train on float32 clips at 24 kHz; log and state go to `folder`, and what is there is continued.

    `report` is given a line for every record of the log.

    The draws of a step depend on the seed and the step's number, so a run that was stopped and continued from its
    last save equals one that was not, on one machine. The caller's random numbers go on as if nothing had been drawn.
    """
    with torch.random.fork_rng(devices=[]):  # the layers begin with, and the quantizer draws from, the global generator
        torch.manual_seed(plan.seed)
        first = torch.from_numpy(_pieces(clips, np.random.default_rng(plan.seed)))[:, None] * GAIN
        codec, loss_of = build_codec(first), SpectralLoss()
        run, sums = CodecRun(codec, folder, plan, report), []
        while not run.finished:
            step = run.step
            if step == UNQUANTIZED_STEPS:
                start_codebooks(codec, clips, np.random.default_rng((plan.seed, step)))
            elif step > UNQUANTIZED_STEPS and step % 100 == 0 and step < 0.8 * plan.steps:
                revive_codes(codec, clips, np.random.default_rng((plan.seed, step, 1)))
            torch.manual_seed(hash((plan.seed, step)) % 2**63)
            rng = np.random.default_rng((plan.seed, step))
            wave = torch.from_numpy(_pieces(clips, rng))[:, None] * GAIN  # [B, 1, n]
            loss, parts = _loss(codec, wave, loss_of, step, rng)
            sums.append(parts)
            if run.update(loss):
                spectral, samples = np.mean(sums, axis=0).round(4).tolist()
                measured = validate(codec, held_out, loss_of, quantized=run.step > UNQUANTIZED_STEPS)
                run.record({"loss": spectral, "samples": samples}, measured)
                sums = []
    return codec.eval()


def start_codebooks(codec: Codec, clips: list[np.ndarray], rng: np.random.Generator, frames: int = 20_000) -> None:
    """Set each codebook to k-means centres of what the codebooks before it leave over.

    EnCodec's own start sees one batch, here 600 frames for 1,024 entries, and takes minutes for it.
    """
    with torch.no_grad():
        residual = _latents(codec, clips, rng, frames)
        for layer in codec.quantizer.vq.layers:
            book = layer._codebook
            centres = residual[torch.from_numpy(rng.permutation(len(residual))[: SHAPE.codebook_size])].clone()
            for _ in range(15):
                nearest = torch.cdist(residual, centres).argmin(dim=1)
                counts = torch.bincount(nearest, minlength=len(centres)).float()
                sums = torch.zeros_like(centres).index_add_(0, nearest, residual)
                centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
            nearest = torch.cdist(residual, centres).argmin(dim=1)
            # As after many steps of averaging over batches of CLIPS · CLIP_FRAMES frames.
            counts = torch.bincount(nearest, minlength=len(centres)).float() * (CLIPS * CLIP_FRAMES / len(residual))
            book.embed.copy_(centres)
            book.cluster_size.copy_(counts)
            book.embed_avg.copy_(centres * counts[:, None])
            book.inited.fill_(1)
            residual = residual - centres[nearest]


def revive_codes(codec: Codec, clips: list[np.ndarray], rng: np.random.Generator, least: float = 0.05) -> None:
    """Move codes that are used less than `least` times per step to vectors that are far from every code."""
    with torch.no_grad():
        residual = _latents(codec, clips, rng, 4_000)
        for layer in codec.quantizer.vq.layers:
            book = layer._codebook
            distances, nearest = torch.cdist(residual, book.embed).min(dim=1)
            dead = (book.cluster_size < least).nonzero()[:, 0]
            if len(dead):
                chances = distances.double().square().numpy()
                picked = rng.choice(len(residual), len(dead), p=chances / chances.sum())
                book.embed[dead] = residual[torch.from_numpy(picked)]
                book.cluster_size[dead] = 0.3
                book.embed_avg[dead] = 0.3 * book.embed[dead]
            residual = residual - book.embed[nearest]


def _latents(codec: Codec, clips: list[np.ndarray], rng: np.random.Generator, frames: int) -> Tensor:
    """What the encoder makes of random pieces, `[frames, D]`."""
    latents: list[Tensor] = []
    while sum(len(part) for part in latents) < frames:
        wave = torch.from_numpy(_pieces(clips, rng))[:, None] * GAIN
        latents.append(codec.encoder(wave).transpose(1, 2).flatten(0, 1))
    return torch.cat(latents)[:frames]


def _pieces(clips: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """CLIPS random pieces `[CLIPS, 320 · CLIP_FRAMES]`, now and then louder or softer."""
    length = CLIP_FRAMES * SUNO.hop_length
    pieces = np.zeros((CLIPS, length), dtype=np.float32)
    for row in pieces:
        clip = clips[rng.integers(len(clips))]
        start = int(rng.integers(max(1, len(clip) - length + 1)))
        part = clip[start : start + length]
        row[: len(part)] = part * rng.uniform(0.6, 1.1)
    return pieces


def _loss(
    codec: Codec, wave: Tensor, loss_of: SpectralLoss, step: int, rng: np.random.Generator
) -> tuple[Tensor, tuple[float, float]]:
    """What is made smaller, and two parts of it for the log: the spectral loss, the distance of the samples."""
    latent = codec.encoder(wave)
    commitment = wave.new_zeros(())
    if step >= UNQUANTIZED_STEPS:
        # Mostly with the two codebooks that the coarse stage makes: they must carry the words by themselves, because
        # a small fine stage can hardly tell the others (docs/log.md).
        count = SUNO.coarse_codebooks
        if rng.random() >= COARSE_ALONE:
            count = int(rng.integers(SUNO.coarse_codebooks, SHAPE.codebooks + 1))
        latent, _, penalties = codec.quantizer.vq(latent, n_q=count)
        commitment = penalties.mean()
    made = codec.decoder(latent)[..., : wave.shape[-1]]
    spectral = loss_of(made[:, 0], wave[:, 0])
    # Per piece, relative to its loudness: 1 for silence in its place.
    loudness = torch.linalg.vector_norm(wave, dim=-1).clamp_min(10.0)  # a piece may be silent
    samples = (torch.linalg.vector_norm(made - wave, dim=-1) / loudness).mean()
    # From the one weight to the other over as many steps as nothing was quantized.
    later = min(1.0, max(0.0, step / UNQUANTIZED_STEPS - 1))
    weight = WAVE_WEIGHT * (LATER_WAVE_WEIGHT / WAVE_WEIGHT) ** later
    return spectral + weight * samples + 0.25 * commitment, (spectral.item(), samples.item())


def validate(
    codec: Codec, clips: list[np.ndarray], loss_of: SpectralLoss, quantized: bool
) -> dict[str, float | list[int]]:
    """Spectral loss on whole held-out clips, with all codebooks and with two; how many codes of each are in use."""
    codec.eval()
    losses: dict[int, list[float]] = {2: [], SHAPE.codebooks: []}
    used = [set[int]() for _ in range(SHAPE.codebooks)]
    with torch.inference_mode():
        for clip in clips:
            wave = torch.tensor(clip)[None, None] * GAIN
            latent = codec.encoder(wave)
            codes = codec.quantizer.vq.encode(latent, n_q=SHAPE.codebooks)  # [K, 1, F]
            for row, ids in enumerate(codes):
                used[row].update(ids.flatten().tolist())
            for count, values in losses.items():
                passed = codec.quantizer.vq.decode(codes[:count]) if quantized else latent
                made = codec.decoder(passed)[..., : wave.shape[-1]]
                values.append(loss_of(made[:, 0], wave[:, 0]).item())
    codec.train()
    names = {"validation": SHAPE.codebooks, "validation_coarse": 2}
    means: dict[str, float | list[int]] = {name: float(np.mean(losses[count])) for name, count in names.items()}
    return means | {"used": [len(ids) for ids in used]}
