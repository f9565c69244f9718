"""Tiny checkpoints in the exact layouts that people have: Suno, transformers, GitMylo, fine-tunes, EnCodec.

Where a reference implementation can write its own format, it does (`transformers`, `safetensors.torch.save_model`,
`encodec`). Every function takes weights or reference modules, so that tests can compare what is loaded with what went
in; `suno_gpt`, `suno_fine`, `encodec_model` and `transformers_bark` make them, with random weights drawn from a
private generator state.
"""

import json
import pickle
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from support.suno_reference import load_encodec, load_suno

TEXT_VOCABULARIES = (140, 110)  # input, output; like Suno's, the text stage reads more than it makes
COARSE_VOCABULARY = 120
FINE_VOCABULARY = 40
CODEC_SIZES = {"filters": 4, "dimension": 16, "lstm": 1, "codebooks": 32, "codebook_size": 32}


# -- reference modules ---------------------------------------------------------------------------------------------


def suno_gpt(inputs: int, outputs: int, *, heads: int = 2, width: int = 32, layers: int = 2, bias: bool = False) -> Any:
    """Suno's own `GPT` with random weights."""
    model = load_suno().model
    config = model.GPTConfig(
        block_size=48,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        input_vocab_size=inputs,
        output_vocab_size=outputs,
        bias=bias,
    )
    return _randomised(model.GPT(config))


def suno_fine(*, heads: int = 2, width: int = 32, layers: int = 2) -> Any:
    """Suno's own `FineGPT` with random weights; its heads are tied to its tables."""
    model = load_suno().model_fine
    config = model.FineGPTConfig(
        block_size=48,
        n_layer=layers,
        n_head=heads,
        n_embd=width,
        input_vocab_size=FINE_VOCABULARY,
        output_vocab_size=FINE_VOCABULARY,
        bias=False,
    )
    return _randomised(model.FineGPT(config))


def suno_stage(stage: str, **sizes: Any) -> Any:
    """Suno's network of a stage: "text", "coarse" or "fine"."""
    if stage == "fine":
        return suno_fine(**sizes)
    return suno_gpt(*(TEXT_VOCABULARIES if stage == "text" else (COARSE_VOCABULARY,) * 2), **sizes)


def encodec_model(**changes: int) -> Any:
    """encodec's own encoder, decoder and quantizer, weight norm split into g and v, as in encodec_24khz.

    An object with `.encoder`, `.decoder`, `.quantizer`, and `.state_dict()` like that of `EncodecModel`.
    """
    load_encodec()
    from encodec.modules import SEANetDecoder, SEANetEncoder
    from encodec.quantization import ResidualVectorQuantizer

    sizes = CODEC_SIZES | changes
    network: dict[str, Any] = {
        "n_filters": sizes["filters"],
        "dimension": sizes["dimension"],
        "lstm": sizes["lstm"],
        "causal": True,
        "norm": "weight_norm",
    }
    parts = nn.ModuleDict(
        {
            "encoder": SEANetEncoder(**network),
            "decoder": SEANetDecoder(**network),
            "quantizer": ResidualVectorQuantizer(
                dimension=sizes["dimension"], n_q=sizes["codebooks"], bins=sizes["codebook_size"]
            ),
        }
    )
    _randomised(parts)
    with torch.no_grad():
        for name, weight in parts.named_parameters():
            if name.endswith("weight_g"):
                weight.abs_().add_(0.5)  # lengths; random_ norms of their own, not those of weight_v
    return parts


