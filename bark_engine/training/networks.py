"""The network that is trained: made from scratch with small random weights, or read from a file."""

import math
from pathlib import Path

import torch
from torch import nn

from ..checkpoint import StageFile, describe, load_stage
from ..errors import BarkFileError, BarkInputError
from ..library.family import check_shape
from ..spec import BarkSpec
from ..transformer import CausalTransformer, FineTransformer, NetworkShape
from .objectives import Network

FILE_STAGES = {"semantic": "text", "coarse": "coarse", "fine": "fine"}
"""What the stages are called in weight files."""

DEVIATION = 0.02  # of all weights; GPT-2 (Radford et al. 2019) and nanoGPT's model.py


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


def new_network(stage: str, shape: NetworkShape, seed: int) -> Network:
    """A network with GPT-2's first weights: normal with deviation 0.02, what is added to the residual stream less.

    A projection back to the residual stream has 0.02 / √(2 · layers), so that the sum of all layers keeps its size.
    Drawn from a generator of its own; the same seed gives the same weights.
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
    return network


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


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict]:
    """What can be trained, for AdamW: matrices decay; embeddings, which are looked up, norms and biases do not."""
    decaying, others = [], []
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            looked_up = any(part in name for part in (".wte.", ".wtes.", ".wpe."))
            (others if looked_up or weight.ndim < 2 else decaying).append(weight)
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
