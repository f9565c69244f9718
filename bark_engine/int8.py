"""Layers whose weights are int8 times one float32 scale for each output, and how they are multiplied.

`Int8Linear` holds plain tensors, as they lie in a file, and runs anywhere. `PackedInt8Linear` takes its place on
processors whose fastest product is one of integers.
"""

import warnings
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import KERNEL_ROWS, Linear, cpu_has_int8_kernel, wide_dtype

STEPS = 63  # largest whole number that an input becomes: a sum of two products with weights up to ±127 must fit into
# the sixteen bits in which AVX2 adds them (vpmaddubsw), and they are made unsigned by adding 64
QUANTIZED_ROWS = 64
SHRINK = 128  # what widened weights are divided by, so that their sums stay in float16's range


class Int8Linear(nn.Module):
    """A layer whose weights are int8 times one float32 scale for each output: a quarter of float32's memory.

    A few rows go through torch's int8 kernel, which reads the weights as they are; many rows through a copy of this
    one layer's weights in the precision the device multiplies fastest.
    """

    precision = torch.int8
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
        if len(rows) <= KERNEL_ROWS and x.device.type == "cpu" and cpu_has_int8_kernel():
            made = torch.ops.aten._weight_int8pack_mm(rows.bfloat16(), self.weight, self.scale.bfloat16())
        else:
            made = F.linear(rows, self._widened(given)) * (self.scale * SHRINK)
        if self.bias is not None:
            made = made + self.bias
        return made.to(given).view(*x.shape[:-1], -1)

    def _widened(self, given: torch.dtype) -> Tensor:
        """The weights, a power of two smaller, which rounds nothing: float16 ends at 65,504."""
        return self.weight.to(given).mul_(1 / SHRINK)


class PackedInt8Linear(nn.Module):
    """An `Int8Linear` for the processor's integer instructions: float32 in, float32 out, exact sums between them.

    Each row of the input is written as two rows of whole numbers, high and low: x ≈ unit · (high + low / 126), where
    63 units are the largest value of the row. That is 14 bits, six more than bfloat16 has, and costs little: the
    weights are read once for both. Sums of whole numbers do not depend on their order, so a row gets the same bits
    however many others are beside it.

    The weights lie in the order that FBGEMM's kernels read (torch brings them on x86); they are in no state dict.
    """

    precision = torch.int8

    def __init__(self, layer: Int8Linear):
        super().__init__()
        self.bias = layer.bias
        self._packed = _pack(layer.weight, layer.scale)

    def forward(self, x: Tensor) -> Tensor:
        """`[…, in]` → `[…, out]`."""
        rows = x.float().flatten(0, -2)
        numbers, unit = _whole_numbers(rows)
        sums = _product(numbers, self._packed)
        made = sums[: len(rows)].add_(sums[len(rows) :], alpha=0.5 / STEPS).mul_(unit)
        if self.bias is not None:
            made += self.bias
        return made.view(*x.shape[:-1], -1)


def _whole_numbers(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `[R, in]` → their high numbers and then their low ones, `[2 R, in]`, and the unit of each row, `[R, 1]`.

    The low ones are not rounded yet; the product does that.
    """
    largest = torch.linalg.vector_norm(rows, torch.inf, dim=-1, keepdim=True)
    unit = (largest / STEPS).clamp_(min=torch.finfo(torch.float32).tiny)
    # Into one place, and nothing else as large: for a long prompt to be read the system would have to find new memory
    # for each intermediate result, which takes four times as long as the arithmetic (docs/log.md).
    numbers = rows.new_empty(2 * len(rows), rows.shape[1])
    high, low = numbers.chunk(2)
    torch.div(rows, unit, out=low)
    torch.round(low, out=high)
    low.sub_(high).mul_(2 * STEPS)
    return numbers, unit


def _product(numbers: Tensor, packed: torch.ScriptObject) -> Tensor:
    """Numbers `[R, in]` of −63 … 63 times the packed weights: exact sums, times the weights' scales, in float32."""
    return torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(numbers, 1.0, STEPS + 1, packed)


def _pack(weight: Tensor, scale: Tensor) -> torch.ScriptObject:
    """Weights `[out, in]` in FBGEMM's order, with their scales."""
    zeros = torch.zeros(len(scale), dtype=torch.int64)
    quantized = torch._make_per_channel_quantized_tensor(  # pyright: ignore[reportPrivateImportUsage]
        weight, scale.double(), zeros, 0
    )
    return torch.ops.quantized.linear_prepack(quantized, None)


def pack_int8_layers(network: nn.Module) -> nn.Module:
    """Put a `PackedInt8Linear` in the place of every `Int8Linear` of a network that stays on the CPU.

    The plain weights are let go one by one. Takes two seconds for a large stage; with more threads half of that, but
    then a third of the packed weights' memory is taken once more and not given back.
    """
    places = [
        (parent, name)
        for parent in network.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, Int8Linear)
    ]
    with warnings.catch_warnings():
        # torch 2.13 says that its quantized tensors will go one day; `cpu_packs_int8` asks whether they are there.
        warnings.filterwarnings("ignore", message=".*quantized tensor creation functions.*")
        for parent, name in places:
            setattr(parent, name, PackedInt8Linear(cast(Int8Linear, parent.get_submodule(name))))
    return network


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights `[out, in]` → int8 `[out, in]` and a scale `[out]`: symmetric, the largest of each output at ±127.

    The scales are rounded to what bfloat16 can hold, so that the kernel, which takes no others, multiplies with the
    scales that the weights were divided by.
    """
    narrow, scale = torch.empty(weight.shape, dtype=torch.int8), torch.empty(len(weight))
    # Some rows at a time: copies of whole matrices leave holes in the memory of a process that are never used again.
    for rows in range(0, len(weight), QUANTIZED_ROWS):
        part = weight[rows : rows + QUANTIZED_ROWS].float()
        steps = (torch.linalg.vector_norm(part, torch.inf, dim=1) / 127).bfloat16().float()
        steps = torch.where(steps > 0, steps, torch.ones_like(steps))
        narrow[rows : rows + len(part)] = (part / steps[:, None]).round_().clamp_(-127, 127)
        scale[rows : rows + len(part)] = steps
    return narrow, scale


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
