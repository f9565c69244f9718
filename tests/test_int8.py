"""Layers with int8 weights: the numbers they stand for, and the two ways to multiply with them."""

import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bark_engine import Bark, ModelManager
from bark_engine.int8 import (
    STEPS,
    Int8Linear,
    PackedInt8Linear,
    dequantize,
    pack_int8_layers,
    quantize,
    with_int8_layers,
)
from bark_engine.precision import KERNEL_ROWS, Linear, cpu_packs_int8
from support.tiny_models import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def test_int8_is_the_nearest_of_255_steps_of_each_output() -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    weight[3] = 0
    narrow, scale = quantize(weight)
    assert narrow.dtype == torch.int8
    assert torch.equal(scale, scale.bfloat16().float()), "the kernel takes no other scales"
    for row in range(6):
        for column in range(50):
            steps = weight[row, column].item() / scale[row].item()
            assert narrow[row, column] == max(-127, min(127, round(steps)))
    largest = narrow.abs().amax(dim=1)
    assert largest[3] == 0
    assert (largest[[0, 1, 2, 4, 5]] >= 126).all()
    assert (dequantize(narrow, scale) - weight).abs().max() <= 0.51 * scale.max()


@pytest.mark.parametrize("rows", [1, 2, KERNEL_ROWS, KERNEL_ROWS + 1, 300])
@pytest.mark.parametrize("bias", [False, True])
def test_int8_layers_multiply_with_what_their_weights_stand_for(rows: int, bias: bool) -> None:
    plain = Linear(64, 96, bias=bias)
    holder = with_int8_layers(nn.Sequential(plain))
    state = {"0.bias": plain.bias.data} if bias else {}
    state["0.weight"], state["0.scale"] = quantize(plain.weight.data)
    holder.load_state_dict(state, assign=True)
    x = torch.randn(2, rows, 64, generator=torch.Generator().manual_seed(rows))
    wanted = x.double() @ dequantize(state["0.weight"], state["0.scale"]).double().T + state.get("0.bias", 0)
    made = holder(x)
    assert made.shape == (2, rows, 96)
    assert (made - wanted).abs().max() < 0.02 * wanted.abs().max()  # inputs and results have eight bits


# -- whole numbers -------------------------------------------------------------------------------------------------

packs = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="this build of torch has no FBGEMM"
)


def layer_of(weight: Tensor) -> Int8Linear:
    """Whole weights, each of which stands for itself."""
    layer = Int8Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data, layer.scale.data = weight.to(torch.int8), torch.ones(len(weight))
    return layer


def slowly(layer: Int8Linear, x: Tensor) -> np.ndarray:
    """What a packed layer computes, number by number: two whole numbers for an input, sums without end."""
    rows = x.numpy().astype(np.float32)
    made = np.empty((len(rows), len(layer.weight)))
    for number, row in enumerate(rows):
        unit = np.float32(np.abs(row).max() / np.float32(STEPS))
        high = np.rint(row / unit)
        low = np.rint((row / unit - high) * np.float32(2 * STEPS))
        for output, (weights, scale) in enumerate(zip(layer.weight.numpy(), layer.scale.numpy(), strict=True)):
            sums = [sum(int(w) * int(step) for w, step in zip(weights, steps, strict=True)) for steps in (high, low)]
            made[number, output] = (sums[0] + sums[1] / (2 * STEPS)) * float(scale) * float(unit)
    return made


@packs
def test_packed_layers_multiply_whole_numbers() -> None:
    rng = torch.Generator().manual_seed(0)
    layer = Int8Linear(70, 33, bias=False)
    layer.weight.data, layer.scale.data = quantize(torch.randn(33, 70, generator=rng))
    x = torch.randn(5, 70, generator=rng) * torch.tensor([[1.0], [1e-6], [1e6], [1.0], [30.0]])
    made = PackedInt8Linear(layer)(x)
    assert np.allclose(
        made.numpy(), slowly(layer, x), rtol=1e-5, atol=1e-5 * np.abs(made.numpy()).max(1, keepdims=True)
    )
    exact = x.double() @ dequantize(layer.weight, layer.scale).double().T
    unit = x.abs().amax(dim=1, keepdim=True).double() / STEPS
    most = unit / (4 * STEPS) * dequantize(layer.weight, layer.scale).double().abs().sum(dim=1)
    assert ((made - exact).abs() <= 1.01 * most).all(), "half a step of the low number for each input"


