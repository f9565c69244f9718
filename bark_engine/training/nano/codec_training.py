"""Train nano's codec: an EnCodec of 0.7 M parameters on speech of three voices, judged by spectra and samples.

The loss is that of the field's simple recipe: L1 of log-mel spectra at several window lengths, spectral convergence
(Yamamoto et al., "Parallel WaveGAN", 2020, eq. 3), the distance of the samples and the quantizer's commitment loss.
There is no discriminator. Three things make it learn from the first step (docs/log.md): speech is brought to about unit
loudness (GAIN, folded into the first and last layers at the end), the layers are scaled to it (`build_codec`), and the
weights are moved by Muon. The samples weigh much until there is something to quantize, and little afterwards, when the
tokens should carry what is heard.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...atomic import replacing
from ...codec import Codec, CodecShape
from ...spec import SUNO

SHAPE = CodecShape(filters=8, dimension=64, lstm_layers=1)
GAIN = 8.0
UNQUANTIZED_STEPS = 400
FINE_SCALE = 0.1  # of the codebooks that the fine stage fills; see `soften`
WAVE_WEIGHT, LATER_WAVE_WEIGHT = 2.0, 0.25  # of the samples in the loss, before and after
CLIPS, CLIP_FRAMES = 10, 60  # per step: ten pieces of 0.8 s

# (FFT size, hop, mel bands); windows are as long as the FFT
RESOLUTIONS = ((256, 64, 40), (512, 128, 64), (1_024, 256, 80), (2_048, 512, 128))


@dataclass(frozen=True, slots=True)
class CodecPlan:
    """How long and how fast: `steps` updates, all drawn from `seed`.

    Matrices are moved by Muon at `rate`, in parts of their own size; biases by Adam at `bias_rate`. Both rates fall to
    nothing by a cosine.
    """

    steps: int = 4_000
    rate: float = 0.02
    bias_rate: float = 1e-3
    seed: int = 0
    save_every: int = 250


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


def as_matrices(network: nn.Module) -> None:
    """Hold the kernels of all convolutions as matrices, until `plain_state`."""
    for layer in [layer for layer in network.modules() if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d)]:
        parametrize.register_parametrization(layer, "weight", _AsMatrix(layer.get_parameter("weight"), layer))


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Turn the matrices back into kernels, and give all weights."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d) and parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    return network.state_dict()


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
    weights = plain_state(codec)
    convolutions = [name for name in weights if name.endswith("conv.conv.weight")]
    first = next(name for name in convolutions if name.startswith("encoder."))
    last = [name for name in convolutions if name.startswith("decoder.")][-1]
    with torch.no_grad():
        weights[first] *= GAIN
        weights[last] /= GAIN
        weights[last.removesuffix("weight") + "bias"] /= GAIN
    return weights


def soften(codec: Codec, coarse_codebooks: int = SUNO.coarse_codebooks) -> None:
    """Make the vectors of all but the coarse codebooks FINE_SCALE as long.

    A fine network of a million weights knows little about the codes of these codebooks, and the wrong ones are noise.
    Short vectors are little noise; and since the encoder takes the nearest one to what is left, six short steps bring
    it nearly as close as six long ones (docs/log.md).
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
    last save equals one that was not, on one machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    first = torch.from_numpy(_pieces(clips, np.random.default_rng(plan.seed)))[:, None] * GAIN
    codec, loss_of = build_codec(first), SpectralLoss()
    matrices = [weight for weight in codec.parameters() if weight.ndim == 2]
    others = [weight for weight in codec.parameters() if weight.ndim != 2]
    # Muon's own scale: a matrix scaled by build_codec moves by about `rate` of itself.
    muon = torch.optim.Muon(matrices, lr=plan.rate, weight_decay=0.0, adjust_lr_fn="original")
    optimizers = (muon, torch.optim.Adam(others, lr=plan.bias_rate, fused=True))
    state_file, log_file = folder / "state.pt", folder / "log.jsonl"
    step = 0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        codec.load_state_dict(state["codec"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
    started, sums = time.monotonic(), []
    while step < plan.steps:
        if step == UNQUANTIZED_STEPS:
            start_codebooks(codec, clips, np.random.default_rng((plan.seed, step)))
        elif step > UNQUANTIZED_STEPS and step % 100 == 0 and step < 0.8 * plan.steps:
            revive_codes(codec, clips, np.random.default_rng((plan.seed, step, 1)))
        torch.manual_seed(hash((plan.seed, step)) % 2**63)  # the quantizer draws from the global generator
        rng = np.random.default_rng((plan.seed, step))
        part = min(1.0, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))
        for optimizer, rate in zip(optimizers, (plan.rate, plan.bias_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * part
        wave = torch.from_numpy(_pieces(clips, rng))[:, None] * GAIN  # [B, 1, n]
        loss, parts = _loss(codec, wave, loss_of, step, rng)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        sums.append(parts)
        step += 1
        if step % plan.save_every == 0 or step == plan.steps:
            spectral, samples = np.mean(sums, axis=0).round(4).tolist()
            record = {"step": step, "loss": spectral, "samples": samples, "rate": plan.rate * part}
            record |= {"seconds": round(time.monotonic() - started, 1)}
            record |= validate(codec, held_out, loss_of, quantized=step > UNQUANTIZED_STEPS)
            with log_file.open("a") as log:
                log.write(json.dumps(record) + "\n")
            sums = []
            with replacing(state_file, "the state of the training") as temporary:
                saved = [optimizer.state_dict() for optimizer in optimizers]
                torch.save({"codec": codec.state_dict(), "optimizers": saved, "step": step}, temporary)
            if report:
                report(json.dumps(record))
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
        # Three steps in four with all codebooks, else with a few: the first two, which the coarse stage makes, must
        # carry the words by themselves.
        count = SHAPE.codebooks if rng.random() < 0.75 else int(rng.integers(2, SHAPE.codebooks))
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
