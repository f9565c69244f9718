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
KERNEL_ROWS = 8  # up to so many rows torch's own int8 kernel is faster than widening the weights to bfloat16
GROUPS = 8  # parts of the outputs that `linear` multiplies by themselves
GROUPED_ROWS = 128  # more rows keep all threads busy anyway
GROUPED_WEIGHTS = 1 << 18  # fewer are multiplied before another thread has begun

_groups_agree: dict[tuple[int, ...], bool] = {}  # by rows, outputs, inputs, threads and bias
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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, bit for bit, and in float32 on the CPU with all threads for few rows.

    MKL multiplies one row with one thread, and few rows with badly used ones (docs/log.md). A batched product of
    eight parts of the outputs is spread over all of them. That moves no bit where both sum up in the same order: the
    first product of each size is made both ways and compared, and where they differ `F.linear` stays.
    """
    rows = x.numel() // x.shape[-1]
    if not _can_divide(x, weight, rows):
        return F.linear(x, weight, bias)
    size = (rows, *weight.shape, torch.get_num_threads(), bias is not None)
    if not _groups_agree.get(size, True):
        return F.linear(x, weight, bias)
    parts = x.reshape(1, rows, -1).expand(GROUPS, -1, -1)
    made = torch.bmm(parts, weight.view(GROUPS, -1, weight.shape[1]).transpose(1, 2))  # [parts, rows, out / parts]
    made = made.transpose(0, 1).reshape(*x.shape[:-1], len(weight))
    if bias is not None:
        made += bias
    if size not in _groups_agree:
        wanted = F.linear(x, weight, bias)
        if wanted.isfinite().all():
            _groups_agree[size] = torch.equal(made, wanted)
        return wanted
    return made


def _can_divide(x: Tensor, weight: Tensor, rows: int) -> bool:
    """Whether a product is one of those that parts of the outputs make faster, and not of a training."""
    float32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    there = x.device.type == "cpu" and torch.backends.mkl.is_available() and not torch.is_grad_enabled()
    even = len(weight) % GROUPS == 0 and weight.is_contiguous()
    return float32 and there and even and rows <= GROUPED_ROWS and weight.numel() >= GROUPED_WEIGHTS


class Linear(nn.Linear):
    """A layer of attention or MLP: takes float32 or its own precision, gives its own."""

    @property
    def precision(self) -> torch.dtype:
        """What its weights are kept in."""
        return self.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """`[…, in]` → `[…, out]`."""
        if not torch.is_autocast_enabled(x.device.type):  # which chooses by itself
            x = x.to(self.weight.dtype)
        return linear(x, self.weight, self.bias)


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
    instructions for it; without them a batch is multiplied fastest in whole numbers, too. Elsewhere float32.
    """
    if stage == "codec" or narrowed < SMALL:
        return torch.float32
    if stage != "fine" and (cpu_packs_int8() or (rows <= KERNEL_ROWS and cpu_has_int8_kernel())):
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
def cpu_has_int8_kernel() -> bool:
    """Whether torch has a vectorised kernel for int8 weights on this processor: from AVX2 on (docs/log.md)."""
    return _cpu_is_vectorised() and hasattr(torch.ops.aten, "_weight_int8pack_mm")


@cache
def cpu_packs_int8() -> bool:
    """Whether int8 weights are packed for FBGEMM and multiplied as whole numbers: AVX2 or better, without bfloat16.

    There it is faster than anything else that torch has, for one row and for hundreds. Where bfloat16 is fast it was
    never measured (docs/log.md). Torch means to drop the tensors that packing starts from; without them the other
    kernel is used.
    """
    there = hasattr(torch, "_make_per_channel_quantized_tensor") and all(
        hasattr(torch.ops.quantized, name)
        for name in ("linear_prepack", "linear_with_input_q_dq_qweight_dq_output_fp32")
    )
    engines = torch.backends.quantized.supported_engines
    return _cpu_is_vectorised() and there and "fbgemm" in engines and not cpu_bfloat16_is_fast()


def _cpu_is_vectorised() -> bool:
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
