"""`convert`: from any format to safetensors; complete or absent, and never at the cost of a file that was there."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from bark_engine import atomic
from bark_engine.checkpoint import build, convert, describe, describe_folder, load_stage
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.int8 import quantize
from support import checkpoint_files as files

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with all four stages in Suno's and EnCodec's files, and what belongs to them."""
    folder = tmp_path_factory.mktemp("sources")
    for stage in ("text", "coarse", "fine"):
        files.suno_checkpoint_of(folder / f"{stage}_2.pt", files.suno_stage(stage, heads=4))
    files.encodec_checkpoint(folder / "encodec.th", files.encodec_model())
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (folder / "spec.json").write_text('{"family": "tiny"}')
    return folder


def assert_same_weights(converted, original, dtype):
    """Module against module, weight by weight: attention and MLP narrowed, everything else as it was."""
    ours, theirs = load_stage(converted).state_dict(), load_stage(original).state_dict()
    scales = {name for name in ours if name.endswith(".scale")}
    assert ours.keys() - scales == theirs.keys()
    assert bool(scales) == (dtype == torch.int8 and original.stage != "codec")
    for name, tensor in theirs.items():
        narrow = dtype if ".attn." in name or ".mlp." in name else torch.float32
        if narrow == torch.int8:
            weight, scale = quantize(tensor)
            assert torch.equal(ours[name], weight), name
            assert torch.equal(ours[name.replace(".weight", ".scale")], scale), name
        else:
            assert torch.equal(ours[name], tensor.to(narrow)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_folder_to_folder(tmp_path, sources, dtype):
    report = convert(sources, tmp_path / "out", dtype)
    originals = {stage.stage: stage for stage in describe_folder(sources)}
    converted = {stage.stage: stage for stage in describe_folder(tmp_path / "out")}
    assert {stage.path.name for stage in converted.values()} == {f"{name}.safetensors" for name in originals}
    for name, stage in converted.items():
        assert stage.shape == originals[name].shape  # head count and all, though no tensor tells it
        assert_same_weights(stage, originals[name], dtype)
    for done in report.stages:
        assert done.source_bytes == done.source.stat().st_size
        assert done.bytes == done.destination.stat().st_size
        assert done.dtype == (torch.float32 if done.stage == "codec" else dtype)
    assert sorted(path.name for path in report.copied) == ["spec.json", "vocab.txt"]
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (sources / "vocab.txt").read_bytes()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_adam_state_is_left_behind(tmp_path, sources):
    report = convert(sources / "text_2.pt", tmp_path / "text.safetensors", torch.float16)
    (done,) = report.stages
    assert done.source_bytes > 4 * done.bytes  # two moments, and the halves of attention and MLP
    assert "text: 0.4 MB → 0.1 MB (float16)" in str(report)


def test_header_says_what_it_is(tmp_path, sources):
    convert(sources, tmp_path, torch.float16)
    for stage in ("text", "coarse", "fine", "codec"):
        path = tmp_path / f"{stage}.safetensors"
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            names = set(file.keys())
        assert (metadata["format"], metadata["stage"]) == ("pt", stage)
        assert json.loads(metadata["shape"]) == json.loads(json.dumps(asdict(describe(path)[0].shape)))
        assert not any("Adam" in name or "optimizer" in name or "_orig_mod" in name for name in names)


@pytest.mark.parametrize("safe", [True, False])
def test_transformers_folder(tmp_path, safe):
    source = files.transformers_folder(tmp_path / "in", files.transformers_bark(heads=4), safe=safe)
    report = convert(source, tmp_path / "out", torch.float32)
    originals = describe(source)
    for original, converted in zip(originals, (describe(done.destination)[0] for done in report.stages), strict=True):
        assert_same_weights(converted, original, torch.float32)
        assert converted.shape == original.shape
    assert [done.source_bytes for done in report.stages] == [stage.stored_bytes for stage in originals]


def test_gitmylo_flat_and_legacy(tmp_path):
    fine, text = files.suno_stage("fine", heads=4), files.suno_stage("text", heads=4)
    paths = [
        files.gitmylo_files(tmp_path / "fine.safetensors", fine),
        files.flat_fine_tune(tmp_path / "flat", text, sequential_head=True),
        files.encodec_checkpoint(tmp_path / "codec.th", files.encodec_model(), legacy=True),
    ]
    for path in paths:
        (done,) = convert(path, tmp_path / "out", torch.bfloat16).stages
        assert_same_weights(describe(done.destination)[0], describe(path)[0], torch.bfloat16)


def test_again_from_its_own_result(tmp_path, sources):
    convert(sources, tmp_path / "a", torch.float32)
    convert(tmp_path / "a", tmp_path / "b", torch.float32)
    for name in ("text", "coarse", "fine", "codec"):
        (a,), (b,) = (describe(tmp_path / folder / f"{name}.safetensors") for folder in "ab")
        assert_same_weights(b, a, torch.float32)
        assert (a.shape, a.file_bytes) == (b.shape, b.file_bytes)


def test_progress(tmp_path, sources):
    seen = []
    convert(sources, tmp_path, torch.float32, on_step=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {4000}
    assert len(seen) > 100


# -- refused -------------------------------------------------------------------------------------------------------


def test_destinations_that_cannot_be(tmp_path, sources):
    (tmp_path / "file").write_text("x")
    for destination, match in (
        (tmp_path / "one.safetensors", "is one file, but there are several stages"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(BarkInputError, match=match):
            convert(sources, destination, torch.float32)
    with pytest.raises(BarkInputError, match="float32, float16, bfloat16, int8"):
        convert(sources, tmp_path / "out", torch.int16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_never_onto_its_own_source(tmp_path, sources):
    convert(sources, tmp_path, torch.float32)
    before = (tmp_path / "text.safetensors").read_bytes()
    with pytest.raises(BarkInputError, match="overwrite its own source"):
        convert(tmp_path, tmp_path, torch.float16)
    with pytest.raises(BarkInputError, match="overwrite its own source"):
        convert(tmp_path / "text.safetensors", tmp_path / "text.safetensors", torch.float16)
    assert (tmp_path / "text.safetensors").read_bytes() == before


def test_two_files_of_one_stage(tmp_path, sources):
    shutil.copy(sources / "text_2.pt", tmp_path / "a.pt")
    shutil.copy(sources / "text_2.pt", tmp_path / "b.pt")
    with pytest.raises(BarkFileError, match=r"text stage more than once \(a\.pt, b\.pt\)"):
        convert(tmp_path, tmp_path / "out", torch.float32)


def test_another_vocabulary_at_the_destination(tmp_path, sources):
    (tmp_path / "vocab.txt").write_text("another")
    with pytest.raises(BarkFileError, match=r"vocab\.txt already exists"):
        convert(sources, tmp_path, torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


# -- complete or absent --------------------------------------------------------------------------------------------


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("failing", ["text", "fine", "codec"])
def test_disk_that_fills_up_loses_nothing(tmp_path, sources, monkeypatch, failing):
    convert(sources, tmp_path, torch.float32)
    before = snapshot(tmp_path)
    original = build.save_file

    def full(tensors, path, metadata):
        if metadata["stage"] == failing:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        original(tensors, path, metadata=metadata)

    monkeypatch.setattr(build, "save_file", full)
    with pytest.raises(BarkFileError, match=rf"converted {failing} stage could not be saved.*No space left"):
        convert(sources, tmp_path, torch.float16)
    assert snapshot(tmp_path) == before


def test_a_drive_that_is_not_there_is_named(tmp_path, sources, monkeypatch):
    """Windows: no folder above the target exists, not even the drive's own."""
    real = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: real(path) and path.is_relative_to(sources))
    with pytest.raises(BarkFileError, match="no folder or drive to put"):
        convert(sources, tmp_path / "elsewhere", torch.float16)


def test_too_little_room_is_said_before_writing(tmp_path, sources, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(BarkFileError, match=r"needs .* GB .* only 0\.0 GB are free"):
        convert(sources, tmp_path / "deep" / "out", torch.float32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="a folder without write permission")
def test_read_only_folder(tmp_path, sources):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(BarkFileError, match="could not be saved"):
            convert(sources, tmp_path, torch.float32)
    finally:
        tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


def test_refused_rename_leaves_no_partial_file(tmp_path, sources, monkeypatch):
    """Read-only as root cannot be shown with permissions, so the rename itself is refused here."""
    (tmp_path / "text.safetensors").write_bytes(b"older")

    def read_only(self, target):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(atomic.Path, "replace", read_only)
    with pytest.raises(BarkFileError, match="Read-only file system"):
        convert(sources / "text_2.pt", tmp_path, torch.float32)
    assert snapshot(tmp_path) == {"text.safetensors": b"older"}


def test_stopped_half_way(tmp_path, sources):
    def stop(done, total):
        if done > 2500:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(sources, tmp_path / "out", torch.float32, on_step=stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_bad_source_among_good_ones(tmp_path, sources):
    shutil.copytree(sources, tmp_path / "in")
    state = torch.load(sources / "encodec.th", weights_only=True)
    state["decoder.model.0.conv.conv.bias"][0] = float("nan")
    torch.save(state, tmp_path / "in" / "encodec.th")
    with pytest.raises(BarkFileError, match="not finite"):
        convert(tmp_path / "in", tmp_path / "out", torch.float32)
    assert list((tmp_path / "out").iterdir()) == []