@packs
@pytest.mark.parametrize("width", [1_024, 4_096])
def test_the_largest_sums_are_exact(width: int) -> None:
    """Where the processor adds two products in sixteen bits they must not overflow."""
    signs = torch.where(torch.arange(width) % 3 == 0, -1, 1)
    layer = layer_of(torch.stack([127 * signs, -127 * signs, torch.full((width,), -128), 127 * signs.abs()]))
    x = torch.stack([STEPS * signs, -STEPS * signs, torch.full((width,), STEPS), torch.full((width,), -STEPS)]).float()
    assert torch.equal(PackedInt8Linear(layer)(x).long(), x.long() @ layer.weight.long().T)


@packs
def test_a_row_gets_the_bits_it_gets_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    layer = Int8Linear(256, 96, bias=True)
    layer.weight.data, layer.scale.data = quantize(torch.randn(96, 256, generator=rng))
    layer.bias = nn.Parameter(torch.randn(96, generator=rng), requires_grad=False)
    packed = PackedInt8Linear(layer)
    x = torch.randn(300, 256, generator=rng)
    alone = torch.cat([packed(row[None]) for row in x])
    for rows in (2, 4, 8, 16, 300):
        assert torch.equal(packed(x[:rows]), alone[:rows])
    torch.set_num_threads(2)  # the fixture sets it back
    assert torch.equal(packed(x.view(3, 100, 256)), alone.view(3, 100, 96))


@packs
def test_a_row_of_zeros_or_broken_numbers_moves_no_other() -> None:
    rng = torch.Generator().manual_seed(0)
    layer = Int8Linear(64, 8, bias=True)
    layer.weight.data, layer.scale.data = quantize(torch.randn(8, 64, generator=rng))
    layer.bias = nn.Parameter(torch.arange(8.0), requires_grad=False)
    packed = PackedInt8Linear(layer)
    x = torch.randn(4, 64, generator=rng)
    whole = packed(x)
    x[0], x[1, 5], x[2, 6] = 0, torch.nan, torch.inf
    made = packed(x)
    assert torch.equal(made[0], layer.bias)
    assert not made[1].isfinite().any()
    assert not made[2].isfinite().any()
    assert torch.equal(made[3], whole[3])


@packs
def test_packing_lets_the_plain_weights_go_and_changes_nothing_else() -> None:
    network = with_int8_layers(nn.Sequential(Linear(64, 64, bias=True), nn.GELU(), Linear(64, 8, bias=False)))
    plain = []
    for layer in network:
        if isinstance(layer, Int8Linear):
            layer.weight.data, layer.scale.data = quantize(torch.randn(layer.weight.shape))
            plain.append(weakref.ref(layer.weight))
    del layer
    x = torch.randn(3, 64)
    before = network(x)
    assert pack_int8_layers(network) is network
    assert [type(layer) for layer in network] == [PackedInt8Linear, nn.GELU, PackedInt8Linear]
    assert not any(weight() is not None for weight in plain)
    assert torch.allclose(network(x), before, atol=0.02 * float(before.abs().max()))


def kinds_of_loaded_layers() -> set[type[nn.Module]]:
    """What holds the int8 weights of nano's text stage, read anew for the CPU."""
    stage = Bark.load("nano", dtype="int8", device="cpu", manager=ModelManager())._stage("text")
    int8 = (Int8Linear, PackedInt8Linear)
    return stage.run(lambda network, frugal: {type(layer) for layer in network.modules() if isinstance(layer, int8)})


def test_without_what_packing_needs_the_other_kernel_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds_of_loaded_layers() == {PackedInt8Linear if cpu_packs_int8() else Int8Linear}
    cpu_packs_int8.cache_clear()
    monkeypatch.delattr(torch, "_make_per_channel_quantized_tensor", raising=False)
    try:
        assert not cpu_packs_int8()
        assert kinds_of_loaded_layers() == {Int8Linear}
    finally:
        cpu_packs_int8.cache_clear()


def test_widened_to_float16_sums_stay_in_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards without bfloat16: whole numbers up to 127 would sum up to more than 65,504 where the weights do not."""
    monkeypatch.setattr("bark_engine.int8.wide_dtype", lambda device: torch.float16)
    layer = Int8Linear(4_096, 8, bias=False)
    layer.weight.data, layer.scale.data = quantize(torch.full((8, 4_096), 0.06))
    made = layer(torch.full((KERNEL_ROWS + 1, 4_096), 0.4))
    wanted = dequantize(layer.weight, layer.scale).sum(dim=1) * 0.4
    assert made.dtype == torch.float16
    assert torch.allclose(made.float(), wanted.expand_as(made), rtol=1e-3)
