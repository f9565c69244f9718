"""Every layout that people have gives the very weights that went in, wherever its spelling, wrapper and ties differ."""

import json
import logging

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bark_engine.checkpoint import STAGES, describe, describe_folder, load_stage
from bark_engine.codec import CodecShape
from bark_engine.errors import BarkFileError
from bark_engine.transformer import NetworkShape
from support import checkpoint_files as files
from support.suno_reference import load_encodec

NETWORKS = ("text", "coarse", "fine")


def only_stage(path):
    (stage,) = describe(path)
    return stage


def assert_network_equals_suno(module, reference):
    """Every parameter of ours is Suno's, and every one of Suno's is in ours (heads are their tables)."""
    ours, theirs = module.state_dict(), reference.state_dict()
    theirs = {name: tensor for name, tensor in theirs.items() if not name.startswith("lm_heads.")}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.equal(ours[name], tensor), name


def folded(convolution):
    """The weight that encodec's own weight norm computes when it runs: the reference for folding."""
    convolution(torch.zeros(1, convolution.in_channels, 32))  # the pre-forward hook sets `.weight`
    return convolution.weight.detach()


def assert_codec_equals_encodec(module, reference):
    """Every parameter of ours is encodec's; convolutions as its own weight norm folds them."""
    theirs = dict(reference.named_modules())
    plain = reference.state_dict()
    checked_transposed = 0
    for name, tensor in module.state_dict().items():
        owner = theirs[name.rpartition(".")[0]]
        if name.endswith(("inited", "cluster_size", "embed_avg")):
            continue
        if hasattr(owner, "weight_g") and name.endswith(".weight"):
            torch.testing.assert_close(tensor, folded(owner), rtol=1e-6, atol=1e-7)
            checked_transposed += isinstance(owner, torch.nn.ConvTranspose1d)
        else:
            assert torch.equal(tensor, plain[name]), name
    assert checked_transposed == 4


# -- Suno's .pt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", NETWORKS)
@pytest.mark.parametrize("prefix", ["_orig_mod.", ""])
def test_suno_checkpoint(tmp_path, stage, prefix):
    suno = files.suno_stage(stage)
    found = only_stage(files.suno_checkpoint_of(tmp_path / "any name.bin", suno, prefix=prefix))
    assert (found.stage, found.layout, found.dtype) == (stage, "suno", torch.float32)
    assert found.parameters == sum(p.numel() for p in suno.parameters())
    assert found.stored_bytes == 4 * found.parameters
    assert found.file_bytes > 3 * found.stored_bytes  # Adam's two moments come along
    assert_network_equals_suno(load_stage(found), suno)


def test_shape_of_suno_checkpoint(tmp_path):
    suno = files.suno_gpt(140, 110, heads=4, width=32, layers=3)
    found = only_stage(files.suno_checkpoint_of(tmp_path / "x.pt", suno))
    assert found.shape == NetworkShape(3, 4, 32, 48, 140, 110)
    fine = only_stage(files.suno_checkpoint_of(tmp_path / "y.pt", files.suno_fine(heads=4)))
    assert fine.shape == NetworkShape(2, 4, 32, 48, 40, 40, codebooks=8)


def test_linear_biases_are_weights_and_masks_are_not(tmp_path):
    suno = files.suno_gpt(120, 120, bias=True)
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 48, 48).tril() for i in range(2)}
    found = only_stage(files.suno_checkpoint_of(tmp_path / "x.pt", suno, extra=masks))
    module = load_stage(found)
    assert_network_equals_suno(module, suno)
    assert "transformer.h.0.attn.c_attn.bias" in module.state_dict()


def test_fine_layer_norms_have_a_bias_although_model_args_say_no(tmp_path):
    suno = files.suno_fine()
    found = only_stage(files.suno_checkpoint_of(tmp_path / "x.pt", suno))
    assert suno.config.bias is False
    assert found.shape.bias is False
    assert torch.equal(load_stage(found).transformer.ln_f.bias, suno.transformer.ln_f.bias)


def test_single_vocab_size_of_old_checkpoints(tmp_path):
    suno = files.suno_stage("coarse")
    found = only_stage(files.suno_checkpoint_of(tmp_path / "x.pt", suno, single_vocab_size=True))
    assert (found.stage, found.shape.input_vocab, found.shape.output_vocab) == ("coarse", 120, 120)
    assert_network_equals_suno(load_stage(found), suno)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numpy_scalar_under_both_names(tmp_path, module):
    path = files.suno_checkpoint_of(tmp_path / "x.pt", files.suno_stage("text"), numpy_module=module)
    assert f"c{module}\nscalar\n".encode() in path.read_bytes()  # the file really says so
    assert only_stage(path).stage == "text"


