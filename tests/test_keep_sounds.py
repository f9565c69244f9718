"""Sound files that remember: tokens in all four formats, the sound untouched by them, damaged files refused."""

import contextlib
import io
import json
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bark_engine import Bark, BarkFileError, BarkInputError
from bark_engine.audio_files import FORMATS, save_audio
from bark_engine.keep import load_take, read_sound, read_tokens, tokens_tag
from bark_engine.keep import sound_file as sound_file_module
from bark_engine.keep.sound_file import is_sound
from support.sound import read_sound as read_by_pyav
from support.takes import ABOUT, random_take

RATE = 24_000
WORKFLOW = {"prompt": json.dumps({"1": {"inputs": {"text": "{♪}"}}}), "workflow": json.dumps({"nodes": [{}]})}
TAKE = random_take(frames=75 * 2)
EXAMPLES = Path(__file__).resolve().parent.parent / "example_workflows"


def tone(seconds: float = 2.0, channels: int = 1) -> np.ndarray:
    time = np.arange(int(RATE * seconds)) / RATE
    return np.stack([0.5 * np.sin(2 * np.pi * (220 + 55 * n) * time) for n in range(channels)]).astype(np.float32)


def write(folder: Path, file_format: str, metadata: dict[str, str], name: str = "a", **given: Any) -> Path:
    path = folder / f"{name}{FORMATS[file_format].suffix}"
    save_audio(path, tone(), RATE, file_format, metadata=metadata, **given)
    return path


@pytest.fixture(params=FORMATS)
def file_format(request: pytest.FixtureRequest) -> str:
    return request.param


# -- there and back ------------------------------------------------------------------------------------------------


def test_tokens_come_back_from_every_format(tmp_path: Path, file_format: str) -> None:
    path = write(tmp_path, file_format, {**WORKFLOW, **tokens_tag(TAKE)})
    for take in (read_tokens(path), load_take(path), read_sound(path).take):
        assert take == TAKE
        assert take.about == ABOUT


def test_paths_may_be_texts(tmp_path: Path, file_format: str) -> None:
    path = str(tmp_path / f"a{FORMATS[file_format].suffix}")
    save_audio(path, tone(), RATE, file_format, metadata=tokens_tag(TAKE))
    assert is_sound(path)
    assert read_tokens(path) == read_sound(path).take == TAKE
    with pytest.raises(BarkFileError, match="There is no file"):
        is_sound(path + "x")


@pytest.mark.parametrize("kinds", ["s", "c", "f", "sf"])
def test_any_kinds_in_any_format(tmp_path: Path, file_format: str, kinds: str) -> None:
    take = random_take(kinds)
    assert read_tokens(write(tmp_path, file_format, tokens_tag(take))) == take


def test_the_sound_is_the_same_as_without_tokens(tmp_path: Path, file_format: str) -> None:
    """As PyAV decodes it, and as this pack does."""
    plain = write(tmp_path, file_format, WORKFLOW, "plain")
    kept = write(tmp_path, file_format, {**WORKFLOW, **tokens_tag(TAKE)}, "kept")
    np.testing.assert_array_equal(read_by_pyav(plain).samples, read_by_pyav(kept).samples)
    np.testing.assert_array_equal(read_sound(plain).samples, read_sound(kept).samples)
    assert read_sound(plain).take is None
    assert WORKFLOW.items() <= metadata_of(kept).items()


def metadata_of(path: Path) -> dict[str, str]:
    found = read_by_pyav(path).metadata
    return json.loads(found["comment"]) if path.suffix == ".wav" else found


PLAYERS = [("ffmpeg", name) for name in FORMATS] + [("sox", "wav"), ("sox", "flac")]  # many a sox lacks the others


