"""What is in a file, without reading its weights: `describe` and `describe_folder`."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..errors import BarkFileError, BarkMemoryError
from .layouts import FoundStage, find_stages
from .reading import FOLDER_FILES, Weights, kind_of, open_weights, shards_of
from .shapes import STORED, Shape, empty_module, is_training_buffer, shape_of, sources_of


@dataclass(frozen=True, slots=True)
class StageFile:
    """One stage as found in a file; `load_stage` turns it into a module.

    `layout` is who wrote the file: "suno" (.pt with model_args), "transformers", "gitmylo" (safetensors + JSON),
    "flat" (a bare state dict), "encodec", or "converted" (by this engine). `parameters` counts each weight once;
    `stored_bytes` is what this stage's weights take in the file, `file_bytes` the whole file with all that is not
    weights; `dtype` is the precision of most of them.
    """

    path: Path
    stage: str
    layout: str
    shape: Shape
    parameters: int
    stored_bytes: int
    file_bytes: int
    dtype: torch.dtype


@dataclass(frozen=True, slots=True)
class OpenStage:
    """A stage of an open file: its description, where each weight is, and the empty module to put them in."""

    file: StageFile
    weights: Weights
    found: FoundStage
    module: nn.Module
    sources: dict[str, tuple[str, ...]]


def describe(path: Path) -> tuple[StageFile, ...]:
    """The stages that a file holds, by its content and never its name; text, coarse, fine, codec in that order.

    `path` is a file, the `*.index.json` of a split one, or a folder saved by transformers. Reads headers only.
    Raises BarkFileError for a file that is missing, damaged, unsafe or no checkpoint of Bark's, and for one that there
    is no memory to open now: whoever looks through a folder passes over it like over the others.
    """
    try:
        return tuple(stage.file for stage in open_stages(path))
    except BarkMemoryError as error:
        raise BarkFileError(str(error)) from None


def open_stages(path: Path) -> tuple[OpenStage, ...]:
    """Like `describe`, ready to load."""
    weights = open_weights(path)
    return tuple(_open_stage(weights, found) for found in find_stages(weights))


def describe_folder(folder: Path) -> tuple[StageFile, ...]:
    """All stages in the files of one folder, not of its sub-folders; files that are no weights are passed over.

    Raises BarkFileError for a weights file that cannot be used, and where a folder has none.
    """
    try:
        candidates = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise BarkFileError(f"The folder {folder} cannot be listed ({error.strerror or error}).") from None
    kinds = {path: kind_of(path) for path in candidates}
    shards = {shard for path, kind in kinds.items() if kind == "index" for shard in shards_of(path)}
    twice = _lesser_twins(folder, candidates)
    stages = [
        stage
        for path, kind in kinds.items()
        if kind in ("safetensors", "torch", "index") and path not in shards | twice and path.suffix.lower() != ".npz"
        for stage in describe(path)
    ]
    if not stages:
        raise BarkFileError(f"The folder {folder} has no weights of Bark's in it.")
    return tuple(stages)


def _lesser_twins(folder: Path, candidates: Iterable[Path]) -> set[Path]:
    """transformers' own second choices, where the same model was saved in two formats."""
    there = [folder / name for name in FOLDER_FILES if folder / name in candidates]
    return set(there[1:])


def _open_stage(weights: Weights, found: FoundStage) -> OpenStage:
    shape = shape_of(weights, found)
    module = empty_module(found.stage, shape)
    sources = sources_of(weights, found, module)
    sizes: Counter[str] = Counter()
    for name in {name for names in sources.values() for name in names}:
        info = weights.infos[name]
        sizes[info.precision] += math.prod(info.shape)
    file = StageFile(
        path=weights.path,
        stage=found.stage,
        layout=found.layout,
        shape=shape,
        parameters=sum(t.numel() for n, t in module.state_dict().items() if not is_training_buffer(n)),
        stored_bytes=sum(count * STORED[precision].itemsize for precision, count in sizes.items()),
        file_bytes=weights.file_bytes,
        dtype=STORED[sizes.most_common(1)[0][0]],
    )
    return OpenStage(file, weights, found, module, sources)
