"""Sounds one after another: against concatenation by hand, with every mixture of rates and channels."""

import numpy as np
import pytest

from bark_engine import BarkInputError
from bark_engine.audio_files import resample_channels
from bark_engine.joining import PAUSE, join_sounds

RATE = 24_000


def noise(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, round(seconds * rate)))
    return samples.astype(np.float32)


def test_sounds_of_one_kind_are_only_put_together() -> None:
    one, two, three = (noise(0.1 * n, seed=n) for n in (1, 2, 3))
    joined, rate = join_sounds([(one, RATE), (two, RATE), (three, RATE)], pause=0.01)
    silence = np.zeros((1, 240), np.float32)
    np.testing.assert_array_equal(joined, np.concatenate([one, silence, two, silence, three], axis=1))
    assert (rate, joined.dtype) == (RATE, np.float32)


def test_a_single_sound_stays_as_it_is() -> None:
    sound = noise(0.1, channels=2)
    joined, rate = join_sounds([(sound, 44_100)])
    np.testing.assert_array_equal(joined, sound)
    assert rate == 44_100


def test_a_pause_is_a_quarter_of_a_second_if_nobody_says_otherwise() -> None:
    joined, _ = join_sounds([(noise(0.1), RATE)] * 2)
    assert joined.shape == (1, 2 * 2_400 + 6_000)
    assert PAUSE == 0.25
    assert not joined[:, 2_400:8_400].any()


def test_the_highest_rate_and_the_most_channels_win() -> None:
    low, high = noise(0.1, 16_000), noise(0.1, 48_000, channels=2, seed=1)
    joined, rate = join_sounds([(low, 16_000), (high, 48_000)], pause=0)
    assert rate == 48_000
    spoken = resample_channels(low, 16_000, 48_000)
    np.testing.assert_array_equal(joined, np.concatenate([np.repeat(spoken, 2, axis=0), high], axis=1))


@pytest.mark.parametrize("pause", [-0.1, 60.1, float("nan"), float("inf")])
def test_an_impossible_pause_is_refused(pause: float) -> None:
    with pytest.raises(BarkInputError, match=r"must be 0 … 60 seconds"):
        join_sounds([(noise(0.1), RATE)], pause)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(BarkInputError, match="no sounds to join"):
        join_sounds([])
    with pytest.raises(BarkInputError, match="2 and 6 channels cannot be joined"):
        join_sounds([(noise(0.1, channels=count), RATE) for count in (1, 6, 2)])
    with pytest.raises(BarkInputError, match="not numbers"):
        join_sounds([(np.full((1, 9), np.nan, np.float32), RATE)])