@pytest.mark.parametrize(("player", "file_format"), PLAYERS)
def test_plain_players_pass_the_tokens_over(tmp_path: Path, player: str, file_format: str) -> None:
    if shutil.which(player) is None:
        pytest.skip(f"no {player} here")
    decode = {"ffmpeg": ["-v", "error", "-i", "{}", "-f", "s16le", "-"], "sox": ["{}", "-t", "raw", "-"]}[player]
    decoded = []
    for name, metadata in (("plain", {}), ("kept", tokens_tag(TAKE))):
        path = write(tmp_path, file_format, metadata, name)
        command = [player, *(str(path) if part == "{}" else part for part in decode)]
        done = subprocess.run(command, capture_output=True, check=True)
        assert done.stderr == b""
        decoded.append(done.stdout)
    assert decoded[0] == decoded[1]
    assert len(decoded[0]) >= 2 * RATE * 2


def test_equal_sound_and_tokens_give_an_equal_file(tmp_path: Path, file_format: str) -> None:
    files = [write(tmp_path, file_format, tokens_tag(TAKE), name).read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_ten_minutes_of_tokens_fit(tmp_path: Path, file_format: str) -> None:
    """Beside a large workflow: Ogg splits what is larger than 64 kB over pages, FLAC and ID3 end at megabytes."""
    long = random_take(frames=75 * 600)
    large = {"workflow": json.dumps({"nodes": ["x" * 200_000]})}
    path = write(tmp_path, file_format, {**large, **tokens_tag(long)})
    assert read_tokens(path) == long
    assert metadata_of(path)["workflow"] == large["workflow"]
    assert path.stat().st_size / 600 < 12_000


def test_a_program_that_copies_tags_keeps_the_tokens(tmp_path: Path) -> None:
    """FLAC → Opus → FLAC by hand: keys may change their case, and tags move between container and stream."""
    path = write(tmp_path, "flac", tokens_tag(TAKE))
    copy = tmp_path / "copy.ogg"
    with av.open(str(path)) as source, av.open(str(copy), "w", format="ogg") as target:
        stream = target.add_stream("flac", rate=RATE, layout="mono")
        stream.metadata.update({key.upper(): value for key, value in source.metadata.items()})
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    assert read_tokens(copy) == TAKE


# -- the sound that comes with the pack ----------------------------------------------------------------------------


def test_the_example_is_the_sound_of_its_tokens() -> None:
    """The codec that comes with the pack makes it, but for the rounding to 16 bits."""
    path = EXAMPLES / "spoken_by_nano.flac"
    sound = read_sound(path)
    assert sound.take is not None
    assert list(sound.take.tokens) == ["semantic", "coarse", "fine"]
    assert path.stat().st_size < 150_000
    decoded = Bark.load("nano").decode(sound.take.fine)
    assert (sound.samples.shape, sound.sample_rate) == ((1, len(decoded.samples)), decoded.sample_rate)
    assert np.abs(decoded.samples - sound.samples[0]).max() <= 1 / 2**15
    assert np.abs(sound.samples).max() > 0.1


def test_the_example_says_what_its_readme_says() -> None:
    about = read_tokens(EXAMPLES / "spoken_by_nano.flac").about
    commands = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if "bark_engine" in line]
    _, _, _, text, *rest = shlex.split(commands[0])
    assert rest == ["-o", "example_workflows/spoken_by_nano.flac", "--keep-tokens"]
    assert (about.text, about.models, about.speaker) == (text, "nano", "")
    assert about.seed == {"semantic": 0, "coarse": 0, "fine": 0}


