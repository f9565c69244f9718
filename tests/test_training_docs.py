"""The commands of docs/training.md, run one after another with tiny models and few steps."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from bark_engine.__main__ import main
from bark_engine.audio_files import save_audio
from bark_engine.library.model_sets import find_model_set

DOCUMENT = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for language, block in blocks if not language for line in block.splitlines()]


def test_the_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "my_voice").mkdir()
    for number in range(4):
        noise = 0.3 * rng.uniform(-1, 1, 24_000) * (0.6 + 0.4 * np.sin(np.arange(24_000) / 1_500))
        save_audio(tmp_path / "my_voice" / f"{number}.wav", noise.astype(np.float32), 24_000)
        (tmp_path / "my_voice" / f"{number}.txt").write_text("Some words, said.")
    (tmp_path / "my_hubert.py").write_text(
        "def tokens(samples, sample_rate):\n    return [7] * round(len(samples) / sample_rate * 49.9)\n"
    )
    models = find_model_set("random")
    for name in ("spec.json", "vocab.txt"):
        (tmp_path / name).write_bytes((models.vocabulary.parent / name).read_bytes())
    given = commands()
    assert len(given) == 11
    tiny = {"large": "random", "1000": "2", "5000": "2", "6": "1", "4": "2", "192": "16"}
    tiny |= {"data/tokens/NAME.npz": "data/tokens/0.npz"}
    for words in given:
        assert words[:3] == ["python", "-m", "bark_engine"]
        quick = [tiny.get(word, word) for word in words[3:]]
        if quick[0] == "train" and quick[1] in ("semantic", "coarse", "fine"):
            quick += ["--batch-positions", "1200", "--validate-every", "2", "--device", "cpu"]
        elif quick[0] == "decode":
            quick += ["--device", "cpu"]
        elif quick[0] not in ("train", "convert"):
            quick += ["--max-seconds", "1", "--device", "cpu"]
        assert main(quick) == 0, (words, capsys.readouterr().err)
    made = {path.name for path in (tmp_path / "models" / "my_voice").iterdir()}
    stages = {f"{stage}.safetensors" for stage in ("text", "coarse", "fine", "codec")}
    assert made == stages | {"vocab.txt", "spec.json"}
    assert find_model_set("models/my_voice", allow_paths=True).spec == models.spec
    assert (tmp_path / "hello.wav").is_file()
    assert (tmp_path / "clip.wav").is_file()


def test_options_and_files_that_are_named_exist(capsys: pytest.CaptureFixture[str]):
    known = ""
    for words in ([], ["train"], ["train", "build"], ["train", "merge"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        known += capsys.readouterr().out
    for option in set(re.findall(r"`(--[a-z-]+)", DOCUMENT)):
        assert option in known, option
