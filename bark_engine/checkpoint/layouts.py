"""Which stages a file holds, and under which names: every spelling of Bark's weights as data.

Everything is decided by the names and shapes of the tensors. The canonical names are those of our own modules, which
are Suno's (transformer.py) and encodec's (codec.py). Sources of the spellings: transformers'
`convert_suno_to_hf.py` and `convert_encodec_checkpoint_to_pytorch.py`, `safetensors.torch.save_model`, and the
fine-tuning notebooks of serp-ai/bark-with-voice-clone.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BarkFileError
from .reading import Weights, read_json

STAGES = ("text", "coarse", "fine", "codec")

_SUB_MODELS = {  # transformers' BarkModel
    "semantic.": "text",
    "coarse_acoustics.": "coarse",
    "fine_acoustics.": "fine",
    "codec_model.": "codec",
}
_SUB_CONFIGS = {
    "text": "semantic_config",
    "coarse": "coarse_acoustics_config",
    "fine": "fine_acoustics_config",
    "codec": "codec_config",
}
_TRANSFORMERS_PARTS = {  # one dotted component of a name each, so that no rename can hit half a word
    "layers": "transformer.h",
    "input_embeds_layer": "transformer.wte",
    "input_embeds_layers": "transformer.wtes",
    "position_embeds_layer": "transformer.wpe",
    "layernorm_final": "transformer.ln_f",
    "layernorm_1": "ln_1",
    "layernorm_2": "ln_2",
    "att_proj": "c_attn",
    "in_proj": "c_fc",
    "out_proj": "c_proj",
}
_CODEC_PARTS = ("encoder.", "decoder.", "quantizer.")
_CODEC_RENAMES = (  # encodec's and transformers' names, and our module's, all to one short spelling
    (re.compile(r"^(encoder|decoder)\.(?:model|layers)\."), r"\1."),
    (re.compile(r"^quantizer\.(?:vq\.)?layers\.(\d+)\._?codebook\."), r"quantizer.\1."),
    (re.compile(r"\.(?:conv\.conv|convtr\.convtr)\."), ".conv."),
    (re.compile(r"\.parametrizations\.weight\.original0$"), ".weight_g"),
    (re.compile(r"\.parametrizations\.weight\.original1$"), ".weight_v"),
)
_CODEC_TRAINING = re.compile(r"^quantizer\.\d+\.(inited|cluster_size|embed_avg)$")  # of no use for decoding
_SHOWN = 3  # names of weights in one message


@dataclass(frozen=True, slots=True)
class FoundStage:
    """One stage inside a file: canonical name → name in the file, and the settings that came along.

    `tied` lists pairs (used, other) of names that stand for one weight and are both in the file.
    `settings` has Suno's field names (`n_head`, …) and is empty where the file says nothing.
    """

    stage: str
    layout: str
    names: dict[str, str]
    tied: tuple[tuple[str, str], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def find_stages(weights: Weights) -> tuple[FoundStage, ...]:
    """The stages in a file, in STAGES order. Raises BarkFileError where there are none or one cannot be told."""
    names = [name for name in weights.infos if not name.endswith(".attn.bias")]  # causal masks, not weights
    _refuse_lora(weights.path, names)
    plain = {name.removeprefix("_orig_mod."): name for name in names}  # torch.compile's wrapper
    if len(plain) < len(names):
        raise BarkFileError(f"{weights.path} has weights twice, with and without '_orig_mod.'. Take a fresh copy.")
    if any(name.startswith(tuple(_SUB_MODELS)) for name in plain):
        return _transformers_model(weights, plain)
    if plain and all(name.startswith(_CODEC_PARTS) for name in plain):
        layout = "transformers" if any(".layers.0.conv.weight" in n or "original1" in n for n in plain) else "encodec"
        return (_codec(weights.path, plain, layout),)
    if any(name.split(".")[0] in _TRANSFORMERS_PARTS for name in plain):
        return (_network(weights, plain, "transformers", None),)
    if any(name.startswith(("transformer.w", "transformer.h.", "lm_head")) for name in plain):
        return (_network(weights, plain, _suno_layout(weights), None),)
    raise BarkFileError(
        f"{weights.path} holds none of Bark's stages; its first entries are {_some(weights.infos)}. "
        "Give a checkpoint of the text, coarse or fine stage, or of EnCodec at 24 kHz."
    )


def short_codec_name(name: str) -> str:
    """The spelling that encodec's, transformers' and our own names of one codec weight have in common."""
    for pattern, replacement in _CODEC_RENAMES:
        name = pattern.sub(replacement, name)
    return name


def _refuse_lora(path: Path, names: Iterable[str]) -> None:
    found = [name for name in names if "lora_" in name]
    if found:
        raise BarkFileError(
            f"{path} is a fine-tune whose LoRA weights are not merged ({_some(found)}). Merge them into the weights "
            "with the program that trained it, then load the merged file."
        )


def _transformers_model(weights: Weights, plain: dict[str, str]) -> tuple[FoundStage, ...]:
    groups: dict[str, dict[str, str]] = {}
    for name, in_file in plain.items():
        prefix = next((p for p in _SUB_MODELS if name.startswith(p)), None)
        if prefix is None:
            raise BarkFileError(
                f"{weights.path} is a Bark model of transformers, but also holds {name}, which is none of its parts. "
                "Take a fresh copy."
            )
        groups.setdefault(_SUB_MODELS[prefix], {})[name.removeprefix(prefix)] = in_file
    return tuple(
        _codec(weights.path, groups[stage], "transformers")
        if stage == "codec"
        else _network(weights, groups[stage], "transformers", stage)
        for stage in STAGES
        if stage in groups
    )


def _suno_layout(weights: Weights) -> str:
    if weights.model_args is not None:
        return "suno"
    if "shape" in weights.metadata and weights.metadata.get("stage") in STAGES:
        return "converted"
    return "gitmylo" if weights.kind == "safetensors" and _json_beside(weights.path).is_file() else "flat"


def _network(weights: Weights, group: dict[str, str], layout: str, stage: str | None) -> FoundStage:
    names: dict[str, str] = {}
    for name, in_file in group.items():
        canonical = _canonical_network_name(name)
        if canonical in names:
            raise BarkFileError(f"{weights.path} has one weight twice: {names[canonical]} and {in_file}.")
        names[canonical] = in_file
    tied = _tie_heads(names)
    if stage is None:
        stage = weights.metadata.get("stage") if layout == "converted" else None
        stage = stage or _stage_of(weights, names)
    return FoundStage(stage, layout, names, tied, _settings(weights, layout, stage))


def _canonical_network_name(name: str) -> str:
    name = re.sub(r"^(lm_head|lm_heads\.\d+)\.0\.weight$", r"\1.weight", name)  # a fine-tune's nn.Sequential
    return ".".join(_TRANSFORMERS_PARTS.get(part, part) for part in name.split("."))


def _tie_heads(names: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Store the head of codebook p under the table of codebook p, in place; return the pairs that were both there.

    Suno ties `wtes.{i + 1}` to `lm_heads.{i}`, so one of the two may be missing. Where they differ, Suno's loader
    ends up with the head: it is loaded last.
    """
    tied = []
    for name in [name for name in names if name.startswith("lm_heads.")]:
        match = re.fullmatch(r"lm_heads\.(\d+)\.weight", name)
        if match:
            table = f"transformer.wtes.{int(match[1]) + 1}.weight"
            if table in names:
                tied.append((names[name], names[table]))
            names[table] = names.pop(name)
    return tuple(tied)


def _stage_of(weights: Weights, names: dict[str, str]) -> str:
    """Stage of a network that nobody named: the fine one has a table per codebook, the coarse one equal vocabularies.

    The text network reads text tokens too, which it never makes.
    """
    if "transformer.wtes.0.weight" in names:
        return "fine"
    rows = [
        weights.infos[names[name]].shape[:1] if name in names else ()
        for name in ("transformer.wte.weight", "lm_head.weight")
    ]
    if () in rows:
        raise BarkFileError(
            f"{weights.path} looks like a Bark network but lacks its token table or its head; "
            f"its first entries are {_some(names.values())}. Take a fresh copy."
        )
    return "coarse" if rows[0] == rows[1] else "text"


def _settings(weights: Weights, layout: str, stage: str) -> dict[str, Any]:
    """What came with the weights, under Suno's field names: the head count cannot be told from the tensors."""
    if layout == "suno":
        return weights.model_args or {}
    if layout == "converted":
        try:
            shape = json.loads(weights.metadata["shape"])
        except ValueError:
            shape = None
        if not isinstance(shape, dict):
            raise BarkFileError(f"The header of {weights.path} is damaged. Convert the file again.")
        return shape
    if layout == "gitmylo":
        return read_json(_json_beside(weights.path))
    config = weights.path.parent / "config.json"
    values = read_json(config) if config.is_file() else {}
    if layout == "transformers":
        values = values.get(_SUB_CONFIGS[stage], values)
        names = {"n_head": "num_heads", "n_embd": "hidden_size", "n_layer": "num_layers"}
        return {ours: values[theirs] for ours, theirs in names.items() if isinstance(values, dict) and theirs in values}
    return values if "n_embd" in values else {}  # a folder may hold the config.json of something else


def _json_beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _codec(path: Path, group: dict[str, str], layout: str) -> FoundStage:
    names: dict[str, str] = {}
    for name, in_file in group.items():
        short = short_codec_name(name)
        if _CODEC_TRAINING.match(short):
            continue
        if short in names:
            raise BarkFileError(f"{path} has one weight twice: {names[short]} and {in_file}. Take a fresh copy.")
        names[short] = in_file
    return FoundStage("codec", layout, names)


def _some(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    listed = list(names)
    shown = ", ".join(name[:80] for name in listed[:_SHOWN])
    return f"{shown} and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else shown or "(nothing)"
