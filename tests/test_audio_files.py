"""Sound files: exact where the format is lossless, close where it is not, and complete or absent."""

import errno
import io
import json
import os
import re
import struct
import sys
import wave
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io.wavfile
from av.error import FFmpegError

from bark_engine.audio_files import (
    FORMATS,
    check_samples,
    encoded_rate,
    peak_normalise,
    resample_channels,
    save_audio,
)
from bark_engine.errors import BarkFileError, BarkInputError

RATE = 24_000
METADATA = {"prompt": json.dumps({"1": {"inputs": {"text": "Grüße {a} ♪"}}}), "workflow": json.dumps({"nodes": [{}]})}


def noise(channels: int = 1, frames: int = 5_001, peak: float = 1.0) -> np.ndarray:
    samples = np.random.default_rng(channels).uniform(-peak, peak, (channels, frames)).astype(np.float32)
    samples[:, :3] = [peak, -peak, 0.0]
    return samples


def tones(channels: int, rate: int, seconds: float = 1.0) -> np.ndarray:
    """A different chord with a little noise in each channel."""
    time = np.arange(int(rate * seconds)) / rate
    chords = [np.sin(2 * np.pi * f * time) + np.sin(2 * np.pi * 1.5 * f * time) for f in (300, 500)[:channels]]
    return (0.2 * np.stack(chords) + 0.01 * noise(channels, len(time))).astype(np.float32)


def read(path: Path) -> tuple[np.ndarray, int, dict[str, str], str]:
    """What PyAV finds: samples `[C, n]` as stored, rate, metadata of container and stream, codec."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(stream)]
        samples = np.concatenate(frames, axis=1)
        if not stream.codec_context.format.is_planar:
            samples = samples.reshape(-1, stream.layout.nb_channels).T
        return samples, stream.rate, {**container.metadata, **stream.metadata}, stream.codec_context.name


def quantised(samples: np.ndarray, bits: int) -> np.ndarray:
    """The slow, obvious twin: Python's `round` also sends ties to the even number."""
    scale = 2 ** (bits - 1) - 1
    return np.array([[round(max(-1.0, min(1.0, float(x))) * scale) for x in channel] for channel in samples])


# -- lossless ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize(("file_format", "bits"), [("wav", 16), ("wav", 24), ("flac", 16), ("flac", 24)])
def test_whole_number_formats_hold_every_sample_exactly(tmp_path, file_format, bits, channels):
    samples = noise(channels)
    path = tmp_path / f"sound.{file_format}"
    save_audio(path, samples, RATE, file_format, quality=f"{bits}-bit", metadata=METADATA)
    stored, rate, _, codec = read(path)
    assert codec == ("flac" if file_format == "flac" else f"pcm_s{bits}le")
    assert rate == RATE
    shift = 8 if bits == 24 else 0  # FFmpeg hands out 24 bits at the top of 32
    assert np.array_equal(stored.astype(np.int64) >> shift, quantised(samples, bits))


def test_a_long_flac_given_to_the_encoder_in_blocks_is_exact_too(tmp_path):
    samples = noise(2, 140_001)
    save_audio(tmp_path / "a.flac", samples, RATE, "flac")
    assert np.array_equal(read(tmp_path / "a.flac")[0], quantised(samples, 16))


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_float_wav_holds_the_floats_also_above_full_scale(tmp_path, channels):
    samples = noise(channels, peak=1.7)
    save_audio(tmp_path / "a.wav", samples, 44_100, "wav", quality="32-bit float")
    stored, rate, _, codec = read(tmp_path / "a.wav")
    assert (rate, codec) == (44_100, "pcm_f32le")
    assert np.array_equal(stored, samples)
    rate, by_scipy = scipy.io.wavfile.read(tmp_path / "a.wav")
    assert np.array_equal(np.atleast_2d(by_scipy.T), samples)


