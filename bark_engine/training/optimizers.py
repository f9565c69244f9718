"""What moves the weights: AdamW for all of them, or Muon (muon.py) for the matrices and AdamW for the rest.

nano was trained with Muon; what it gains over AdamW by itself was measured only for the codec (docs/log.md).
"""

from typing import Any

import torch
from torch import Tensor, nn

from .muon import Muon

ADAMW, MUON = "adamw", "muon"
OPTIMIZERS = (ADAMW, MUON)

BETAS = (0.9, 0.95)  # GPT-3's (Brown et al. 2020), and nanoGPT's

_OUTSIDE = (".wte.", ".wtes.", ".wpe.")  # tables, from which rows are looked up


class Optimizer:
    """One or two of torch's optimizers over the weights of a network that can be trained, as if they were one.

    Matrices decay; embeddings, which are looked up, norms and biases do not. One learning rate serves all: Muon's
    steps are scaled to the size of AdamW's.
    """

    def __init__(self, network: nn.Module, name: str, weight_decay: float):
        hidden, head, others = _sorted(network)
        decaying = head if name == MUON else [*hidden, *head]
        groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        self._parts: list[torch.optim.Optimizer] = []
        if groups:
            self._parts.append(torch.optim.AdamW(groups, betas=BETAS, fused=True))
        if name == MUON and hidden:
            self._parts.append(Muon(hidden, weight_decay=weight_decay))

    def step(self, lr: float) -> None:
        """Move the weights by their gradients at this learning rate, and forget the gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """What `load_state_dict` goes on from."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from a saved state. Raises ValueError for that of other optimizers."""
        if len(states) != len(self._parts):
            raise ValueError("it is of another optimizer")
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def _sorted(network: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """What can be trained: matrices of the layers, the head's, and all the rest."""
    hidden: list[Tensor] = []
    head: list[Tensor] = []
    others: list[Tensor] = []
    for name, weight in network.named_parameters():
        if not weight.requires_grad:
            continue
        if weight.ndim < 2 or any(part in name for part in _OUTSIDE):
            others.append(weight)
        else:
            (head if name.startswith("lm_head.") else hidden).append(weight)
    return hidden, head, others