# -- the sound -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file_format", "quality"),
    [("wav", "16-bit"), ("wav", "24-bit"), ("wav", "32-bit float"), ("flac", "16-bit"), ("flac", "24-bit")],
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_lossless_sound_is_saved_again_bit_by_bit(
    tmp_path: Path, file_format: str, quality: str, channels: int
) -> None:
    rng = np.random.default_rng(1)
    samples = rng.uniform(-1, 1, (channels, 3_001)).astype(np.float32)
    samples[:, :3] = [1.0, -1.0, 0.0]
    paths = [tmp_path / f"{n}.{file_format}" for n in range(2)]
    save_audio(paths[0], samples, RATE, file_format, quality=quality)
    sound = read_sound(paths[0])
    assert (sound.sample_rate, sound.samples.shape, sound.samples.dtype) == (RATE, samples.shape, np.float32)
    assert np.abs(sound.samples - samples).max() <= 1 / 2**15
    save_audio(paths[1], sound.samples, sound.sample_rate, file_format, quality=quality)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_wavs_of_others_are_read_as_scipy_reads_them(tmp_path: Path, dtype: type) -> None:
    noise = np.random.default_rng(2).uniform(-1, 1, (500, 2))
    if np.issubdtype(dtype, np.floating):
        whole, expected = noise.astype(dtype), noise
    else:
        bits, middle = 8 * np.dtype(dtype).itemsize, 128 if dtype is np.uint8 else 0
        whole = (np.rint(noise * (2 ** (bits - 1) - 1)) + middle).astype(dtype)
        expected = (whole.astype(np.float64) - middle) / (2 ** (bits - 1) - 1)
    scipy.io.wavfile.write(tmp_path / "a.wav", 8_000, whole)
    sound = read_sound(tmp_path / "a.wav")
    assert sound.sample_rate == 8_000
    np.testing.assert_allclose(sound.samples, expected.T, atol=1e-6)


def test_the_lowest_whole_number_is_minus_one(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, np.array([-32_768, 32_767], np.int16))
    assert read_sound(tmp_path / "a.wav").samples.tolist() == [[-1.0, 1.0]]