def test_head_count_without_model_args_is_width_by_64(tmp_path):
    suno = files.suno_gpt(120, 120, heads=2, width=128)
    torch.save({"model": suno.state_dict()}, tmp_path / "x.pt")
    assert only_stage(tmp_path / "x.pt").shape.n_head == 2


def test_heads_of_the_fine_stage_win_over_differing_tables(tmp_path, caplog):
    suno = files.suno_fine()
    state = {name: tensor.clone() for name, tensor in suno.state_dict().items()}
    state["transformer.wtes.3.weight"] += 1  # its twin is lm_heads.2
    found = only_stage(files.suno_checkpoint(tmp_path / "x.pt", state, files.model_args(suno)))
    with caplog.at_level(logging.WARNING):
        module = load_stage(found)
    assert_network_equals_suno(module, suno)
    suno.load_state_dict(state, strict=False)  # Suno's loader, on tied modules
    assert torch.equal(module.transformer.wtes[3].weight, suno.transformer.wtes[3].weight)
    (record,) = caplog.records
    assert "lm_heads.2.weight" in record.getMessage()
    assert "transformer.wtes.3.weight" in record.getMessage()


def test_equal_heads_and_tables_are_not_worth_a_warning(tmp_path, caplog):
    state = {name: tensor.clone() for name, tensor in files.suno_fine().state_dict().items()}
    found = only_stage(files.suno_checkpoint(tmp_path / "x.pt", state, {"n_head": 2}))
    load_stage(found)
    assert not caplog.records


@pytest.mark.parametrize("missing", ["heads", "tables", "alternating"])
def test_one_name_of_each_tied_pair_is_enough(tmp_path, missing):
    suno = files.suno_fine()
    state = suno.state_dict()
    for i in range(7):
        drop_head = missing == "heads" or (missing == "alternating" and i % 2)
        del state[f"lm_heads.{i}.weight" if drop_head else f"transformer.wtes.{i + 1}.weight"]
    assert_network_equals_suno(
        load_stage(only_stage(files.suno_checkpoint(tmp_path / "x.pt", state, files.model_args(suno)))), suno
    )


# -- GitMylo and fine-tunes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", NETWORKS)
def test_gitmylo(tmp_path, stage):
    suno = files.suno_stage(stage, heads=4)
    path = files.gitmylo_files(tmp_path / "text_small.safetensors", suno)
    found = only_stage(path)
    assert (found.stage, found.layout, found.shape.n_head) == (stage, "gitmylo", 4)
    assert_network_equals_suno(load_stage(found), suno)


def test_gitmylo_really_drops_tied_weights(tmp_path):
    path = files.gitmylo_files(tmp_path / "fine.safetensors", files.suno_fine())
    with safe_open(path, "pt") as file:
        assert "transformer.wtes.1.weight" not in set(file.keys())
        assert file.metadata()["transformer.wtes.1.weight"] == "lm_heads.0.weight"


def test_settings_of_another_file_are_refused(tmp_path):
    path = files.gitmylo_files(tmp_path / "text.safetensors", files.suno_stage("text"))
    settings = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(settings | {"n_embd": 768}))
    with pytest.raises(BarkFileError, match=r"n_embd 768.*weights say 32"):
        describe(path)


@pytest.mark.parametrize("stage", NETWORKS)
@pytest.mark.parametrize("sequential", [False, True])
def test_flat_fine_tune(tmp_path, stage, sequential):
    suno = files.suno_stage(stage, heads=4)
    path = files.flat_fine_tune(tmp_path / stage, suno, sequential_head=sequential)
    found = only_stage(path)
    assert (found.stage, found.layout, found.shape.n_head) == (stage, "flat", 4)
    assert_network_equals_suno(load_stage(found), suno)


@pytest.mark.parametrize("leftover", ["lora_left_weight", "lora_right_weight", "lora_bias"])
def test_lora_leftovers_are_refused(tmp_path, leftover):
    state = files.suno_stage("text").state_dict()
    torch.save(state | {f"transformer.h.0.attn.c_attn.{leftover}": torch.zeros(4)}, tmp_path / "x.bin")
    with pytest.raises(BarkFileError, match=f"LoRA.*{leftover}.*Merge"):
        describe(tmp_path / "x.bin")


# -- transformers --------------------------------------------------------------------------------------------------


