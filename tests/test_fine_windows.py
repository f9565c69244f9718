"""Where the fine stage's windows lie, for every length: each new frame is predicted, and none of the voice's."""

import numpy as np
import pytest
import torch

from bark_engine.fine import FineRow, fill_windows, generate_fine, plan_windows
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


@pytest.mark.parametrize("history", [0, 100, 600])
def test_without_padding_the_network_sees_the_sound_and_its_past_alone(history: int) -> None:
    """Against passes written out here; and the codes are others than with padding, which is why it is not the rule."""
    network = fine_pair().engine
    frames = 130
    coarse = CoarseTokens(np.random.default_rng(0).integers(0, 1_024, (2, frames)))  # type: ignore[arg-type]
    voice = prompt_arrays(history * 2 // 3) if history else None
    past = np.zeros((8, 0), np.int64) if voice is None else voice["fine_prompt"][:, -512:]
    codes = np.full((8, past.shape[1] + frames), 1_024, np.int64)
    codes[:, : past.shape[1]] = past
    codes[:2, past.shape[1] :] = coarse.codes
    window = torch.tensor(codes.T)[None]
    with torch.inference_mode():
        for codebook in range(2, 8):
            window[0, past.shape[1] :, codebook] = network(window, codebook, past.shape[1], 1_024)[0].argmax(-1)
    speaker = None if voice is None else as_speaker(voice)
    given = {"speaker": speaker, "seed": 0}
    short = generate_fine(network, coarse, SUNO, sampling=FineSampling(None, pad=False), **given)
    assert np.array_equal(short.codes, window[0, past.shape[1] :].T.numpy())
    assert short != generate_fine(network, coarse, SUNO, sampling=FineSampling(None), **given)


def test_padding_matters_only_to_sounds_shorter_than_a_window() -> None:
    network = fine_pair().engine
    coarse = CoarseTokens(np.random.default_rng(0).integers(0, 1_024, (2, 1_100)))  # type: ignore[arg-type]
    takes = [
        generate_fine(network, coarse, SUNO, speaker=None, sampling=FineSampling(pad=pad), seed=1)
        for pad in (True, False)
    ]
    assert takes[0] == takes[1]


def test_unpadded_sounds_of_several_lengths_get_in_a_batch_what_they_get_alone() -> None:
    network = fine_pair().engine
    rng = np.random.default_rng(1)
    clips = [CoarseTokens(rng.integers(0, 1_024, (2, frames))) for frames in (40, 200, 40, 1_050)]  # type: ignore[arg-type]
    sampling = FineSampling(pad=False)
    rows = [FineRow(clip, SUNO, None, sampling, number) for number, clip in enumerate(clips)]
    fill_windows(network, rows, SUNO, lambda done, total: None)
    for number, (row, clip) in enumerate(zip(rows, clips, strict=True)):
        assert row.result() == generate_fine(network, clip, SUNO, speaker=None, sampling=sampling, seed=number)