def test_wav_and_plain_flac_need_only_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyAV a WAV is read, and the others say what is missing."""
    files = {name: write(tmp_path, name, tokens_tag(TAKE)) for name in FORMATS}
    monkeypatch.setitem(sys.modules, "av", None)
    assert read_sound(files["wav"]).take == TAKE
    for name in ("flac", "mp3", "opus"):
        for read in (read_sound, read_tokens):
            with pytest.raises(BarkInputError, match=r"PyAV.*pip install av.*WAV"):
                read(files[name])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFF000 - 1, 0x7FFFFFFF, 0x80000000, 0])
def test_a_wav_whose_sizes_were_never_filled_in(tmp_path: Path, size: int) -> None:
    """As ffmpeg, sox and others write it into a pipe, and as a recorder leaves it that was killed."""
    content = bytearray(write(tmp_path, "wav", {}).read_bytes())
    for whole in {size, 0, 36}:
        content[4:8], content[40:44] = (struct.pack("<I", number) for number in (whole, size))
        (tmp_path / "b.wav").write_bytes(content)
        np.testing.assert_array_equal(read_sound(tmp_path / "b.wav").samples, read_sound(tmp_path / "a.wav").samples)


def test_a_wav_of_no_samples_with_a_comment_has_none(tmp_path: Path) -> None:
    """Its size is zero and meant so; the comment is no sound."""
    comment = json.dumps(tokens_tag(TAKE)).encode() + b"\0\0"
    entries = b"INFOICMT" + struct.pack("<I", len(comment) // 2 * 2) + comment[: len(comment) // 2 * 2]
    chunks = write(tmp_path, "wav", {}).read_bytes()[8:40] + bytes(4) + b"LIST" + struct.pack("<I", len(entries))
    (tmp_path / "b.wav").write_bytes(b"RIFF" + struct.pack("<I", len(chunks + entries)) + chunks + entries)
    assert read_tokens(tmp_path / "b.wav") == TAKE
    with pytest.raises(BarkFileError, match="no samples"):
        read_sound(tmp_path / "b.wav")


def wav(whole: np.ndarray, width: int, bits: int, valid: int = 0, frame_bytes: int | None = None) -> bytes:
    """A WAV of `[n, C]` whole numbers, each in `width` bytes; with `valid` the header is WAVE_FORMAT_EXTENSIBLE."""
    channels = whole.shape[1]
    frame_bytes = channels * width if frame_bytes is None else frame_bytes
    data = whole.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    numbers = (channels, RATE, RATE * frame_bytes, frame_bytes, bits)
    form = struct.pack("<HHIIHH", 0xFFFE if valid else 1, *numbers)
    if valid:
        form += struct.pack("<HHIH", 22, valid, 0, 1) + bytes.fromhex("000000001000800000aa00389b71")
    chunks = b"WAVE" + b"".join(
        name + struct.pack("<I", len(chunk)) + chunk for name, chunk in ((b"fmt ", form), (b"data", data))
    )
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("width", "bits", "valid"),
    [(4, 24, 0), (4, 16, 0), (2, 8, 0), (3, 16, 0), (4, 24, 24), (4, 32, 24), (4, 24, 20), (3, 24, 20), (2, 16, 12)],
)
def test_samples_in_more_bytes_than_they_need(tmp_path: Path, channels: int, width: int, bits: int, valid: int) -> None:
    """They fill the highest bits, as Microsoft says, and are read as precisely as they are."""
    good = valid or bits
    edge = 2 ** (good - 1) - 1
    samples = np.random.default_rng(4).integers(-edge, edge + 1, (600, channels))
    samples[0], samples[1] = edge, -edge
    (tmp_path / "a.wav").write_bytes(wav(samples << (8 * width - good), width, bits, valid))
    sound = read_sound(tmp_path / "a.wav")
    assert sound.samples.shape == (channels, 600)
    np.testing.assert_array_equal(np.rint(sound.samples.T.astype(np.float64) * edge), samples)
    assert (sound.samples.max(), sound.samples.min()) == (1.0, -1.0)


@pytest.mark.parametrize("valid", [0, 1, 7, 25, 65_535])
def test_bits_that_cannot_be_are_all_of_them(tmp_path: Path, valid: int) -> None:
    samples = np.arange(-300, 300)[:, None] << 12
    content = bytearray(wav(samples, 3, 24, valid=24))
    content[38:40] = struct.pack("<H", valid)
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav").samples[0], samples[:, 0] / (2**23 - 1), atol=1e-7)


def test_a_wav_that_leaves_out_how_long_a_frame_is(tmp_path: Path) -> None:
    samples = np.arange(-300, 300).reshape(-1, 2)
    (tmp_path / "a.wav").write_bytes(wav(samples, 2, 16, frame_bytes=0))
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav").samples.T, samples / (2**15 - 1), atol=1e-7)


def test_a_comment_in_front_of_the_sound_is_found(tmp_path: Path) -> None:
    """Other programs put it there, after other entries."""
    comment = json.dumps(tokens_tag(TAKE)).encode() + b"\0"
    comment += b"\0" * (len(comment) % 2)
    entries = b"INFO" + b"INAM" + struct.pack("<I", 3) + b"ab\0\0" + b"ICMT" + struct.pack("<I", len(comment)) + comment
    content = write(tmp_path, "wav", {}).read_bytes()
    moved = content[:36] + b"LIST" + struct.pack("<I", len(entries)) + entries + content[36:]
    (tmp_path / "b.wav").write_bytes(moved)
    assert read_tokens(tmp_path / "b.wav") == TAKE


# -- MP3s of others ------------------------------------------------------------------------------------------------

CONSTANT = {"b": "64k"}
VARIABLE = {"flags": "+qscale", "global_quality": str(2 * 118)}
NOISE = np.random.default_rng(3).uniform(-0.5, 0.5, RATE * 8).astype(np.float32)
ZEROS = np.zeros(RATE * 2, np.float32)
LYRICS = b"LYRICSBEGININD0000200LYR00100" + b"la! " * 25 + b"000144LYRICS200"
ID3V1 = b"TAG" + b"A title".ljust(125, b"\0")


def mp3(samples: np.ndarray, options: dict[str, str], xing: bool, rate: int = RATE) -> bytes:
    """A mono MP3 that says in its header how long it is, or does not."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3", options={"write_xing": str(int(xing))}) as container:
        stream: Any = container.add_stream("libmp3lame", rate=rate, layout="mono", options=options)
        stream.codec_context.format = "fltp"
        for start in range(0, len(samples), 2**16):
            block = np.ascontiguousarray(samples[None, start : start + 2**16])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def ape_tag(size: int) -> bytes:
    """An APE tag with one item of `size` bytes."""
    item = struct.pack("<II", size, 0) + b"Comment\0" + b"x" * size
    ends = [
        b"APETAGEX" + struct.pack("<IIIIQ", 2_000, len(item) + 32, 1, flags, 0) for flags in (0xA0 << 24, 0x80 << 24)
    ]
    return ends[0] + item + ends[1]


