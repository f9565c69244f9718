"""Sizes of a network from the shapes of its weights, and the check that every weight is there and fits."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..codec import Codec, CodecShape
from ..errors import BarkFileError
from ..int8 import with_int8_layers
from ..precision import DTYPES, dtype_of, is_narrowed
from ..transformer import CausalTransformer, FineTransformer, NetworkShape
from .layouts import FoundStage, short_codec_name
from .reading import Weights

HEAD_DIM = 64  # of all of Suno's models; used where nothing says the number of heads
BARK_CODEBOOKS = 8  # codebooks that Bark uses; EnCodec files have 32
MAX_LAYERS = 1_000
# What a weight can be stored as; int8 only beside a scale.
STORED = DTYPES | {"float64": torch.float64}

Shape = NetworkShape | CodecShape


def shape_of(weights: Weights, found: FoundStage) -> Shape:
    """Sizes of the stage in the file. Raises BarkFileError where the weights contradict themselves."""
    sizes = _Sizes(weights, found)
    return sizes.codec() if found.stage == "codec" else sizes.network()


def empty_module(stage: str, shape: Shape) -> nn.Module:
    """The module of a stage on the meta device: it takes no memory and draws no random numbers."""
    with torch.device("meta"):
        if isinstance(shape, CodecShape):
            return Codec(shape)
        return FineTransformer(shape) if stage == "fine" else CausalTransformer(shape)


def narrowed_weights(shape: Shape) -> int:
    """How many weights of a network are in its attention and MLP: twelve matrices of width squared in each layer."""
    return 12 * shape.n_layer * shape.n_embd**2 if isinstance(shape, NetworkShape) else 0


def weight_bytes(stage: str, shape: Shape, dtype: torch.dtype) -> int:
    """What the weights of a stage take in memory, and in a converted file, in a precision."""
    module = empty_module(stage, shape)
    if dtype == torch.int8:
        with_int8_layers(module)
    return sum(
        weight.numel() * (dtype_of(name, dtype) if stage != "codec" else torch.float32).itemsize
        for name, weight in module.state_dict().items()
        if not is_training_buffer(name)
    )


def sources_of(weights: Weights, found: FoundStage, module: nn.Module) -> dict[str, tuple[str, ...]]:
    """For each weight of the module its name in the file, or two: weight norm split into g and v, int8 and scale.

    Codebook buffers that only training needs are left out. Raises BarkFileError for a missing, extra, wrongly
    shaped or non-float weight, naming it.
    """
    expected = {n: tuple(t.shape) for n, t in module.state_dict().items() if not is_training_buffer(n)}
    is_codec = found.stage == "codec"
    sources: dict[str, tuple[str, ...]] = {}
    for name, shape in expected.items():
        key = short_codec_name(name) if is_codec else name
        split = (f"{key}_g", f"{key}_v")
        if key not in found.names and is_codec and all(part in found.names for part in split):
            norm_shape = (shape[0], *[1] * (len(shape) - 1))
            sources[name] = found.names[split[0]], found.names[split[1]]
            _require_shape(weights, sources[name][0], norm_shape)
            _require_shape(weights, sources[name][1], shape)
        elif key in found.names:
            sources[name] = (found.names[key],)
            _require_shape(weights, found.names[key], shape)
            scale = scale_name(key)
            if is_narrowed(key) and scale in found.names:
                sources[name] += (found.names[scale],)
                _require_shape(weights, found.names[scale], shape[:1])
        else:
            raise BarkFileError(
                f"{weights.path} lacks the weight {name} of the {found.stage} stage. Take a fresh copy."
            )
    used = {name for names in sources.values() for name in names}
    extra = [name for key, name in found.names.items() if name not in used and not _spare_codebook(key)]
    if extra:
        raise BarkFileError(
            f"{weights.path} has a weight that the {found.stage} stage does not know: {extra[0][:120]}. "
            "It may be another model, or a newer kind of checkpoint."
        )
    scaled = {names[0] for names in sources.values() if len(names) == 2 and not is_codec}
    for name in used:
        allowed = {"int8"} if name in scaled else STORED.keys() - {"int8"}
        if weights.infos[name].precision not in allowed:
            raise BarkFileError(
                f"{weights.path} stores {name} as {weights.infos[name].precision}; only {', '.join(sorted(allowed))} "
                "can be used there. Take the unquantised weights, or convert them with this engine."
            )
    return sources


def scale_name(weight: str) -> str:
    """The name beside an int8 weight that holds its scales."""
    return weight.removesuffix(".weight") + ".scale"


def is_training_buffer(name: str) -> bool:
    """Whether a codec buffer only serves training: it is filled in instead of read."""
    return name.endswith(("._codebook.inited", "._codebook.cluster_size", "._codebook.embed_avg"))


def _require_shape(weights: Weights, name: str, shape: tuple[int, ...]) -> None:
    found = weights.infos[name].shape
    if found != shape:
        raise BarkFileError(
            f"{weights.path}: the weight {name} should have shape {list(shape)} but has {list(found)}. "
            "It belongs to another model; take a fresh copy."
        )


def _spare_codebook(key: str) -> bool:
    match = re.fullmatch(r"quantizer\.(\d+)\.embed", key)
    return match is not None and int(match[1]) >= BARK_CODEBOOKS


class _Sizes:
    """Reads sizes off the shapes of one stage's weights."""

    def __init__(self, weights: Weights, found: FoundStage):
        self.path: Path = weights.path
        self.stage = found.stage
        self.settings: Mapping[str, Any] = found.settings
        self.shapes = {key: weights.infos[name].shape for key, name in found.names.items()}
        for key in [key for key in self.shapes if key.endswith(".weight_v")]:
            self.shapes.setdefault(key.removesuffix("_v"), self.shapes[key])

    def of(self, name: str, rank: int) -> tuple[int, ...]:
        """Shape of a weight that must be there, with `rank` sizes, none of them 0."""
        shape = self.shapes.get(name)
        if shape is None:
            raise BarkFileError(f"{self.path} lacks the weight {name} of the {self.stage} stage. Take a fresh copy.")
        if len(shape) != rank or 0 in shape:
            raise BarkFileError(
                f"{self.path}: the weight {name} should have {rank} sizes above 0 but has shape {list(shape)}. "
                "Take a fresh copy."
            )
        return shape

    def count(self, pattern: str) -> int:
        """How many of `pattern` with {} = 0, 1, 2 … there are."""
        return next(i for i in range(MAX_LAYERS + 1) if i == MAX_LAYERS or pattern.format(i) not in self.shapes)

    def network(self) -> NetworkShape:
        codebooks = self.count("transformer.wtes.{}.weight") if self.stage == "fine" else 0
        table = "transformer.wtes.0.weight" if codebooks else "transformer.wte.weight"
        input_vocab, n_embd = self.of(table, 2)
        output_vocab = input_vocab if codebooks else self.of("lm_head.weight", 2)[0]
        n_layer = self.count("transformer.h.{}.attn.c_attn.weight")
        self.agree("n_embd", n_embd)
        self.agree("n_layer", n_layer)
        if codebooks:
            self.agree("n_codes_total", codebooks)
            self.agree("n_codes_given", 1)  # otherwise the heads would not be tied to the tables one further on
        if self.stage == "text" and input_vocab <= output_vocab:
            raise BarkFileError(
                f"{self.path}: the text stage must read more tokens than it makes, but its table has {input_vocab:,} "
                f"rows and its head {output_vocab:,}. It belongs to another model."
            )
        return NetworkShape(
            n_layer=n_layer,
            n_head=self.heads(n_embd),
            n_embd=n_embd,
            block_size=self.of("transformer.wpe.weight", 2)[0],
            input_vocab=input_vocab,
            output_vocab=output_vocab,
            bias="transformer.h.0.attn.c_attn.bias" in self.shapes,
            codebooks=codebooks,
        )

    def heads(self, n_embd: int) -> int:
        heads = self.settings.get("n_head", n_embd // HEAD_DIM)
        if type(heads) is not int or heads < 1 or n_embd % heads:
            raise BarkFileError(
                f"{self.path}: a width of {n_embd} cannot be divided among {heads!r} attention heads. "
                "Check the number of heads in the JSON file beside it, or take a fresh copy."
            )
        return heads

    def agree(self, setting: str, found: int) -> None:
        said = self.settings.get(setting, found)
        if said != found:
            raise BarkFileError(
                f"{self.path}: its settings say {setting} {said!r}, but its weights say {found}. The settings belong "
                "to another file (look at the JSON file beside it), or the file is damaged."
            )

    def codec(self) -> CodecShape:
        """Decoder: conv 0, LSTM 1, then per ratio an activation, a transposed conv and a residual block."""
        ratios = []
        while f"decoder.{3 * len(ratios) + 4}.block.1.conv.weight" in self.shapes and len(ratios) < MAX_LAYERS:
            kernel = self.of(f"decoder.{3 * len(ratios) + 3}.conv.weight", 3)[2]  # twice its stride
            ratios.append(max(1, kernel // 2))
        codebooks = self.count("quantizer.{}.embed")
        if codebooks < BARK_CODEBOOKS:
            raise BarkFileError(
                f"{self.path} is a codec with {codebooks} codebooks; Bark needs {BARK_CODEBOOKS}. "
                "Take encodec_24khz, or the codec that came with the models."
            )
        return CodecShape(
            filters=self.of("encoder.0.conv.weight", 3)[0],
            dimension=self.of("decoder.0.conv.weight", 3)[1],
            lstm_layers=max(1, self.count("decoder.1.lstm.weight_ih_l{}")),
            ratios=tuple(ratios),
            codebooks=BARK_CODEBOOKS,
            codebook_size=self.of("quantizer.0.embed", 2)[0],
        )