def test_the_plain_wav_is_read_alike_by_wave_and_scipy_and_needs_no_pyav(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    samples = noise()[0]
    path = tmp_path / "plain.wav"
    save_audio(path, samples, RATE)
    expected = quantised(samples[None], 16)[0]
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        assert np.array_equal(np.frombuffer(file.readframes(10_000), "<i2"), expected)
    rate, stored = scipy.io.wavfile.read(path)
    assert rate == RATE
    assert np.array_equal(stored, expected)
    assert path.stat().st_size == 44 + 2 * len(samples)


def test_samples_are_clamped_and_ties_go_to_even(tmp_path):
    step = 1 / 32_767
    samples = np.array([0.5 * step, 1.5 * step, 2.5 * step, -0.5 * step, -1.5 * step, 1.0, -1.0, 1.2, -7.0, 0.0])
    save_audio(tmp_path / "a.wav", samples, RATE)
    _, stored = scipy.io.wavfile.read(tmp_path / "a.wav")
    expected = quantised(samples.astype(np.float32)[None], 16)[0]
    assert np.array_equal(stored, expected)
    assert stored.tolist()[-5:] == [32_767, -32_767, 32_767, -32_767, 0]


def test_every_chunk_of_a_wav_has_an_even_length_and_the_sizes_add_up(tmp_path):
    save_audio(tmp_path / "a.wav", noise(1, 7), RATE, "wav", quality="24-bit", metadata={"prompt": "{}"})
    content = (tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<4sI4s", content[:12]) == (b"RIFF", len(content) - 8, b"WAVE")
    names, position = [], 12
    while position < len(content):
        name, length = struct.unpack("<4sI", content[position : position + 8])
        names.append((name, length))
        position += 8 + length + length % 2
    assert position == len(content)
    assert names[:2] == [(b"fmt ", 16), (b"data", 21)]
    assert names[2][0] == b"LIST"


def test_mono_stays_mono_and_stereo_stereo_in_every_format(tmp_path):
    for file_format, kind in FORMATS.items():
        for channels in (1, 2):
            path = tmp_path / f"{channels}{kind.suffix}"
            save_audio(path, tones(channels, RATE, 0.2), RATE, file_format)
            assert read(path)[0].shape[0] == channels, (file_format, channels)


# -- lossy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize(("file_format", "quality"), [("mp3", None), ("mp3", "160k"), ("opus", None), ("opus", "64k")])
def test_lossy_formats_sound_like_the_original_and_last_as_long(tmp_path, file_format, quality, rate, channels):
    samples = tones(channels, rate, seconds=3.0)
    path = tmp_path / f"sound.{file_format}"
    save_audio(path, samples, rate, file_format, quality=quality)
    stored, stored_rate, _, codec = read(path)
    assert codec.startswith(file_format)
    assert stored_rate == (48_000 if file_format == "opus" else rate)  # Opus always decodes to 48 kHz
    expected = resample_channels(samples, rate, stored_rate)
    assert abs(stored.shape[1] - expected.shape[1]) <= 0.03 * stored_rate
    frames = min(stored.shape[1], expected.shape[1])
    for one, other in zip(stored, expected, strict=True):
        assert np.corrcoef(one[:frames], other[:frames])[0, 1] > 0.99


@pytest.mark.parametrize(
    ("rate", "mp3", "opus"),
    [
        (24_000, 24_000, 24_000),
        (44_100, 44_100, 48_000),
        (22_050, 22_050, 24_000),
        (10_000, 11_025, 12_000),
        (96_000, 48_000, 48_000),
        (5_000, 8_000, 8_000),
    ],
)
def test_rates_that_a_lossy_format_lacks_become_the_next_higher(tmp_path, rate, mp3, opus):
    assert encoded_rate("mp3", rate) == mp3
    assert encoded_rate("opus", rate) == opus
    assert encoded_rate("wav", rate) == encoded_rate("flac", rate) == rate
    save_audio(tmp_path / "a.mp3", tones(1, rate), rate, "mp3")
    samples, stored_rate, _, _ = read(tmp_path / "a.mp3")
    assert stored_rate == mp3
    assert abs(samples.shape[1] / mp3 - 1.0) < 0.03


def test_every_quality_can_be_written_and_more_of_it_is_a_larger_file(tmp_path):
    samples = 0.5 * noise(2, 48_000)
    for file_format, kind in FORMATS.items():
        sizes = {}
        for quality in kind.qualities:
            path = tmp_path / f"a{kind.suffix}"
            save_audio(path, samples, 48_000, file_format, quality=quality)
            sizes[quality] = path.stat().st_size
        numbered = sorted((q for q in sizes if q[0] != "V"), key=lambda q: int(re.match(r"\d+", q)[0]))
        for ladder in (numbered, sorted((q for q in sizes if q[0] == "V"), reverse=True)):
            assert all(sizes[low] < sizes[high] for low, high in pairwise(ladder)), sizes


@pytest.mark.parametrize(("rate", "fits", "too_much"), [(24_000, "160k", "192k"), (8_000, "64k", "96k")])
def test_mp3_refuses_a_bit_rate_above_the_ceiling_of_its_sample_rate(tmp_path, rate, fits, too_much):
    save_audio(tmp_path / "a.mp3", tones(1, rate), rate, "mp3", quality=fits)
    sentence = rf"at most {fits}, not {too_much}\. Choose a bit rate of up to {fits}, or save at 44,100"
    with pytest.raises(BarkInputError, match=sentence):
        save_audio(tmp_path / "a.mp3", tones(1, rate), rate, "mp3", quality=too_much)


# -- metadata ----------------------------------------------------------------------------------------------------


def vorbis_comments(content: bytes) -> dict[str, str]:
    """The comment block of a FLAC file, as ComfyUI's front end walks it."""
    assert content[:4] == b"fLaC"
    position, found = 4, {}
    while True:
        header = content[position]
        length = int.from_bytes(content[position + 1 : position + 4], "big")
        block = io.BytesIO(content[position + 4 : position + 4 + length])
        if header & 127 == 4:
            block.read(int.from_bytes(block.read(4), "little"))
            for _ in range(int.from_bytes(block.read(4), "little")):
                entry = block.read(int.from_bytes(block.read(4), "little")).decode("latin-1")
                found.update([entry.split("=", 1)])
        position += 4 + length
        if header & 128:
            return found


def dropped_on_comfyui(path: Path) -> dict[str, object]:
    """`prompt` and `workflow` as ComfyUI's front end finds them (0.3.64 and 0.26.2), by searching the bytes."""
    content = path.read_bytes()
    if path.suffix == ".flac":
        return {key: json.loads(text) for key, text in vorbis_comments(content).items() if key in METADATA}
    text = content.decode("latin-1")
    found = {}
    for key in METADATA:
        if path.suffix == ".mp3":
            json_text = re.search(key + r"\0(\{.*?\})\0", text, re.DOTALL)[1]
        else:
            around = re.search(key + r"=(\{.*?(\}.*?\0))", text, re.DOTALL)[1]
            json_text = re.search(r"\{.*\}", around)[0]
        found[key] = json.loads(json_text)
    return found


@pytest.mark.parametrize("file_format", ["flac", "mp3", "opus"])
def test_comfyui_finds_prompt_and_workflow_in_a_dropped_file(tmp_path, file_format):
    path = tmp_path / f"sound.{file_format}"
    save_audio(path, tones(1, RATE), RATE, file_format, metadata={**METADATA, "extra": '"x"'})
    assert dropped_on_comfyui(path) == {key: json.loads(text) for key, text in METADATA.items()}
    found = read(path)[2]
    assert {**METADATA, "extra": '"x"'}.items() <= found.items()


def test_a_wav_holds_all_metadata_as_one_comment(tmp_path):
    save_audio(tmp_path / "a.wav", noise(), RATE, metadata=METADATA)
    assert json.loads(read(tmp_path / "a.wav")[2]["comment"]) == METADATA


def test_without_metadata_no_file_has_any(tmp_path):
    for file_format, kind in FORMATS.items():
        path = tmp_path / f"a{kind.suffix}"
        save_audio(path, tones(1, RATE), RATE, file_format)
        assert set(read(path)[2]) <= {"encoder"}


def test_equal_sound_gives_an_equal_file(tmp_path):
    for file_format in FORMATS:
        contents = set()
        for name in ("one", "two"):
            save_audio(tmp_path / name, tones(2, RATE), RATE, file_format, metadata=METADATA)
            contents.add((tmp_path / name).read_bytes())
        assert len(contents) == 1, file_format


# -- samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((2, 0), np.float32), "no samples"),
        (np.zeros((0, 10), np.float32), "no samples"),
        (np.array([0.0, np.nan, np.inf]), "2 of the sound's samples are not numbers"),
        (np.array([1e300, 0.0]), "1 of the sound's samples are not numbers"),
        (np.zeros((9, 10), np.float32), "9 channels"),
        (np.zeros((24_000, 1), np.float32), "24,000 channels.*transposed"),
        (np.zeros((1, 1, 10), np.float32), r"float32 \[1, 1, 10\]"),
        (np.float32(0.5), r"float32 \[\]"),
        (np.zeros(10, np.int16), "int16"),
        (np.zeros(10, np.complex64), "complex64"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_sound_that_cannot_be_a_file_is_refused_and_nothing_is_written(tmp_path, samples, sentence):
    for refuse in (check_samples, peak_normalise, lambda s: save_audio(tmp_path / "a.wav", s, RATE)):
        with pytest.raises(BarkInputError, match=sentence):
            refuse(samples)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_samples_of_one_channel_may_be_flat_and_of_any_float(dtype):
    flat = np.linspace(-0.5, 0.5, 9).astype(dtype)
    checked = check_samples(flat)
    assert checked.dtype == np.float32
    assert checked.shape == (1, 9)
    assert np.array_equal(checked[0], flat.astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"file_format": "aiff"}, "'aiff' is no known sound file format.*wav, flac, mp3, opus"),
        ({"quality": "8-bit"}, "'8-bit' is no quality of WAV.*16-bit, 24-bit"),
        ({"file_format": "flac", "quality": "32-bit float"}, "no quality of FLAC"),
        ({"file_format": "opus", "quality": "V0"}, "no quality of Opus"),
        ({"sample_rate": 0}, "768,000 Hz; 0 is not"),
        ({"sample_rate": 24_000.5}, "24000.5 is not"),
        ({"sample_rate": 10**9}, "1000000000 is not"),
    ],
)
def test_settings_that_no_file_can_have_are_refused(tmp_path, arguments, sentence):
    with pytest.raises(BarkInputError, match=sentence):
        save_audio(tmp_path / "a", noise(), **{"sample_rate": RATE, **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", ["mp3", "opus"])
def test_lossy_formats_refuse_more_than_two_channels(tmp_path, file_format):
    with pytest.raises(BarkInputError, match=r"3 channels.*at most 2.*WAV or FLAC"):
        save_audio(tmp_path / "a", noise(3), RATE, file_format)


FLAC_ROOM = 2**24 - 1 - 18 - len("prompt=workflow=") - 2 * 4  # for the texts under these two keys


def test_a_workflow_that_just_fits_into_a_flac_is_in_it(tmp_path):
    metadata = {"prompt": "ß" * 500, "workflow": "x" * (FLAC_ROOM - 1_000)}
    save_audio(tmp_path / "a.flac", noise(), RATE, "flac", metadata=metadata)
    assert read(tmp_path / "a.flac")[2] == metadata


def test_a_workflow_that_is_too_large_for_a_flac_is_the_reason_that_is_given(old):
    """FFmpeg says "Invalid argument" only; the other formats hold it, and the sentence names them."""
    metadata = {"prompt": "ß" * 500, "workflow": "x" * (FLAC_ROOM - 1_000 + 1)}
    with pytest.raises(BarkInputError) as refused:
        save_audio(old, noise(), RATE, "flac", metadata=metadata)
    assert "FLAC holds at most 16 MiB" in str(refused.value)
    assert "prompt 0.0 MiB, workflow 16.0 MiB" in str(refused.value)
    assert "WAV, MP3, Opus" in str(refused.value)
    assert "--disable-metadata" in str(refused.value)
    assert "Hz" not in str(refused.value)
    assert only_the_old_file(old)
    for file_format in ("mp3", "opus"):
        save_audio(old, noise(), RATE, file_format, metadata=metadata)
        assert read(old)[2].items() >= metadata.items()
    save_audio(old, noise(), RATE, "wav", metadata=metadata)
    assert json.loads(read(old)[2]["comment"]) == metadata


def test_peak_normalise_brings_the_loudest_channel_to_the_target():
    samples = noise(2) * np.array([[0.01], [0.4]], np.float32)
    louder = peak_normalise(samples, -6.0)
    assert np.abs(louder).max() == pytest.approx(10 ** (-6 / 20), rel=1e-6)
    assert np.allclose(louder, samples * (np.abs(louder).max() / np.abs(samples).max()), rtol=1e-5)
    assert np.abs(peak_normalise(noise(1, peak=3.0))).max() == pytest.approx(10 ** (-1 / 20), rel=1e-6)


def test_peak_normalise_leaves_silence_and_the_input_alone():
    assert not peak_normalise(np.zeros((1, 9), np.float32)).any()
    quiet = np.array([[1e-42, -5e-43]], np.float32)
    before = quiet.copy()
    assert np.abs(peak_normalise(quiet, 0.0)).max() == pytest.approx(1.0, rel=1e-3)
    assert np.array_equal(quiet, before)


@pytest.mark.parametrize("target", [0.1, -60.1, float("nan")])
def test_peak_normalise_refuses_a_target_out_of_range(target):
    with pytest.raises(BarkInputError, match="−60 … 0 dBFS"):
        peak_normalise(noise(), target)


def test_resampling_keeps_the_channels_apart():
    doubled = resample_channels(tones(2, RATE), RATE, 48_000)
    assert doubled.shape == (2, 48_000)
    for row, expected in zip(doubled, tones(2, 48_000), strict=True):
        assert np.corrcoef(row, expected)[0, 1] > 0.99
    assert np.array_equal(resample_channels(doubled, 48_000, 48_000), doubled)


# -- complete or absent ------------------------------------------------------------------------------------------


def only_the_old_file(path: Path) -> bool:
    return path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


@pytest.fixture
def old(tmp_path) -> Path:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_or_read_only_disk_leaves_the_old_file_and_no_part(old, monkeypatch, step, code):
    def fail(*_args: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    if step == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(BarkFileError, match=rf"sound\.wav.*{re.escape(os.strerror(code))}.*untouched"):
        save_audio(old, noise(), RATE)
    assert only_the_old_file(old)


def test_a_disk_that_fills_in_the_middle_of_the_file_leaves_the_old_one(old):
    resource = pytest.importorskip("resource", reason="only POSIX can limit the size of a file")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(BarkFileError, match="untouched"):
            save_audio(old, noise(1, 100_000), RATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert only_the_old_file(old)


def test_an_interrupt_while_saving_leaves_the_old_file(old, monkeypatch):
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_audio(old, noise(), RATE)
    assert only_the_old_file(old)


@pytest.mark.parametrize("file_format", ["flac", "mp3", "opus"])
def test_an_encoder_that_fails_in_the_middle_leaves_the_old_file(old, monkeypatch, file_format):
    real, made = av.AudioFrame, []

    class FailsAtTheSecondFrame:
        @staticmethod
        def from_ndarray(*args: object, **kwargs: object) -> object:
            if made:
                raise FFmpegError(errno.EIO, "the encoder gave up")
            made.append(real.from_ndarray(*args, **kwargs))
            return made[0]

    monkeypatch.setattr(av, "AudioFrame", FailsAtTheSecondFrame)
    with pytest.raises(BarkFileError, match=r"could not be encoded.*gave up"):
        save_audio(old, noise(1, 200_000), RATE, file_format)
    assert made
    assert only_the_old_file(old)


def test_places_that_are_no_file_are_refused(old):
    (old.parent / "folder.wav").mkdir()
    with pytest.raises(BarkFileError, match="a folder or a device"):
        save_audio(old.parent / "folder.wav", noise(), RATE)
    with pytest.raises(BarkFileError, match="could not be saved"):
        save_audio(old / "inside.wav", noise(), RATE)  # the parent is a file
    assert old.read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX has special files in folders")
def test_a_special_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # stands for /dev/null, which a failing test must not destroy
    with pytest.raises(BarkFileError, match="a folder or a device"):
        save_audio(tmp_path / "pipe", noise(), RATE)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("file_format", ["flac", "mp3", "opus"])
def test_a_missing_pyav_is_named_and_nothing_is_written(old, monkeypatch, file_format):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BarkInputError, match=r"PyAV.*pip install av.*WAV"):
        save_audio(old, noise(), RATE, file_format)
    assert only_the_old_file(old)
