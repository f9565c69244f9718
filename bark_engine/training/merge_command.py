"""`python -m bark_engine train merge`: weights and an adapter → weights that need no adapter."""

import argparse
import shutil
import sys
from pathlib import Path

from ..atomic import replacing
from ..checkpoint import StageFile, load_stage, save_stage
from ..checkpoint.convert import COMPANIONS
from ..errors import BarkInputError
from ..library.model_sets import find_model_set
from ..precision import DTYPES
from ..transformer import CausalTransformer, FineTransformer
from .lora import Adapter, merge
from .networks import FILE_STAGES, stage_in


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
    assert isinstance(module, (CausalTransformer, FineTransformer))
    merge(module, adapter, adapter.stage, arguments.strength)
    with replacing(target, "The merged weights") as temporary:
        size = save_stage(module, base.stage, temporary)
    copied = _copy_companions(base.path.parent, target.parent)
    beside = f", with {' and '.join(copied)}" if copied else ""
    sys.stdout.write(f"{target}: {size / 1e6:,.1f} MB{beside}\n")


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
