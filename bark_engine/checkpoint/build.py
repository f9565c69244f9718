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
from ..int8 import dequantize, quantize, with_int8_layers
from ..precision import DTYPES, dtype_of, name_of
from ..progress import OnStep
from .reading import Weights
from .shapes import STORED, is_training_buffer, scale_name
from .stages import OpenStage, StageFile, open_stages

log = logging.getLogger(__name__)


def load_stage(stage_file: StageFile, dtype: torch.dtype | None = None, on_step: OnStep | None = None) -> nn.Module:
    """The stage as a CausalTransformer, FineTransformer or Codec: on the CPU, in eval mode, without gradients.

    `dtype` is that of attention and MLP: float32, float16, bfloat16 or int8; everything else, and all of the codec,
    is float32 (see precision.py). None keeps each weight as it is stored (float32 for stored float64). Weights whose
    precision stays are mapped from the file, which must not be overwritten in place while the module lives; replacing
    it is fine. `on_step(done, total)` is called per weight and may raise to stop.

    Raises BarkFileError for anything wrong with the file, weights that are not finite among it, and BarkMemoryError
    where it cannot be mapped because memory ran out.
    """
    if dtype is not None:
        require_precision(dtype, "loaded")
    opened = next((stage for stage in open_stages(stage_file.path) if stage.file == stage_file), None)
    if opened is None:
        raise BarkFileError(f"{stage_file.path} has changed since it was looked at. Open the models again.")
    if stage_file.stage == "codec":
        dtype = torch.float32
    module = opened.module
    if (dtype or stage_file.dtype) == torch.int8:
        module = with_int8_layers(module)
    _warn_where_heads_differ(opened)
    state: dict[str, Tensor] = {}
    for done, (name, source) in enumerate(opened.sources.items()):
        if on_step is not None:
            on_step(done, len(opened.sources))
        target = dtype_of(name, dtype) if dtype else _stored(opened.weights, source[0])
        if target == torch.int8:
            state[name], state[scale_name(name)] = _read_int8(opened.weights, source)
        else:
            state[name] = _read(opened.weights, source, target)
    if isinstance(module, Codec):
        _fill_training_buffers(module, state)
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def require_precision(dtype: torch.dtype, verb: str) -> None:
    """Refuse a precision that weights cannot be loaded or stored in (BarkInputError)."""
    if dtype not in DTYPES.values():
        allowed = ", ".join(DTYPES)
        raise BarkInputError(f"Weights can be {verb} as one of {allowed}, not as {name_of(dtype)}.")


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
        pair = [weights.passing(name) for name in source]
        if pair[0].dtype == torch.int8:
            tensor = dequantize(*pair).to(dtype)
        else:
            tensor = _fold_weight_norm(*(part.float() for part in pair))
    elif weights.infos[source[0]].precision == name_of(dtype):
        # Looked at through a mapping of its own: the pages of one that stays would all be in memory from now on, and
        # of the table of text tokens a sentence needs a few rows.
        _require_finite(weights.passing(source[0]), weights.path, source[0], dtype)
        return weights.tensor(source[0]).contiguous()
    else:
        original = weights.passing(source[0])
        _require_finite(original, weights.path, source[0], original.dtype)
        tensor = original.to(dtype).contiguous()
    _require_finite(tensor, weights.path, source[-1], dtype)
    return tensor


def _stored(weights: Weights, name: str) -> torch.dtype:
    """The precision of a weight in its file; float32 for float64, which no layer computes in."""
    stored = STORED[weights.infos[name].precision]
    return torch.float32 if stored == torch.float64 else stored


def _read_int8(weights: Weights, source: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """A matrix as int8 and its scales: as they are stored, or made from wider numbers."""
    if len(source) == 2:
        # Mapped by itself, so that its pages leave memory with it where it is packed or moved.
        return weights.passing(source[0]).contiguous(), _read(weights, source[1:], torch.float32)
    original = weights.passing(source[0])
    _require_finite(original, weights.path, source[0], original.dtype)
    return quantize(original)


def _fold_weight_norm(g: Tensor, v: Tensor) -> Tensor:
    """g · v / ‖v‖, the norm over all dimensions but the first, for transposed convolutions too (their inputs)."""
    return v * (g / torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True))


def _require_finite(tensor: Tensor, path: Path, name: str, dtype: torch.dtype) -> None:
    low, high = torch.aminmax(tensor)
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise BarkFileError(
            f"{path}: the weight {name} has values that are not finite as {name_of(dtype)} "
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
