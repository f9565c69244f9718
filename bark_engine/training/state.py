"""What a run leaves on the disk, so that a killed one goes on as if it had not been: `RunFolder`, `Progress`.

    RUN/plan.json              the settings
    RUN/log.jsonl, curves.png  figures, one JSON object a line, and their picture
    RUN/best/                  the best weights so far: text.safetensors for example, with spec.json and vocab.txt, a
                               stage of a folder that `Bark.load` reads; or the adapter of a LoRA with its card
    RUN/state/latest.pt        weights, optimizer and step

Batches are functions of the seed and the step (batches.py), so no random state is kept.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..atomic import replacing
from ..checkpoint import save_stage
from ..errors import BarkFileError, BarkInputError, BarkMemoryError
from ..memory import is_out_of_memory
from ..spec import BarkSpec
from .networks import FILE_STAGES
from .optimizers import Optimizer
from .plan import CHANGEABLE, TrainingPlan

LOG_FILE, PLAN_FILE, STATE_FILE = "log.jsonl", "plan.json", "state/latest.pt"
BEST_FOLDER = "best"


@dataclass
class Progress:
    """How far a run is. `step` updates are done; `misses` validations in a row were not better than `best_loss`.

    `loss_sum` and `loss_weight` belong to the training loss since the last line of the log. `seconds` of training count
    over all sessions.
    """

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    misses: int = 0
    loss_sum: float = 0.0
    loss_weight: float = 0.0
    seconds: float = 0.0


Keep = Callable[[Path, Progress], None]
"""Writes the weights, as they are now, into the folder of the best ones."""


def keep_stage(network: nn.Module, stage: str, spec: BarkSpec, vocabulary: Path | None) -> Keep:
    """Keep all weights, as the stage file that `Bark.load` reads, with the spec and the vocabulary beside it."""

    def keep(folder: Path, _: Progress) -> None:
        name = FILE_STAGES[stage]
        with replacing(folder / f"{name}.safetensors", "The best weights") as temporary:
            save_stage(network, name, temporary)
        copy_companions(folder, spec, vocabulary)

    return keep


def copy_companions(folder: Path, spec: BarkSpec, vocabulary: Path | None) -> None:
    """Put the spec.json of a family, and its vocabulary if there is one, into a folder."""
    with replacing(folder / "spec.json", "The spec") as temporary:
        temporary.write_text(spec.to_json(), encoding="utf-8")
    if vocabulary is not None:
        name = "tokenizer.json" if vocabulary.suffix == ".json" else "vocab.txt"
        with replacing(folder / name, "The vocabulary") as temporary:
            temporary.write_bytes(vocabulary.read_bytes())


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path
    plan: TrainingPlan
    origin: dict[str, Any] = field(default_factory=dict)
    """What else makes a run what it is: the data and the first weights; compared when it goes on."""

    def prepare(self) -> None:
        """Make the folder and write `plan.json`; refuse the folder of another run (BarkInputError)."""
        plan_file = self.path / PLAN_FILE
        now = asdict(self.plan) | self.origin
        if plan_file.exists():
            try:
                before = json.loads(plan_file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise BarkFileError(f"{plan_file} cannot be read ({error}). Use another output folder.") from None
            # A setting that an older version did not know had the effect that its default has.
            changed = [key for key in before if now.get(key) != before[key] and key not in CHANGEABLE]
            if changed:
                listed = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
                raise BarkInputError(
                    f"{self.path} holds a run with other settings: {listed}. Use the same ones to go on with it, or "
                    "another output folder for a new run."
                )
        with replacing(plan_file, "The plan of the training") as temporary:
            temporary.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")

    def save(self, network: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
        """Write the state, complete or not at all."""
        weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        state = {"progress": asdict(progress), "weights": weights, "optimizer": optimizer.state_dict()}
        with replacing(self.path / STATE_FILE, "The state of the training") as temporary:
            try:
                torch.save(state, temporary)
            except RuntimeError as error:  # torch.save reports a full disk like this
                raise OSError(str(error)) from None

    def restore(self, network: nn.Module, optimizer: Optimizer) -> Progress:
        """Put the saved state, if there is one, into the network and the optimizer, and cut the log back to it.

        Raises BarkMemoryError where memory runs out meanwhile, and BarkFileError for a state that cannot be read or
        used; only of a state that cannot be used is it said that it may be deleted.
        """
        path = self.path / STATE_FILE
        if not path.exists():
            self._cut_log(-1)
            return Progress()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            with torch.no_grad():
                own = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
                if own.keys() != state["weights"].keys():
                    raise ValueError("it is of another network")
                for name, weight in own.items():
                    weight.copy_(state["weights"][name])
            optimizer.load_state_dict(state["optimizer"])
            progress = Progress(**state["progress"])
        except Exception as error:  # noqa: BLE001 (torch raises anything for a damaged file)
            if is_out_of_memory(error):
                raise BarkMemoryError(
                    f"Memory ran out while the state of the training in {path} was put back; the state itself is "
                    "whole. Close what else uses the memory of this device, then go on with the same command."
                ) from None
            if isinstance(error, OSError):
                raise BarkFileError(
                    f"{path} cannot be read ({error.strerror or error}). Check the disk and the rights."
                ) from None
            raise BarkFileError(
                f"{path} cannot be used ({error}). Delete the folder {path.parent} to start anew, or use another "
                "output folder."
            ) from None
        self._cut_log(progress.step)
        return progress

    def log(self, values: dict[str, Any]) -> None:
        """Add a line to the log."""
        try:
            with (self.path / LOG_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
                file.flush()
        except OSError as error:
            raise BarkFileError(f"{self.path / LOG_FILE} cannot be written ({error.strerror or error}).") from None

    def _cut_log(self, step: int) -> None:
        """Drop what was logged after the state was saved: it will happen, and be logged, again."""
        path = self.path / LOG_FILE
        if not path.exists():
            return
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
        with replacing(path, "The log of the training") as temporary:
            temporary.write_text("".join(line + os.linesep for line in kept), encoding="utf-8", newline="")


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # half a line, from a kill while it was written
