"""A tiny complete set of models with random weights, in Suno's own file formats: it proves the path and makes noise.

Nothing is trained. The networks are as small as they can be while every number outside them (vocabularies, windows,
positions) is Suno's, except for the text vocabulary, which is the pack's own small one. The family is called
"random", so its tokens are never mistaken for Suno's.
"""

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .codec import Codec, CodecShape
from .errors import BarkFileError
from .spec import SUNO, BarkSpec
from .text import BUNDLED_VOCABULARY, Tokenizer
from .transformer import CausalTransformer, FineTransformer, NetworkShape

FILES = ("text.pt", "coarse.pt", "fine.pt", "encodec.th", "vocab.txt", "spec.json")

WIDTH, HEADS, LAYERS = 32, 2, 2
CODEC_SHAPE = CodecShape(filters=4, dimension=16, lstm_layers=1)

# Standard deviations of the weights. Hidden states have deviation 1 after the last layer norm, so logits have √WIDTH
# times that of the head. Divided by Suno's temperatures (0.7, 0.5) they spread by about 2: any token may come, but
# they do not come alike.
EMBEDDING, POSITION = 1.0, 0.3
PROJECTION_IN, PROJECTION_OUT = 0.18, 0.05
HEAD = 1.4 / math.sqrt(WIDTH)
FINE_TABLE = 1.0 / math.sqrt(WIDTH)

# A random head would end the speech after thousands of tokens or at once. Instead one channel, which no layer writes
# to, tells the time: it rises with the position, and only the end token's row of the head reads it. The slopes were
# chosen by running the text stage: speech lasts 2 to 4 s, whatever the text (see test_random_models.py).
CLOCK = 0
END_WEIGHT = 3.0
CLOCK_AT_FIRST, CLOCK_PER_TOKEN = 0.1, 0.0107

LOUDNESS = 0.1  # root mean square of the decoded noise; peaks stay below 1


def random_spec() -> BarkSpec:
    """Suno's numbers with the text ids cut to the bundled vocabulary; family "random"."""
    text_pad = SUNO.text_offset + Tokenizer.load(BUNDLED_VOCABULARY).size
    return BarkSpec(family="random", text_pad=text_pad, semantic_infer=text_pad + 4)


