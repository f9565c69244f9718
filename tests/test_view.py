"""What Inspect Tokens measures and draws, against slow twins that count by plain loops."""

import json
import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load

from bark_engine import Audio, BarkInputError, CoarseTokens, FineTokens, SemanticTokens, Trace
from bark_engine.view import View, make_payload, summary
from bark_engine.view.runs import longest_run, run_starts
from bark_engine.view.sound import BANDS, mel, spectrogram, top_hertz, wave_columns, window_length
from bark_engine.view.summary import silence

rng = np.random.default_rng(7)


def noise(seconds: float, rate: int = 24_000, level: float = 0.1) -> Audio:
    samples = np.random.default_rng(0).normal(0.0, level, max(1, round(seconds * rate)))
    return Audio(samples.astype(np.float32), rate)


def tone(hertz: float, seconds: float = 1.0, rate: int = 24_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def trace(length: int, **more: Any) -> Trace:
    values = np.random.default_rng(1).random((2, length)).astype(np.float32)
    return Trace("semantic", "suno", values[0], 3 * values[1], **more)


# -- sound ----------------------------------------------------------------------------------------------------------


@given(
    samples=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300), rate=st.sampled_from([40, 150, 151, 1000])
)
def test_the_outline_holds_every_sample_of_its_time(samples: list[float], rate: int) -> None:
    """Sample n belongs to the column in whose time it lies; a column that has none repeats its neighbour's last."""
    audio = Audio(np.array(samples, np.float32), rate)
    columns = wave_columns(audio)
    assert columns.dtype == np.float32
    assert len(columns) == math.ceil(len(samples) * 150 / rate)
    for number, (low, high) in enumerate(columns):
        first, last = number * rate // 150, (number + 1) * rate // 150
        part = samples[first : max(last, first + 1)]
        assert (low, high) == (min(part), max(part))


