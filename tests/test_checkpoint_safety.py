"""Bad files are refused with a sentence, and nothing in them runs."""

import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bark_engine.checkpoint import describe, describe_folder, load_stage, pickles, reading
from bark_engine.errors import BarkFileError, BarkMemoryError
from support import checkpoint_files as files
from support.checkpoint_files import checkpoint, safetensors, text_state

__all__ = ["checkpoint", "safetensors", "text_state"]  # fixtures


class Creates:
    """Unpickling this creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class RunsCommand:
    """Unpickling this runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def refused(path, match):
    """`describe` refuses a file and names it; returns the message."""
    with pytest.raises(BarkFileError, match=match) as caught:
        describe(path)
    assert path.name in str(caught.value)
    return str(caught.value)


# -- nothing executes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["model", "beside the weights", "whole file"])
def test_foreign_pickle_is_refused_by_name_and_not_run(tmp_path, text_state, place):
    proof = tmp_path / "executed"
    bomb = RunsCommand(f'{sys.executable} -c "open({str(proof)!r}, chr(119))"')
    content = {"model": {"model": text_state | {"x": bomb}}, "beside the weights": {"model": text_state, "x": bomb}}
    torch.save(content.get(place, bomb), tmp_path / "bad.pt")
    refused(tmp_path / "bad.pt", rf"would run {os.system.__module__}\.system, which was not done")
    assert not proof.exists()
    torch.load(tmp_path / "bad.pt", weights_only=False)
    assert proof.exists()  # the file would have done it


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("container", ["bare pickle", "legacy torch", "zip"])
def test_every_container_and_protocol(tmp_path, protocol, container):
    proof, path = tmp_path / "executed", tmp_path / "bad.pt"
    if container == "bare pickle":
        path.write_bytes(pickle.dumps({"model": Creates(proof)}, protocol=protocol))
    else:
        new = container == "zip"
        torch.save(Creates(proof), path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    message = refused(path, "would run")
    assert "Path.touch" in message or "getattr" in message
    assert not proof.exists()


def test_the_allow_list_is_only_what_a_numpy_scalar_needs():
    names = {f"{item.__module__}.{item.__qualname__}" for item in pickles.ALLOWED_GLOBALS}
    assert {name.replace("numpy.dtype[float64]", "numpy.dtypes.Float64DType") for name in names} == {
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "numpy.dtypes.Float64DType",
        "numpy.dtypes.Float32DType",
        "_codecs.encode",
    }


def test_the_allow_list_is_gone_afterwards(checkpoint):
    describe(checkpoint)
    assert not set(torch.serialization.get_safe_globals()) & set(pickles.ALLOWED_GLOBALS)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint, weights_only=True)


def test_names_that_others_allowed_stay_allowed(checkpoint):
    with torch.serialization.safe_globals([np.dtype]):
        describe(checkpoint)
        assert np.dtype in torch.serialization.get_safe_globals()


def test_object_array_in_a_checkpoint_is_refused(tmp_path, text_state):
    torch.save({"model": text_state, "best_val_loss": np.array([{}], dtype=object)}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", r"would run numpy\.(_core|core)\.multiarray\._reconstruct")


# -- damaged, renamed, lying files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"GGUF" + bytes(99), "GGUF"),
        (b"lmgg" + bytes(99), "ggml"),
        (b"\x93NUMPY" + bytes(99), "numpy array"),
        (b'{"a": 1}', "JSON text"),
        (b"hello", "unknown format"),
        (bytes(1000), "unknown format"),
        (struct.pack("<Q", 10) + b"{", "damaged"),
    ],
)
def test_not_weights(tmp_path, content, match):
    for name in ("x.pt", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, match)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(99), b"\x80\x02" + bytes(99)], ids=["zip", "pickle"])
def test_only_the_beginning_of_a_torch_file(tmp_path, content):
    """The first bytes are right; under the name of another format, that is said first."""
    for name, match in (("x.pt", "damaged"), ("x.safetensors", r"Rename it to \.pt")):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, match)