def write_random_models(folder: Path, seed: int = 0) -> None:
    """Make `folder` with FILES in it, 10 MB in all; the same seed gives the same weights.

    The folder appears complete in one step, so it does not matter if two processes do this at the same time; a
    complete one is left as it is. Uses a generator of its own, never torch's global one. Raises BarkFileError where
    the disk refuses or the folder holds something else.
    """
    folder = Path(folder)
    if _is_complete(folder):
        return
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-", suffix=".part"))
        _write_files(temporary, torch.Generator().manual_seed(seed))
        temporary.chmod(0o755)  # mkdtemp's folders can be entered by their owner alone
        try:
            temporary.rename(folder)
        except OSError:
            if not _is_complete(folder):  # otherwise another process was quicker
                raise
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise BarkFileError(
            f"The random models could not be written to {folder} ({error}). Free some space, or choose a new folder."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _write_files(folder: Path, rng: torch.Generator) -> None:
    spec = random_spec()
    text_rows, coarse_rows = spec.semantic_infer + 1, SUNO.coarse_semantic_pad + 48  # 12,096 like Suno's
    text = NetworkShape(LAYERS, HEADS, WIDTH, 1_024, text_rows, spec.text_offset)
    coarse = NetworkShape(LAYERS, HEADS, WIDTH, spec.coarse_positions, coarse_rows, coarse_rows)
    fine = NetworkShape(LAYERS, HEADS, WIDTH, spec.fine_window, 1_056, 1_056, codebooks=spec.fine_codebooks)

    weights = _network_weights(CausalTransformer, text, rng)
    _set_clock(weights, spec)
    _save_suno(folder / "text.pt", weights, text)
    _save_suno(folder / "coarse.pt", _network_weights(CausalTransformer, coarse, rng), coarse)
    weights = _network_weights(FineTransformer, fine, rng)
    tie_heads(weights, fine)
    _save_suno(folder / "fine.pt", weights, fine)
    torch.save(_split_weight_norm(_codec_weights(rng)), folder / "encodec.th")
    shutil.copyfile(BUNDLED_VOCABULARY, folder / "vocab.txt")
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")


def _network_weights(
    network: type[CausalTransformer] | type[FineTransformer], shape: NetworkShape, rng: torch.Generator
) -> dict[str, Tensor]:
    deviations = {
        "wte.weight": EMBEDDING,
        "wpe.weight": POSITION,
        "c_attn.weight": PROJECTION_IN,
        "c_fc.weight": PROJECTION_IN,
        "c_proj.weight": PROJECTION_OUT,
        "lm_head.weight": HEAD,
    }
    with torch.device("meta"):
        outline = network(shape).state_dict()
    weights = {}
    for name, tensor in outline.items():
        if ".ln_" in name:
            weights[name] = torch.full(tensor.shape, float(name.endswith(".weight")))
        else:
            deviation = next((value for end, value in deviations.items() if name.endswith(end)), FINE_TABLE)
            weights[name] = deviation * torch.randn(tensor.shape, generator=rng)
    return weights


def _set_clock(weights: dict[str, Tensor], spec: BarkSpec) -> None:
    """Give one channel of the text network to the time since the prompt, and let it alone decide the end."""
    for name, weight in weights.items():
        if name.endswith("c_proj.weight"):
            weight[CLOCK] = 0.0
        elif name.endswith(("wte.weight", "lm_head.weight")):
            weight[:, CLOCK] = 0.0
    positions = weights["transformer.wpe.weight"]
    token = torch.arange(positions.shape[0], dtype=torch.float32) - spec.text_length  # 0 where the first is predicted
    positions[:, CLOCK] = CLOCK_AT_FIRST + CLOCK_PER_TOKEN * token.clamp_min(0)
    head = weights["lm_head.weight"]
    head[spec.end_token] = 0.0
    head[spec.end_token, CLOCK] = END_WEIGHT


def tie_heads(weights: dict[str, Tensor], shape: NetworkShape) -> None:
    """Add the heads of a fine network, which are its tables one further on, as Suno's files have them."""
    for codebook in range(1, shape.codebooks):
        weights[f"lm_heads.{codebook - 1}.weight"] = weights[f"transformer.wtes.{codebook}.weight"]


def suno_arguments(shape: NetworkShape) -> dict[str, Any]:
    """The `model_args` of a checkpoint of Suno's."""
    arguments = {
        "n_layer": shape.n_layer,
        "n_head": shape.n_head,
        "n_embd": shape.n_embd,
        "block_size": shape.block_size,
        "bias": shape.bias,
        "dropout": 0.0,
        "input_vocab_size": shape.input_vocab,
        "output_vocab_size": shape.output_vocab,
    }
    if shape.codebooks:
        arguments |= {"n_codes_total": shape.codebooks, "n_codes_given": 1}
    return arguments


def _save_suno(path: Path, weights: dict[str, Tensor], shape: NetworkShape) -> None:
    """A checkpoint as Suno's training wrote it, without the optimizer state that its loader ignores."""
    torch.save(
        {
            "model": {f"_orig_mod.{name}": weight for name, weight in weights.items()},
            "model_args": suno_arguments(shape),
            "best_val_loss": np.float64(math.log(shape.output_vocab)),  # that of knowing nothing
        },
        path,
    )


def _codec_weights(rng: torch.Generator) -> dict[str, Tensor]:
    """Weights that keep the size of their input, scaled at the end so that decoded noise is audible and not clipped."""
    with torch.device("meta"):
        codec = Codec(CODEC_SHAPE)
    weights: dict[str, Tensor] = {}
    for name, tensor in codec.state_dict().items():
        if name.endswith("._codebook.inited"):
            weights[name] = torch.ones(1)
        elif name.endswith("._codebook.cluster_size"):
            weights[name] = torch.ones(tensor.shape)
        elif name.endswith("._codebook.embed_avg"):
            weights[name] = weights[name.removesuffix("_avg")].clone()
        elif name.endswith(".bias") or ".bias_" in name:
            weights[name] = torch.zeros(tensor.shape)
        else:
            fan_in = 1 if name.endswith(".embed") else math.prod(tensor.shape[1:])
            weights[name] = torch.randn(tensor.shape, generator=rng) / math.sqrt(fan_in)
    last = max((name for name in weights if name.startswith("decoder.")), key=lambda name: int(name.split(".")[2]))
    last = last.rpartition(".")[0] + ".weight"
    weights[last] *= _loudness_factor(codec, weights, rng)
    return weights


def _loudness_factor(codec: nn.Module, weights: dict[str, Tensor], rng: torch.Generator) -> float:
    """What the last layer must be multiplied with; rounded, so that it is the same on every machine."""
    codec.load_state_dict(weights, assign=True)
    codes = torch.randint(CODEC_SHAPE.codebook_size, (1, CODEC_SHAPE.codebooks, 150), generator=rng)
    with torch.inference_mode():
        waveform = codec.eval().decode(codes)  # type: ignore[operator]
    return float(f"{LOUDNESS / waveform.square().mean().sqrt().item():.2g}")


def _split_weight_norm(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions as encodec stores them: a direction `weight_v` and, per first dimension, a length `weight_g`."""
    split: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name.endswith((".conv.weight", ".convtr.weight")):
            split[f"{name}_g"] = torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)
            split[f"{name}_v"] = weight
        else:
            split[name] = weight
    return split
