"""Narrow weights: what is narrowed, that int8 is the numbers it stands for, and what "auto" picks."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from precision_agreement import compare, measure
from torch import nn

from bark_engine import Bark, BarkFileError, CoarseSampling, SemanticSampling, SemanticTokens, precision
from bark_engine.batch import run_rows
from bark_engine.checkpoint import convert, describe, load_stage, save_stage, weight_bytes
from bark_engine.coarse import CoarseRow, generate_coarse
from bark_engine.int8 import Int8Linear, PackedInt8Linear, dequantize, pack_int8_layers, quantize
from bark_engine.precision import (
    GROUPED_ROWS,
    GROUPED_WEIGHTS,
    GROUPS,
    KERNEL_ROWS,
    SMALL,
    Linear,
    best_on_cpu,
    cache_dtype,
    cpu_bfloat16_is_fast,
    cpu_has_int8_kernel,
    cpu_packs_int8,
    is_narrowed,
    linear,
)
from bark_engine.semantic import SemanticRow, generate_semantic
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer, RowCache, attend_to_one
from support.tiny_models import causal_pair, fine_pair, one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
NARROW = (torch.float16, torch.bfloat16, torch.int8)


def narrowed(network: nn.Module, stage: str, dtype: torch.dtype, folder: Path) -> CausalTransformer:
    """A network as it comes back from a file in a precision."""
    save_stage(network, stage, folder / f"{stage}.safetensors")
    module = load_stage(describe(folder / f"{stage}.safetensors")[0], dtype)
    assert isinstance(module, CausalTransformer)
    return module


# -- numbers -------------------------------------------------------------------------------------------------------


def test_attention_and_mlp_are_narrowed_and_nothing_else() -> None:
    for pair in (causal_pair("text"), fine_pair()):
        layers = {f"{name}.weight" for name, part in pair.engine.named_modules() if isinstance(part, Linear)}
        assert layers == {name for name in pair.engine.state_dict() if is_narrowed(name)}
        assert len(layers) == 4 * pair.engine.shape.n_layer


@pytest.mark.parametrize(("dtype", "packed"), [*((dtype, False) for dtype in NARROW), (torch.int8, True)])
def test_logits_stay_near_those_of_float32(dtype: torch.dtype, packed: bool, tmp_path: Path) -> None:
    network = causal_pair("text").engine
    narrow = narrowed(network, "text", dtype, tmp_path)
    if packed:
        if "fbgemm" not in torch.backends.quantized.supported_engines:
            pytest.skip("this build of torch has no FBGEMM")
        pack_int8_layers(narrow)
    ids = torch.tensor(np.random.default_rng(0).integers(0, 10_000, (1, 40)))
    logits = []
    for each in (network, narrow):
        with torch.inference_mode():
            cache = each.new_cache(60)
            each(each.embed(ids), cache)
            steps = [each(each.embed(ids[:, n : n + 1]), cache) for n in range(5)]
            logits.append(torch.cat([each.logits(step, 0, 10_001) for step in steps]).log_softmax(-1))
    assert logits[1].dtype == torch.float32
    assert not torch.equal(logits[0], logits[1])
    divergence = F.kl_div(logits[1], logits[0], log_target=True, reduction="batchmean")
    assert divergence < 0.02, "of some three nats"


# -- few rows in float32 -------------------------------------------------------------------------------------------


@pytest.fixture
def no_sizes_known(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[int, ...], bool]:
    known: dict[tuple[int, ...], bool] = {}
    monkeypatch.setattr(precision, "_groups_agree", known)
    return known


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 2, 7, GROUPED_ROWS, GROUPED_ROWS + 1])
@pytest.mark.parametrize("size", [(512, 512), (256, 2_048), (10_048, 64), (1_025, 512), (64, 64)])
def test_parts_of_the_outputs_make_the_bits_of_the_whole(
    threads: int, rows: int, size: tuple[int, int], no_sizes_known: dict[tuple[int, ...], bool]
) -> None:
    torch.set_num_threads(threads)  # the fixture sets it back
    rng = torch.Generator().manual_seed(rows)
    weight, bias = torch.randn(size, generator=rng), torch.randn(size[0], generator=rng)
    with torch.inference_mode():
        for given in (None, bias):
            for _ in range(3):  # the first one is made both ways
                x = torch.randn(1, rows, size[1], generator=rng)
                assert torch.equal(linear(x, weight, given), F.linear(x, weight, given))
    small = math.prod(size) < GROUPED_WEIGHTS
    if small or size[0] % GROUPS or rows > GROUPED_ROWS or not torch.backends.mkl.is_available():
        assert not no_sizes_known
    else:
        assert list(no_sizes_known) == [(rows, *size, threads, False), (rows, *size, threads, True)]


def test_where_the_bits_differ_nothing_is_divided(
    no_sizes_known: dict[tuple[int, ...], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch.backends.mkl.is_available():
        pytest.skip("this build of torch has no MKL")
    calls = []
    product = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda x, y: calls.append(len(x)) or product(x, y) * (1 + 1e-6))
    weight = torch.randn(8_192, 32)
    with torch.inference_mode():
        broken = torch.full((1, 32), torch.nan)
        assert linear(broken, weight).isnan().all()
        assert not no_sizes_known, "numbers that equal nothing tell nothing"
        for _ in range(3):
            x = torch.randn(1, 32)
            assert torch.equal(linear(x, weight), F.linear(x, weight))
    assert no_sizes_known == {(1, 8_192, 32, 1, False): False}
    assert calls == [GROUPS, GROUPS]
    wanted = torch.randn(1, 32, requires_grad=True)
    assert linear(wanted, weight).requires_grad, "training takes torch's own"


# -- files ---------------------------------------------------------------------------------------------------------


def test_an_int8_file_can_be_read_in_every_precision(tmp_path: Path) -> None:
    network = causal_pair("coarse").engine
    save_stage(network, "coarse", tmp_path / "wide.safetensors")
    convert(tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors", torch.int8)
    (file,) = describe(tmp_path / "narrow.safetensors")
    as_stored = load_stage(file, torch.int8)
    made_now = load_stage(describe(tmp_path / "wide.safetensors")[0], torch.int8)
    for name, weight in made_now.state_dict().items():
        assert torch.equal(as_stored.state_dict()[name], weight), name
    wide = load_stage(file, torch.float32).state_dict()
    for name, weight in network.state_dict().items():
        if is_narrowed(name):
            weight = dequantize(*quantize(weight))
        assert torch.equal(wide[name], weight), name


def test_the_bytes_of_a_stage_are_told_before_it_is_made(tmp_path: Path) -> None:
    for stage, pair in (("text", causal_pair("text")), ("fine", fine_pair())):
        for dtype in (torch.float32, torch.bfloat16, torch.int8):
            path = tmp_path / f"{stage}.safetensors"
            save_stage(pair.engine, stage, path)
            module = load_stage(describe(path)[0], dtype)
            size = sum(tensor.numel() * tensor.itemsize for tensor in module.state_dict().values())
            assert weight_bytes(stage, pair.engine.shape, dtype) == size


@pytest.mark.parametrize("broken", ["no scale", "a scale too many", "a scale of zeros and ones in int8"])
def test_int8_weights_without_their_scales_are_refused(broken: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    network = causal_pair("coarse").engine
    save_stage(network, "coarse", tmp_path / "wide.safetensors")
    convert(tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors", torch.int8)
    state = load_file(tmp_path / "narrow.safetensors")
    name = "transformer.h.0.attn.c_attn.scale"
    if broken == "no scale":
        del state[name]
    elif broken == "a scale too many":
        state[name] = torch.ones(len(state[name]) + 1)
    else:
        state[name] = torch.ones(len(state[name]), dtype=torch.int8)
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(BarkFileError, match=r"c_attn\.(weight as int8|scale should have shape|scale as int8)"):
        load_stage(describe(tmp_path / "broken.safetensors")[0], torch.float32)


# -- the whole path ------------------------------------------------------------------------------------------------


def test_int8_speaks_the_whole_path() -> None:
    bark = Bark.load("nano", dtype="int8")
    assert [bark.dtype_of(stage) for stage in ("text", "coarse", "fine", "codec")] == [torch.int8] * 3 + [torch.float32]
    speech = bark.say("Hello.", seed=1)
    assert speech.audio.samples.std() > 0.01
    assert speech.fine == bark.say("Hello.", seed=1).fine
    assert 0.5 < len(speech.semantic) / len(Bark.load("nano", dtype="float32").say("Hello.", seed=1).semantic) < 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_rows_of_narrow_networks_are_near_what_they_are_alone(dtype: torch.dtype, tmp_path: Path) -> None:
    """Not equal, because eight bits round differently: but nearly all greedy tokens are."""
    network = narrowed(causal_pair("text").engine, "text", dtype, tmp_path)
    greedy = SemanticSampling(temperature=0, early_stop=False, max_seconds=0.5)
    texts = [SUNO.text_offset + np.arange(100 * n, 100 * n + 5) for n in range(1, 12)]
    rows = [SemanticRow(text, SUNO, None, greedy, 0) for text in texts]
    assert run_rows(network, rows, 4, 257 + 768, lambda: None) == [None] * len(rows)
    same = [
        list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(row.tokens, alone.ids.tolist(), strict=True)))
        for row, text in zip(rows, texts, strict=True)
        for alone in [generate_semantic(network, text, SUNO, speaker=None, sampling=greedy, seed=0)]
    ]
    assert sum(map(len, same)) > 0.5 * sum(len(row.tokens) for row in rows)


def test_a_cache_in_bfloat16_grows_and_hides_what_is_behind_a_row() -> None:
    """The batch's cache on the CPU, whose memory is looked at as a whole, against one row by itself."""
    network = causal_pair("text").engine
    rng = torch.Generator().manual_seed(0)
    made, alone = [], []
    rows = RowCache(network.shape, 2, 300, CPU, torch.bfloat16)
    single = [RowCache(network.shape, 1, 300, CPU, torch.bfloat16) for _ in range(2)]
    ids = torch.randint(0, 10_000, (2, 200, 1), generator=rng)
    with torch.inference_mode():
        for row, length in enumerate((120, 3)):
            start = torch.randint(0, 10_000, (1, length), generator=rng)
            for cache, place in ((rows, row), (single[row], 0)):
                one = cache.row(place, length)
                network(network.embed(start), one)
                cache.lengths[place] = length
        assert rows.keys.shape[3] == 128
        rows.rows = 2
        single[0].rows = single[1].rows = 1
        for step in range(150):
            made.append(network.step_rows(network.embed(ids[:, step]), rows))
            alone.append(torch.cat([network.step_rows(network.embed(ids[r : r + 1, step]), single[r]) for r in (0, 1)]))
    assert rows.keys.shape[3] == 300, "as much as asked for, and no more"
    assert (torch.stack(made) - torch.stack(alone)).abs().max() < 0.1
    assert torch.stack(made).std() > 0.5


def test_one_query_is_answered_like_by_torch() -> None:
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 2, size, 8, generator=rng) for size in (1, 20, 20))
    mask = (torch.arange(20) < torch.tensor([[20], [7], [1]]))[:, None, None]
    wanted = F.scaled_dot_product_attention(query, key, value, mask)
    assert torch.allclose(attend_to_one(query, key, value, mask), wanted, atol=1e-6)
    narrow = attend_to_one(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask)
    assert torch.allclose(narrow.float(), wanted, atol=0.03)
    weights = [math.exp(float(query[0, 0, 0] @ k) / math.sqrt(8)) for k in key[0, 0]]
    slow = torch.stack([w * v for w, v in zip(weights, value[0, 0], strict=True)]).sum(dim=0) / sum(weights)
    assert torch.allclose(attend_to_one(query, key, value, None)[0, 0, 0], slow, atol=1e-5)


# -- coarse windows that only grow ---------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [60, 200, 630])
def test_a_window_that_goes_on_gives_the_tokens_of_one_that_is_read_anew(history: int) -> None:
    """In float32, where both ways are exact but for rounding; long enough that windows begin to slide."""
    network = causal_pair("coarse").engine
    semantic = SemanticTokens(np.random.default_rng(0).integers(0, 10_000, 160))  # type: ignore[arg-type]
    sampling = CoarseSampling(max_history=history, window=20)
    anew = generate_coarse(network, semantic, SUNO, speaker=None, sampling=sampling, seed=1)
    row = CoarseRow(semantic, SUNO, None, sampling, 1, continues=True)
    prompts = []
    prompt = row.prompt
    row.prompt = lambda network: prompts.append(row.step) or prompt(network)  # type: ignore[method-assign]
    assert run_rows(network, [row], 1, row.positions, lambda: None) == [None]
    assert row.result() == anew
    past = int(history / SUNO.coarse_per_semantic)  # semantic ids of the past; more of them, and the first one leaves
    slides = [n for n in range(20, row.total, 20) if n > history or round(n / SUNO.coarse_per_semantic) > past]
    assert prompts == [0, *slides], "read at the start, and when something has left the window"