@pytest.mark.parametrize("first", ["quiet", "loud"])
def test_an_mp3_of_varying_bit_rate_that_does_not_say_how_long_it_is(tmp_path: Path, first: str) -> None:
    """FFmpeg guesses by the first bit rate: 50 s for a quiet beginning, 3 s for a loud one."""
    parts = [ZEROS, NOISE] if first == "quiet" else [NOISE, ZEROS]
    (tmp_path / "a.mp3").write_bytes(mp3(np.concatenate(parts), VARIABLE, xing=False))
    sound = read_sound(tmp_path / "a.mp3")
    assert sound.samples.shape[1] / sound.sample_rate == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("xing", [True, False])
@pytest.mark.parametrize(
    "rest", [bytes(4_096), LYRICS, LYRICS + ID3V1, ape_tag(5_000), ape_tag(20_000), NOISE.tobytes()[:50_000]]
)
def test_what_is_behind_the_sound_of_an_mp3_is_passed_over(tmp_path: Path, xing: bool, rest: bytes) -> None:
    """All of it is there, and of the rest nothing but at most the filling of the last frame."""
    content = mp3(tone()[0], CONSTANT, xing)
    for name, behind in (("plain", b""), ("more", rest)):
        (tmp_path / f"{name}.mp3").write_bytes(content + behind)
    plain, more = (read_sound(tmp_path / f"{name}.mp3").samples for name in ("plain", "more"))
    assert plain.shape[1] <= more.shape[1] <= plain.shape[1] + 1_152
    np.testing.assert_array_equal(more[:, : plain.shape[1]], plain)


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
@pytest.mark.parametrize("front", [b"", b"ID3\4\0\0\0\0\2\0" + bytes(256), b"ID3\4\0\x10\0\0\1\0" + bytes(138)])
def test_an_mp3_that_says_how_long_it_is_is_held_to_it(tmp_path: Path, rate: int, front: bytes) -> None:
    """Behind ID3 tags, too, and where so much follows the sound that FFmpeg doubts what the header says."""
    path, samples = tmp_path / "a.mp3", np.resize(tone()[0], 4 * rate)
    content = front + mp3(samples, {"b": "32k"}, xing=True, rate=rate)
    path.write_bytes(content + ape_tag(len(content)))
    assert read_sound(path).samples.shape[1] / rate == pytest.approx(4, abs=0.15)
    for cut in (content[: len(content) // 2], content[: len(content) // 2] + ape_tag(len(content))):
        path.write_bytes(cut)
        with pytest.raises(BarkFileError, match=r"a\.mp3 is cut short: it promises 4\.\d s"):
            read_sound(path)


@pytest.mark.parametrize("xing", [True, False])
@pytest.mark.parametrize("damage", [b"", bytes(1_000), NOISE.tobytes()[:1_000]])
def test_an_mp3_that_is_damaged_in_the_middle_is_refused(tmp_path: Path, xing: bool, damage: bytes) -> None:
    """Also where a part was taken out; it says when."""
    content = mp3(tone()[0], CONSTANT, xing)
    (tmp_path / "a.mp3").write_bytes(content[:8_000] + damage + content[9_000:])
    with pytest.raises(BarkFileError, match=r"a\.mp3 is damaged: after (0\.9|1\.0) s"):
        read_sound(tmp_path / "a.mp3")


def test_a_flac_from_a_pipe_is_read_and_refused_when_it_is_cut(tmp_path: Path) -> None:
    """Its header says nothing of its length, but its last frame is no frame."""
    content = bytearray(write(tmp_path, "flac", {}).read_bytes())
    content[21] &= 0xF0  # the number of samples in STREAMINFO: unknown
    content[22:26] = bytes(4)
    whole = read_sound(tmp_path / "a.flac").samples
    (tmp_path / "b.flac").write_bytes(content)
    np.testing.assert_array_equal(read_sound(tmp_path / "b.flac").samples, whole)
    (tmp_path / "b.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(BarkFileError, match="cut short"):
        read_sound(tmp_path / "b.flac")


# -- refused -------------------------------------------------------------------------------------------------------


def test_a_sound_without_tokens_says_so(tmp_path: Path, file_format: str) -> None:
    path = write(tmp_path, file_format, WORKFLOW)
    assert read_sound(path).take is None
    with pytest.raises(BarkFileError, match=rf"{path.name} is a sound without tokens"):
        read_tokens(path)


@pytest.mark.parametrize("comment", ["a song", "{", "[1]", "{}", '{"prompt": 1}', "[" * 100_000, '{"a":' * 50_000])
def test_comments_of_others_are_passed_over(tmp_path: Path, comment: str) -> None:
    content = write(tmp_path, "wav", {}).read_bytes()
    text = comment.encode() + b"\0" * (1 + (len(comment) + 1) % 2)
    entries = b"INFOICMT" + struct.pack("<I", len(text)) + text
    (tmp_path / "b.wav").write_bytes(content + b"LIST" + struct.pack("<I", len(entries)) + entries)
    assert read_sound(tmp_path / "b.wav").take is None
    save_audio(tmp_path / "b.flac", tone(), RATE, "flac", metadata={"comment": comment})
    assert read_sound(tmp_path / "b.flac").take is None


def test_tokens_that_were_changed_are_refused(tmp_path: Path, file_format: str) -> None:
    text = tokens_tag(TAKE)["bark"]
    for changed in (text[:-40], text.replace("bark1", "bark9"), "x", text[:200] + "A" + text[201:]):
        path = write(tmp_path, file_format, {"bark": changed})
        for read in (read_sound, read_tokens):
            with pytest.raises(BarkFileError, match=path.name):
                read(path)


def test_a_comment_with_other_tokens_is_refused(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.flac", tone(), RATE, "flac", metadata={"comment": '{"bark": [1]}'})
    with pytest.raises(BarkFileError, match="are no text"):
        read_sound(tmp_path / "a.flac")


@pytest.mark.parametrize("part", [0.3, 0.7])
@pytest.mark.parametrize("file_format", [name for name in FORMATS if name != "opus"])
def test_files_that_are_cut_short_are_refused(tmp_path: Path, part: float, file_format: str) -> None:
    path = write(tmp_path, file_format, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(BarkFileError, match="cut short"):
        read_sound(path)


def test_of_an_ogg_file_that_was_cut_what_is_there_is_read(tmp_path: Path) -> None:
    """It does not say how long it is; its sound comes in pages of a second, and without one it is no sound."""
    path = tmp_path / "a.opus"
    save_audio(path, tone(6.0), RATE, "opus")
    content, whole = path.read_bytes(), read_sound(path).samples
    path.write_bytes(content[: len(content) // 2])
    samples = read_sound(path).samples
    assert 0 < samples.shape[1] < whole.shape[1]
    np.testing.assert_array_equal(samples, whole[:, : samples.shape[1]])
    path.write_bytes(content[: len(content) // 20])
    with pytest.raises(BarkFileError, match="cut short"):
        read_sound(path)


@pytest.mark.parametrize("suffix", [kind.suffix for kind in FORMATS.values()])
@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0AVI ", b"fLaC", b"OggS", b"ID3" * 9]
)
def test_other_files_with_the_right_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for read in (read_sound, load_take):
        with pytest.raises(BarkFileError, match=f"a{suffix}"):
            read(path)


def test_a_wav_that_holds_something_else_than_pcm(tmp_path: Path) -> None:
    content = bytearray(write(tmp_path, "wav", {}).read_bytes())
    for offset, value in ((20, 17), (22, 0), (34, 12), (24, 0)):
        changed = bytearray(content)
        changed[offset : offset + 2] = struct.pack("<H", value)
        if offset == 24:
            changed[24:28] = bytes(4)
        (tmp_path / "b.wav").write_bytes(changed)
        with pytest.raises(BarkFileError, match=r"b\.wav is a WAV of a kind that is not read"):
            read_sound(tmp_path / "b.wav")


@pytest.mark.parametrize(("bits", "frame_bytes"), [(24, 4), (16, 3), (16, 10), (32, 4), (16, 1), (8, 65_535)])
def test_a_wav_whose_bits_and_bytes_contradict_each_other(tmp_path: Path, bits: int, frame_bytes: int) -> None:
    (tmp_path / "a.wav").write_bytes(wav(np.zeros((60, 2), int), 4, bits, frame_bytes=frame_bytes))
    with pytest.raises(BarkFileError, match=rf"contradicts itself: {bits} bits .* 2 channels .* {frame_bytes} bytes"):
        read_sound(tmp_path / "a.wav")


def test_a_wav_of_numbers_that_are_none(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, np.array([0.0, np.nan], np.float32))
    with pytest.raises(BarkFileError, match="not numbers"):
        read_sound(tmp_path / "a.wav")
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
    with pytest.raises(BarkFileError, match="no samples"):
        read_sound(tmp_path / "b.wav")


def test_a_video_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(BarkFileError, match="no sound in it"):
        read_sound(path)


def test_a_sound_that_is_far_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str) -> None:
    path = write(tmp_path, file_format, {})
    monkeypatch.setattr(sound_file_module, "MAX_SAMPLES", 10_000)
    with pytest.raises(BarkFileError, match=r"longer than 10,000 samples"):
        read_sound(path)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    for read in (read_sound, read_tokens):
        with pytest.raises(BarkFileError, match="There is no file"):
            read(tmp_path / "absent.flac")
        for path in (tmp_path, Path("a\0b.flac")):
            with pytest.raises(BarkFileError, match="cannot be read"):
                read(path)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(list(FORMATS)), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damaged_files_never_escape_as_other_errors(file_format: str, place: int, value: int, cut: bool) -> None:
    """Any one byte changed, or the file cut anywhere: a sound or a BarkFileError, nothing else."""
    data = bytearray(sound_of(file_format))
    place %= len(data)
    data[place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{FORMATS[file_format].suffix}")
        path.write_bytes(bytes(data[:place]) if cut else bytes(data))
        for read in (read_sound, read_tokens):
            with contextlib.suppress(BarkFileError):
                read(path)


def sound_of(file_format: str) -> bytes:
    """A short sound with tokens, made once for each format."""
    if file_format not in _sounds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a")
            save_audio(path, tone(0.3), RATE, file_format, metadata={**WORKFLOW, **tokens_tag(random_take(frames=9))})
            _sounds[file_format] = path.read_bytes()
    return _sounds[file_format]


_sounds: dict[str, bytes] = {}


def test_many_tiny_chunks_do_not_take_for_ever() -> None:
    """A hundred thousand empty chunks in front of the sound are refused as damage, not walked through."""
    stream = io.BytesIO(b"RIFF\0\0\0\0WAVE" + struct.pack("<4sI", b"junk", 0) * 100_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        path.write_bytes(stream.getvalue())
        with pytest.raises(BarkFileError, match="a part of it is missing"):
            read_sound(path)
