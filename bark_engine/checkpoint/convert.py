"""Any checkpoint → safetensors with Suno's names, one file per stage: smaller, quicker to open, and without pickle."""

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from ..atomic import replacing
from ..errors import BarkFileError, BarkInputError
from ..precision import name_of
from ..progress import OnStep
from .build import load_stage, require_precision, save_stage
from .shapes import weight_bytes
from .stages import StageFile, describe, describe_folder

COMPANIONS = ("vocab.txt", "tokenizer.json", "spec.json")  # copied along: without them the models cannot read text
HEADER_BYTES = 1 << 20  # more than the header of any stage takes


@dataclass(frozen=True, slots=True)
class ConvertedStage:
    """One stage that was converted; `source_bytes` is the size of its file, or its share of a file with several."""

    stage: str
    source: Path
    destination: Path
    source_bytes: int
    bytes: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What `convert` wrote."""

    stages: tuple[ConvertedStage, ...]
    copied: tuple[Path, ...]

    def __str__(self) -> str:
        """One line per stage and per copied file, for a person."""
        lines = [
            f"{done.stage}: {done.source_bytes / 1e6:,.1f} MB → {done.bytes / 1e6:,.1f} MB "
            f"({name_of(done.dtype)}), {done.destination}"
            for done in self.stages
        ]
        return "\n".join(lines + [f"copied: {path}" for path in self.copied])


def convert(source: Path, destination: Path, dtype: torch.dtype, on_step: OnStep | None = None) -> ConvertReport:
    """Write each stage of `source` as safetensors, attention and MLP in `dtype`, everything else in float32.

    `source` is a file or a folder with the files of several stages; `destination` a folder, which receives
    `text.safetensors` and so on and the vocabulary, or, for a single stage, a file ending in `.safetensors`. New
    files take their place only when all are complete; whatever goes wrong before, older ones stay and nothing is left
    over. One stage is in memory at a time. `on_step(done, total)` is called per weight and may raise to stop.

    Raises BarkFileError and BarkInputError.
    """
    source, destination = Path(source), Path(destination)
    require_precision(dtype, "stored")
    stages = _stages(source)
    targets = _targets(stages, destination)
    companions = _companions(source, destination)
    _require_room(stages, targets, dtype)
    steps = _Steps(on_step, len(stages))
    converted = []
    with contextlib.ExitStack() as files:
        for index, (stage, target) in enumerate(zip(stages, targets, strict=True)):
            temporary = files.enter_context(replacing(target, f"The converted {stage.stage} stage"))
            module = load_stage(stage, dtype, steps.of_stage(index))
            size = save_stage(module, stage.stage, temporary)
            del module
            kept = torch.float32 if stage.stage == "codec" else dtype
            alone = sum(other.path == stage.path for other in stages) == 1
            before = stage.file_bytes if alone else stage.stored_bytes
            converted.append(ConvertedStage(stage.stage, stage.path, target, before, size, kept))
        for original, target in companions:
            shutil.copyfile(original, files.enter_context(replacing(target, "The copy of a companion file")))
    return ConvertReport(tuple(converted), tuple(target for _, target in companions))


@dataclass(frozen=True, slots=True)
class _Steps:
    """Progress over all stages in thousandths of a stage, because a stage's weights are counted only when opened."""

    on_step: OnStep | None
    stages: int

    def of_stage(self, index: int) -> OnStep:
        def report(done: int, total: int) -> None:
            if self.on_step is not None:
                self.on_step(1000 * index + 1000 * done // total, 1000 * self.stages)

        return report


def _stages(source: Path) -> tuple[StageFile, ...]:
    stages = describe_folder(source) if source.is_dir() else describe(source)
    for stage in stages:
        twins = [other.path.name for other in stages if other.stage == stage.stage]
        if len(twins) > 1:
            raise BarkFileError(
                f"{source} holds the {stage.stage} stage more than once ({', '.join(twins)}). "
                "Convert one file at a time, or move the others to a folder of their own."
            )
    return stages


def _targets(stages: tuple[StageFile, ...], destination: Path) -> list[Path]:
    if destination.suffix == ".safetensors" and not destination.is_dir():
        if len(stages) > 1:
            names = ", ".join(stage.stage for stage in stages)
            raise BarkInputError(f"{destination} is one file, but there are several stages ({names}). Give a folder.")
        targets = [destination]
    else:
        if destination.exists() and not destination.is_dir():
            raise BarkInputError(f"{destination} is a file. Give a folder, or a file name that ends in .safetensors.")
        targets = [destination / f"{stage.stage}.safetensors" for stage in stages]
    for stage in stages:
        for target in targets:
            if target.exists() and target.samefile(stage.path):
                raise BarkInputError(f"Converting would overwrite its own source {target}. Give another folder.")
    return targets


def _companions(source: Path, destination: Path) -> list[tuple[Path, Path]]:
    """Vocabulary and spec beside the source, with the place of their copies. A different file there is not replaced."""
    if destination.suffix == ".safetensors":
        return []
    folder = source if source.is_dir() else source.parent
    pairs = [(folder / name, destination / name) for name in COMPANIONS if (folder / name).is_file()]
    for original, target in pairs:
        if target.exists() and original.read_bytes() != target.read_bytes():
            raise BarkFileError(
                f"{target} already exists and is not the one that belongs to {source}. Give another folder."
            )
    return [(original, target) for original, target in pairs if not target.exists()]


def _require_room(stages: tuple[StageFile, ...], targets: list[Path], dtype: torch.dtype) -> None:
    need = sum(weight_bytes(stage.stage, stage.shape, dtype) + HEADER_BYTES for stage in stages)
    folder = next((folder for folder in targets[0].absolute().parents if folder.is_dir()), None)
    if folder is None:
        raise BarkFileError(f"There is no folder or drive to put {targets[0]} into. Choose one that is there.")
    free = shutil.disk_usage(folder).free
    if free < need:
        raise BarkFileError(
            f"Converting needs {need / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free. "
            "Free some space or choose another folder."
        )
