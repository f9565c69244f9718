"""Adapters: added, saved, merged and taken off again to the last bit; refused where they do not belong."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bark_engine import Bark
from bark_engine.__main__ import main
from bark_engine.checkpoint import load_stage, save_stage
from bark_engine.checkpoint.shapes import scale_name
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.int8 import dequantize, with_int8_layers
from bark_engine.library.model_sets import find_model_set
from bark_engine.training.lora import (
    DEFAULT_TARGETS,
    TARGETS,
    Adapter,
    LoraPlan,
    adapter_of,
    add_lora,
    fingerprint,
    merge,
)
from bark_engine.training.networks import FILE_STAGES, network_shape, new_network, read_network, stage_in
from bark_engine.training.objectives import Network
from support.clips import SMALL

PLAN = LoraPlan(rank=4, alpha=8.0, targets=TARGETS)


def network_of(stage: str = "semantic", width: int = 32, seed: int = 0) -> Network:
    network = new_network(stage, network_shape(stage, SMALL, 2, 2, width), SMALL, seed)
    with torch.no_grad():
        rng = torch.Generator().manual_seed(seed)
        for weight in network.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=rng))  # norms, too, as after a training
    return network.requires_grad_(False)


def trained(network: Network, stage: str, plan: LoraPlan = PLAN, size: float = 0.1) -> tuple[Network, Adapter]:
    """A copy of the network with additions that are not zero but of about this size, and its adapter."""
    with_lora = copy.deepcopy(network)
    add_lora(with_lora, plan, seed=1)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in with_lora.named_parameters():
            if name.endswith(".b"):
                weight.copy_(size * torch.randn(weight.shape, generator=rng))
    return with_lora, adapter_of(with_lora, stage, plan, fingerprint(network), {"data": "a test"})


def hidden(network: Network) -> torch.Tensor:
    width = network.shape.n_embd
    embeddings = torch.randn(1, 12, width, generator=torch.Generator().manual_seed(3))
    return network.hidden_states(embeddings)


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_merged_computes_what_was_trained_and_unmerged_what_was_there(stage: str, tmp_path: Path):
    network = network_of(stage)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    plain = hidden(network)
    with_lora, adapter = trained(network, stage)
    adapter = Adapter.load(adapter.save(tmp_path / "voice.safetensors"))
    merged = merge(network, adapter, stage)
    assert torch.equal(hidden(network), hidden(with_lora))
    assert not torch.allclose(hidden(network), plain, atol=1e-3)
    for name, (down, up) in adapter.parts.items():  # the slow twin
        expected = before[name] + 2.0 * torch.einsum("or,ri->oi", up, down)
        assert torch.allclose(network.get_parameter(name), expected, atol=1e-6)
    merged.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    assert torch.equal(hidden(network), plain)


def test_what_is_trained_under_autocast_is_what_is_merged():
    network = network_of()
    with_lora, adapter = trained(network, "semantic")
    merge(network, adapter, "semantic")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for name in adapter.parts:
            weight = with_lora.get_submodule(name.removesuffix(".weight")).weight
            assert torch.equal(weight, network.get_parameter(name)), name


def test_only_the_additions_can_be_trained_and_the_first_pass_is_unchanged():
    network = network_of()
    plain = hidden(network)
    add_lora(network, LoraPlan(rank=2, targets=("attn.c_attn", "lm_head")), seed=0)
    names = [name for name, weight in network.named_parameters() if weight.requires_grad]
    assert len(names) == 2 * 3  # A and B, two layers and the head
    assert all("parametrizations" in name for name in names)
    assert torch.equal(hidden(network), plain)


def test_int8_layers_are_refused_with_what_to_do():
    _, adapter = trained(network_of("coarse"), "coarse")
    with pytest.raises(BarkInputError, match=r"weights are int8, to which nothing can be added.*as float32"):
        merge(with_int8_layers(network_of("coarse")), adapter, "coarse")  # type: ignore[arg-type]


def test_merging_is_exact_in_half_precision_too(tmp_path: Path):
    network = network_of().half()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    _, adapter = trained(network_of(), "semantic")
    merged = merge(network, adapter, "semantic", strength=0.5)
    assert all(weight.dtype == torch.float16 for weight in network.parameters())
    merged.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_an_adapter_is_small_and_has_a_card(tmp_path: Path):
    network = network_of(width=128)
    _, adapter = trained(network, "semantic", LoraPlan(rank=4, targets=DEFAULT_TARGETS))
    path = adapter.save(tmp_path / "voice.safetensors")
    size = save_stage(network, "text", tmp_path / "text.safetensors")
    assert path.stat().st_size < size / 5
    card = (tmp_path / "voice.md").read_text()
    for word in ("semantic stage", "rank 4", "alpha 16", "attn.c_attn", "a test", fingerprint(network)):
        assert word in card
    loaded = Adapter.load(path)
    assert (loaded.stage, loaded.plan, loaded.shape, loaded.card) == (
        adapter.stage,
        adapter.plan,
        adapter.shape,
        adapter.card,
    )


def test_a_foreign_adapter_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    network = network_of()
    _, adapter = trained(network, "semantic")
    with pytest.raises(BarkInputError, match="for the semantic stage, but the weights are of the coarse"):
        merge(network_of("coarse"), adapter, "coarse")
    with pytest.raises(BarkInputError, match="another network \\(n_embd 32 ≠ 64"):
        merge(network_of(width=64), adapter, "semantic")
    name, (down, up) = next(iter(adapter.parts.items()))
    adapter.parts[name] = down, up[:-1]
    with pytest.raises(BarkInputError, match=f"its part {name} does not fit"):
        merge(network, adapter, "semantic")
    adapter.parts[name] = down, up
    merge(network, adapter, "semantic")
    assert not caplog.records
    merge(network_of(seed=5), adapter, "semantic")
    assert "trained on other weights" in caplog.text


def test_files_that_are_no_adapters_are_refused(tmp_path: Path):
    with pytest.raises(BarkFileError, match="There is no adapter"):
        Adapter.load(tmp_path / "no.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(BarkFileError, match="cannot be read as an adapter"):
        Adapter.load(tmp_path / "bad.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(BarkFileError, match="is no adapter of this engine"):
        Adapter.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"rank": 0}, "rank"), ({"alpha": 0.0}, "alpha"), ({"targets": ("wte",)}, "wte"), ({"targets": ()}, "none")],
)
def test_impossible_additions_are_refused(changes: dict, words: str):
    with pytest.raises(BarkInputError, match=words):
        LoraPlan(**changes)


def test_the_fine_network_has_no_head_to_add_to():
    with pytest.raises(BarkInputError, match="The fine stage's head is its embedding tables"):
        add_lora(network_of("fine"), LoraPlan(targets=("lm_head",)), seed=0)


def test_the_command_merges_and_the_fingerprint_outlives_a_conversion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    network = network_of("coarse")
    with_lora, adapter = trained(network, "coarse")
    adapter.save(tmp_path / "voice.safetensors")
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "spec.json").write_text(SMALL.to_json())
    base = tmp_path / "base" / "coarse.safetensors"
    save_stage(network, FILE_STAGES["coarse"], base)
    words = ["train", "merge", str(tmp_path / "voice.safetensors"), str(base)]
    assert main([*words, str(tmp_path / "merged")]) == 0
    assert "with spec.json" in capsys.readouterr().out
    merged = load_stage(stage_in(tmp_path / "merged" / "coarse.safetensors", "coarse"))
    assert torch.equal(hidden(merged), hidden(with_lora))  # type: ignore[arg-type]

    save_stage(copy.deepcopy(network).half(), FILE_STAGES["coarse"], tmp_path / "half.safetensors")
    words[3] = str(tmp_path / "half.safetensors")
    assert main([*words, str(tmp_path / "out.safetensors"), "--strength", "0"]) == 0
    assert not caplog.records  # the same weights in another precision are no other weights
    stored = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(stored[name], weight.half()) for name, weight in network.named_parameters())

    assert main([*words, words[3]]) == 2
    assert "overwrite its own source" in capsys.readouterr().err


@pytest.fixture(scope="module")
def nano_merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter for nano's coarse stage, which is stored as int8, and that stage with it in the folder float32."""
    folder = tmp_path_factory.mktemp("nano")
    spec = find_model_set("nano").spec
    network = read_network(find_model_set("nano").coarse, "coarse", spec)
    plan = LoraPlan(rank=2, targets=("attn.c_attn", "lm_head"))
    _, adapter = trained(network, "coarse", plan, size=0.01)
    adapter.save(folder / "voice.safetensors")
    words = ["train", "merge", str(folder / "voice.safetensors"), "nano", str(folder / "float32")]
    assert main([*words, "--dtype", "float32"]) == 0
    return folder