def test_missing_file_and_folders(tmp_path):
    refused(tmp_path / "nowhere.pt", "There is no file")
    with pytest.raises(BarkFileError, match=r"none of model\.safetensors"):
        describe(tmp_path)
    with pytest.raises(BarkFileError, match="no weights"):
        describe_folder(tmp_path)
    with pytest.raises(BarkFileError, match="cannot be listed"):
        describe_folder(tmp_path / "nowhere")


def test_names_do_not_matter(tmp_path, checkpoint, safetensors):
    shutil.copy(checkpoint, tmp_path / "a.txt")
    shutil.copy(safetensors, tmp_path / "b.pt")
    assert [describe(tmp_path / name)[0].layout for name in ("a.txt", "b.pt")] == ["suno", "flat"]


def test_torch_file_called_safetensors(tmp_path, checkpoint):
    """torch itself goes by this name, so it cannot be opened under it."""
    shutil.copy(checkpoint, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", r"Rename it to \.pt")


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01])
def test_truncated(tmp_path, checkpoint, safetensors, kept):
    for path in (checkpoint, safetensors):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        refused(path, "damaged|empty")


def test_plain_zip_and_npz(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(tmp_path / "x.pt", "not a torch checkpoint")
    np.savez(tmp_path / "voice.npz", semantic_prompt=np.arange(3))
    refused(tmp_path / "voice.npz", "not a torch checkpoint")


def rewritten_zip(path, change, compression=zipfile.ZIP_STORED):
    """The same archive with `change(name, bytes)` applied to its entries."""
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", compression) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, change(entry.filename, source.read(entry)))


def test_re_zipped_without_compression_still_loads(checkpoint):
    """The weights lie at other places then, not aligned as torch aligns them."""
    before = {name: weight.clone() for name, weight in load_stage(describe(checkpoint)[0]).state_dict().items()}
    rewritten_zip(checkpoint, lambda name, data: data)
    after = load_stage(describe(checkpoint)[0]).state_dict()
    assert after.keys() == before.keys()
    for name, weight in after.items():
        assert torch.equal(weight, before[name]), name


def test_compressed_afterwards(checkpoint):
    """Mapped without asking, compressed bytes would be taken for weights."""
    rewritten_zip(checkpoint, lambda name, data: data, zipfile.ZIP_DEFLATED)
    refused(checkpoint, "compressed after it was saved")


@pytest.mark.parametrize("change", [lambda data: data[:-4], lambda data: data + bytes(4), lambda data: b""])
def test_zip_record_of_another_size_than_the_outline_says(checkpoint, change):
    """torch maps what the outline asks for, record or not: a tensor would be made of its neighbours' bytes."""
    rewritten_zip(checkpoint, lambda name, data: change(data) if name.endswith("/data/3") else data)
    refused(checkpoint, "damaged")


def test_zip_whose_directory_lies_about_sizes(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    entry = content.rfind(b"PK\x01\x02", 0, content.rfind(b"/data/3", 0, len(content)))
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)  # compressed and plain size
    checkpoint.write_bytes(content)
    refused(checkpoint, "damaged")


@pytest.mark.parametrize("lie", ["beyond the end", "overlap", "shape", "huge header", "negative"])
def test_safetensors_with_a_lying_header(safetensors, lie):
    content = safetensors.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    first, second = [name for name in header if name != "__metadata__"][:2]
    if lie == "beyond the end":
        header[first]["data_offsets"][1] += 2**40
    elif lie == "overlap":
        header[second]["data_offsets"] = header[first]["data_offsets"]
    elif lie == "shape":
        header[first]["shape"][0] *= 1000
    elif lie == "negative":
        header[first]["shape"] = [-1, -1]
    text = json.dumps(header).encode()
    length = 2**38 if lie == "huge header" else len(text)
    safetensors.write_bytes(struct.pack("<Q", length) + text + content[8 + size :])
    refused(safetensors, "damaged")


def test_settings_json_that_is_none(tmp_path):
    path = files.gitmylo_files(tmp_path / "text.safetensors", files.suno_stage("text"))
    for content in ("{", "[]", "[" * 100_000):
        path.with_suffix(".json").write_text(content)
        with pytest.raises(BarkFileError, match=r"text\.json"):
            describe(path)


@pytest.mark.parametrize("heads", [0, -1, 5, "2", 2.0, True, None])
def test_head_counts_that_cannot_be(tmp_path, text_state, heads):
    path = files.suno_checkpoint(tmp_path / "x.pt", text_state, {"n_head": heads})
    refused(path, "attention heads")


@pytest.mark.parametrize("target", ["../secret.safetensors", "/etc/passwd", "a\\b.bin", "..", "", "C:x", 7, [], None])
def test_index_that_points_elsewhere(tmp_path, target):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"semantic.lm_head.weight": target}}))
    refused(index, "points to")


