"""From recordings to a data folder: what becomes of good ones, and why bad ones are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bark_engine import SpeakerPrompt
from bark_engine.__main__ import main
from bark_engine.audio_files import save_audio
from bark_engine.checkpoint import load_stage
from bark_engine.codec import encode_audio
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.library.model_sets import ModelSet, find_model_set
from bark_engine.text import Tokenizer
from bark_engine.training.build import Builder, load_tokenizer
from bark_engine.training.clips import ClipFolder
from bark_engine.training.recordings import Limits, Recording, fault_of, find_recordings, read_recording

RATE = 16_000


@pytest.fixture(scope="module")
def models() -> ModelSet:
    return find_model_set("random")


@pytest.fixture(scope="module")
def builder(models: ModelSet) -> Builder:
    codec = load_stage(models.codec)
    return Builder(models.spec, Tokenizer.load(models.vocabulary), codec, loudness_tokens)  # type: ignore[arg-type]


def loudness_tokens(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """A semantic tokenizer of a kind: how loud it is, 49.9 times a second."""
    count = round(len(samples) / sample_rate * 49.9)
    return np.array([int(1_000 * np.abs(piece).mean()) for piece in np.array_split(samples, count)])


def speech(seconds: float, level: float = 0.3, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades a few times a second."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * rng.uniform(-1, 1, len(time)) * (0.55 + 0.45 * np.sin(20 * time))).astype(np.float32)


def text_for(seconds: float) -> str:
    return ("some words " * 100)[: round(15 * seconds)]


def record(folder: Path, name: str, samples: np.ndarray, text: str | None = None, **options: str) -> Recording:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_audio(path, samples, RATE, "wav", **options)  # type: ignore[arg-type]
    words = text_for(samples.shape[-1] / RATE) if text is None else text
    path.with_suffix(".txt").write_text(words, encoding="utf-8")
    return Recording(name, path, words)


def test_a_recording_becomes_a_clip_that_every_stage_can_train_on(builder: Builder, tmp_path: Path):
    recordings = [record(tmp_path / "wav", f"r{n}", speech(1.0 + n / 3, seed=n)) for n in range(4)]
    seen: list[tuple[int, int]] = []
    report = builder.build(recordings, tmp_path / "data", "ann", on_step=lambda done, total: seen.append((done, total)))
    assert (report.kept, report.refused) == (4, ())
    assert report.seconds == pytest.approx(sum(1.0 + n / 3 for n in range(4)), abs=0.1)
    assert seen == [(n, 4) for n in range(5)]
    spec = builder.spec
    for stage in ("semantic", "coarse", "fine"):
        folder = ClipFolder.open(tmp_path / "data", spec, stage)
        assert [clip.name for clip in folder.clips] == ["r0", "r1", "r2", "r3"]
        assert len(folder.split("validation")) == 1
        assert {clip.speaker for clip in folder.clips} == {"ann"}
        assert [clip.text for clip in folder.clips] == [recording.text for recording in recordings]
    prompt = SpeakerPrompt.load(tmp_path / "data" / "tokens" / "r1.npz")
    codes = encode_audio(builder.codec, read_recording(recordings[1].path), spec)
    assert prompt.fine.frames == spec.frames_for(len(prompt.semantic))  # as many as the coarse stage would make
    assert np.array_equal(prompt.fine.codes, codes.codes[:, : prompt.fine.frames])


FAULTS: dict[str, tuple[Callable[[], np.ndarray], str | None, str]] = {
    "short": (lambda: speech(0.4), None, "it is 0.40 s long; at least 0.5 s"),
    "long": (lambda: speech(16.0), None, "it is 16.0 s long; the models speak 15.4 s at most"),
    "silent": (lambda: speech(2.0, level=0.003), None, "it is silent: its loudest moment has -"),
    "pause": (
        lambda: np.concatenate([speech(1.0), np.zeros(2 * RATE, np.float32), speech(1.0)]),
        None,
        "it has a pause of 2.0 s at 1.0 s; 1.5 s are allowed",
    ),
    "clipped": (lambda: np.clip(speech(2.0, level=3.0), -1, 1), None, "it is clipped: "),
    "few words": (lambda: speech(4.0), "Oh.", "its text does not fit its length: 0.8 characters per second"),
    "many words": (lambda: speech(1.0), "a word " * 40, "its text does not fit its length"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_used_is_refused_with_its_reason(fault: str, builder: Builder, tmp_path: Path):
    make, text, words = FAULTS[fault]
    bad = record(tmp_path / "wav", "bad", make(), text)
    good = record(tmp_path / "wav", "good", speech(2.0))
    report = builder.build([bad, good], tmp_path / "data", "ann")
    assert report.kept == 1
    [(name, reason)] = report.refused
    assert name == "bad"
    assert reason.startswith(words)
    assert "refused: bad: " in str(report)
    listed = [json.loads(line) for line in (tmp_path / "data" / "refused.jsonl").read_text().splitlines()]
    assert listed == [{"name": "bad", "reason": reason}]
    assert not (tmp_path / "data" / "tokens" / "bad.npz").exists()


def test_limits_are_what_decides(models: ModelSet, tmp_path: Path):
    audio = read_recording(record(tmp_path, "r", speech(1.0)).path)
    assert fault_of(audio, text_for(1.0), models.spec, Limits()) is None
    for limits in (
        Limits(min_seconds=1.1),
        Limits(min_rate=16.0),
        Limits(max_rate=10.0),
        Limits(quietest=-5.0),
        Limits(silence=-1.0, max_pause=0.05),
    ):
        assert fault_of(audio, text_for(1.0), models.spec, limits) is not None


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (lambda samples, rate: np.zeros(7, int), "made 7 tokens where 100 belong to 150 frames; .* 49.9 per second"),
        (lambda samples, rate: np.zeros((1, 100), int), r"gave int64 of shape \[1, 100\]"),
        (lambda samples, rate: np.zeros(100), "gave float64"),
        (lambda samples, rate: np.full(100, 10_000), "must lie in 0 … 9,999"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_said(tokenizer, words: str, builder: Builder, tmp_path: Path):
    other = Builder(builder.spec, builder.text_tokenizer, builder.codec, tokenizer)
    with pytest.raises(BarkInputError, match=f"None of the 1 recordings can be used.*{words}"):
        other.build([record(tmp_path, "r", speech(2.0))], tmp_path / "data", "ann")
    assert not (tmp_path / "data" / "clips.jsonl").exists()


def test_other_speakers_stay_and_their_names_are_theirs(builder: Builder, tmp_path: Path):
    first, second = (record(tmp_path / who, who, speech(1.0)) for who in ("ann", "bob"))
    for speaker, recording in (("ann", first), ("bob", second), ("bob", second)):
        builder.build([recording], tmp_path / "data", speaker)
    lines = [json.loads(line) for line in (tmp_path / "data" / "clips.jsonl").read_text().splitlines()]
    assert [(line["name"], line["speaker"]) for line in lines] == [("ann", "ann"), ("bob", "bob")]
    with pytest.raises(BarkInputError, match="a clip named 'ann' of another speaker"):
        builder.build([first], tmp_path / "data", "bob")


def test_recordings_are_found_by_text_files_and_by_metadata(tmp_path: Path):
    record(tmp_path / "a", "one", speech(0.5), "First.\n")
    record(tmp_path / "a", "deep/two", speech(0.5), "Second.")
    save_audio(tmp_path / "a" / "untold.wav", speech(0.5), RATE)
    found = find_recordings(tmp_path / "a")
    assert [(one.name, one.text) for one in found] == [("deep/two", "Second."), ("one", "First.")]

    record(tmp_path / "b" / "wavs", "LJ1", speech(0.5))
    record(tmp_path / "b", "other", speech(0.5))
    (tmp_path / "b" / "metadata.csv").write_text('LJ1|Dr. "Who"|Doctor "Who"\n\nother.wav|Plain.\ngone|Words.\n')
    found = find_recordings(tmp_path / "b")
    assert [(one.name, one.text, one.path.is_file()) for one in found] == [
        ("LJ1", 'Doctor "Who"', True),
        ("gone", "Words.", False),
        ("other", "Plain.", True),
    ]


def test_folders_that_cannot_be_used_are_said(tmp_path: Path):
    with pytest.raises(BarkFileError, match="There is no folder"):
        find_recordings(tmp_path / "none")
    with pytest.raises(BarkFileError, match="no recordings with a text"):
        find_recordings(tmp_path)
    (tmp_path / "metadata.csv").write_text("a|b\nonly a name\n")
    with pytest.raises(BarkFileError, match=r"line 2 must be name\|text"):
        find_recordings(tmp_path)
    (tmp_path / "metadata.csv").write_text("a|b\na|c\n")
    with pytest.raises(BarkFileError, match="line 2: 'a' is there twice"):
        find_recordings(tmp_path)
    (tmp_path / "metadata.csv").write_bytes(b"a|\xff\n")
    with pytest.raises(BarkFileError, match="UTF-8"):
        find_recordings(tmp_path)


@pytest.mark.parametrize("quality", ["16-bit", "24-bit", "32-bit float"])
def test_wav_files_of_all_depths_are_read_as_mono(quality: str, tmp_path: Path):
    left, right = speech(0.5, seed=1), speech(0.5, seed=2)
    save_audio(tmp_path / "a.wav", np.stack([left, right]), RATE, "wav", quality=quality)
    audio = read_recording(tmp_path / "a.wav")
    assert audio.sample_rate == RATE
    assert np.abs(audio.samples - (left + right) / 2).max() < 1e-4


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF], ids=["zero", "the largest"])
def test_a_wav_whose_writer_could_not_go_back_is_read_to_its_end(size: int, tmp_path: Path):
    samples = speech(0.5)
    save_audio(tmp_path / "a.wav", samples, RATE, "wav")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert np.abs(read_recording(tmp_path / "a.wav").samples - samples).max() < 1e-4


def test_other_sound_files_are_refused(tmp_path: Path):
    with pytest.raises(BarkInputError, match=r"it is a \.mp3 file; only WAV"):
        read_recording(tmp_path / "a.mp3")
    (tmp_path / "a.wav").write_bytes(b"RIFF of nothing")
    with pytest.raises(BarkInputError, match="cannot be read as WAV"):
        read_recording(tmp_path / "a.wav")


def test_tokenizers_are_named_by_module_and_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "some_quantizer.py").write_text("def tokens(samples, rate):\n    return [len(samples)]\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    assert load_tokenizer("some_quantizer:tokens")(np.zeros(3, np.float32), RATE) == [3]
    for given, words in (
        ("some_quantizer", "module:function"),
        ("some_quantizer:none", "has no function 'none'"),
        ("nowhere_at_all:f", "cannot be imported"),
        ("broken:f", "division by zero"),
    ):
        with pytest.raises(BarkInputError, match=words):
            load_tokenizer(given)


def test_the_command_builds_and_says_what_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    record(tmp_path / "ann", "good", speech(1.0))
    record(tmp_path / "ann", "bad", speech(0.2))
    (tmp_path / "my_tokens.py").write_text(
        "def count(samples, rate):\n    return [5] * round(len(samples) / rate * 49.9)\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["train", "build", "ann", "data", "--models", "random", "--tokenizer", "my_tokens:count"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "refused: bad: it is 0.20 s long" in out
    assert "1 clips, 0.0 minutes; 1 refused." in out
    [line] = (tmp_path / "data" / "clips.jsonl").read_text().splitlines()
    assert json.loads(line)["speaker"] == "ann"
    assert main([*words, "--validation", "2"]) == 2
    assert "--validation is a share" in capsys.readouterr().err
