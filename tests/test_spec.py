"""BarkSpec: Suno's numbers, those of other families, and files that contradict themselves."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.spec import SUNO, BarkSpec, known_family, register_family
from support.suno_reference import load_suno


def test_the_defaults_are_sunos_constants() -> None:
    suno = load_suno().generation
    assert SUNO.semantic_rate == suno.SEMANTIC_RATE_HZ
    assert SUNO.semantic_vocab == suno.SEMANTIC_VOCAB_SIZE
    assert SUNO.end_token == suno.SEMANTIC_PAD_TOKEN
    assert SUNO.text_offset == suno.TEXT_ENCODING_OFFSET
    assert SUNO.text_pad == suno.TEXT_PAD_TOKEN
    assert SUNO.semantic_infer == suno.SEMANTIC_INFER_TOKEN
    assert SUNO.frame_rate == suno.COARSE_RATE_HZ
    assert SUNO.codebook_size == SUNO.fine_pad == suno.CODEBOOK_SIZE
    assert SUNO.coarse_codebooks == suno.N_COARSE_CODEBOOKS
    assert SUNO.fine_codebooks == suno.N_FINE_CODEBOOKS
    assert SUNO.coarse_semantic_pad == suno.COARSE_SEMANTIC_PAD_TOKEN
    assert SUNO.coarse_infer == suno.COARSE_INFER_TOKEN
    assert SUNO.sample_rate == suno.SAMPLE_RATE
    assert SUNO.coarse_per_semantic == suno.COARSE_RATE_HZ / suno.SEMANTIC_RATE_HZ * suno.N_COARSE_CODEBOOKS


def test_numbers_that_follow() -> None:
    assert [SUNO.frames_for(count) for count in (1, 2, 100, 256, 500, 768)] == [1, 3, 150, 384, 751, 1_154]
    for count in range(1, 769):
        assert SUNO.frames_for(count) == int(np.floor(count * (75 / 49.9 * 2) / 2))
    assert math.isclose(SUNO.frames_per_semantic, 1.503006, abs_tol=1e-6)
    assert math.isclose(SUNO.max_seconds, 15.39, abs_tol=0.001)
    assert SUNO.sample_rate / SUNO.hop_length == SUNO.frame_rate


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SUNO.semantic_vocab = 5  # type: ignore[misc]


def test_json_there_and_back() -> None:
    assert json.loads(SUNO.to_json()) == {"family": "suno"}
    other = dataclasses.replace(SUNO, family="spec_test", max_semantic=100, semantic_rate=50.0)
    assert json.loads(other.to_json()) == {"family": "spec_test", "max_semantic": 100, "semantic_rate": 50.0}
    assert BarkSpec.from_json(other.to_json(), "spec.json") == other
    assert BarkSpec.from_json('{"family": "suno", "frame_rate": 75}', "spec.json") == SUNO


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", 'must be a JSON object with at least a "family"'),
        ("{}", 'must be a JSON object with at least a "family"'),
        ('{"family": "x", "semantic_vocap": 3}', "unknown field 'semantic_vocap'. Known: family, semantic_rate"),
        ('{"family": 3}', "family must be of type str, not 3"),
        ('{"family": "a b"}', "'a b' is none"),
        ('{"family": ""}', "'' is none"),
        ('{"family": "x", "semantic_vocab": 10.5}', "semantic_vocab must be of type int, not 10.5"),
        ('{"family": "x", "semantic_vocab": true}', "semantic_vocab must be of type int, not True"),
        ('{"family": "x", "semantic_vocab": null}', "semantic_vocab must be of type int, not None"),
        ('{"family": "x", "semantic_vocab": 20000}', "overlapping id ranges"),
        ('{"family": "x", "semantic_vocab": -1}', "semantic_vocab.*-1"),
        ('{"family": "x", "coarse_infer": 12047}', "overlapping id ranges"),
        ('{"family": "x", "coarse_codebooks": 8}', "overlapping id ranges"),
        ('{"family": "x", "sample_rate": 44100}', "320 samples per frame at 75 frames/s is not 44100 Hz"),
        ('{"family": "x", "semantic_rate": 0}', "semantic_rate.*0"),
        ('{"family": "x", "semantic_rate": NaN}', "semantic_rate.*nan"),
        ('{"family": "x", "frame_rate": Infinity}', "frame_rate.*inf"),
        ('{"family": "x", "max_semantic": 0}', "max_semantic.*0"),
        ('{"family": "x", "fine_hop": 2000}', "fine_hop"),
    ],
)
def test_damaged_spec_files(text: str, sentence: str) -> None:
    with pytest.raises(BarkFileError, match=rf"(?s)^my/spec\.json.*{sentence}"):
        BarkSpec.from_json(text, "my/spec.json")


@pytest.mark.parametrize("changes", [{"semantic_rate": -1.0}, {"hop_length": 0}, {"codebook_size": 0}])
def test_impossible_numbers(changes: dict[str, Any]) -> None:
    with pytest.raises(BarkInputError, match=next(iter(changes))):
        dataclasses.replace(SUNO, family="x", **changes)


def test_families() -> None:
    assert known_family("suno") is SUNO
    assert known_family("spec_test_unheard_of") is None
    mine = dataclasses.replace(SUNO, family="spec_test_mine", max_semantic=5)
    assert register_family(mine) is mine
    assert register_family(dataclasses.replace(mine)) == mine
    assert known_family("spec_test_mine") == mine
    with pytest.raises(BarkInputError, match="'spec_test_mine' but have different numbers"):
        register_family(dataclasses.replace(mine, max_semantic=6))
    assert known_family("spec_test_mine") == mine