@pytest.mark.parametrize("dtype", [None, "int8", "float16"])
def test_an_adapter_is_merged_into_int8_weights(
    dtype: str | None, nano_merged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    options = ["--dtype", dtype] if dtype else []
    assert main(["train", "merge", str(nano_merged / "voice.safetensors"), "nano", str(tmp_path), *options]) == 0
    assert not caplog.records
    stored = load_file(tmp_path / "coarse.safetensors")
    before = load_file(find_model_set("nano").coarse.path)
    exact = load_file(nano_merged / "float32" / "coarse.safetensors")
    matrix = "transformer.h.0.attn.c_attn.weight"
    written = stored[matrix]
    if dtype != "float16":
        assert written.dtype == torch.int8
        untouched = "transformer.h.0.mlp.c_fc"
        for name in (f"{untouched}.weight", f"{untouched}.scale"):  # the steps it had, not new ones
            assert torch.equal(stored[name], before[name])
        steps = stored[scale_name(matrix)]
        assert ((dequantize(written, steps) - exact[matrix]).abs() <= 0.51 * steps[:, None]).all()
        assert not torch.equal(written, before[matrix])
    else:
        assert torch.equal(written, exact[matrix].half())
    assert stored["lm_head.weight"].dtype == (torch.float32 if dtype else torch.float16)
    assert torch.allclose(stored["lm_head.weight"].float(), exact["lm_head.weight"], rtol=1e-3, atol=1e-4)


def test_merging_one_stage_after_another_makes_a_whole_set(nano_merged: Path, tmp_path: Path):
    """nano's codec is found nowhere but beside its networks."""
    nano = find_model_set("nano")
    made = tmp_path / "voice"
    assert main(["train", "merge", str(nano_merged / "voice.safetensors"), "nano", str(made)]) == 0
    there = {path.name for path in made.iterdir()}
    assert there == {"coarse.safetensors", "codec.safetensors", "spec.json", "vocab.txt"}
    for file in (nano.text, nano.fine):  # as merging adapters for them would leave them
        (made / file.path.name).write_bytes(file.path.read_bytes())
    bark = Bark.load(made, device="cpu")
    speech = Bark.load("nano", coarse=made, device="cpu").say("Hello there.", seed=1)
    assert np.array_equal(bark.say("Hello there.", seed=1).audio.samples, speech.audio.samples)


def test_what_was_merged_into_int8_speaks_as_the_exact_sum_does(nano_merged: Path, tmp_path: Path):
    assert main(["train", "merge", str(nano_merged / "voice.safetensors"), "nano", str(tmp_path)]) == 0
    barks = [Bark.load("nano", coarse=folder, device="cpu") for folder in (nano_merged / "float32", tmp_path)]
    semantic = barks[0].text_to_semantic("Hello there.", seed=1)
    coarse = [bark.semantic_to_coarse(semantic, seed=1) for bark in barks]
    assert coarse[0].frames == coarse[1].frames > 0
    networks = [load_stage(bark.models.coarse, torch.float32) for bark in barks]
    exact, rounded = (hidden(network) for network in networks)  # type: ignore[arg-type]
    assert torch.linalg.vector_norm(rounded - exact) < 0.02 * torch.linalg.vector_norm(exact)
