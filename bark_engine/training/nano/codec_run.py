"""What the trainings of the codec and of its decoder share: `CodecPlan`, and `CodecRun`, one run in its folder.

RUN/log.jsonl   a record every `save_every` steps
RUN/state.pt    weights, optimizers and step; a run that was stopped goes on from there
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...atomic import replacing
from ..muon import Muon

WARM_UP_STEPS = 50
LOWEST_RATE = 0.01  # of the highest, at the end of the cosine


@dataclass(frozen=True, slots=True)
class CodecPlan:
    """How long and how fast: `steps` updates, all drawn from `seed`.

    Matrices are moved by Muon at `rate`, in parts of their own size; biases by Adam at `bias_rate`. Both rates fall to
    nothing by a cosine.
    """

    steps: int = 3_000
    rate: float = 0.02
    bias_rate: float = 1e-3
    seed: int = 0
    save_every: int = 250


class CodecRun:
    """Optimizers, schedule, log and state of a network whose kernels are matrices; what the folder holds is continued.

    `report` is given a line for every record of the log.
    """

    def __init__(self, network: nn.Module, folder: Path, plan: CodecPlan, report: Callable[[str], None] | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self._network, self._plan, self._report = network, plan, report
        self._state_file, self._log_file = folder / "state.pt", folder / "log.jsonl"
        weights = list(network.parameters())
        matrices = [weight for weight in weights if weight.ndim == 2]
        others = [weight for weight in weights if weight.ndim != 2]
        # Muon's own scale: a matrix scaled by build_codec moves by about `rate` of itself.
        muon = Muon(matrices, lr=plan.rate, weight_decay=0.0, match_adamw=False)
        self._optimizers = (muon, torch.optim.Adam(others, lr=plan.bias_rate, fused=True))
        if self._state_file.is_file():
            state = torch.load(self._state_file, weights_only=True)
            network.load_state_dict(state["network"])
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step = state["step"]
        self._started = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether the plan is done."""
        return self.step >= self._plan.steps

    def update(self, loss: Tensor) -> bool:
        """Move the weights down the gradient of a loss; True when a record is due."""
        loss.backward()
        part = self._part(self.step)
        for optimizer, rate in zip(self._optimizers, (self._plan.rate, self._plan.bias_rate), strict=True):
            optimizer.param_groups[0]["lr"] = rate * part
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return self.step % self._plan.save_every == 0 or self.finished

    def record(self, losses: dict[str, float], measured: dict[str, Any]) -> None:
        """Log the losses since the last record and what was measured, save the state, and tell."""
        rate = self._plan.rate * self._part(self.step - 1)
        seconds = round(time.monotonic() - self._started, 1)
        line = json.dumps({"step": self.step, **losses, "rate": rate, "seconds": seconds, **measured})
        with self._log_file.open("a") as log:
            log.write(line + "\n")
        with replacing(self._state_file, "the state of the training") as temporary:
            saved = [optimizer.state_dict() for optimizer in self._optimizers]
            torch.save({"network": self._network.state_dict(), "optimizers": saved, "step": self.step}, temporary)
        if self._report:
            self._report(line)

    def _part(self, step: int) -> float:
        """Which part of the highest rates a step has."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self._plan.steps))
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (LOWEST_RATE + (1 - LOWEST_RATE) * cosine)