def assert_equals_transformers(path, model):
    """All four stages of a folder against the modules of transformers' model, weight by weight, by position."""
    found = {stage.stage: stage for stage in describe(path)}
    assert tuple(found) == STAGES
    assert {stage.layout for stage in found.values()} == {"transformers"}
    for stage, part in (("text", model.semantic), ("coarse", model.coarse_acoustics), ("fine", model.fine_acoustics)):
        module = load_stage(found[stage])
        for layer, block in enumerate(module.transformer.h):
            theirs = part.layers[layer]
            assert torch.equal(block.attn.c_attn.weight, theirs.attn.att_proj.weight)
            assert torch.equal(block.attn.c_proj.weight, theirs.attn.out_proj.weight)
            assert torch.equal(block.mlp.c_fc.weight, theirs.mlp.in_proj.weight)
            assert torch.equal(block.mlp.c_proj.weight, theirs.mlp.out_proj.weight)
            assert torch.equal(block.ln_1.weight, theirs.layernorm_1.weight)
            assert torch.equal(block.ln_2.weight, theirs.layernorm_2.weight)
        assert torch.equal(module.transformer.wpe.weight, part.position_embeds_layer.weight)
        assert torch.equal(module.transformer.ln_f.weight, part.layernorm_final.weight)
        if stage == "fine":
            for table, theirs in zip(module.transformer.wtes, part.input_embeds_layers, strict=True):
                assert torch.equal(table.weight, theirs.weight)
            for table, theirs in zip(module.transformer.wtes[1:], part.lm_heads, strict=True):
                assert torch.equal(table.weight, theirs.weight)
            assert torch.equal(module.transformer.ln_f.bias, part.layernorm_final.bias)
        else:
            assert torch.equal(module.transformer.wte.weight, part.input_embeds_layer.weight)
            assert torch.equal(module.lm_head.weight, part.lm_head.weight)
    codec = load_stage(found["codec"])
    with torch.no_grad():
        transposed = model.codec_model.decoder.layers[3].conv.weight
    torch.testing.assert_close(codec.decoder.model[3].convtr.convtr.weight.detach(), transposed, rtol=1e-6, atol=1e-7)
    assert torch.equal(
        codec.quantizer.vq.layers[7]._codebook.embed, model.codec_model.quantizer.layers[7].codebook.embed
    )
    return found


@pytest.fixture(scope="module")
def bark_model():
    return files.transformers_bark(heads=4)


@pytest.mark.parametrize(
    ("safe", "shard_size", "name"),
    [
        (True, "5GB", "model.safetensors"),
        (False, "5GB", "pytorch_model.bin"),
        (True, "300KB", "model.safetensors.index.json"),
        (False, "300KB", "pytorch_model.bin.index.json"),
    ],
)
def test_transformers_folder(tmp_path, bark_model, safe, shard_size, name):
    folder = files.transformers_folder(tmp_path, bark_model, safe=safe, shard_size=shard_size)
    found = assert_equals_transformers(folder, bark_model)
    assert {stage.path.name for stage in found.values()} == {name}
    assert {found[stage].shape.n_head for stage in NETWORKS} == {4}  # from config.json; width / 64 would be 0
    assert describe(folder / name) == tuple(found.values()) == describe_folder(folder)


def test_transformers_bin_with_masks_and_tied_weights(tmp_path, bark_model):
    folder = files.transformers_bin(tmp_path, bark_model)
    entries = torch.load(folder / "pytorch_model.bin", weights_only=True)
    assert "semantic.layers.0.attn.bias" in entries
    table = entries["fine_acoustics.input_embeds_layers.1.weight"]
    assert table.data_ptr() == entries["fine_acoustics.lm_heads.0.weight"].data_ptr()
    assert_equals_transformers(folder, bark_model)


@pytest.mark.parametrize("part", ["semantic", "coarse_acoustics", "fine_acoustics", "codec_model"])
def test_sub_model_of_transformers_saved_alone(tmp_path, bark_model, part):
    getattr(bark_model, part).save_pretrained(tmp_path)
    found = only_stage(tmp_path)
    assert found.layout == "transformers"
    assert (
        found.stage
        == dict(zip(("semantic", "coarse_acoustics", "fine_acoustics", "codec_model"), STAGES, strict=True))[part]
    )
    load_stage(found)


def test_extra_entry_in_a_transformers_file(tmp_path, bark_model):
    torch.save(bark_model.state_dict() | {"vocoder.weight": torch.zeros(1)}, tmp_path / "x.bin")
    with pytest.raises(BarkFileError, match=r"vocoder\.weight"):
        describe(tmp_path / "x.bin")


# -- EnCodec -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encodec():
    return files.encodec_model()


