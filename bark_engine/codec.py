"""EnCodec 24 kHz: fine tokens to sound and back, through the modules of the `encodec` package.

The one file that knows `encodec`. Its package imports torchaudio on the way in, which is missing or built for
another torch on many machines; the layers used here need neither, so they are imported under a private name that
skips the package's own `__init__` (see `_encodec_layers`).

Shapes: K codebooks, F frames at 75 per second, n samples at 24 kHz with n = 320 · F.
"""

import importlib
import importlib.util
import math
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .audio import Audio, resample
from .errors import BarkError, BarkInputError
from .progress import OnStep, silent
from .spec import BarkSpec
from .tokens import FineTokens, require_family, require_type

_PRIVATE_NAME = f"{__package__}._encodec_layers"
_import_lock = threading.Lock()

PIECE = 1_200  # frames that are worked on at a time, 16 s: what Bark says at once, 1,154 frames at most, stays whole
REACH = 8  # frames before a piece that go through the convolutions again, whose widest kernel looks back six


@dataclass(frozen=True, slots=True)
class CodecShape:
    """Sizes of an EnCodec network; the defaults are encodec_24khz, of which Bark uses 8 of 32 codebooks.

    Source: `EncodecModel.encodec_model_24khz` and `SEANetEncoder` of encodec 0.1.1.
    """

    filters: int = 32
    dimension: int = 128
    lstm_layers: int = 2
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    codebooks: int = 8
    codebook_size: int = 1_024


def _encodec_layers() -> tuple[ModuleType, ModuleType]:
    """`encodec.modules` and `encodec.quantization`, without `encodec/__init__` and so without torchaudio.

    The package's folder is mounted under a name of our own; its relative imports stay inside it. Nothing is put
    under the names `encodec` or `torchaudio`, so another pack that imports the real ones is not affected.
    """
    with _import_lock:
        if _PRIVATE_NAME not in sys.modules:
            found = importlib.util.find_spec("encodec")
            if found is None or not found.submodule_search_locations:
                raise BarkError(
                    "The package 'encodec' is not installed, so tokens cannot be turned into sound. "
                    "Install it with: pip install encodec"
                )
            folder = ModuleType(_PRIVATE_NAME)
            folder.__path__ = list(found.submodule_search_locations)
            sys.modules[_PRIVATE_NAME] = folder
        return (
            importlib.import_module(f"{_PRIVATE_NAME}.modules"),
            importlib.import_module(f"{_PRIVATE_NAME}.quantization"),
        )


class Codec(nn.Module):
    """EnCodec's encoder, residual quantizer and decoder, with weight norm already folded into plain weights.

    Parameter names are those of encodec's own state dict, with `weight` in place of `weight_g` and `weight_v`.
    """

    def __init__(self, shape: CodecShape):
        super().__init__()
        self.shape = shape
        modules, quantization = _encodec_layers()
        sizes: dict[str, Any] = {
            "n_filters": shape.filters,
            "dimension": shape.dimension,
            "ratios": list(shape.ratios),
            "lstm": shape.lstm_layers,
            "causal": True,
            "norm": "none",
        }
        self.encoder = modules.SEANetEncoder(**sizes)
        self.decoder = modules.SEANetDecoder(**sizes)
        self.quantizer = quantization.ResidualVectorQuantizer(
            dimension=shape.dimension, n_q=shape.codebooks, bins=shape.codebook_size
        )

    def decode(self, codes: Tensor, on_step: OnStep = silent) -> Tensor:
        """Codes `[B, K, F]` → waveform `[B, 1, 320 · F]`, not clipped; `on_step` is called before each layer."""
        latent = self.quantizer.decode(codes.transpose(0, 1))
        return _through(self.decoder.model, latent, 1, math.prod(self.shape.ratios), on_step)

    def encode(self, waveform: Tensor, on_step: OnStep = silent) -> Tensor:
        """Waveform `[B, 1, n]` → codes `[B, K, ceil(n / 320)]`; `on_step` is called before each layer."""
        latent = _through(self.encoder.model, waveform, math.prod(self.shape.ratios), 1, on_step)
        return self.quantizer.vq.encode(latent, n_q=self.shape.codebooks).transpose(0, 1)


