"""`python -m bark_engine train STAGE`: from a data folder to the weights of one stage, or to an adapter for it.

What is shown while it runs is screen.py's; errors are the caller's to show.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import StageFile
from ..errors import BarkFileError, BarkInputError
from ..library.family import check_vocabulary
from ..library.model_sets import find_model_set
from ..placement import check_device
from ..spec import SUNO, BarkSpec, register_family
from ..text import Tokenizer
from .batches import ExampleSource
from .clips import STAGES, ClipFolder
from .loop import Result, Trainer
from .lora import ADAPTER_FILE, DEFAULT_TARGETS, TARGETS, LoraPlan, add_lora, keep_adapter
from .networks import FILE_STAGES, network_shape, new_network, read_network, stage_in
from .objectives import Network
from .optimizers import OPTIMIZERS
from .plan import DTYPES, TrainingPlan
from .precision import best_training_dtype
from .screen import Screen
from .state import BEST_FOLDER, Keep, RunFolder, keep_stage

# Where weights are given and --lr is not; from scratch the default of the plan is used. Starting points, not measured
# on Suno's models: nobody has published a training of them that follows their layout.
FINE_TUNING_RATE, LORA_RATE = 5e-5, 5e-4

_PLAN: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainingPlan)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `train`."""
    parser.add_argument("stage", choices=STAGES, help="which network")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="clips.jsonl and tokens/")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="RUN", help="the folder of this run; goes on there"
    )
    models = parser.add_argument_group("what is trained")
    models.add_argument("--models", metavar="NAME|PATH", help="start from these models")
    models.add_argument("--init", type=Path, metavar="FILE", help="start from the weights in this file instead")
    models.add_argument(
        "--spec", type=Path, metavar="FILE", help="spec.json of the family [that of the models, or Suno's]"
    )
    models.add_argument("--vocabulary", type=Path, metavar="FILE", help="vocab.txt, for the semantic stage")
    models.add_argument("--layers", type=int, metavar="N", help="with --heads and --width: a new network from scratch")
    models.add_argument("--heads", type=int, metavar="N")
    models.add_argument("--width", type=int, metavar="N")
    lora = parser.add_argument_group("a small adapter instead of all weights (LoRA)")
    lora.add_argument("--lora-rank", type=int, metavar="R", help="train additions of this rank, such as 8")
    lora.add_argument("--lora-alpha", type=float, metavar="A", help="the additions are scaled by A / R [2 R]")
    targets = ",".join(DEFAULT_TARGETS)
    lora.add_argument("--lora-targets", metavar="LIST", help=f"of {','.join(TARGETS)}; commas between [{targets}]")
    plan = parser.add_argument_group("how")
    _plan_option(plan, "steps", int, "updates of the weights")
    _plan_option(plan, "batch_positions", int, "positions in a batch, about")
    _plan_option(plan, "accumulate", int, "batches per update")
    plan.add_argument(
        "--optimizer", choices=OPTIMIZERS, default=_PLAN["optimizer"], help="muon is for new networks [adamw]"
    )
    plan.add_argument(
        "--lr", type=float, help=f"highest learning rate [{_PLAN['lr']}; with weights {FINE_TUNING_RATE}]"
    )
    _plan_option(plan, "min_lr_ratio", float, "of it at the end")
    _plan_option(plan, "warmup", int, "steps of rising learning rate")
    _plan_option(plan, "weight_decay", float, "of matrices")
    _plan_option(plan, "clip_norm", float, "largest norm of the gradient")
    _plan_option(plan, "history", float, "how often a clip gets another of its speaker as history")
    _plan_option(plan, "history_seconds", float, "of it at most; 0: as much as the stage reads")
    _plan_option(plan, "validate_every", int, "steps")
    _plan_option(plan, "validation_clips", int, "measured at most")
    _plan_option(plan, "save_every", int, "steps")
    _plan_option(plan, "log_every", int, "steps")
    _plan_option(plan, "patience", int, "end after this many validations without a better one; 0: never")
    _plan_option(plan, "seed", int, "of the first weights and of all batches")
    plan.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="of the arithmetic [auto]")
    plan.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu [auto]")
    plan.add_argument("--max-minutes", type=float, default=math.inf, metavar="M", help="save and end after M minutes")


def _plan_option(group: Any, name: str, kind: type, text: str) -> None:
    group.add_argument(f"--{name.replace('_', '-')}", type=kind, default=_PLAN[name], help=f"{text} [{_PLAN[name]}]")


def run(arguments: argparse.Namespace) -> None:
    """Train as told, or go on with the run in the output folder. Raises BarkError with a sentence for the person."""
    screen = Screen()
    device = check_device(arguments.device)
    spec, vocabulary, file = _find(arguments)
    lora = _lora(arguments, file)
    plan = _plan(arguments, file, lora, device)
    network = _network(arguments, spec, file)
    folder = ClipFolder.open(arguments.data, spec, plan.stage, screen.progress("clips"))
    tokenizer = Tokenizer.load(vocabulary, spec.lower_case) if vocabulary is not None else None
    origin = {
        "family": spec.family,
        "data": folder.digest,
        "shape": dataclasses.asdict(network.shape),
        "first_weights": "from scratch" if file is None else f"{file.path.name} {_digest(file.path)}",
    }
    keep: Keep = keep_stage(network, plan.stage, spec, vocabulary)
    if lora is not None:
        card = {"made from": origin["first_weights"], "data": f"{arguments.data.name} {folder.digest}"}
        keep = keep_adapter(network, plan.stage, lora, card)
        add_lora(network, lora, plan.seed)
        origin["lora"] = json.loads(json.dumps(dataclasses.asdict(lora)))
    screen.line(_introduction(plan, network, folder))
    source = ExampleSource(folder, spec, plan.history, tokenizer, plan.history_seconds)
    trainer = Trainer(network, source, RunFolder(arguments.output, plan, origin), keep, str(device))
    with _StopSignals() as stop:
        result = trainer.train(screen.step, stop, arguments.max_minutes)
    name = ADAPTER_FILE if lora is not None else f"{FILE_STAGES[plan.stage]}.safetensors"
    screen.line(_summary(result, plan, arguments.output / BEST_FOLDER / name))


