"""Bark's networks in their true sizes with random weights, in Suno's files and in ours: what speed is measured on.

Speed does not depend on what the weights say, as long as nothing becomes infinite and no token wins every draw. The
scales are those of `tests/support/tiny_models.py`: at Suno's temperatures the distributions have 2 … 4 nats.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bark_engine.checkpoint import convert
from bark_engine.codec import Codec, CodecShape
from bark_engine.random_models import suno_arguments, tie_heads
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer, FineTransformer, NetworkShape

LAYER_GAIN = 3.0  # the scales are multiples of PyTorch's initial ones, which have a deviation of 1 / √(3 · inputs)
SHARPNESS = 4.5
FINE_SHARPNESS = 2.8
VOCABULARIES = {"text": (129_600, 10_048), "coarse": (12_096, 12_096), "fine": (1_056, 1_056)}  # inputs, outputs
CODEC = CodecShape(codebooks=32)  # as many as the files of encodec_24khz have; Bark uses 8


@dataclass(frozen=True, slots=True)
class Size:
    """Layers, heads and width H of all three networks."""

    layers: int
    heads: int
    width: int

    def shape(self, stage: str) -> NetworkShape:
        """The network of "text", "coarse" or "fine" in this size."""
        inputs, outputs = VOCABULARIES[stage]
        codebooks = SUNO.fine_codebooks if stage == "fine" else 0
        return NetworkShape(self.layers, self.heads, self.width, 1_024, inputs, outputs, codebooks=codebooks)


SIZES = {"large": Size(24, 16, 1_024), "small": Size(12, 12, 768), "tiny": Size(2, 2, 64)}


@dataclass(frozen=True, slots=True)
class Folders:
    """The same weights twice: `suno` holds text.pt, coarse.pt, fine.pt and encodec.th, `engine` safetensors."""

    suno: Path
    engine: Path


def write_models(folder: Path, size: Size, precision: torch.dtype, seed: int = 0) -> Folders:
    """Write both folders; attention and MLP of the engine's files are in `precision`. One network is in memory."""
    folders = Folders(folder / "suno", folder / "engine")
    folders.suno.mkdir(parents=True)
    rng = torch.Generator().manual_seed(seed)
    for stage in VOCABULARIES:
        _save_network(folders.suno / f"{stage}.pt", size.shape(stage), rng)
    torch.save(_codec_weights(rng), folders.suno / "encodec.th")
    write_vocabulary(folders.suno / "vocab.txt")
    convert(folders.suno, folders.engine, precision)
    return folders


def write_vocabulary(path: Path) -> None:
    """A vocabulary of Suno's length whose word number n is "wn"; the unknown word is where multilingual BERT's is."""
    words = [f"w{number}" for number in range(SUNO.text_pad - SUNO.text_offset)]
    words[100] = "[UNK]"
    path.write_text("\n".join(words) + "\n", encoding="utf-8")


def zeros(shape: torch.Size) -> Tensor:
    """Zeros that take no memory until they are changed: numpy gets them from the system, torch fills them in."""
    return torch.from_numpy(np.zeros(shape, np.float32))


def with_optimizer_state(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The content of a `.pt` and what Adam keeps for each weight, two numbers in float32.

    That Suno's own files have it shows in their sizes: `text_2.pt` at huggingface.co/suno/bark has 5.35 GB, 12 bytes
    for each of its 446,088,192 weights. The names are those of the state that `torch.optim.AdamW` saves.
    """
    moments = [
        {name: zeros(weight.shape) for name in ("exp_avg", "exp_avg_sq")} for weight in checkpoint["model"].values()
    ]
    return checkpoint | {"optimizer": {"state": dict(enumerate(moments))}}


def _save_network(path: Path, shape: NetworkShape, rng: torch.Generator) -> None:
    """A checkpoint as Suno's training wrote it, without the optimizer state."""
    weights = network_weights(shape, rng)
    tie_heads(weights, shape)
    # Suno's loss is a numpy number, for which its loader would need a torch.load that runs any pickle.
    loss = torch.tensor(math.log(shape.output_vocab))
    model = {f"_orig_mod.{name}": value for name, value in weights.items()}
    torch.save({"model": model, "model_args": suno_arguments(shape), "best_val_loss": loss}, path)


def network_weights(shape: NetworkShape, rng: torch.Generator) -> dict[str, Tensor]:
    """Random weights of a network under Suno's names, without the fine network's tied heads."""
    with torch.device("meta"):
        outline: Any = (FineTransformer if shape.codebooks else CausalTransformer)(shape).state_dict()
    weights = {}
    for name, empty in outline.items():
        if ".ln_" in name:
            deviation, middle = (0.0, 1.0) if name.endswith(".weight") else (0.1, 0.0)
        else:
            deviation, middle = _deviation(name, empty.shape[-1], shape), 0.0
        weights[name] = torch.empty(empty.shape).normal_(middle, deviation, generator=rng)
    return weights


def _deviation(name: str, inputs: int, shape: NetworkShape) -> float:
    initial = 1 / math.sqrt(3 * inputs)
    if name.startswith("transformer.h."):
        return LAYER_GAIN * initial
    if name.startswith("transformer.wtes.") and not name.startswith("transformer.wtes.0."):  # also heads
        return FINE_SHARPNESS * initial
    return SHARPNESS * initial if name.startswith("lm_head.") else 1.0


def _codec_weights(rng: torch.Generator) -> dict[str, Tensor]:
    """Weights under encodec's names, convolutions as a direction `weight_v` and its length `weight_g`."""
    with torch.device("meta"):
        outline = Codec(CODEC).state_dict()
    weights: dict[str, Tensor] = {}
    for name, empty in outline.items():
        if name.endswith((".inited", ".cluster_size")):
            weights[name] = torch.ones(empty.shape)
            continue
        inputs = 1 if name.endswith((".embed", ".embed_avg")) else math.prod(empty.shape[1:])
        value = torch.empty(empty.shape).normal_(0.0, 1 / math.sqrt(inputs), generator=rng)
        if name.endswith((".conv.weight", ".convtr.weight")):
            weights[f"{name}_g"] = torch.linalg.vector_norm(value, dim=(1, 2), keepdim=True)
            weights[f"{name}_v"] = value
        else:
            weights[name] = torch.zeros(empty.shape) if ".bias" in name else value
    return weights
