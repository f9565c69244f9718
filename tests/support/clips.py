"""Tiny families, networks and data folders for the tests of the training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from bark_engine.spec import BarkSpec, register_family
from bark_engine.text import BUNDLED_VOCABULARY, Tokenizer
from bark_engine.training.clips import Clip

VOCABULARY = Tokenizer.load(BUNDLED_VOCABULARY)

TOY = BarkSpec(
    family="toy",
    semantic_vocab=40,
    text_offset=48,
    text_pad=48 + VOCABULARY.size,
    semantic_infer=48 + VOCABULARY.size + 1,
    text_length=16,
    semantic_history=16,
    max_semantic=48,
    codebook_size=24,
    coarse_semantic_pad=40 + 2 * 24,
    coarse_infer=40 + 2 * 24 + 1,
    fine_window=64,
    fine_hop=32,
)
"""A family as small as can be, whose rates are Suno's. The coarse stage keeps Suno's windows: they are no numbers of a
family but knobs of the sampling."""

SMALL = replace(TOY, family="small_toy", coarse_semantic_window=32, coarse_positions=192, fine_window=16, fine_hop=8)
"""TOY with a coarse prompt that is quick to train on; for clips of up to 32 semantic tokens."""

for _spec in (TOY, SMALL):
    register_family(_spec)

LAYERS, HEADS, WIDTH = 2, 2, 32


def make_clip(
    spec: BarkSpec, semantic: int, rng: np.random.Generator, name: str = "clip", speaker: str = "", split: str = "train"
) -> Clip:
    """Random tokens of the right shapes: `semantic` ids and the frames that go with them."""
    fine = rng.integers(spec.codebook_size, size=(spec.fine_codebooks, spec.frames_for(semantic)), dtype=np.int16)
    ids = rng.integers(spec.semantic_vocab, size=semantic, dtype=np.int16)
    return Clip(name, f"text {name}", speaker, split, ids, fine[: spec.coarse_codebooks], fine)


def write_clips(folder: Path, clips: list[Clip], family: str) -> Path:
    """A data folder with these clips."""
    (folder / "tokens").mkdir(parents=True)
    for clip in clips:
        arrays = {"semantic_prompt": clip.semantic, "coarse_prompt": clip.coarse, "fine_prompt": clip.fine}
        np.savez(
            folder / "tokens" / f"{clip.name}.npz",
            **{key: array for key, array in arrays.items() if array.size},
            family=np.array(family),
        )
    lines = [{"name": c.name, "text": c.text, "speaker": c.speaker, "split": c.split} for c in clips]
    (folder / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder
