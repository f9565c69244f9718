"""`python -m bark_engine train merge`: weights and an adapter → weights that need no adapter."""

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from ..atomic import replacing
from ..checkpoint import StageFile, load_stage, save_stage
from ..checkpoint.convert import COMPANIONS
from ..checkpoint.shapes import scale_name
from ..errors import BarkInputError
from ..int8 import quantize
from ..library.model_sets import find_model_set
from ..library.places import preferred, shelf
from ..precision import DTYPES
from ..transformer import CausalTransformer, FineTransformer
from .lora import Adapter, merge
from .networks import FILE_STAGES, stage_in
from .objectives import Network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `train merge`."""
    parser.add_argument("adapter", type=Path, metavar="ADAPTER", help="adapter.safetensors of a run with --lora-rank")
    parser.add_argument("weights", metavar="WEIGHTS", help="a weights file, or the name or folder of models")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="a folder, or a file that ends in .safetensors")
    parser.add_argument("--strength", type=float, default=1.0, metavar="S", help="how much of it is added [1.0]")
    parser.add_argument("--dtype", choices=list(DTYPES), help="precision to write [that of WEIGHTS]")


def run(arguments: argparse.Namespace) -> None:
    """Merge as told, and say what was written. WEIGHTS stay as they are: to take the adapter off is to use them."""
    adapter = Adapter.load(arguments.adapter)
    base = _base(arguments.weights, adapter.stage)
    target = arguments.output
    if target.suffix != ".safetensors":
        target = target / f"{base.stage}.safetensors"
    if target.exists() and target.samefile(base.path):
        raise BarkInputError(f"Merging would overwrite its own source {target}. Give another folder or file.")
    module = load_stage(base, DTYPES[arguments.dtype] if arguments.dtype else None)
    exact = load_stage(base, torch.float32)
    assert isinstance(exact, (CausalTransformer, FineTransformer))
    merge(exact, adapter, adapter.stage, arguments.strength)
    _take_over(module, exact, adapter.parts)
    with replacing(target, "The merged weights") as temporary:
        size = save_stage(module, base.stage, temporary)
    copied = _copy_companions(base.path.parent, target.parent)
    if target != arguments.output:
        copied += _copy_codec(base.path.parent, target.parent)
    beside = f", with {', '.join(copied)}" if copied else ""
    sys.stdout.write(f"{target}: {size / 1e6:,.1f} MB{beside}\n")


def _take_over(module: nn.Module, merged: Network, names: Iterable[str]) -> None:
    """Give a module the merged float32 weights of these names, in the precision it keeps them in.

    They are rounded once, after the sum; an addition to what is int8 could not be stored between its steps. All other
    weights stay the same bits.
    """
    state = module.state_dict()
    for name in names:
        weight = merged.get_parameter(name).detach()
        if state[name].dtype == torch.int8:
            state[name], state[scale_name(name)] = quantize(weight)
        else:
            state[name] = weight.to(state[name].dtype)
    module.load_state_dict(state, strict=True, assign=True)


def _base(weights: str, stage: str) -> StageFile:
    if Path(weights).is_file():
        return stage_in(Path(weights), stage)
    return getattr(find_model_set(weights, allow_paths=True), FILE_STAGES[stage])


def _copy_companions(source: Path, destination: Path) -> list[str]:
    """Vocabulary and spec from beside the weights, where there are none yet; their names."""
    names = [name for name in COMPANIONS if (source / name).is_file() and not (destination / name).exists()]
    for name in names:
        with replacing(destination / name, "The copy of a companion file") as temporary:
            shutil.copyfile(source / name, temporary)
    return names


def _copy_codec(source: Path, destination: Path) -> list[str]:
    """The codec from beside the weights, where there is none yet; its name. Only Suno's is also found elsewhere."""
    codec = next((file for file in preferred(shelf(source)[0]) if file.stage == "codec"), None)
    if codec is None or any(file.stage == "codec" for file in shelf(destination)[0]):
        return []
    path = destination / "codec.safetensors"
    with replacing(path, "The copy of the codec") as temporary:
        save_stage(load_stage(codec), "codec", temporary)
    return [path.name]