def test_index_of_itself_of_missing_and_of_empty_parts(tmp_path, safetensors):
    index = tmp_path / "model.safetensors.index.json"
    for places, match in (
        ({"x": index.name}, "holds no weights"),
        ({"x": "gone.safetensors"}, "is missing"),
        ({"x": safetensors.name}, "but it is not"),
        ({}, "lists no weights"),
        ([], "lists no weights"),
    ):
        index.write_text(json.dumps({"weight_map": places}))
        refused(index, match)
        with pytest.raises(BarkFileError, match=match):
            describe_folder(tmp_path)


def test_large_files_of_the_old_format_are_refused(tmp_path, monkeypatch, text_state):
    torch.save(text_state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert describe(tmp_path / "old.pt")[0].stage == "text"
    monkeypatch.setattr(pickles, "MAX_LEGACY_BYTES", 1000)
    refused(tmp_path / "old.pt", "before torch 1.6")


def test_random_damage_never_escapes_as_another_error(tmp_path, checkpoint, safetensors):
    """120 files with a few bytes changed, in their outlines above all: a BarkFileError, or still loadable."""
    rng = random.Random(0)
    legacy = files.encodec_checkpoint(tmp_path / "c.th", files.encodec_model(), legacy=True)
    outcomes = {True: 0, False: 0}
    for path in (checkpoint, safetensors, legacy):
        original = path.read_bytes()
        outline = original.find(b"data.pkl") + 8 if path == checkpoint else 0
        for trial in range(40):
            content = bytearray(original)
            span = (outline, min(outline + 9000, len(content))) if trial % 2 else (0, len(content))
            for _ in range(rng.choice((1, 3, 30))):
                content[rng.randrange(*span)] = rng.randrange(256)
            path.write_bytes(content)
            try:
                for stage in describe(path):
                    load_stage(stage)
                outcomes[True] += 1
            except BarkFileError:
                outcomes[False] += 1
    assert min(outcomes.values()) > 10


# -- whole files that cannot be read now ---------------------------------------------------------------------------


def allowing_mappings(monkeypatch, count):
    """Let the system map a torch file so many times, and then refuse as it does when memory runs out."""
    real, left = torch.UntypedStorage.from_file, iter(range(count))

    def from_file(name, shared=False, size=0):
        if next(left, None) is None:
            raise RuntimeError(f"unable to mmap {size} bytes from file <{name}>: Cannot allocate memory (12)")
        return real(name, shared, size)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", staticmethod(from_file))


def test_a_mapping_that_is_refused_is_no_damage(checkpoint, monkeypatch):
    """Of the outline or of one weight. Who lists a folder passes over the file; who reads it can try again."""
    (stage,) = describe(checkpoint)
    allowing_mappings(monkeypatch, 1)
    with pytest.raises(BarkMemoryError, match=rf"Memory ran out while .*{checkpoint.name} was opened \(unable to mmap"):
        load_stage(stage)
    with pytest.raises(BarkMemoryError, match=f"Memory ran out while .*{checkpoint.name} was opened"):
        load_stage(stage)
    message = refused(checkpoint, "Memory ran out while")
    assert "Close other programs" in message
    assert "fresh copy" not in message


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (OSError(5, "Input/output error"), BarkFileError, r"cannot be read \(Input/output error\)\. Check the disk"),
        (PermissionError("Permission denied (os error 13)"), BarkFileError, r"cannot be read .*Check the disk"),
        (OSError("Cannot allocate memory (os error 12)"), BarkMemoryError, "Memory ran out while"),
        (MemoryError(), BarkMemoryError, r"Memory ran out while .* \(MemoryError\)"),
        (ValueError("nonsense"), BarkFileError, r"is damaged or incomplete \(nonsense\)"),
    ],
    ids=repr,
)
def test_safetensors_that_the_system_does_not_give(safetensors, monkeypatch, failure, error, words):
    def refuse(*arguments, **options):
        raise failure

    (stage,) = describe(safetensors)
    monkeypatch.setattr(reading, "safe_open", refuse)
    with pytest.raises(error, match=words) as caught:
        load_stage(stage)
    assert safetensors.name in str(caught.value)
    refused(safetensors, words)