CODEC_WRITERS = {
    "th": files.encodec_checkpoint,
    "legacy th": lambda path, codec: files.encodec_checkpoint(path, codec, legacy=True),
    "hub": files.hub_encodec,
    "parametrizations": lambda path, codec: files.hub_encodec(path, codec, spelling="parametrizations"),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize("layout", CODEC_WRITERS)
def test_encodec(tmp_path, encodec, layout):
    found = only_stage(CODEC_WRITERS[layout](tmp_path / "codec", encodec))
    assert found.stage == "codec"
    assert found.shape == CodecShape(filters=4, dimension=16, lstm_layers=1, codebook_size=32)
    codec = load_stage(found)
    assert_codec_equals_encodec(codec, encodec)
    state = codec.state_dict()
    assert len(codec.quantizer.vq.layers) == 8  # of 32 in the file
    for i in range(8):
        assert state[f"quantizer.vq.layers.{i}._codebook.inited"].item() == 1  # or encodec would run k-means
        assert torch.equal(
            state[f"quantizer.vq.layers.{i}._codebook.embed_avg"], state[f"quantizer.vq.layers.{i}._codebook.embed"]
        )


def test_codec_sounds_like_encodec(tmp_path, encodec):
    codec = load_stage(only_stage(files.encodec_checkpoint(tmp_path / "x.th", encodec)))
    codes = torch.randint(32, (1, 8, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = encodec["decoder"](encodec["quantizer"].decode(codes.transpose(0, 1)))
        torch.testing.assert_close(codec.decode(codes), theirs, rtol=1e-5, atol=1e-6)


def test_weight_norm_is_per_input_channel_in_transposed_convolutions(tmp_path, encodec):
    """Folding over the wrong dimension gives a weight of the same shape and another value."""
    codec = load_stage(only_stage(files.encodec_checkpoint(tmp_path / "x.th", encodec)))
    state = encodec.state_dict()
    g, v = (state[f"decoder.model.3.convtr.convtr.weight_{part}"] for part in "gv")
    slow = torch.stack([g[i] * v[i] / v[i].square().sum().sqrt() for i in range(v.shape[0])])
    torch.testing.assert_close(codec.decoder.model[3].convtr.convtr.weight.detach(), slow)
    assert g.shape == (v.shape[0], 1, 1)


def test_codec_with_other_ratios_and_two_lstm_layers(tmp_path):
    load_encodec()
    from encodec.modules import SEANetDecoder, SEANetEncoder

    changed = files.encodec_model(lstm=2, dimension=8)
    sizes = {"n_filters": 4, "dimension": 8, "lstm": 2, "causal": True, "ratios": [5, 2]}
    changed["encoder"], changed["decoder"] = SEANetEncoder(**sizes), SEANetDecoder(**sizes)
    found = only_stage(files.encodec_checkpoint(tmp_path / "x.th", changed))
    assert found.shape == CodecShape(filters=4, dimension=8, lstm_layers=2, ratios=(5, 2), codebook_size=32)
    load_stage(found)


def test_codec_with_too_few_codebooks(tmp_path):
    files.encodec_checkpoint(tmp_path / "x.th", files.encodec_model(codebooks=4))
    with pytest.raises(BarkFileError, match="4 codebooks; Bark needs 8"):
        describe(tmp_path / "x.th")


def test_half_precision_codec_is_computed_in_float32(tmp_path, encodec):
    halves = {name: tensor.half() for name, tensor in encodec.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in halves.items()}, tmp_path / "x.safetensors")
    found = only_stage(tmp_path / "x.safetensors")
    assert found.dtype == torch.float16
    assert {p.dtype for p in load_stage(found, torch.float16).parameters()} == {torch.float32}


# -- folders and names ---------------------------------------------------------------------------------------------


def test_folder_of_several_files(tmp_path):
    for stage, name in (("text", "fine.pt"), ("coarse", "b"), ("fine", "text.bin")):  # names mislead on purpose
        files.suno_checkpoint_of(tmp_path / name, files.suno_stage(stage))
    (tmp_path / "vocab.txt").write_text("[UNK]\n")
    (tmp_path / "cover.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "config.json").write_text("{}")
    assert {stage.path.name: stage.stage for stage in describe_folder(tmp_path)} == {
        "fine.pt": "text",
        "b": "coarse",
        "text.bin": "fine",
    }


def test_text_stage_by_shape_of_vocabularies(tmp_path):
    torch.save(files.suno_gpt(100, 101, width=64, heads=1).state_dict(), tmp_path / "x.bin")
    with pytest.raises(BarkFileError, match="must read more tokens than it makes"):
        describe(tmp_path / "x.bin")