def _through(layers: nn.Sequential, x: Tensor, read: int, made: int, on_step: OnStep) -> Tensor:
    """What encodec's own `forward` does, one layer at a time, so that it can be watched and stopped.

    A long sound goes through in pieces of `PIECE` frames, which keeps memory flat; a frame is `read` values of x and
    `made` of the result. All layers are causal: a piece needs the state of the LSTM after the one before it, and the
    convolutions a few frames from there, whose results are dropped. The LSTM's own values are one for each frame.
    """
    starts = range(0, -(-x.shape[-1] // read), PIECE)
    pieces: list[Tensor] = []
    state, before = None, x.new_zeros(0)
    for number, start in enumerate(starts):
        reach = min(start, REACH)
        y = x[..., (start - reach) * read : (start + PIECE) * read]
        for place, layer in enumerate(layers):
            on_step(number * len(layers) + place, len(starts) * len(layers))
            if not hasattr(layer, "lstm"):
                y = layer(y)
                continue
            y, state = _remember(layer, y[..., reach:], state)
            y = torch.cat((before[..., -reach:], y), dim=-1) if reach else y
            before = y
        pieces.append(y[..., reach * made :])
    on_step(len(starts) * len(layers), len(starts) * len(layers))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=-1)


def _remember(layer: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """encodec's `SLSTM.forward`, `[B, C, F]` → the same, which goes on from a state and tells the one after it."""
    steps = x.permute(2, 0, 1)
    made, state = layer.lstm(steps, state)
    return (made + steps if layer.skip else made).permute(1, 2, 0), state


def decode_fine(codec: Codec, fine: FineTokens, spec: BarkSpec, on_step: OnStep | None = None) -> Audio:
    """Fine tokens → Audio, float32 at 24 kHz, 320 samples per frame, clipped to −1 … 1.

    `on_step(done, total)` is called before each layer and may raise to stop. Raises BarkInputError for anything but
    fine tokens, and for those of another family.
    """
    require_type(fine, FineTokens, "Decoding")
    require_family(fine, spec, "Fine tokens")
    weight = codec.quantizer.vq.layers[0]._codebook.embed
    codes = torch.tensor(np.asarray(fine), device=weight.device)[None]  # [1, K, F]
    with torch.inference_mode():
        waveform = codec.decode(codes, on_step or silent)[0, 0]
    samples = waveform.float().cpu().numpy()
    return Audio(np.clip(samples, -1.0, 1.0), spec.sample_rate)


def require_audio(audio: Any) -> None:
    """Refuse anything but Audio (BarkInputError)."""
    if not isinstance(audio, Audio):
        raise BarkInputError(
            f"Encoding needs Audio, but was given {type(audio).__name__}. Wrap samples as Audio(samples, sample_rate)."
        )


def encode_audio(codec: Codec, audio: Audio, spec: BarkSpec, on_step: OnStep | None = None) -> FineTokens:
    """Mono Audio of any rate → fine tokens of the same sound, one frame per 1/75 s (the last one padded).

    `on_step(done, total)` is called before and after resampling and before each layer, and may raise to stop. Raises
    BarkInputError for anything but Audio, and for audio shorter than one frame's reach (1/75 s).
    """
    require_audio(audio)
    on_step = on_step or silent
    on_step(0, 1)  # the layers are not counted yet, but resampling alone can take seconds
    mono = resample(audio, spec.sample_rate).samples
    on_step(0, 1)
    if len(mono) < spec.hop_length:
        raise BarkInputError(
            f"The audio is {len(mono) / spec.sample_rate * 1000:.1f} ms long; encoding needs at least "
            f"{1000 * spec.hop_length / spec.sample_rate:.1f} ms (one frame). Use a longer clip."
        )
    weight = codec.quantizer.vq.layers[0]._codebook.embed
    with torch.inference_mode():
        waveform = torch.tensor(mono, device=weight.device)[None, None]  # [1, 1, n]
        codes = codec.encode(waveform, on_step)[0]
    return FineTokens(codes.cpu().numpy(), family=spec.family)
