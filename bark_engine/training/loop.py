"""The training loop: `train`.

A step is a function of the plan, the data and its number, so a run that is killed and continued from its last saved
state computes the same weights, bit for bit on one machine, as one that never stopped.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..errors import BarkError, BarkInputError
from .batches import BatchStream, ExampleSource, cut_by_size
from .curves import draw_curves
from .objectives import Batch, Network, collate, losses
from .optimizers import Optimizer
from .schedule import learning_rate
from .state import BEST_FOLDER, Keep, Progress, RunFolder


@dataclass(frozen=True, slots=True)
class Report:
    """What is known after a step. Losses are means per token in nats; `validation_loss` only where it was measured."""

    step: int
    steps: int
    loss: float
    lr: float
    targets_per_second: float
    seconds: float
    validation_loss: float | None = None


OnReport = Callable[[Report], None]


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended: `reason` is "finished", "patience", "time" or "stopped"; all but the first two can go on."""

    reason: str
    step: int
    best_loss: float | None
    best_step: int


@dataclass
class Trainer:
    """A network, its data and its folder. `keep` writes the best weights there (state.py)."""

    network: Network
    source: ExampleSource
    run: RunFolder
    keep: Keep
    device: str = "cpu"

    def train(
        self,
        on_report: OnReport | None = None,
        should_stop: Callable[[], bool] | None = None,
        max_minutes: float = math.inf,
    ) -> Result:
        """Train until the plan is done, or go on from what the run folder holds; the best weights are kept there.

        `on_report(report)` is called after every step. `should_stop()` is asked after every step; when it says so,
        the state is saved. `max_minutes` of this session end it the same way.

        Raises BarkInputError for data without training clips, BarkFileError where something cannot be saved, and
        BarkError where the loss is no number any more.
        """
        numbers = self.source.folder.split("train")
        if not numbers:
            raise BarkInputError(f"{self.source.folder.path} has no clips of the split train; nothing can be learned.")
        plan = self.run.plan
        self.run.prepare()
        self.network.to(self.device).train()
        optimizer = Optimizer(self.network, plan.optimizer, plan.weight_decay)
        progress = self.run.restore(self.network, optimizer)
        stream = BatchStream(self.source, numbers, plan.batch_positions, plan.seed)
        measured = self.source.validation(plan.validation_clips)
        validation = [collate(batch, self.source.spec) for batch in cut_by_size(measured, plan.batch_positions)]
        if progress.step == 0 and validation:
            self._validated(progress, validation, math.nan, 0.0)  # what the first weights can do
        session = _Session(time.monotonic(), progress.seconds, progress.step)
        reason = "finished"
        while progress.step < plan.steps:
            if plan.patience and progress.misses >= plan.patience:
                reason = "patience"
                break
            if should_stop is not None and should_stop():
                reason = "stopped"
                break
            if time.monotonic() - session.started > 60 * max_minutes:
                reason = "time"
                break
            report = self._step(progress, optimizer, stream, session, validation)
            if on_report is not None:
                on_report(report)
            if progress.step % plan.save_every == 0 or report.validation_loss is not None:
                self._save(progress, optimizer, session, bool(validation))
        if session.saved_step != progress.step:
            self._save(progress, optimizer, session, bool(validation))
        return Result(reason, progress.step, progress.best_loss, progress.best_step)

    def _step(
        self,
        progress: Progress,
        optimizer: Optimizer,
        stream: BatchStream,
        session: "_Session",
        validation: list[Batch],
    ) -> Report:
        """One update of the weights, a line in the log when one is due, and a validation when one is due."""
        plan, began = self.run.plan, time.monotonic()
        lr = learning_rate(progress.step, plan)
        first = progress.step * plan.accumulate
        batches = [
            collate(stream.batch(number), self.source.spec, self.device)
            for number in range(first, first + plan.accumulate)
        ]
        weight = sum(batch.weight for batch in batches)
        total = 0.0
        for batch in batches:
            with self._precision():
                loss = losses(self.network, batch) / weight
            loss.backward()
            total += loss.item()
        trained = [weight for weight in self.network.parameters() if weight.requires_grad]
        norm = nn.utils.clip_grad_norm_(trained, plan.clip_norm)
        if not math.isfinite(total) or not math.isfinite(norm.item()):
            raise BarkError(
                f"The loss or its gradient is not a number at step {progress.step + 1:,}. Start again with a lower "
                "learning rate or a longer warm-up; the last saved state is untouched."
            )
        optimizer.step(lr)
        progress.step += 1
        progress.loss_sum += total * weight
        progress.loss_weight += weight
        progress.seconds = session.seconds()
        speed = sum(batch.targets for batch in batches) / max(1e-9, time.monotonic() - began)
        validated = None
        due = progress.step % plan.validate_every == 0 or progress.step == plan.steps
        if due and validation:
            validated = self._validated(progress, validation, lr, speed)
        elif progress.step % plan.log_every == 0:
            self._log(progress, lr, speed)
        return Report(progress.step, plan.steps, total, lr, speed, progress.seconds, validated)

    def _validated(self, progress: Progress, validation: list[Batch], lr: float, speed: float) -> float:
        """Measure the validation clips, log the loss, keep the weights where they are the best so far."""
        loss = self.validation_loss(validation)
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.misses = loss, progress.step, 0
            self.keep(self.run.path / BEST_FOLDER, progress)
        else:
            progress.misses += 1
        self._log(progress, lr, speed, loss)
        return loss

    def validation_loss(self, batches: list[Batch]) -> float:
        """Mean loss per token of some batches, without learning from them."""
        self.network.eval()
        with torch.no_grad(), self._precision():
            total = sum(losses(self.network, _moved(batch, self.device)).item() for batch in batches)
        self.network.train()
        return total / sum(batch.weight for batch in batches)

    def _save(self, progress: Progress, optimizer: Optimizer, session: "_Session", validated: bool) -> None:
        if not validated:  # without validation clips, the latest weights are the best that is known
            self.keep(self.run.path / BEST_FOLDER, progress)
        self.run.save(self.network, optimizer, progress)
        session.saved_step = progress.step
        if validated or progress.step >= self.run.plan.log_every:  # otherwise there is nothing to draw yet
            draw_curves(self.run.path)

    def _log(self, progress: Progress, lr: float, speed: float, validation_loss: float | None = None) -> None:
        values: dict[str, Any] = {"step": progress.step}
        if progress.loss_weight:
            values["loss"] = round(progress.loss_sum / progress.loss_weight, 6)
            values |= {"lr": lr, "targets_per_second": round(speed)}
        if validation_loss is not None:
            values["validation_loss"] = round(validation_loss, 6)
        self.run.log(values | {"seconds": round(progress.seconds, 1)})
        progress.loss_sum = progress.loss_weight = 0.0

    def _precision(self) -> torch.autocast:
        wanted = self.run.plan.dtype == "bfloat16"
        return torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=wanted)


@dataclass
class _Session:
    """The clock of one call of `train`, and what it has saved."""

    started: float
    seconds_before: float
    saved_step: int

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started


def _moved(batch: Batch, device: str) -> Batch:
    if device == "cpu":
        return batch
    heads = tuple(
        replace(h, index=h.index.to(device), targets=h.targets.to(device), weights=h.weights.to(device))
        for h in batch.heads
    )
    history = batch.history.to(device) if batch.history is not None else None
    return replace(batch, ids=batch.ids.to(device), history=history, heads=heads)
