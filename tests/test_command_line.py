"""The command line, as a person runs it: exit status, the file, one line of error."""

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.utils import logging as hub_logging
from scipy.io import wavfile

from bark_engine import Bark, BarkDownloadError
from bark_engine import __main__ as command_line
from bark_engine.__main__ import main

ROOT = Path(__file__).resolve().parent.parent


def test_as_a_person_runs_it(tmp_path):
    output = tmp_path / "new folder" / "hello.wav"
    done = subprocess.run(
        [sys.executable, "-m", "bark_engine", "Hello.", "-o", str(output), "--seed", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "nano" in done.stdout
    assert str(output) in done.stdout
    rate, samples = wavfile.read(output)
    assert (rate, samples.dtype, samples.ndim) == (24_000, np.int16, 1)
    expected = Bark.load("nano").say("Hello.", seed=3).audio.samples
    assert np.array_equal(samples, np.rint(expected.astype(np.float64) * 32767).astype(np.int16))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Hello."], "-o/--output"),
        (["", "-o", "x.wav"], "empty"),
        (["Hello.", "-o", "x.wav", "--models", "no such set"], "no such set"),
        (["Hello.", "-o", "x.wav", "--device", "tpu"], "'tpu' is unknown"),
        (["Hello.", "-o", "x.wav", "--dtype", "int3"], "'int3' is unknown"),
        (["Hello.", "-o", "x.wav", "--seed", "many"], "invalid int value: 'many'"),
        (["Hello.", "-o", "x.wav", "--seed", "-1"], "seed must be"),
        (["Hello.", "-o", "x.wav", "--speaker", "missing.npz"], "no speaker prompt file missing.npz"),
        (["Hello.", "-o", "x.wav", "--speaker", "v2/xx_speaker_1"], "v2/xx_speaker_1"),
        (["Hello.", "-o", "x.wav", "--temperature", "-1"], "temperature must be"),
        (["word " * 300, "-o", "x.wav"], "at most 160"),
        (["convert", "nothing here", "out"], "nothing here"),
        (["convert", "a" * 5_000, "out"], "too long"),
        (["Hello.", "-o", "x.wav", "--models", "a" * 5_000], "aaa"),
        (["Hello.", "-o", "x.wav", "--temperature", "1e-40"], "temperature must be"),
        (["Hello.", "-o", "x.MP3"], "Name it x.wav"),
        (["Hello.", "-o", "."], "is a folder"),
    ],
)
def test_errors_are_one_line_and_exit_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert words in errors
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_way_is_an_error_not_a_crash(capsys, tmp_path):
    assert main(["Hello.", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_convert_says_what_it_saved(capsys, tmp_path):
    source = Bark.load("random").models.text.path.parent
    assert main(["convert", str(source), str(tmp_path / "half"), "--dtype", "float16"]) == 0
    report = capsys.readouterr().out
    assert "text" in report
    assert (tmp_path / "half" / "text.safetensors").is_file()
    again = Bark.load(tmp_path / "half", dtype="float32")
    assert again.say("Hello.").audio.seconds > 0


def test_the_word_convert_can_be_spoken(tmp_path):
    assert main(["-o", str(tmp_path / "x.wav"), "--", "convert"]) == 0
    assert (tmp_path / "x.wav").is_file()


def test_the_hubs_library_does_not_tell_its_retries(capsys, monkeypatch, tmp_path):
    """It has a handler of its own on standard error, where one line is promised."""
    before = hub_logging.get_verbosity()
    seen = []

    def unreachable(*_: object, **__: object) -> None:
        seen.append(hub_logging.get_verbosity())
        raise BarkDownloadError("Nothing answers.")

    monkeypatch.setattr(command_line, "find_or_download", unreachable)
    try:
        assert main(["Hello.", "-o", str(tmp_path / "x.wav"), "--models", "small", "--download"]) == 2
    finally:
        hub_logging.set_verbosity(before)
    assert seen == [logging.ERROR]
    assert capsys.readouterr().err == "Nothing answers.\n"
