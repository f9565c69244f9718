"""The network that is trained: made from scratch with small random weights, or read from a file."""

import math
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import StageFile, describe, load_stage
from ..errors import BarkFileError, BarkInputError
from ..library.family import check_shape
from ..spec import BarkSpec
from ..transformer import CausalTransformer, FineTransformer, NetworkShape
from .objectives import Network

FILE_STAGES = {"semantic": "text", "coarse": "coarse", "fine": "fine"}
"""What the stages are called in weight files."""

DEVIATION = 0.02  # of all weights; GPT-2 (Radford et al. 2019) and nanoGPT's model.py
PERIODS = (0.03, 30.0)  # seconds, of the clock in the positions: from two frames to twice the longest speech
TEXT_RATE = 12.0  # text tokens per second of speech, about


def network_shape(stage: str, spec: BarkSpec, layers: int, heads: int, width: int) -> NetworkShape:
    """Sizes of a new network for a stage: tables and positions as small as the numbers of the family allow.

    Raises BarkInputError where `width` cannot be divided among `heads`.
    """
    if min(layers, heads, width) < 1 or width % heads:
        raise BarkInputError(
            f"A network needs layers, heads and width of 1 or more, and a width that its heads divide; "
            f"{layers} layers, {heads} heads and width {width} were given."
        )
    if stage == "semantic":
        positions = spec.text_length + spec.max_semantic  # the last token is made, but never read
        return NetworkShape(layers, heads, width, positions, spec.semantic_infer + 1, spec.text_offset)
    if stage == "coarse":
        rows = spec.coarse_infer + 1
        return NetworkShape(layers, heads, width, spec.coarse_positions, rows, rows)
    rows = spec.fine_pad + 1
    return NetworkShape(layers, heads, width, spec.fine_window, rows, rows, codebooks=spec.fine_codebooks)


def new_network(stage: str, shape: NetworkShape, spec: BarkSpec, seed: int) -> Network:
    """A network with GPT-2's first weights: normal with deviation 0.02, what is added to the residual stream less.

    A projection back to the residual stream has 0.02 / √(2 · layers), so that the sum of all layers keeps its size.
    Drawn from a generator of its own; the same seed gives the same weights. Positions begin with a clock on top
    (`clock`), so that what sounds at one time looks alike wherever it stands, and need not learn that first.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = FineTransformer(shape) if stage == "fine" else CausalTransformer(shape)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if ".ln_" in name or name.endswith(".bias"):
                weight.fill_(float(".ln_" in name and name.endswith(".weight")))
            else:
                residual = name.endswith("c_proj.weight")
                weight.normal_(0.0, DEVIATION / math.sqrt(2 * shape.n_layer) if residual else DEVIATION, generator=rng)
        network.transformer.wpe.weight.add_(DEVIATION * clock(position_seconds(stage, spec, shape), shape.n_embd))
    return network


def position_seconds(stage: str, spec: BarkSpec, shape: NetworkShape) -> Tensor:
    """At what second each position of a network is, `[positions]`, counted from the start of what it makes.

    A position that holds a token is at the time of the next one, which it predicts. For the text, whose time nobody
    knows, TEXT_RATE is a guess.
    """
    places = torch.arange(shape.block_size, dtype=torch.float32)
    if stage == "fine":
        return places / spec.frame_rate
    ahead, rate, ahead_rate = {
        "semantic": (spec.text_length, spec.semantic_rate, TEXT_RATE),
        "coarse": (spec.coarse_semantic_window, spec.frame_rate * spec.coarse_codebooks, spec.semantic_rate),
    }[stage]
    return torch.where(places < ahead, places / ahead_rate, (places - ahead) / rate)


def clock(seconds: Tensor, width: int) -> Tensor:
    """Times `[T]` as sines and cosines of many periods, `[T, width]`, mean square 1 (Vaswani et al. 2017, §3.5)."""
    shortest, longest = PERIODS
    pairs = torch.arange((width + 1) // 2)
    periods = shortest * (longest / shortest) ** (pairs / max(1, len(pairs) - 1))
    phases = 2 * math.pi * seconds[:, None] / periods
    return math.sqrt(2) * torch.stack([phases.sin(), phases.cos()], dim=2).flatten(1)[:, :width]


def read_network(file: StageFile, stage: str, spec: BarkSpec) -> Network:
    """Weights of a file as float32 copies that can be trained. Raises BarkFileError where they do not fit `spec`."""
    check_shape(FILE_STAGES[stage], file, spec)
    module = load_stage(file, torch.float32)
    assert isinstance(module, (CausalTransformer, FineTransformer))
    for weight in module.parameters():
        weight.data = weight.data.clone()  # the file's own memory may be mapped
    return module.requires_grad_(True)


def stage_in(path: Path, stage: str) -> StageFile:
    """The description of a stage in a weights file. Raises BarkFileError where it has another one."""
    files = describe(path)
    wanted = FILE_STAGES[stage]
    found = next((file for file in files if file.stage == wanted), None)
    if found is None:
        raise BarkFileError(
            f"{path} holds the {', '.join(file.stage for file in files)} stage, but the {stage} stage is trained, "
            f"whose weights are called {wanted}. Give the file of that stage."
        )
    return found