# -- keys, shapes, values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("transformer.h.1.mlp.c_fc.weight", None, r"lacks the weight transformer\.h\.1\.mlp\.c_fc\.weight"),
        ("lm_head.weight", None, "lacks its token table or its head"),
        ("transformer.wpe.weight", None, r"lacks the weight transformer\.wpe\.weight"),
        ("transformer.h.1.extra.weight", torch.zeros(3), r"does not know: .*transformer\.h\.1\.extra\.weight"),
        ("transformer.ln_f.weight", torch.zeros(63), r"ln_f\.weight should have shape \[64\] but has \[63\]"),
        ("transformer.wpe.weight", torch.zeros(64), "should have 2 sizes"),
        ("transformer.wpe.weight", torch.zeros(0, 64), "should have 2 sizes above 0"),
        ("transformer.ln_f.weight", torch.zeros(64, dtype=torch.int8), "stores .*ln_f.weight as int8"),
        ("transformer.ln_f.weight", torch.zeros(64).to_sparse(), "not a plain tensor|not only weights"),
        ("transformer.ln_f.weight", "hello", "not a plain tensor"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, text_state, name, value, match):
    state = dict(text_state)
    if value is None:
        del state[name]
    else:
        state[name] = value
    refused(files.suno_checkpoint(tmp_path / "x.pt", state, {"n_head": 2}, adam=False), match)


def test_a_checkpoint_of_something_else(tmp_path):
    save_file({"vision.patch.weight": torch.zeros(3)}, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", r"none of Bark's stages; its first entries are vision\.patch\.weight")
    torch.save({"model_state": {"a": torch.zeros(1)}, "epoch": 3}, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "'model_state' is not a plain tensor")
    torch.save(torch.zeros(3), tmp_path / "y.pt")
    refused(tmp_path / "y.pt", "a single Tensor")
    torch.save({}, tmp_path / "z.pt")
    refused(tmp_path / "z.pt", "none of Bark's stages")


def test_one_weight_twice(tmp_path, text_state):
    twice = text_state | {"_orig_mod.lm_head.weight": text_state["lm_head.weight"]}
    torch.save(twice, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", "twice")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_weights_that_are_not_finite(tmp_path, text_state, value, dtype):
    state = {name: tensor.clone() for name, tensor in text_state.items()}
    state["transformer.h.1.attn.c_proj.weight"][5, 5] = value
    (stage,) = describe(files.suno_checkpoint(tmp_path / "x.pt", state, {"n_head": 2}))
    with pytest.raises(BarkFileError, match=r"x\.pt: the weight .*h\.1\.attn\.c_proj\.weight has values .* not finite"):
        load_stage(stage, dtype)


def test_codec_weights_that_are_not_finite(tmp_path):
    codec = files.encodec_model()
    with torch.no_grad():
        codec["decoder"].model[3].convtr.convtr.weight_v[0] = 0  # a norm of zero: 0 / 0
    (stage,) = describe(files.encodec_checkpoint(tmp_path / "x.th", codec))
    with pytest.raises(BarkFileError, match=r"convtr\.weight_v.*not finite"):
        load_stage(stage)


def test_values_beyond_float16(tmp_path, text_state):
    name = "transformer.h.0.mlp.c_fc.weight"
    state = text_state | {name: text_state[name] * 1e7}
    (stage,) = describe(files.suno_checkpoint(tmp_path / "x.pt", state, {"n_head": 2}))
    load_stage(stage, torch.bfloat16)
    with pytest.raises(BarkFileError, match=r"not finite as float16.*load it as float32"):
        load_stage(stage, torch.float16)