def slow_spectrogram(audio: Audio) -> np.ndarray:
    """Each column by itself, in float64: cut out, windowed, transformed, summed through triangles."""
    length, rate = window_length(audio.sample_rate), audio.sample_rate
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / length) for n in range(length)]
    edges = np.linspace(0, mel(top_hertz(rate)), BANDS + 2)
    weights = np.zeros((BANDS, length // 2 + 1))
    for band, centre in enumerate(edges[1:-1]):
        next_bin = mel(700 * (10 ** (centre / 2595) - 1) + rate / length)
        for n in range(length // 2 + 1):
            weights[band, n] = max(0, 1 - abs(mel(n * rate / length) - centre) / max(edges[1], next_bin - centre))
    columns = []
    for column in range(math.ceil(len(audio.samples) * 75 / rate)):
        middle = math.floor((column + 0.5) * rate / 75)
        places = range(middle - length // 2, middle - length // 2 + length)
        part = [float(audio.samples[n]) if 0 <= n < len(audio.samples) else 0.0 for n in places]
        columns.append(weights @ np.abs(np.fft.rfft(np.multiply(part, hann))) ** 2)
    power = np.array(columns).T
    return np.clip(10 * np.log10(np.maximum(power / power.max(), 1e-12)) + 80, 0, 80) * 255 / 80


@pytest.mark.parametrize(("rate", "seconds"), [(24_000, 0.21), (1_000, 15.0), (44_100, 0.1), (100, 0.3)])
def test_the_spectrogram_is_that_of_single_columns(rate: int, seconds: float) -> None:
    """15 s have more columns than one block; noise has something to say in every band."""
    audio = noise(seconds, rate)
    found = spectrogram(audio)
    assert found.dtype == np.uint8
    assert found.shape == (80, math.ceil(seconds * 75))
    assert np.abs(found - slow_spectrogram(audio)).max() < 1.0


@pytest.mark.parametrize("hertz", [150.0, 1_000.0, 6_000.0])
def test_a_tone_is_where_it_belongs(hertz: float) -> None:
    """In its mel band, and as long as it sounds."""
    samples = np.concatenate([tone(hertz), np.zeros(12_000)]).astype(np.float32)
    found = spectrogram(Audio(samples))
    band = int(found[:, 30].argmax())
    edges = np.linspace(0, mel(12_000), BANDS + 2)
    assert abs(mel(hertz) - edges[band + 1]) <= edges[1]
    assert found[band, 3:72].min() > 250  # 0.5 dB below the loudest at most
    assert found[:, 80:].max() == 0


def test_the_scale_is_80_decibels() -> None:
    """A part 40 dB quieter is half as bright; silence and what is 90 dB quieter are 0; a silent clip has no loudest."""
    samples = np.concatenate([tone(1_000), 0.01 * tone(1_000), 10**-4.5 * tone(1_000)]).astype(np.float32)
    found = spectrogram(Audio(samples))
    band = int(found[:, 30].argmax())
    assert found.max() == 255
    assert abs(int(found[band, 110]) - 127.5) <= 1.5
    assert found[band, 190] == 0
    assert not spectrogram(Audio(np.zeros(9_000, np.float32))).any()


@pytest.mark.parametrize("rate", [1, 7, 149, 768_000])
def test_odd_rates_are_shown_too(rate: int) -> None:
    audio = noise(2.0, rate)
    assert wave_columns(audio).shape == (300, 2)
    found = spectrogram(audio)
    assert found.shape == (80, 150)
    assert found.max() == 255


# -- runs and silence -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_runs_are_those_of_groupby(ids: list[int]) -> None:
    runs = [(key, len(list(group))) for key, group in groupby(ids)]
    starts = [sum(length for _, length in runs[:number]) for number in range(len(runs))]
    assert run_starts(np.array(ids)).tolist() == starts
    best = max(range(len(runs)), key=lambda number: runs[number][1])
    assert longest_run(np.array(ids)) == (runs[best][0], starts[best], runs[best][1])


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_silence_is_counted_column_by_column(loud: list[bool]) -> None:
    """Columns of 160 samples, loud or 60 dB quieter, at 24 kHz."""
    audio = Audio(np.repeat(np.where(loud, 0.5, 0.0005), 160).astype(np.float32))
    found = silence(audio)
    if True not in loud:
        loud = [True] * len(loud)  # then the quiet part is all there is, and its own peak
    lengths = [(key, len(list(group))) for key, group in groupby(loud)]
    inside = [length for key, length in lengths[1:-1] if not key]
    assert found.beginning == pytest.approx(0.0 if loud[0] else lengths[0][1] / 150)
    assert found.end == pytest.approx(0.0 if loud[-1] else lengths[-1][1] / 150)
    assert found.inside == pytest.approx(max(inside, default=0) / 150)
    if inside:
        text = "".join("x" if one else "." for one in loud)
        where = text.index("x" + "." * max(inside) + "x") + 1
        assert found.inside_at == pytest.approx(where / 150)


# -- the view -------------------------------------------------------------------------------------------------------


def test_something_must_be_there() -> None:
    with pytest.raises(BarkInputError, match="nothing to look at"):
        View()


def test_families_must_match() -> None:
    with pytest.raises(BarkInputError, match=r"semantic \('suno'\) and coarse \('other'\)"):
        View(SemanticTokens([1, 2]), CoarseTokens([[1], [2]], family="other"), audio=noise(1))


def test_the_longest_thing_is_the_length() -> None:
    view = View(SemanticTokens(np.zeros(499, int)), CoarseTokens(np.zeros((2, 75), int)), audio=noise(3))
    assert view.lengths == pytest.approx({"semantic": 10.0, "coarse": 1.0, "audio": 3.0})
    assert view.seconds == pytest.approx(10.0)
    assert View(trace=trace(499)).seconds == pytest.approx(10.0)
    assert View(audio=noise(3)).family == ""


def test_a_selection_is_checked() -> None:
    view = View(audio=noise(2))
    assert view.selection(0, 0) == (0, 2.0)
    assert view.selection(1.5, 0) == (1.5, 2.0)
    assert view.selection(0.25, 1) == (0.25, 1)
    assert view.selection(0, 2.01) == (0, 2.0)  # a widget rounds to hundredths
    for start, end in [(1, 1), (1.5, 1), (2, 0), (-1, 1), (3, 0), (math.nan, 1), (0, math.inf), (0, -1)]:
        with pytest.raises(BarkInputError, match="smaller than the end"):
            view.selection(start, end)
    with pytest.raises(BarkInputError, match=r"ends at 2.5 s, but what is shown lasts 2.00 s"):
        view.selection(0, 2.5)


# -- the summary ----------------------------------------------------------------------------------------------------


def test_the_summary_counts() -> None:
    ids = [5, 5, 9, 9, 9, 9, 2, 5]
    fine = np.arange(8 * 12).reshape(8, 12)
    fine[3, 4:9] = 77
    lines = summary(View(SemanticTokens(ids), fine=FineTokens(fine))).splitlines()
    assert lines[0] == "0.16 s, family suno"
    assert lines[1] == (
        "semantic: 8 tokens, 0.16 s at 49.9 per second; 3 distinct ids; longest repeat 4 × id 9, 0.04 … 0.12 s"
    )
    assert lines[2] == (
        "fine: 8 × 12 frames, 0.16 s at 75 per second; distinct ids 12, 12, 12, 8, 12, 12, 12, 12; longest repeat "
        "5 × id 77 in codebook 3, 0.05 … 0.12 s"
    )
    assert lines[3] == "silence: not measured without audio; the longest repeat stands for it"
    assert lines[4:] == []


def test_the_summary_tells_silence_from_the_sound() -> None:
    samples = np.concatenate([np.zeros(2_400), tone(440), np.zeros(4_800), tone(440), np.zeros(7_200)])
    lines = summary(View(audio=Audio(samples.astype(np.float32)))).splitlines()
    assert lines == [
        "2.60 s",
        "audio: 62,400 samples, 2.60 s at 24,000 Hz; peak −6.0 dBFS",
        "silence (50 dB below the peak): 0.10 s at the beginning, 0.30 s at the end, longest inside 0.20 s from "
        "1.10 s on",
    ]
    assert summary(View(audio=Audio(np.zeros(24_000, np.float32)))).endswith("all zero\nsilence: all of it")


def test_the_summary_repeats_what_the_trace_knew() -> None:
    seen = Trace(
        *("semantic", "suno", [0.5, 0.25], [1.0, 2.0]),
        end_probability=np.array([0.0, 0.1, 0.75], np.float32),
        stops={"end drawn": 2, "min_eos_p": 1},
        tail={"step": 1, "seconds": 0.02, "reason": "One id repeats itself."},
    )
    lines = summary(View(trace=seen)).splitlines()[1:]
    assert lines == [
        "trace (semantic): mean probability 0.375, mean entropy 1.50 nats",
        "end of speech: probability 0.750 at the last step",
        "rule 'end drawn': would have stopped at step 2, 0.04 s",
        "rule 'min_eos_p': would have stopped at step 1, 0.02 s",
        "tail: One id repeats itself.",
    ]


def test_the_summary_says_what_does_not_fit() -> None:
    view = View(SemanticTokens(np.arange(100)), audio=noise(1), trace=trace(50))
    told = summary(view).splitlines()[-2:]
    assert told == [
        "The trace is not of these tokens: its shape is [50], that of the semantic tokens [100].",
        "The lengths differ: semantic 2.00 s, audio 1.00 s, trace 1.00 s.",
    ]
    trimmed = View(SemanticTokens(np.arange(49)), trace=trace(50).with_tail({"step": 49, "seconds": 1, "reason": "x"}))
    assert "not of these" not in summary(trimmed)
    assert "differ" not in summary(View(SemanticTokens(np.arange(49)), CoarseTokens(np.ones((2, 73), int))))


# -- the payload ----------------------------------------------------------------------------------------------------


def whole_view() -> View:
    fine = rng.integers(0, 1024, (8, 150))
    return View(
        SemanticTokens(rng.integers(0, 10_000, 100)),
        CoarseTokens(fine[:2]),
        FineTokens(fine),
        noise(2.0),
        trace(100, end_probability=np.linspace(0, 1, 101, dtype=np.float32), stops={"full": 768}),
    )


def read(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    size = int.from_bytes(content[:8], "little")
    return load(content), json.loads(content[8 : 8 + size])["__metadata__"]


def test_the_payload_is_read_back() -> None:
    view = whole_view()
    arrays, metadata = read(make_payload(view, {"filename": "x.wav", "subfolder": "bark", "type": "temp"}).to_bytes())
    assert view.semantic is not None
    assert view.trace is not None
    assert view.audio is not None
    for name, tokens in view.tokens.items():
        assert arrays[name].dtype == np.int32
        assert np.array_equal(arrays[name], np.asarray(tokens))
    for name in ("probability", "entropy", "end_probability"):
        assert arrays[f"trace.{name}"].dtype == np.float32
        assert np.array_equal(arrays[f"trace.{name}"], getattr(view.trace, name))
    assert np.array_equal(arrays["wave"], wave_columns(view.audio))
    assert np.array_equal(arrays["spectrogram"], spectrogram(view.audio))
    seconds = float(metadata.pop("seconds"))
    assert seconds == view.seconds
    assert metadata.pop("summary") == summary(view)
    assert json.loads(metadata.pop("stops")) == {"full": 768}
    assert json.loads(metadata.pop("audio")) == {"filename": "x.wav", "subfolder": "bark", "type": "temp"}
    assert metadata == {
        "family": "suno",
        "semantic_rate": "49.9",
        "frame_rate": "75",
        "semantic_vocab": "10000",
        "codebook_size": "1024",
        "wave_rate": "150",
        "spectrogram_rate": "75",
        "top_hertz": "12000",
        "trace_kind": "semantic",
    }


def test_the_payload_holds_only_what_is_there() -> None:
    arrays, metadata = read(make_payload(View(coarse=CoarseTokens([[1], [2]]))).to_bytes())
    assert set(arrays) == {"coarse"}
    assert set(metadata) == {
        *("family", "semantic_rate", "frame_rate", "semantic_vocab", "codebook_size", "seconds", "summary")
    }
    tail = {"step": 3, "seconds": 0.06, "reason": "Nothing more is said."}
    arrays, metadata = read(make_payload(View(trace=trace(9).with_tail(tail))).to_bytes())
    assert set(arrays) == {"trace.probability", "trace.entropy"}
    assert json.loads(metadata["tail"]) == tail


def test_a_mark_stands_for_the_content() -> None:
    same = [make_payload(View(SemanticTokens([1, 2, 3]), audio=noise(0.1))).mark for _ in range(2)]
    others = [
        make_payload(View(SemanticTokens([1, 2, 4]), audio=noise(0.1))).mark,
        make_payload(View(SemanticTokens([1, 2, 3]), audio=noise(0.1, level=0.2))).mark,
        make_payload(View(SemanticTokens([1, 2, 3]), audio=noise(0.1)), {"filename": "y"}).mark,
    ]
    assert same[0] == same[1]
    assert len({*same, *others}) == 4