def transformers_bark(*, heads: int = 2, width: int = 32, bias: bool = False) -> Any:
    """transformers' own `BarkModel` with random weights, masks included.

    With `bias=False` its constructor fails on layer norms without bias, so initialisation is skipped.
    """
    from transformers import BarkConfig, BarkModel
    from transformers.modeling_utils import no_init_weights

    network = {"num_layers": 2, "num_heads": heads, "hidden_size": width, "block_size": 48, "bias": bias}
    config = BarkConfig(
        semantic_config=network
        | {
            "input_vocab_size": TEXT_VOCABULARIES[0],
            "output_vocab_size": TEXT_VOCABULARIES[1],
            "model_type": "semantic",
        },
        coarse_acoustics_config=network
        | {
            "input_vocab_size": COARSE_VOCABULARY,
            "output_vocab_size": COARSE_VOCABULARY,
            "model_type": "coarse_acoustics",
        },
        fine_acoustics_config=network
        | {"input_vocab_size": FINE_VOCABULARY, "output_vocab_size": FINE_VOCABULARY, "model_type": "fine_acoustics"},
        codec_config={
            "model_type": "encodec",
            "num_filters": CODEC_SIZES["filters"],
            "hidden_size": CODEC_SIZES["dimension"],
            "codebook_dim": CODEC_SIZES["dimension"],
            "codebook_size": CODEC_SIZES["codebook_size"],
            "num_lstm_layers": CODEC_SIZES["lstm"],
        },
    )
    with no_init_weights():
        model = BarkModel(config)
    for part in (model.semantic, model.coarse_acoustics, model.fine_acoustics):
        part.tie_weights()
    _randomised(model)
    return model


def _randomised(module: nn.Module) -> Any:
    """Random values everywhere, layer norms and codebooks too: a zero or a one would hide a wrong place."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict(keep_vars=True).items():
            if tensor.is_floating_point() and not name.endswith(("attn.bias", "inited", "cluster_size")):
                tensor.copy_(0.3 * torch.randn(tensor.shape, generator=rng))
    return module.eval()


# -- Suno's .pt ----------------------------------------------------------------------------------------------------


def model_args(network: Any) -> dict[str, Any]:
    """`model_args` of a checkpoint: the constructor's arguments."""
    return asdict(network.config)


def suno_checkpoint(
    path: Path,
    state: dict[str, Tensor],
    arguments: dict[str, Any],
    *,
    prefix: str = "_orig_mod.",
    adam: bool = True,
    single_vocab_size: bool = False,
    numpy_module: str = "numpy.core.multiarray",
    extra: dict[str, Tensor] | None = None,
) -> Path:
    """A checkpoint as Suno's training saved it: `model`, `model_args`, `best_val_loss` (a numpy scalar), `optimizer`.

    `numpy_module` is how the pickle calls the module of numpy's scalars: numpy 1's name, or numpy 2's
    `numpy._core.multiarray`. `extra` goes into the state dict, as masks did.
    """
    arguments = dict(arguments)
    if single_vocab_size:
        arguments["vocab_size"] = arguments.pop("input_vocab_size")
        del arguments["output_vocab_size"]
    content: dict[str, Any] = {
        "model": OrderedDict((prefix + name, tensor) for name, tensor in (state | (extra or {})).items()),
        "model_args": arguments,
        "iter_num": 100,
        "best_val_loss": np.float64(2.5),
        "config": {"dataset": "speech", "learning_rate": 6e-4, "betas": (0.9, 0.95), "compile": True},
    }
    if adam:
        content["optimizer"] = {
            "state": {
                index: {"step": torch.tensor(100.0), "exp_avg": tensor.clone(), "exp_avg_sq": tensor.clone()}
                for index, tensor in enumerate(state.values())
            },
            "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95), "params": list(range(len(state)))}],
        }
    torch.save(content, path, pickle_module=_pickle_naming_numpy(numpy_module), pickle_protocol=2)
    return path


def suno_checkpoint_of(path: Path, network: Any, **options: Any) -> Path:
    """The same from one of Suno's own modules."""
    return suno_checkpoint(path, network.state_dict(), model_args(network), **options)


