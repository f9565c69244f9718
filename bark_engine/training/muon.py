"""Muon: momentum whose matrices are made orthogonal before they move the weights.

Jordan et al. 2024, kellerjordan.github.io/posts/muon. `torch.optim.Muon` is the same algorithm, from torch 2.9 on, and
always multiplies in bfloat16, which a processor without instructions for it emulates: on one core of a Zen 3 it takes
3.0 s for nano's coarse network, and this one 0.2 s (docs/log.md). Where bfloat16 is fast, this one uses it, too.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from .precision import best_training_dtype

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic; the post above, "choosing the coefficients"
ROUNDS = 5  # of the quintic; singular values end between about 0.7 and 1.2
EPSILON = 1e-7  # smallest norm that is divided by
MATCH_ADAMW = 0.2  # root mean square of an AdamW step (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4)


class Muon(torch.optim.Optimizer):
    """Muon over matrices `[m, n]`.

    `lr` is the step, `weight_decay` what a step of 1 takes off the weights, `momentum` how much of the past is kept
    (with Nesterov's look ahead). `match_adamw` scales the steps so that AdamW's rates serve; without it they are
    the post's: √max(1, m / n).

    Raises ValueError for a weight that is no matrix.
    """

    def __init__(
        self,
        weights: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        match_adamw: bool = True,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "match_adamw": match_adamw}
        super().__init__(weights, defaults)
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(
                        f"Muon moves matrices only; a weight of the shape {tuple(weight.shape)} was given."
                    )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient; without the closure that some of torch's optimizers call."""
        for group in self.param_groups:
            moved = [weight for weight in group["params"] if weight.grad is not None]
            # Matrices of one shape are multiplied together: a layer's are small.
            for _, alike in groupby(sorted(moved, key=_shape), key=_shape):
                self._move(list(alike), group)

    def _move(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        rows, columns = weights[0].shape
        momentum = group["momentum"]
        updates: list[Tensor] = []
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(weight.grad)
            past = state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
            updates.append(weight.grad.lerp(past, momentum))
        scale = MATCH_ADAMW * max(rows, columns) ** 0.5 if group["match_adamw"] else max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, orthogonal(torch.stack(updates)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-scale * group["lr"])


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices `[B, m, n]` with their singular vectors as they are and all singular values near 1.

    ROUNDS of a quintic on what is divided by its Frobenius norm, in bfloat16 where the device multiplies in it.
    """
    first, second, third = COEFFICIENTS
    wide = matrices.to(getattr(torch, best_training_dtype(matrices.device)))
    tall = wide.shape[1] > wide.shape[2]
    if tall:
        wide = wide.transpose(1, 2)
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(ROUNDS):
        gram = wide @ wide.transpose(1, 2)
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        wide = torch.baddbmm(wide, polynomial, wide, beta=first)
    return (wide.transpose(1, 2) if tall else wide).to(matrices.dtype)


def _shape(weight: Tensor) -> tuple[int, ...]:
    return tuple(weight.shape)
