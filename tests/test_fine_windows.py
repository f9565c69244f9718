"""Where the fine stage's windows lie, for every length: each new frame is predicted, and none of the voice's."""

import numpy as np
import pytest
import torch

from bark_engine.fine import generate_fine, plan_windows
from bark_engine.sampling import FineSampling
from bark_engine.spec import SUNO
from bark_engine.tokens import CoarseTokens
from support.tiny_models import as_speaker, fine_pair, one_thread, prompt_arrays

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {  # (history, frames): (start, first predicted frame counted from there)
    (0, 1): [(0, 0)],
    (0, 300): [(0, 0)],
    (0, 1_024): [(0, 0)],
    (0, 1_025): [(0, 0), (1, 511)],
    (0, 1_154): [(0, 0), (130, 382)],
    (512, 512): [(0, 512)],
    (512, 513): [(0, 512), (1, 512)],
    (464, 700): [(0, 464), (140, 512)],
    (464, 1_154): [(0, 464), (512, 464), (594, 512)],
    (512, 1_154): [(0, 512), (512, 512), (642, 512)],
}


@pytest.mark.parametrize(("history", "frames"), SHAPES)
def test_the_shapes_worked_out_by_hand(history: int, frames: int) -> None:
    assert plan_windows(history, frames, SUNO) == SHAPES[history, frames]


@pytest.mark.parametrize("history", [0, 1, 3, 255, 464, 511, 512])
def test_every_new_frame_is_predicted_and_no_frame_of_the_voice(history: int) -> None:
    for frames in [*range(1, 60), *range(60, 3_000, 13), 1_023, 1_024, 1_025, 1_536, 1_537]:
        windows = plan_windows(history, frames, SUNO)
        length = max(history + frames, 1_024)
        predicted = np.zeros(length, bool)
        for start, first_new in windows:
            assert 0 <= start <= length - 1_024
            assert 0 <= first_new < 1_024
            predicted[start + first_new : start + 1_024] = True
        assert predicted[history:].all()
        assert not predicted[:history].any()
        assert [start for start, _ in windows] == sorted({start for start, _ in windows})  # no window twice


def test_what_is_given_stays() -> None:
    """The two coarse rows come back as they went in; the voice is heard but not returned."""
    network = fine_pair().engine
    coarse = CoarseTokens(np.random.default_rng(0).integers(0, 1_024, (2, 700)))
    for count in (None, 2, 400):
        speaker = None if count is None else as_speaker(prompt_arrays(count))
        fine = generate_fine(network, coarse, SUNO, speaker=speaker, sampling=FineSampling(), seed=0)
        assert fine.coarse == coarse
        assert fine.frames == 700
        assert fine.family == "suno"


def test_padding_is_predicted_and_read() -> None:
    """Frames after the end are sampled like real ones and feed the next codebooks; cutting them changes tokens."""
    network = fine_pair().engine
    coarse = CoarseTokens(np.random.default_rng(1).integers(0, 1_024, (2, 40)))
    window = torch.full((1, 1_024, 8), 1_024)
    window[0, :40, :2] = torch.tensor(coarse.codes.T)
    with torch.inference_mode():
        for codebook in range(2, 8):
            window[0, :, codebook] = network(window, codebook, 0, 1_024)[0].argmax(-1)
        only_real = torch.full((1, 1_024, 8), 1_024)
        only_real[0, :40, :2] = window[0, :40, :2]
        for codebook in range(2, 8):
            only_real[0, :40, codebook] = network(only_real, codebook, 0, 1_024)[0, :40].argmax(-1)
    fine = generate_fine(network, coarse, SUNO, speaker=None, sampling=FineSampling(temperature=None), seed=0)
    assert np.array_equal(fine.codes, window[0, :40].T.numpy())
    assert not np.array_equal(fine.codes, only_real[0, :40].T.numpy())