def _pickle_naming_numpy(module: str) -> Any:
    """A pickle module that writes numpy's scalar function under a module name of choice."""
    scalar: Any = np.float64(0).__reduce__()[0]

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def save_global(self, obj: Any, name: str | None = None) -> None:
            if obj is scalar:
                self.write(pickle.GLOBAL + f"{module}\nscalar\n".encode())
                self.memoize(obj)
            else:
                super().save_global(obj, name)

        dispatch = pickle._Pickler.dispatch | {type(scalar): save_global}  # type: ignore[attr-defined]

    return SimpleNamespace(__name__="pickle", Pickler=Pickler, dump=pickle.dump, Unpickler=pickle.Unpickler)


# -- other people's layouts ----------------------------------------------------------------------------------------


def transformers_folder(path: Path, model: Any, *, safe: bool = True, shard_size: str = "5GB") -> Path:
    """A folder as transformers' own `save_pretrained` writes it; `shard_size` such as "40KB" splits it."""
    model.save_pretrained(path, safe_serialization=safe, max_shard_size=shard_size)
    return path


def transformers_bin(path: Path, model: Any) -> Path:
    """`pytorch_model.bin` and `config.json` as on the hub: masks included, tied weights stored once, listed twice."""
    path.mkdir(parents=True, exist_ok=True)
    torch.save(OrderedDict(model.state_dict()), path / "pytorch_model.bin")
    model.config.save_pretrained(path)
    return path


def gitmylo_files(path: Path, network: Any) -> Path:
    """`X.safetensors` by `save_model` of one of Suno's modules, which drops tied weights, and `X.json` beside it."""
    save_model(network, str(path))
    path.with_suffix(".json").write_text(json.dumps(model_args(network)), encoding="utf-8")
    return path


def flat_fine_tune(folder: Path, network: Any, *, sequential_head: bool = False) -> Path:
    """`pytorch_model.bin` with a bare state dict, and `config.json` with GPTConfig's fields.

    With `sequential_head`, the head is called `lm_head.0.weight`, as left over by merged LoRA training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    if sequential_head:
        state = {
            name.replace(".weight", ".0.weight") if name.startswith("lm_head") else name: tensor
            for name, tensor in state.items()
        }
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(model_args(network)), encoding="utf-8")
    return folder / "pytorch_model.bin"


def encodec_checkpoint(path: Path, codec: Any, *, legacy: bool = False) -> Path:
    """EnCodec's `.th`: an ordered dict with `weight_g` and `weight_v`; `legacy` in torch's format before 1.6."""
    torch.save(OrderedDict(codec.state_dict()), path, _use_new_zipfile_serialization=not legacy)
    return path


def hub_encodec(path: Path, codec: Any, *, spelling: str = "weight_g") -> Path:
    """The same weights in transformers' naming as safetensors, like facebook/encodec_24khz.

    `spelling`: "weight_g" (the hub's file), "parametrizations" (newer torch).
    """
    state = {}
    for name, tensor in codec.state_dict().items():
        name = name.replace(".model.", ".layers.").replace("vq.layers.", "layers.").replace("_codebook", "codebook")
        name = name.replace("conv.conv.", "conv.").replace("convtr.convtr.", "conv.")
        if spelling == "parametrizations":
            name = name.replace("weight_g", "parametrizations.weight.original0")
            name = name.replace("weight_v", "parametrizations.weight.original1")
        state[name] = tensor.contiguous()
    save_file(state, path)
    return path


# -- one good file of each kind, to be read or damaged -------------------------------------------------------------


@pytest.fixture(scope="module")
def text_state() -> dict[str, Tensor]:
    """The weights of a text stage."""
    return suno_stage("text", width=64, heads=1).state_dict()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A text stage as Suno's `.pt`."""
    return suno_checkpoint_of(tmp_path / "text.pt", suno_stage("text"))


@pytest.fixture
def safetensors(tmp_path: Path, text_state: dict[str, Tensor]) -> Path:
    """A text stage as safetensors."""
    save_file(text_state, tmp_path / "text.safetensors")
    return tmp_path / "text.safetensors"
