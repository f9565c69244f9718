"""Put nano together: the best weights of each training in int8 and float16, two voices and the vocabularies.

The card, README.md, is written by hand and stays as it is.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from ...atomic import replacing
from ...checkpoint.shapes import scale_name
from ...errors import BarkFileError
from ...int8 import quantize
from ...precision import is_narrowed
from ...speaker import SpeakerPrompt
from .family import nano_spec
from .phones import semantic_vocabulary
from .voices import VOICES

SHARPER = {"text": {"lm_head.weight": 2.0}, "coarse": {"lm_head.weight": 1.4}}
"""What logits are multiplied with: networks this small read best at temperatures of 0.35 and 0.5; Suno's is 0.7."""
NARROWED = ("text", "coarse")  # whose attention and MLP are int8; it moves their distributions by a thousandth
MAX_BYTES = 16_000_000
SPEAKER_SECONDS = 1.6  # of a voice, and up to twice as much; what follows in training is a past of this length

# Where the weights of each stage come from, in the folder of all steps.
SOURCES = {
    "text": Path("semantic/best/text.safetensors"),
    "coarse": Path("coarse/best/coarse.safetensors"),
    "fine": Path("fine/best/fine.safetensors"),
    "codec": Path("decoder/codec.safetensors"),
}


def export(work: Path, output: Path) -> str:
    """Write nano's files into `output`; returns what was written, in words.

    Raises BarkFileError for a step that has not been run, and when the whole is larger than MAX_BYTES.
    """
    missing = [stage for stage, path in SOURCES.items() if not (work / path).is_file()]
    if missing:
        raise BarkFileError(
            f"{work} has no weights yet for: {', '.join(missing)}. Run their trainings; see docs/nano.md"
        )
    output.mkdir(parents=True, exist_ok=True)
    for stage, path in SOURCES.items():
        _shrink(work / path, output / f"{stage}.safetensors", SHARPER.get(stage, {}), stage in NARROWED)
    for name in ("spec.json", "vocab.txt"):
        shutil.copyfile(work / name, output / name)
    (output / "semantic_tokens.json").write_text(
        json.dumps(semantic_vocabulary(), ensure_ascii=False), encoding="utf-8"
    )
    for speaker in VOICES:
        if speaker:
            _write_speaker(work / "data-sound", speaker, output / "speakers" / f"{speaker}.npz")
    total = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    if total > MAX_BYTES:
        raise BarkFileError(
            f"nano takes {total:,} bytes in {output}; at most {MAX_BYTES:,} are allowed. Make a network smaller."
        )
    return f"nano is in {output}: {total:,} bytes"


def _shrink(source: Path, target: Path, factors: Mapping[str, float], narrow: bool) -> None:
    """Weights in float16, some of them multiplied; attention and MLP in int8 where `narrow` says so.

    Not by `convert`, which keeps embeddings, heads and codecs in float32; they are read as that all the same.
    """
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    small = {}
    for name, weight in weights.items():
        if narrow and is_narrowed(name):
            small[name], small[scale_name(name)] = quantize(weight)
        else:
            small[name] = (factors.get(name, 1.0) * weight).half() if weight.is_floating_point() else weight
    with replacing(target, "The weights") as temporary:
        save_file(small, temporary, metadata)


def _write_speaker(data: Path, speaker: str, path: Path) -> None:
    """The first clip of a speaker that is long enough, as a speaker prompt."""
    spec = nano_spec()
    for line in (data / "clips.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["speaker"] == speaker:
            with np.load(data / "tokens" / f"{entry['name']}.npz", allow_pickle=False) as arrays:
                semantic, fine = arrays["semantic_prompt"], arrays["fine_prompt"]
            if SPEAKER_SECONDS <= len(semantic) / spec.semantic_rate <= 2 * SPEAKER_SECONDS:
                prompt = SpeakerPrompt(semantic, fine[: spec.coarse_codebooks], fine, name=speaker, family=spec.family)
                path.parent.mkdir(parents=True, exist_ok=True)
                prompt.save(path)
                return
    raise BarkFileError(
        f"No clip of the voice {speaker!r} in {data} is long enough. Run the step sound with more sentences."
    )
