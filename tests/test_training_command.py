"""`python -m bark_engine train`, and the picture of its curves."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bark_engine import Bark
from bark_engine.__main__ import main
from bark_engine.checkpoint import describe, save_stage
from bark_engine.codec import Codec, CodecShape
from bark_engine.errors import BarkFileError
from bark_engine.text import BUNDLED_VOCABULARY
from bark_engine.training.curves import TRAINING, VALIDATION, draw_curves
from support.clips import SMALL, make_clip, write_clips


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """The command for a short training of a new network."""
    rng = np.random.default_rng(0)
    clips = [make_clip(SMALL, 12, rng, f"c{n}", "ann", "train" if n % 4 else "validation") for n in range(12)]
    write_clips(tmp_path / "data", clips, SMALL.family)
    (tmp_path / "spec.json").write_text(SMALL.to_json())
    return [
        *("--data", str(tmp_path / "data"), "--spec", str(tmp_path / "spec.json")),
        *("--vocabulary", str(BUNDLED_VOCABULARY), "--device", "cpu"),
        *("--steps", "4", "--warmup", "2", "--batch-positions", "200", "--validate-every", "2", "--log-every", "1"),
    ]


NEW = ["--layers", "1", "--heads", "2", "--width", "16"]


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_training_writes_what_the_engine_reads(
    stage: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = tmp_path / "run"
    assert main(["train", stage, *given, *NEW, "--output", str(run)]) == 0
    out = capsys.readouterr().out
    assert "9 clips to learn from, 3 to validate" in out
    assert "Finished after 4 steps. Best validation loss" in out
    name = "text" if stage == "semantic" else stage
    [file] = describe(run / "best" / f"{name}.safetensors")
    assert (file.stage, file.shape.n_head) == (name, 2)  # type: ignore[union-attr]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [0, 1, 2, 3, 4]
    assert [line["step"] for line in log if "validation_loss" in line] == [0, 2, 4]
    assert all({"loss", "lr", "targets_per_second", "seconds"} <= line.keys() for line in log[1:])
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_trained_set_speaks(given: list[str], tmp_path: Path):
    """Three stages, trained one after another, converted into one folder, are models like any other."""
    for stage in ("semantic", "coarse", "fine"):
        run = tmp_path / stage
        assert main(["train", stage, *given, *NEW, "--steps", "1", "--output", str(run)]) == 0
        assert main(["convert", str(run / "best"), str(tmp_path / "models"), "--dtype", "float16"]) == 0
    codec = Codec(CodecShape(filters=2, dimension=8, lstm_layers=1, codebook_size=SMALL.codebook_size))
    save_stage(codec, "codec", tmp_path / "models" / "codec.safetensors")
    bark = Bark.load(tmp_path / "models", device="cpu", dtype="float32")
    assert bark.spec == SMALL
    speech = bark.say("Some words.", seed=1)
    assert speech.audio.samples.size == speech.fine.frames * SMALL.hop_length


def test_weights_are_trained_further_and_as_a_lora(given: list[str], tmp_path: Path):
    first = tmp_path / "first"
    assert main(["train", "coarse", *given, *NEW, "--output", str(first)]) == 0
    init = ["--init", str(first / "best" / "coarse.safetensors")]
    assert main(["train", "coarse", *given, *init, "--output", str(tmp_path / "more")]) == 0
    assert json.loads((tmp_path / "more" / "plan.json").read_text())["lr"] == 5e-5
    lora = [*init, "--lora-rank", "2", "--lora-targets", "attn.c_attn,lm_head"]
    assert main(["train", "coarse", *given, *lora, "--output", str(tmp_path / "lora")]) == 0
    assert (tmp_path / "lora" / "best" / "adapter.md").is_file()
    adapter = str(tmp_path / "lora" / "best" / "adapter.safetensors")
    assert main(["train", "merge", adapter, init[1], str(tmp_path / "merged")]) == 0
    assert main(["train", "coarse", *given, *lora, "--output", str(tmp_path / "lora"), "--steps", "6"]) == 0  # goes on


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Nothing says what is trained."),
        (["--layers", "1"], "needs all of --layers, --heads and --width"),
        ([*NEW, "--init", "x"], "not both"),
        (["--layers", "1", "--heads", "3", "--width", "16"], "a width that its heads divide"),
        (["--init", "nowhere.pt"], "nowhere.pt"),
        ([*NEW, "--lora-rank", "4"], "A LoRA adds to weights that are there"),
        ([*NEW, "--lora-alpha", "4"], "need --lora-rank"),
        ([*NEW, "--steps", "0"], "steps must be a whole number of 1 or more"),
        ([*NEW, "--lr", "nan"], "lr must be a number"),
        ([*NEW, "--vocabulary", "no.txt"], "There is no vocabulary no.txt"),
        ([*NEW, "--spec", "no.json"], "no.json cannot be read"),
        ([*NEW, "--device", "abacus"], "abacus"),
        ([*NEW, "--data", "no_data"], "There is no no_data"),
        ([*NEW, "--models", "no_models"], "no_models"),
        ([*NEW, "--seed", "-1"], "seed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: list[str], sentence: str, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["train", "semantic", *given, *words, "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_unknown_words_and_missing_ones(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "text"]) == 2
    assert "invalid choice: 'text'" in capsys.readouterr().err
    assert main(["train", "merge", "a"]) == 2
    assert "WEIGHTS, OUTPUT" in capsys.readouterr().err


def test_weights_of_another_stage_are_refused(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "coarse", *given, *NEW, "--steps", "1", "--output", str(tmp_path / "run")]) == 0
    init = ["--init", str(tmp_path / "run" / "best" / "coarse.safetensors")]
    assert main(["train", "semantic", *given, *init, "--output", str(tmp_path / "other")]) == 2
    assert "holds the coarse stage, but the semantic stage is trained" in capsys.readouterr().err


def pixels(path: Path) -> np.ndarray:
    """A PNG without filters and interlacing, as pixels; a slow twin of the writer."""
    data, chunks = path.read_bytes()[8:], {}
    while data:
        (size,) = struct.unpack(">I", data[:4])
        name, content = data[4:8], data[8 : 8 + size]
        assert struct.unpack(">I", data[8 + size : 12 + size]) == (zlib.crc32(name + content),)
        chunks[name], data = content, data[12 + size :]
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_the_picture_shows_both_losses_falling(tmp_path: Path):
    lines = [
        {"step": step, "loss": 4 - step / 100, "lr": 1e-3} | ({"validation_loss": 3.0} if step % 100 == 0 else {})
        for step in range(0, 301, 10)
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    image = pixels(draw_curves(tmp_path))
    plot = image[60:]  # below the words, which have the same colours
    rows, columns = np.nonzero((plot == TRAINING).all(axis=-1))
    assert np.corrcoef(rows, columns)[0, 1] > 0.99  # down to the right; rows count downwards
    rows, columns = np.nonzero((plot == VALIDATION).all(axis=-1))
    assert np.ptp(rows) <= 2  # level
    assert np.ptp(columns) > 800


def test_a_log_without_figures_is_said(tmp_path: Path):
    with pytest.raises(BarkFileError, match="cannot be read"):
        draw_curves(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "seconds": 2}\n')
    with pytest.raises(BarkFileError, match="no losses yet"):
        draw_curves(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert draw_curves(tmp_path).stat().st_size > 1_000  # one point is a picture, too
