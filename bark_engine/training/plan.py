"""Every setting of a training run: `TrainingPlan`."""

import math
from dataclasses import dataclass
from typing import Any

from ..errors import BarkInputError
from ..sampling import check_seed
from .clips import STAGES
from .optimizers import ADAMW, OPTIMIZERS

DTYPES = ("float32", "bfloat16")

CHANGEABLE = ("steps", "validate_every", "save_every", "patience", "log_every")
"""What may differ when a run goes on; anything else would make it another run."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How one stage is trained. The same plan, data and first weights give the same run.

    stage: "semantic", "coarse" or "fine". steps: updates of the weights. batch_positions: positions (padding included)
    of a batch, about; accumulate: batches per update. optimizer: "adamw", or "muon", which is for new networks. lr:
    highest learning rate, reached after `warmup` steps, then a cosine down to `min_lr_ratio` of it at the last step.
    weight_decay: of matrices, not of embeddings and norms. clip_norm: largest norm of the gradient. dtype: of the
    arithmetic, "float32" or "bfloat16"; weights are float32. history: how often a clip is given another clip of its
    speaker as its past; history_seconds: how much of that clip's end at most, 0 for as much as the stage reads (a short
    past leaves the coarse stage more new tokens in a pass). validate_every, save_every, log_every: in steps;
    validation_clips: how many clips are measured at most. patience: validations in a row without a better one after
    which the run ends, 0 for never.

    Raises BarkInputError for a setting out of range.
    """

    stage: str
    steps: int = 2_000
    batch_positions: int = 6_000
    accumulate: int = 1
    optimizer: str = ADAMW
    lr: float = 1e-3
    min_lr_ratio: float = 0.1
    warmup: int = 100
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    dtype: str = "float32"
    seed: int = 0
    history: float = 0.5
    history_seconds: float = 0.0
    validate_every: int = 200
    validation_clips: int = 256
    save_every: int = 200
    patience: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        _one_of("stage", self.stage, STAGES)
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        check_seed(self.seed)
        for name in ("steps", "batch_positions", "accumulate", "validate_every", "save_every", "log_every"):
            _whole(name, getattr(self, name), 1)
        for name in ("warmup", "patience", "validation_clips"):
            _whole(name, getattr(self, name), 0)
        _between("lr", self.lr, 1e-12, 1.0)
        _between("min_lr_ratio", self.min_lr_ratio, 0.0, 1.0)
        _between("weight_decay", self.weight_decay, 0.0, 10.0)
        _between("clip_norm", self.clip_norm, 1e-6, 1e6)
        _between("history", self.history, 0.0, 1.0)
        _between("history_seconds", self.history_seconds, 0.0, 3_600.0)


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise BarkInputError(f"{name} must be one of {', '.join(allowed)}; {value!r} was given.")


def _whole(name: str, value: Any, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise BarkInputError(f"{name} must be a whole number of {low} or more; {value!r} was given.")


def _between(name: str, value: Any, low: float, high: float) -> None:
    right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not right or not low <= value <= high:
        raise BarkInputError(f"{name} must be a number of {low:g} … {high:g}; {value!r} was given.")
