"""The token containers: what goes in, what is refused, and that nothing changes afterwards."""

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bark_engine.errors import BarkInputError
from bark_engine.spec import SUNO, BarkSpec, register_family
from bark_engine.tokens import (
    CoarseTokens,
    FineTokens,
    SemanticTokens,
    deinterleave,
    interleave,
    require_family,
    require_type,
)

SMALL = register_family(
    BarkSpec(
        family="tokens_test_small",
        semantic_vocab=50,
        text_offset=60,
        text_pad=80,
        semantic_infer=90,
        codebook_size=16,
        coarse_semantic_pad=90,
        coarse_infer=91,
        fine_codebooks=4,
    )
)

IDS = [5, 0, 9_999, 17]
CODES = np.arange(16).reshape(8, 2)


@pytest.mark.parametrize(
    "given_ids",
    [
        IDS,
        tuple(IDS),
        np.array(IDS, np.uint16),
        np.array(IDS, np.int32)[::1],
        np.array([IDS, IDS]).T[:, 0],  # strided
        torch.tensor(IDS),
        torch.tensor(IDS, dtype=torch.int32, requires_grad=False),
    ],
    ids=["list", "tuple", "uint16", "int32", "strided", "torch", "torch int32"],
)
def test_anything_that_holds_whole_numbers(given_ids: Any) -> None:
    tokens = SemanticTokens(given_ids)
    assert tokens.ids.dtype == np.int64
    assert tokens.ids.flags.c_contiguous
    assert tokens.ids.tolist() == IDS
    assert len(tokens) == 4
    assert tokens.shape == (4,)
    assert tokens.family == "suno"


def test_the_array_is_a_copy_and_read_only() -> None:
    for source in (np.array(IDS), torch.tensor(IDS)):
        tokens = SemanticTokens(source)  # type: ignore[arg-type]
        source[0] = 77
        assert tokens.ids[0] == 5
        with pytest.raises(ValueError, match="read-only"):
            tokens.ids[0] = 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            tokens.ids = np.array([1])  # type: ignore[misc]
    codes = CODES.copy()
    fine = FineTokens(codes)
    codes[:] = 0
    assert np.array_equal(fine.codes, CODES)
    with pytest.raises(ValueError, match="read-only"):
        fine.codes += 1
    with pytest.raises(ValueError, match="read-only"):
        fine.coarse.codes[0, 0] = 3


def test_as_numpy() -> None:
    tokens = FineTokens(CODES)
    assert np.asarray(tokens) is tokens.codes
    assert np.asarray(tokens, dtype=np.float32).dtype == np.float32
    own = np.array(tokens)
    own[0, 0] = 99
    assert tokens.codes[0, 0] == 0


def test_lengths_and_seconds() -> None:
    assert SemanticTokens(np.zeros(499, int)).seconds == 10.0
    assert CoarseTokens(np.zeros((2, 150), int)).seconds == 2.0
    fine = FineTokens(np.arange(24).reshape(8, 3))
    assert (fine.frames, len(fine), fine.shape) == (3, 3, (8, 3))
    assert fine.coarse == CoarseTokens([[0, 1, 2], [3, 4, 5]])  # type: ignore[arg-type]
    assert SemanticTokens(np.zeros(499, int), family="never_heard_of").seconds == 10.0


def test_equality_and_hash_go_by_value() -> None:
    one, same, other = SemanticTokens(IDS), SemanticTokens(np.array(IDS)), SemanticTokens(IDS[:3])  # type: ignore[arg-type]
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, other}) == 2
    assert one != other
    assert one != SemanticTokens([5, 0, 9, 17], family="another")  # type: ignore[arg-type]
    coarse, fine = CoarseTokens(np.ones((2, 3), int)), FineTokens(np.ones((8, 3), int))
    assert coarse != fine
    assert coarse != coarse.codes.tolist()


REFUSED: list[tuple[type, Any, str]] = [
    (SemanticTokens, [], r"whole numbers, not float64|shape \[T\]"),
    (SemanticTokens, np.zeros(0, int), r"shape \[T\] with T ≥ 1; these have shape \[0\]"),
    (SemanticTokens, [[1, 2]], r"shape \[T\].*\[1, 2\]"),
    (SemanticTokens, 5, r"shape \[T\].*\[\]"),
    (SemanticTokens, [1.0, 2.0], "whole numbers, not float64"),
    (SemanticTokens, torch.zeros(3), "whole numbers, not float32"),
    (SemanticTokens, [True, False], "whole numbers, not bool"),
    (SemanticTokens, ["1", "2"], "whole numbers, not <U1"),
    (SemanticTokens, None, "whole numbers, not object"),
    (SemanticTokens, [[1], [1, 2]], "whole numbers"),
    (SemanticTokens, [2**70], "whole numbers, not object"),
    (SemanticTokens, [3, 10_000], r"0 … 9,999; these run from 3 to 10,000"),
    (SemanticTokens, [-1, 2], r"0 … 9,999; these run from -1 to 2"),
    (SemanticTokens, np.array([2**64 - 1], np.uint64), r"0 … 9,999"),
    (CoarseTokens, np.zeros((2, 0), int), r"shape \[2, F\] with F ≥ 1 frames; these have shape \[2, 0\]"),
    (CoarseTokens, np.zeros((8, 5), int), r"shape \[2, F\].*\[8, 5\]"),
    (CoarseTokens, np.zeros((5, 2), int), r"shape \[2, F\].*\[5, 2\]"),
    (CoarseTokens, np.zeros((1, 2, 5), int), r"shape \[2, F\].*\[1, 2, 5\]"),
    (CoarseTokens, np.zeros(4, int), r"shape \[2, F\].*\[4\]"),
    (CoarseTokens, np.full((2, 3), 1_024), r"0 … 1,023; these run from 1,024 to 1,024"),
    (CoarseTokens, np.full((2, 3), 10_500), r"still carry an offset"),
    (FineTokens, np.zeros((7, 3), int), r"shape \[8, F\].*\[7, 3\]"),
    (FineTokens, np.full((8, 3), -5), r"0 … 1,023; these run from -5 to -5"),
    (FineTokens, np.full((8, 3), 0.5), "whole numbers, not float64"),
]


