"""Full-size stages without their weights: safetensors files with a true header and a hole where the numbers would be.

`describe` reads headers only, so that finding large and small models can be tested on files of real shapes which take
no room on the disk. They cannot be loaded: every weight is zero.
"""

import json
import math
import re
import struct
from functools import lru_cache
from pathlib import Path

import torch
from peers import NETWORK_NAMES, renamed

from bark_engine.codec import Codec, CodecShape
from bark_engine.transformer import CausalTransformer, FineTransformer, NetworkShape

SIZES = {"large": (24, 16, 1024), "small": (12, 12, 768)}
VOCABULARIES = {"text": (129_600, 10_048), "coarse": (12_096, 12_096), "fine": (1_056, 1_056)}
PRECISIONS = {"F16": 2, "F32": 4}
UNKNOWN_ID = 100
WORDS = 119_547  # entries of multilingual BERT's vocabulary

_PREFIXES = {"text": "semantic.", "coarse": "coarse_acoustics.", "fine": "fine_acoustics."}


def network_shape(stage: str, size: str | tuple[int, int, int]) -> NetworkShape:
    """Shape of a stage in one of Suno's sizes, or with (layers, heads, width)."""
    layers, heads, width = SIZES[size] if isinstance(size, str) else size
    inputs, outputs = VOCABULARIES[stage]
    return NetworkShape(layers, heads, width, 1_024, inputs, outputs, codebooks=8 if stage == "fine" else 0)


def write_stage(path: Path, stage: str, size: str | tuple[int, int, int] = "large", precision: str = "F16") -> Path:
    """A file with one stage, whatever its name says; the codec knows no size."""
    _write(path, _tensors(stage, size), precision)
    return path


def write_transformers(folder: Path, size: str) -> Path:
    """A folder as transformers saves it, with the three networks and no codec."""
    tensors = {
        _PREFIXES[stage] + renamed(name, NETWORK_NAMES): shape
        for stage in VOCABULARIES
        for name, shape in _tensors(stage, size).items()
    }
    _write(folder / "model.safetensors", tensors, "F16")
    return folder / "model.safetensors"


def write_set(folder: Path, size: str, *, codec: bool = True, names: str = "{stage}.safetensors") -> Path:
    """A folder with all stages of one size."""
    for stage in VOCABULARIES:
        write_stage(folder / names.format(stage=stage), stage, size)
    if codec:
        write_stage(folder / "encodec_24khz.safetensors", "codec")
    return folder


def write_vocabulary(path: Path, words: int = WORDS, unknown: int = UNKNOWN_ID) -> Path:
    """A `vocab.txt` with [UNK] on the line that is asked for."""
    lines = [f"w{number}" for number in range(words)]
    lines[unknown] = "[UNK]"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@lru_cache
def _tensors(stage: str, size: str | tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        if stage == "codec":
            module: torch.nn.Module = Codec(CodecShape())
        elif stage == "fine":
            module = FineTransformer(network_shape(stage, size))
        else:
            module = CausalTransformer(network_shape(stage, size))
    training = re.compile(r"\._codebook\.(inited|cluster_size|embed_avg)$")
    return {name: tuple(t.shape) for name, t in module.state_dict().items() if not training.search(name)}


def _write(path: Path, tensors: dict[str, tuple[int, ...]], precision: str) -> None:
    header, end = {}, 0
    for name, shape in tensors.items():
        begin, end = end, end + math.prod(shape) * PRECISIONS[precision]
        header[name] = {"dtype": precision, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
