"""From a described stage to a module that can run, and from a module to a file.

Modules are made on the meta device and given the mapped tensors as they are, so a stage costs the memory of its
weights once. Nothing here knows spellings or formats; see layouts.py and reading.py.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..codec import Codec
from ..errors import BarkFileError, BarkInputError
from ..progress import OnStep
from .reading import Weights
from .shapes import is_training_buffer
from .stages import OpenStage, StageFile, open_stages

log = logging.getLogger(__name__)
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


def load_stage(stage_file: StageFile, dtype: torch.dtype | None = None, on_step: OnStep | None = None) -> nn.Module:
    """The stage as a CausalTransformer, FineTransformer or Codec: on the CPU, in eval mode, without gradients.

    `dtype` is float32, float16 or bfloat16; None keeps the stored precision (float32 for stored float64). The codec
    is always float32. Weights whose precision stays are mapped from the file, which must not be overwritten in place
    while the module lives; replacing it is fine. `on_step(done, total)` is called per weight and may raise to stop.

    Raises BarkFileError for anything wrong with the file, weights that are not finite among it.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise BarkInputError(f"Weights can be loaded as float32, float16 or bfloat16, not {dtype}.")
    opened = next((stage for stage in open_stages(stage_file.path) if stage.file == stage_file), None)
    if opened is None:
        raise BarkFileError(f"{stage_file.path} has changed since it was looked at. Open the models again.")
    target = dtype or stage_file.dtype
    if stage_file.stage == "codec" or target == torch.float64:
        target = torch.float32
    _warn_where_heads_differ(opened)
    state: dict[str, Tensor] = {}
    for done, (name, source) in enumerate(opened.sources.items()):
        if on_step is not None:
            on_step(done, len(opened.sources))
        state[name] = _read(opened.weights, source, target)
    if isinstance(opened.module, Codec):
        _fill_training_buffers(opened.module, state)
    opened.module.load_state_dict(state, strict=True, assign=True)
    return opened.module.eval().requires_grad_(False)


def save_stage(module: nn.Module, stage: str, path: Path) -> int:
    """Write a module of `load_stage` as safetensors with Suno's names; returns the bytes written.

    The header carries the stage and its sizes, because the number of attention heads is in no tensor. Raises OSError
    where the disk refuses; see `replacing` of atomic.py for a file that is complete or absent.
    """
    tensors = {}
    for name, tensor in module.state_dict().items():
        if not is_training_buffer(name):
            own = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
            tensors[name] = tensor if own and tensor.is_contiguous() else tensor.contiguous().clone()
    metadata = {"format": "pt", "stage": stage, "shape": json.dumps(asdict(module.shape))}  # type: ignore[call-overload]
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    return path.stat().st_size


def _read(weights: Weights, source: tuple[str, ...], dtype: torch.dtype) -> Tensor:
    """One weight of the module, checked to be finite and in the wanted precision."""
    if len(source) == 2:
        tensor = _fold_weight_norm(*(weights.passing(name).float() for name in source))
    elif weights.infos[source[0]].precision == str(dtype).removeprefix("torch."):
        tensor = weights.tensor(source[0]).contiguous()
    else:
        original = weights.passing(source[0])
        _require_finite(original, weights.path, source[0], original.dtype)
        tensor = original.to(dtype).contiguous()
    _require_finite(tensor, weights.path, source[-1], dtype)
    return tensor


def _fold_weight_norm(g: Tensor, v: Tensor) -> Tensor:
    """g · v / ‖v‖, the norm over all dimensions but the first, for transposed convolutions too (their inputs)."""
    return v * (g / torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True))


def _require_finite(tensor: Tensor, path: Path, name: str, dtype: torch.dtype) -> None:
    low, high = torch.aminmax(tensor)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise BarkFileError(
            f"{path}: the weight {name} has values that are not finite as {str(dtype).removeprefix('torch.')} "
            "(NaN or infinite). The file is damaged, or needs a precision with more range; "
            "take a fresh copy, or load it as float32."
        )


def _warn_where_heads_differ(opened: OpenStage) -> None:
    for used, other in opened.found.tied:
        if not torch.equal(opened.weights.passing(used), opened.weights.passing(other)):
            log.warning("%s: %s and %s should be equal but differ; the first is used.", opened.file.path, used, other)


def _fill_training_buffers(codec: Codec, state: dict[str, Tensor]) -> None:
    """What encodec's quantizer keeps for training, as if it had just been set to these codebooks."""
    for name, buffer in codec.state_dict().items():
        if name.endswith("._codebook.inited"):
            state[name] = torch.ones(1)
        elif name.endswith("._codebook.cluster_size"):
            state[name] = torch.zeros(buffer.shape)
        elif name.endswith("._codebook.embed_avg"):
            state[name] = state[name.removesuffix("_avg")]