@pytest.mark.parametrize(("kind", "values", "sentence"), REFUSED)
def test_refused(kind: type, values: Any, sentence: str) -> None:
    with pytest.raises(BarkInputError, match=sentence):
        kind(values)


def test_a_family_brings_its_own_limits() -> None:
    assert SemanticTokens([49], family=SMALL.family).ids.tolist() == [49]  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match="0 … 49"):
        SemanticTokens([50], family=SMALL.family)  # type: ignore[arg-type]
    fine = FineTokens(np.full((4, 2), 15), family=SMALL.family)
    assert fine.coarse.family == SMALL.family
    with pytest.raises(BarkInputError, match=r"shape \[4, F\]"):
        FineTokens(np.zeros((8, 2), int), family=SMALL.family)
    with pytest.raises(BarkInputError, match="0 … 15"):
        CoarseTokens(np.full((2, 2), 16), family=SMALL.family)


def test_tokens_of_another_family_or_kind_are_refused_by_a_stage() -> None:
    tokens = SemanticTokens([1, 2], family=SMALL.family)  # type: ignore[arg-type]
    require_family(tokens, SMALL, "Semantic tokens")
    with pytest.raises(BarkInputError, match=r"^Semantic tokens were made by .*'tokens_test_small'.*'suno'"):
        require_family(tokens, SUNO, "Semantic tokens")
    require_type(tokens, SemanticTokens, "Semantic to Coarse")
    with pytest.raises(BarkInputError, match=r"^Semantic to Coarse needs CoarseTokens, but was given SemanticTokens"):
        require_type(tokens, CoarseTokens, "Semantic to Coarse")
    with pytest.raises(BarkInputError, match="was given list"):
        require_type([1, 2], SemanticTokens, "Semantic to Coarse")


def test_a_family_first_opened_later_is_checked_by_the_stage() -> None:
    """A container made before anyone knew the family's numbers has not been checked against them."""
    tokens = SemanticTokens([70], family="tokens_test_late")  # type: ignore[arg-type]
    late = dataclasses.replace(SMALL, family="tokens_test_late")
    with pytest.raises(BarkInputError, match="0 … 49; these run from 70 to 70"):
        require_family(tokens, late, "Semantic tokens")


codes = arrays.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 40)), elements=st.integers(0, 1_023))


@given(codes)
def test_interleave_is_frame_by_frame(matrix: np.ndarray) -> None:
    flat = interleave(matrix)
    assert flat.tolist() == [matrix[k, f] for f in range(matrix.shape[1]) for k in range(matrix.shape[0])]
    assert np.array_equal(deinterleave(flat, len(matrix)), matrix)
    assert np.array_equal(deinterleave(flat.tolist(), len(matrix)), matrix)


@given(st.lists(st.integers(-5, 10_005), min_size=1, max_size=30))
def test_accepted_exactly_in_range(ids: list[int]) -> None:
    if all(0 <= token < 10_000 for token in ids):
        assert SemanticTokens(ids).ids.tolist() == ids  # type: ignore[arg-type]
    else:
        with pytest.raises(BarkInputError, match=f"from {min(ids):,} to {max(ids):,}"):
            SemanticTokens(ids)  # type: ignore[arg-type]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("tokens", [SemanticTokens([1, 2]), FineTokens(np.ones((8, 3), int), family="copied")])  # type: ignore[arg-type]
def test_a_copy_is_as_read_only_as_its_original(tokens: Any, again: Any) -> None:
    """numpy forgets the flag when it copies or unpickles an array, so the containers are made anew."""
    twin = again(tokens)
    assert (twin, twin.family, hash(twin)) == (tokens, tokens.family, hash(tokens))
    assert not np.asarray(twin).flags.writeable


def test_a_tensor_that_numpy_does_not_know_is_refused() -> None:
    with pytest.raises(BarkInputError, match=r"must be an array of whole numbers .*BFloat16"):
        SemanticTokens(torch.ones(3, dtype=torch.bfloat16))  # type: ignore[arg-type]