# -- what auto picks -----------------------------------------------------------------------------------------------


def test_auto_on_this_processor() -> None:
    many = 12 * 24 * 1_024**2  # of a large stage
    assert best_on_cpu("text", SMALL - 1) == torch.float32
    assert best_on_cpu("codec", many) == torch.float32
    wide = torch.bfloat16 if cpu_bfloat16_is_fast() else torch.float32
    assert best_on_cpu("fine", many) == wide
    assert best_on_cpu("coarse", many, rows=16) == (torch.int8 if cpu_packs_int8() else wide)
    assert best_on_cpu("coarse", many) == (torch.int8 if cpu_packs_int8() or cpu_has_int8_kernel() else wide)
    assert cache_dtype(torch.int8, CPU) == cache_dtype(torch.float32, CPU, rows=16) == torch.float32


@pytest.mark.parametrize(
    ("caps", "wanted"),
    [
        ({"ATEN_CPU_CAPABILITY": "default"}, "torch.float32 torch.float32 torch.float32"),
        ({"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, "torch.int8 torch.int8 torch.float32"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "torch.int8 torch.int8 torch.float32"),
    ],
)
def test_auto_without_the_instructions(caps: dict[str, str], wanted: str) -> None:
    """On processors that lack them, as far as torch and oneDNN can be told that this one does."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        wanted = "torch.float32 torch.float32 torch.float32"
    elif "fbgemm" not in torch.backends.quantized.supported_engines:
        wanted = wanted.replace("int8 torch.int8", "int8 torch.float32")
    code = "from bark_engine.precision import best_on_cpu as b; print(*(b(s, 10**9, r) for s, r in {asked}))"
    code = code.format(asked=[("text", 1), ("text", 16), ("fine", 1)])
    root = str(Path(__file__).parent.parent)
    environment = os.environ | caps | {"PYTHONPATH": root}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert told.stdout.decode().strip() == wanted, told.stderr.decode()


def test_a_batch_takes_another_copy_where_that_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    bark = Bark.load("nano")
    monkeypatch.setattr(
        bark.manager.placement,
        "best_dtype",
        lambda device, file, rows=1: torch.int8 if rows <= KERNEL_ROWS else torch.bfloat16,
    )
    kinds = []
    for rows in (1, KERNEL_ROWS + 1):
        bark.run_stage("text", lambda network, frugal: kinds.append(type(network.transformer.h[0].mlp.c_fc)), rows)
    assert kinds == [PackedInt8Linear if cpu_packs_int8() else Int8Linear, Linear]


# -- the benchmark that judges precisions --------------------------------------------------------------------------


def test_the_benchmark_tells_equal_from_different() -> None:
    wanted = torch.tensor([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]])
    same = compare(wanted, wanted)
    assert (same["top_1"], same["divergence"]) == (1, 0)
    assert same["entropy"] == pytest.approx(1.5 * math.log(2) / 2)
    other = compare(wanted, torch.tensor([[0.25, 0.5, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    assert other["top_1"] == 0.5
    assert other["divergence"] == pytest.approx(0.25 * math.log(2) / 2)
    records = {record["stage"]: record for record in measure("nano", 0.3, ["int8"])}
    assert list(records) == ["text", "coarse", "fine"]
    for record in records.values():
        assert record["top_1"] > 0.9
        assert 0 < record["divergence"] < 0.01 * record["entropy"] + 0.001
    assert records["fine"]["tokens"] == 3 * records["coarse"]["tokens"]