def _plan(
    arguments: argparse.Namespace, file: StageFile | None, lora: LoraPlan | None, device: torch.device
) -> TrainingPlan:
    chosen = {name: getattr(arguments, name) for name in _PLAN if name != "stage"}
    if arguments.lr is None:
        chosen["lr"] = _PLAN["lr"] if file is None else FINE_TUNING_RATE if lora is None else LORA_RATE
    if arguments.dtype == "auto":
        chosen["dtype"] = best_training_dtype(device)
    return TrainingPlan(stage=arguments.stage, **chosen)


def _lora(arguments: argparse.Namespace, file: StageFile | None) -> LoraPlan | None:
    if arguments.lora_rank is None:
        if arguments.lora_alpha is not None or arguments.lora_targets is not None:
            raise BarkInputError("--lora-alpha and --lora-targets need --lora-rank, such as --lora-rank 8.")
        return None
    if file is None:
        raise BarkInputError("A LoRA adds to weights that are there: give --models or --init, not a new network.")
    alpha = arguments.lora_alpha if arguments.lora_alpha is not None else 2.0 * arguments.lora_rank
    targets = DEFAULT_TARGETS if arguments.lora_targets is None else tuple(arguments.lora_targets.split(","))
    return LoraPlan(arguments.lora_rank, alpha, targets)


def _find(arguments: argparse.Namespace) -> tuple[BarkSpec, Path | None, StageFile | None]:
    """The family, the vocabulary (semantic only) and the first weights (None: from scratch)."""
    sizes = [arguments.layers, arguments.heads, arguments.width]
    scratch = any(size is not None for size in sizes)
    if scratch and None in sizes:
        raise BarkInputError("A new network needs all of --layers, --heads and --width.")
    if scratch and arguments.init:
        raise BarkInputError("Give either --init FILE or the sizes of a new network, not both.")
    if not (scratch or arguments.init or arguments.models):
        raise BarkInputError(
            "Nothing says what is trained. Give --models NAME|PATH or --init FILE to go on from weights, or --layers, "
            "--heads and --width for a new network."
        )
    spec, vocabulary, file = SUNO, arguments.vocabulary, None
    if arguments.models:
        models = find_model_set(arguments.models, allow_paths=True)
        spec, vocabulary = models.spec, vocabulary or models.vocabulary
        file = getattr(models, FILE_STAGES[arguments.stage])
    if arguments.spec:
        spec = register_family(_read_spec(arguments.spec))
    if arguments.init:
        file = stage_in(arguments.init, arguments.stage)
    if arguments.stage == "semantic" and vocabulary is None:
        raise BarkInputError("The semantic stage reads text: give --vocabulary vocab.txt, or --models.")
    if vocabulary is not None:
        if not vocabulary.is_file():
            raise BarkFileError(f"There is no vocabulary {vocabulary}. Give the vocab.txt of the models.")
        check_vocabulary(vocabulary, spec)
    return spec, vocabulary, None if scratch else file


def _network(arguments: argparse.Namespace, spec: BarkSpec, file: StageFile | None) -> Network:
    if file is not None:
        return read_network(file, arguments.stage, spec)
    shape = network_shape(arguments.stage, spec, arguments.layers, arguments.heads, arguments.width)
    return new_network(arguments.stage, shape, spec, arguments.seed)


def _read_spec(path: Path) -> BarkSpec:
    try:
        return BarkSpec.from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BarkFileError(f"{path} cannot be read ({error}). Give the spec.json of the models.") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(2**20)).hexdigest()[:16]  # the header and the first weights tell files apart


def _introduction(plan: TrainingPlan, network: Network, folder: ClipFolder) -> str:
    weights = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    train, validation = len(folder.split("train")), len(folder.split("validation"))
    text = f"{plan.stage}: {weights:,} weights to learn, {train:,} clips to learn from, {validation:,} to validate"
    return text + (f", {folder.skipped:,} skipped: they lack the tokens of this stage" if folder.skipped else "")


def _summary(result: Result, plan: TrainingPlan, weights: Path) -> str:
    how = {
        "finished": f"Finished after {result.step:,} steps",
        "patience": f"Ended at step {result.step:,}: {plan.patience} validations in a row were not better",
        "time": f"The time is up at step {result.step:,} of {plan.steps:,}; the same command goes on",
        "stopped": f"Stopped at step {result.step:,} of {plan.steps:,}; the same command goes on",
    }[result.reason]
    best = ""
    if result.best_loss is not None:
        best = f" Best validation loss {result.best_loss:.4f} at step {result.best_step:,}."
    return f"{how}.{best} Weights: {weights}"


class _StopSignals:
    """The first Ctrl-C (or SIGTERM) ends the training after the step at hand; the second one breaks it off."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Callable[[], bool]:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return lambda: self._asked

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
