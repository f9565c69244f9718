"""In which precision the weights of attention and MLP are kept; everything else is always float32.

Embeddings, heads, norms, sums and what is drawn from are never narrowed: they cost little time, and tokens depend on
them most.
"""

import os
import re
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
PRECISIONS = ("auto", *DTYPES)

SMALL = 20_000_000  # weights of attention and MLP; fewer than these are read from a processor's cache anyway
KERNEL_ROWS = 8  # up to so many rows the int8 kernel of torch's CPU build is faster than widening the weights

_ONEDNN_CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # its environment variables, new name and old
_ONEDNN_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}
_NARROWED = re.compile(r"transformer\.h\.\d+\.(attn|mlp)\.\w+\.(weight|bias|scale)")


def name_of(dtype: torch.dtype) -> str:
    """A person's name for a precision: "bfloat16" for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def is_narrowed(name: str) -> bool:
    """Whether a weight of a network, by its name in the state dict, is kept in the chosen precision."""
    return _NARROWED.fullmatch(name) is not None


def dtype_of(name: str, precision: torch.dtype) -> torch.dtype:
    """What a weight of a network is kept as in a precision; the scales and biases of int8 layers are float32."""
    if not is_narrowed(name):
        return torch.float32
    return precision if precision.is_floating_point or name.endswith(".weight") else torch.float32


class Linear(nn.Linear):
    """A layer of attention or MLP: takes float32 or its own precision, gives its own."""

    def forward(self, x: Tensor) -> Tensor:
        """`[…, in]` → `[…, out]`."""
        if not torch.is_autocast_enabled(x.device.type):  # which chooses by itself
            x = x.to(self.weight.dtype)
        return F.linear(x, self.weight, self.bias)


class Int8Linear(nn.Module):
    """A layer whose weights are int8 times one float32 scale for each output: a quarter of float32's memory.

    A few rows go through torch's int8 kernel, which reads the weights as they are; many rows through a copy of this
    one layer's weights in the precision the device multiplies fastest.
    """

    weight: nn.Parameter
    scale: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.empty(outputs), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """`[…, in]` → `[…, out]`, in the precision that the weights are widened to."""
        given = wide_dtype(self.weight.device)
        rows = x.to(given).flatten(0, -2)
        if len(rows) <= KERNEL_ROWS and x.device.type == "cpu" and cpu_int8_is_fast():
            made = torch.ops.aten._weight_int8pack_mm(rows.bfloat16(), self.weight, self.scale.bfloat16())
        else:
            made = F.linear(rows, self.weight.to(given)) * self.scale
        if self.bias is not None:
            made = made + self.bias
        return made.to(given).view(*x.shape[:-1], -1)


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `[out, in]` → int8 `[out, in]` and a scale `[out]`: symmetric, the largest of each output at ±127.

    The scales are rounded to what bfloat16 can hold, so that the kernel, which takes no others, multiplies with the
    scales that the weights were divided by.
    """
    weight = weight.float()
    scale = (weight.abs().amax(dim=1) / 127).bfloat16().float()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor) -> Tensor:
    """The float32 weights that int8 ones and their scales stand for."""
    return weight.float() * scale[:, None].float()


def with_int8_layers(network: nn.Module) -> nn.Module:
    """Put an `Int8Linear` without values in the place of every `Linear`, on the same device; for `load_state_dict`."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Linear):
                with layer.weight.device:
                    narrow = Int8Linear(layer.in_features, layer.out_features, layer.bias is not None)
                setattr(parent, name, narrow)
    return network


def wide_dtype(device: torch.device) -> torch.dtype:
    """The precision in which a device multiplies many rows fastest: what int8 weights are widened to."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if cpu_bfloat16_is_fast() else torch.float32
    return torch.float16


def cache_dtype(precision: torch.dtype, device: torch.device, rows: int = 1) -> torch.dtype:
    """The precision of keys and values of so many sequences, for layers of a precision on a device.

    On the CPU one sequence is read from the processor's cache, where float32 is quicker than bfloat16; what several
    of them hold comes from memory, where half as many bytes take half as long (docs/log.md).
    """
    if device.type == "cpu":
        return torch.float32 if rows == 1 or precision == torch.float32 else wide_dtype(device)
    return precision if precision.is_floating_point else wide_dtype(device)


def best_on_cpu(stage: str, narrowed: int, rows: int = 1) -> torch.dtype:
    """What "auto" means on this processor for a stage with so many weights in attention and MLP, and so many sequences.

    Text and coarse read all weights for every token, so fewer bytes are less time: int8 where torch has a kernel for
    it. The fine stage multiplies 1,024 rows at once, and so does, in small, a batch: bfloat16 where there are
    instructions for it. Elsewhere float32.
    """
    if stage == "codec" or narrowed < SMALL:
        return torch.float32
    if stage != "fine" and rows <= KERNEL_ROWS and cpu_int8_is_fast():
        return torch.int8
    return torch.bfloat16 if cpu_bfloat16_is_fast() else torch.float32


@cache
def cpu_bfloat16_is_fast() -> bool:
    """Whether this processor has instructions for products of bfloat16 (AVX512-BF16, AMX), and may use them.

    Without them bfloat16 is emulated and slower than float32. What caps torch's and oneDNN's instruction sets
    (ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA) counts as a missing instruction. Asked of the flags and not measured:
    a busy moment must not decide which tokens come out.
    """
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # private; absent from older versions
    there = any(getattr(torch.cpu, name, bool)() for name in checks)
    cap = next((os.environ[name] for name in _ONEDNN_CAPS if os.environ.get(name)), "DEFAULT").upper()
    return there and torch.backends.cpu.get_cpu_capability() == "AVX512" and cap not in _ONEDNN_WITHOUT_BFLOAT16


@cache
def cpu_int8_is_fast() -> bool:
    """Whether torch has a vectorised kernel for int8 weights on this processor: from AVX2 on (docs/log.md)."""
    vectorised = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return vectorised and hasattr(torch.ops.aten, "_weight_int8pack_mm")
