"""The command line, as a person runs it: exit status, the file, one line of error."""

import io
import logging
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.utils import logging as hub_logging
from scipy.io import wavfile

from bark_engine import Bark, BarkDownloadError, SemanticTokens
from bark_engine.__main__ import main
from bark_engine.keep import Take, load_take, save_tokens
from bark_engine.library.places import nano_folder

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


def test_as_it_speaks_when_pip_has_installed_it(tmp_path):
    """Of the files that `pip install .` would take, from an empty folder; setuptools finds them without a network."""
    pytest.importorskip("setuptools")
    source, made, empty = tmp_path / "source", tmp_path / "made", tmp_path / "empty"
    for name in ("bark_engine", "nodes", "web"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        shutil.copyfile(ROOT / name, source / name)
    empty.mkdir()
    build = [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_py", "--build-lib", str(made)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in made.iterdir()] == ["bark_engine"]
    files, taken = ({path.relative_to(root) for path in root.rglob("*")} for root in (source / "bark_engine", made))
    assert {"bark_engine" / path for path in files} <= taken
    command = [sys.executable, "-m", "bark_engine", "Hello.", "-o", "x.wav", "--speaker", "nano/low"]
    environment = os.environ | {"PYTHONPATH": str(made)}
    done = subprocess.run(command, cwd=empty, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (empty / "x.wav").is_file()


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
        (["Hello.", "-o", "x.OGG"], "Name it x.wav"),
        (["Hello.", "-o", "."], "is a folder"),
        (["Hello.", "-o", "new folder/"], "new folder/ is a folder. Name the file"),
    ],
)
def test_errors_are_one_line_and_exit_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert words in errors
    assert not list(tmp_path.iterdir())


def test_a_stage_can_come_from_other_models(first, tmp_path, capsys):
    """As after merging an adapter for one stage: a folder with that stage alone."""
    for name in ("spec.json", "vocab.txt", "coarse.safetensors"):
        (tmp_path / name).write_bytes((nano_folder() / name).read_bytes())
    say = ["Hello there.", "--seed", "4", "--max-seconds", "1", "-o", str(tmp_path / "x.wav")]
    assert main([*say, "--coarse", str(tmp_path)]) == 0
    assert f"with the nano models (coarse: {tmp_path}), seed 4" in capsys.readouterr().out
    assert (tmp_path / "x.wav").read_bytes() == (first / "plain.wav").read_bytes()
    kept = ["decode", str(first / "kept.wav"), "-o", str(tmp_path / "y.wav")]
    assert main([*kept, "--coarse", str(tmp_path)]) == 0
    assert f"(coarse: {tmp_path})" in capsys.readouterr().out
    assert main([*say, "--fine", str(tmp_path)]) == 2
    assert "missing: fine" in capsys.readouterr().err
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bark_engine.commands.models.find_or_download", lambda *_, stages, **__: seen.append(stages))
        assert main([*say, "--coarse", str(tmp_path), "--download"]) == 0
    assert seen == [{"coarse": str(tmp_path)}]


def test_a_folder_in_the_way_is_an_error_not_a_crash(capsys, tmp_path):
    assert main(["Hello.", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["Hello."], ["decode", "kept.wav"]])
@pytest.mark.parametrize("kind", ["device", "below a file", "link to nothing", "no permission", "no such place"])
def test_what_can_never_be_written_is_refused_before_anything_runs(arguments, kind, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Bark, "load", lambda *_, **__: pytest.fail("the models were loaded first"))
    output, words = tmp_path / "locked" / "new" / "x.wav", "nothing can be saved in the folder"
    if kind == "device":
        output, words = Path(os.devnull), "is a device or a pipe, not a file"
    elif kind == "below a file":
        (tmp_path / "notes.txt").write_text("mine")
        output, words = tmp_path / "notes.txt" / "new" / "x.wav", "notes.txt is a file, not a folder"
    elif kind == "link to nothing":
        (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
        output, words = tmp_path / "lost" / "x.wav", "lost is a file, not a folder"
    elif kind == "no permission":
        output.parent.parent.mkdir()
        output.parent.parent.chmod(0o500)
        if os.access(output.parent.parent, os.W_OK):
            pytest.skip("this user may write anywhere")
    elif not (output := Path("/proc/x.wav")).parent.is_dir():
        pytest.skip("only Linux has a folder that lets nobody make files")
    before = sorted(tmp_path.rglob("*"))
    assert main([*arguments, "-o", str(output)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert words in told
    assert sorted(tmp_path.rglob("*")) == before


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

    monkeypatch.setattr("bark_engine.commands.models.find_or_download", unreachable)
    try:
        assert main(["Hello.", "-o", str(tmp_path / "x.wav"), "--models", "small", "--download"]) == 2
    finally:
        hub_logging.set_verbosity(before)
    assert seen == [logging.ERROR]
    assert capsys.readouterr().err == "Nothing answers.\n"


def test_signs_that_an_encoding_lacks_are_no_error(tmp_path):
    """Standard output of a redirected command on Windows is cp1252, which has no →."""
    command = [sys.executable, "-m", "bark_engine", "convert", str(nano_folder()), str(tmp_path / "made")]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"MB ? " in done.stdout


@pytest.mark.parametrize("stream", [None, io.BytesIO()])
def test_streams_without_an_encoding_are_left_alone(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)  # None: without a console on Windows
    assert main(["convert", "nothing here", "out"]) == 2


@pytest.mark.parametrize(
    ("arguments", "job", "sentence"),
    [
        (["Hello.", "-o", "x.wav"], "bark_engine.Bark.say", "Interrupted; nothing was written."),
        (["Hello.", "-o", "x.wav", "--download"], "bark_engine.__main__.fetch", "What was downloaded stays"),
        (["train", "build"], "bark_engine.training.build_command.run", "the list of clips is as it was"),
        (["train", "merge"], "bark_engine.training.merge_command.run", "nothing is half-written"),
        (["train", "semantic"], "bark_engine.training.command.run", "The same command goes on from there."),
    ],
)
def test_an_interrupt_says_what_is_there(arguments, job, sentence, monkeypatch, capsys, tmp_path):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    given = {"build": ["a", "b", "--models", "c", "--tokenizer", "d:e"], "merge": ["a", "b", "c"]}
    given["semantic"] = ["--data", "a", "--output", "b"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, interrupt)
    assert main([*arguments, *given.get(arguments[1], [])]) == 130
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_benchmark_of_a_trace_finds_the_engine_from_anywhere(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "trace_cost.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--runs" in done.stdout


# -- without PyAV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["Hello."], ["decode", "kept.wav"]])
def test_a_format_without_its_encoder_is_refused_at_once(arguments, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(Bark, "load", lambda *_, **__: pytest.fail("the models were loaded first"))
    assert main([*arguments, "-o", "x.flac"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("FLAC files are written by PyAV, which cannot be imported")
    assert "x.wav: WAV needs nothing" in told


def test_readmes_commands_need_nothing_but_make_run(monkeypatch, tmp_path, capsys):
    """Those that fetch nothing, word for word, as they follow each other."""
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.chdir(tmp_path)
    start = ".venv/bin/python -m bark_engine "
    lines = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith(start)]
    own = [line for line in lines if "--download" not in line and "DOWNLOADED_FOLDER" not in line]
    assert len(own) == 2
    for line in own:
        assert main(shlex.split(line.removeprefix(start))) == 0, capsys.readouterr().err
    assert (tmp_path / "output" / "again.wav").read_bytes()[:4] == b"RIFF"


# -- tokens that are kept ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a first run writes: a plain WAV, and sounds of every format with tokens inside."""
    folder = tmp_path_factory.mktemp("first")
    say = ["Hello there.", "--seed", "4", "--max-seconds", "1"]
    assert main([*say, "-o", str(folder / "plain.wav")]) == 0
    for suffix in ("wav", "flac", "mp3", "opus"):
        assert main([*say, "-o", str(folder / f"kept.{suffix}"), "--keep-tokens"]) == 0
    return folder


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "opus"])
def test_decode_gives_the_samples_of_the_first_run(first, tmp_path, capsys, suffix):
    assert main(["decode", str(first / f"kept.{suffix}"), "-o", str(tmp_path / "y.wav")]) == 0
    assert (tmp_path / "y.wav").read_bytes() == (first / "plain.wav").read_bytes()
    told = capsys.readouterr().out
    assert "semantic, coarse, fine" in told
    assert "nano" in told


def test_decode_as_a_person_runs_it(first, tmp_path):
    command = [sys.executable, "-m", "bark_engine", "decode", str(first / "kept.flac"), "-o", str(tmp_path / "y.wav")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "y.wav").read_bytes() == (first / "plain.wav").read_bytes()


def test_the_format_is_that_of_the_name(first):
    starts = {suffix: (first / f"kept.{suffix}").read_bytes()[:4] for suffix in ("wav", "flac", "mp3", "opus")}
    assert starts == {"wav": b"RIFF", "flac": b"fLaC", "mp3": b"ID3\x04", "opus": b"OggS"}


def test_what_is_kept_tells_how_it_was_made(first):
    about = load_take(first / "kept.flac").about
    assert (about.text, about.speaker, about.models) == ("Hello there.", "", "nano")
    assert about.seed == {"semantic": 4, "coarse": 4, "fine": 4}
    assert about.sampling["semantic"]["max_seconds"] == 1.0
    assert about.sampling["fine"] == {"temperature": 0.5, "pad": True}


def test_without_the_switch_nothing_is_kept(first, tmp_path, capsys):
    assert main(["decode", str(first / "plain.wav"), "-o", str(tmp_path / "y.wav")]) == 2
    assert "sound without tokens" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["semantic", "coarse", "fine"])
def test_decode_finishes_from_what_is_there(first, tmp_path, capsys, kind):
    """With the seed in the file, or with the one that is asked for."""
    take = load_take(first / "kept.flac")
    part = save_tokens(tmp_path / "part.safetensors", Take(**{kind: getattr(take, kind)}, about=take.about))
    assert main(["decode", str(part), "-o", str(tmp_path / "y.wav")]) == 0
    assert (tmp_path / "y.wav").read_bytes() == (first / "plain.wav").read_bytes()
    assert ("with seed 4" in capsys.readouterr().out) == (kind != "fine")
    assert main(["decode", str(part), "-o", str(tmp_path / "z.wav"), "--seed", "5"]) == 0
    assert ((tmp_path / "z.wav").read_bytes() == (first / "plain.wav").read_bytes()) == (kind == "fine")


def test_decode_keeps_the_tokens_again_and_all_that_it_made(first, tmp_path):
    take = load_take(first / "kept.flac")
    part = save_tokens(tmp_path / "part.safetensors", Take(semantic=take.semantic, about=take.about))
    assert main(["decode", str(part), "-o", str(tmp_path / "y.opus"), "--keep-tokens"]) == 0
    again = load_take(tmp_path / "y.opus")
    assert again == take
    assert again.about == take.about


def test_decode_keeps_how_it_made_what_was_missing(first, tmp_path):
    """Also where the file says otherwise of them; what the stages do not have in common is left out."""
    take = load_take(first / "kept.flac")
    knobs = {**take.about.sampling, "coarse": {"temperature": 0.2}}
    about = replace(take.about, speaker="nano/low", seed={"semantic": 4}, sampling=knobs)
    part = save_tokens(tmp_path / "part.safetensors", Take(semantic=take.semantic, about=about))
    others = ["--speaker", "nano/high", "--seed", "5", "--temperature", "0.9", "--keep-tokens"]
    assert main(["decode", str(part), "-o", str(tmp_path / "y.wav"), *others]) == 0
    made = load_take(tmp_path / "y.wav").about
    assert (made.text, made.speaker, made.models) == ("Hello there.", "", "nano")
    assert made.seed == {"semantic": 4, "coarse": 5, "fine": 5}
    assert made.sampling["semantic"] == take.about.sampling["semantic"]
    assert made.sampling["coarse"] == {**take.about.sampling["coarse"], "temperature": 0.9}
    assert made.sampling["fine"] == take.about.sampling["fine"]


def test_decode_takes_the_models_that_the_file_names(tmp_path):
    """Random weights call themselves Suno's family; only their name tells them from the real ones."""
    assert main(["Hello.", "-o", str(tmp_path / "x.wav"), "--models", "random", "--max-seconds", "1"]) == 0
    kept = ["Hello.", "-o", str(tmp_path / "x.flac"), "--models", "random", "--max-seconds", "1", "--keep-tokens"]
    assert main(kept) == 0
    assert main(["decode", str(tmp_path / "x.flac"), "-o", str(tmp_path / "y.wav")]) == 0
    assert (tmp_path / "y.wav").read_bytes() == (tmp_path / "x.wav").read_bytes()


def test_decode_reminds_of_the_voice_where_it_matters(first, tmp_path, capsys):
    take = load_take(first / "kept.flac")
    about = replace(take.about, speaker="nano/low")
    for tokens, reminded in (({"semantic": take.semantic}, True), ({"fine": take.fine}, False)):
        part = save_tokens(tmp_path / "part.safetensors", Take(**tokens, about=about), overwrite=True)
        assert main(["decode", str(part), "-o", str(tmp_path / "y.wav")]) == 0
        assert ("--speaker" in capsys.readouterr().out) == reminded
        assert main(["decode", str(part), "-o", str(tmp_path / "y.wav"), "--speaker", "nano/low"]) == 0
        assert "--speaker" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("nano/high", "give it as"),
        ("v2/en_speaker_6", "give it as"),
        ("speaker_3", "give it as"),
        ("my_voice", "give its .npz as"),
        ("nano/high with the sound of nano/low", "give its .npz as"),
        ("../up.npz", "give its .npz as"),
    ],
)
def test_decode_asks_for_a_voice_in_the_way_it_can_be_given(first, tmp_path, capsys, name, advice):
    take = load_take(first / "kept.flac")
    about = replace(take.about, speaker=name)
    part = save_tokens(tmp_path / "part.safetensors", Take(coarse=take.coarse, about=about))
    assert main(["decode", str(part), "-o", str(tmp_path / "y.wav")]) == 0
    assert f"The file names the voice {name}: {advice} --speaker" in capsys.readouterr().out


def test_a_voice_in_comfyuis_folder_is_found_by_its_name(first, tmp_path, monkeypatch):
    """Of the ComfyUI around the pack; Suno's names, which are files there once the node has fetched them."""
    say = ["Hello there.", "--max-seconds", "1", "-o", str(tmp_path / "x.wav"), "--speaker", "v2/en_speaker_6"]
    assert main(say) == 2
    monkeypatch.setattr("bark_engine.library.places._PACK", tmp_path / "custom_nodes" / "pack")
    voices = tmp_path / "models" / "bark" / "speakers" / "v2"
    voices.mkdir(parents=True)
    shutil.copyfile(nano_folder() / "speakers" / "low.npz", voices / "en_speaker_6.npz")
    assert main(say) == 0


def test_decode_takes_files_that_say_no_family_for_those_of_the_models(first, tmp_path):
    take = load_take(first / "kept.flac")
    np.save(tmp_path / "fine.npy", np.asarray(take.fine))
    command = ["decode", str(tmp_path / "fine.npy"), "-o", str(tmp_path / "y.wav"), "--models", "nano"]
    assert main(command) == 0
    assert (tmp_path / "y.wav").read_bytes() == (first / "plain.wav").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["decode"], "FILE"),
        (["decode", "absent.flac", "-o", "y.wav"], "There is no file absent.flac"),
        (["decode", "unknown.safetensors", "-o", "y.wav"], "family 'unknown', of which there are none"),
        (["decode", "suno.safetensors", "-o", "y.wav"], "Name them with --models"),
        (["decode", "suno.safetensors", "-o", "y.wav", "--models", "nano"], "family 'suno', but these models are"),
        (["decode", "suno.safetensors", "-o", "y.ogg"], "Name it y.wav"),
        (["decode", "suno.safetensors", "-o", "."], "is a folder"),
        (["decode", "text.txt", "-o", "y.wav"], "text.txt is of an unknown format, not tokens"),
    ],
)
def test_decode_errors_are_one_line_and_exit_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for family in ("suno", "unknown"):
        save_tokens(tmp_path / f"{family}.safetensors", Take(semantic=SemanticTokens([1, 2], family)))
    (tmp_path / "text.txt").write_text("hello")
    before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert words in errors
    assert sorted(tmp_path.iterdir()) == before


def test_the_word_decode_can_be_spoken(tmp_path):
    assert main(["-o", str(tmp_path / "x.wav"), "--max-seconds", "1", "--", "decode"]) == 0
    assert (tmp_path / "x.wav").is_file()
