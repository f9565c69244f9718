"""Where a new network begins: the clock in its positions."""

import numpy as np
import pytest
import torch

from bark_engine.spec import SUNO
from bark_engine.training.networks import DEVIATION, clock, network_shape, new_network, position_seconds
from support.clips import TOY


def test_coarse_tokens_stand_at_the_time_of_the_semantic_tokens_they_are_made_from() -> None:
    seconds = position_seconds("coarse", SUNO, network_shape("coarse", SUNO, 1, 1, 8))
    assert seconds[0] == 0
    assert seconds[SUNO.coarse_semantic_window] == 0  # the infer token, which predicts the first coarse token
    for coarse in (0, 300, 600):
        semantic = coarse / SUNO.coarse_per_semantic
        assert seconds[SUNO.coarse_semantic_window + coarse] == pytest.approx(semantic / SUNO.semantic_rate, abs=1e-4)


def test_the_other_stages_count_from_their_first_token() -> None:
    semantic = position_seconds("semantic", SUNO, network_shape("semantic", SUNO, 1, 1, 8))
    assert semantic[SUNO.text_length] == 0
    assert semantic[SUNO.text_length + 499] == pytest.approx(10.0, abs=1e-4)
    assert (semantic[: SUNO.text_length].diff() > 0).all()
    fine = position_seconds("fine", SUNO, network_shape("fine", SUNO, 1, 1, 8))
    assert fine[75] == 1


@pytest.mark.parametrize("width", [16, 33, 192])
def test_a_clock_is_most_like_itself_and_less_so_the_farther_away(width: int) -> None:
    times = torch.arange(600) / 50
    table = clock(times, width)
    assert table.shape == (600, width)
    likeness = (table @ table[300]) / width
    assert likeness.argmax() == 300
    assert likeness[300] == pytest.approx(1.0, abs=0.1)
    assert likeness[299] > likeness[290] or width < 64  # few waves are too coarse to tell
    assert likeness[:100].mean() < 0.6


def test_a_new_network_has_the_clock_and_the_same_seed_gives_the_same_weights() -> None:
    shape = network_shape("coarse", TOY, 1, 2, 64)
    one, same, other = (new_network("coarse", shape, TOY, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    first, second = one.transformer.wpe.weight, other.transformer.wpe.weight
    assert not torch.equal(first, second)
    with torch.no_grad():
        noise = first - DEVIATION * clock(position_seconds("coarse", TOY, shape), 64)
        assert noise.std().item() == pytest.approx(DEVIATION, rel=0.05)
        assert np.corrcoef(first.flatten(), second.flatten())[0, 1] == pytest.approx(0.5, abs=0.05)
