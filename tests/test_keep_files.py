"""Token files: what is written is complete and comes back, what others wrote is read, the rest refused."""

import contextlib
import errno
import json
import os
import pickle
import struct
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

from bark_engine import (
    BarkFileError,
    BarkInputError,
    CoarseSampling,
    FineSampling,
    FineTokens,
    SemanticTokens,
    SpeakerPrompt,
)
from bark_engine.keep import About, Take, finish, load_take, load_tokens, save_tokens
from bark_engine.keep.finish import missing_stages
from bark_engine.keep.shelf import Shelf, find_file, list_names
from bark_engine.library.places import nano_folder
from bark_engine.speaker import KEYS
from support.takes import ABOUT, codes, random_take
from support.tiny_models import prompt_arrays

ARRAYS = prompt_arrays(50)
KINDS = dict(zip(("semantic", "coarse", "fine"), KEYS, strict=True))


def same(take: Take, arrays: dict[str, Any]) -> None:
    """The take holds exactly these arrays, given under Suno's names."""
    assert {KINDS[kind] for kind in take.tokens} == set(arrays)
    for kind, tokens in take.tokens.items():
        np.testing.assert_array_equal(np.asarray(tokens), arrays[KINDS[kind]])


# -- our own -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", ["s", "c", "f", "sf", "scf"])
def test_what_is_saved_comes_back(tmp_path: Path, kinds: str) -> None:
    take = random_take(kinds)
    path = save_tokens(tmp_path / "new folder" / "a.safetensors", take)
    for again in (load_tokens(path), load_take(path)):
        assert again == take
        assert again.about == ABOUT


def test_any_program_can_read_the_file(tmp_path: Path) -> None:
    workflow = {"workflow": json.dumps({"nodes": ["♪"]}), "prompt": "{}"}
    path = save_tokens(tmp_path / "a.safetensors", random_take(), workflow)
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        assert {name: list(file.get_tensor(name).shape) for name in file.keys()} == {  # noqa: SIM118 (no mapping)
            "semantic": [50],
            "coarse": [2, 75],
            "fine": [8, 75],
        }
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"I32"}  # noqa: SIM118
    assert metadata == {
        "bark_tokens": "1",
        "kinds": "semantic,coarse,fine",
        "family": "suno",
        "semantic_rate": "49.9",
        "frame_rate": "75",
        "text": ABOUT.text,
        "speaker": "v2/de_speaker_3",
        "models": "large",
        "seed": json.dumps(dict(ABOUT.seed)),
        "sampling": json.dumps(ABOUT.to_json()["sampling"]),
        "version": ABOUT.version,
        **workflow,
    }


def test_comfyuis_front_end_finds_the_workflow(tmp_path: Path) -> None:
    """It reads the length of the header as 32 bits and looks into `__metadata__`."""
    content = save_tokens(tmp_path / "a.safetensors", random_take(), {"workflow": '{"nodes": []}'}).read_bytes()
    length = struct.unpack("<I", content[:4])[0]
    assert json.loads(content[8 : 8 + length])["__metadata__"]["workflow"] == '{"nodes": []}'


def test_equal_takes_give_equal_files(tmp_path: Path) -> None:
    files = [save_tokens(tmp_path / f"{n}.safetensors", random_take(), {"prompt": "{}"}) for n in range(2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_ids_beyond_32_bits_of_a_family_that_is_not_known_here(tmp_path: Path) -> None:
    take = Take(SemanticTokens([2**40, 1], family="wide"), fine=FineTokens(codes(8, 3), family="wide"))
    assert load_tokens(save_tokens(tmp_path / "a.safetensors", take)) == take


def test_an_older_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = save_tokens(tmp_path / "a.safetensors", random_take("s"))
    with pytest.raises(BarkFileError, match=r"a\.safetensors is there already"):
        save_tokens(path, random_take("f"))
    assert load_tokens(path) == random_take("s")
    save_tokens(path, random_take("f"), overwrite=True)
    assert load_tokens(path) == random_take("f")
    with pytest.raises(BarkInputError, match=r"Add \.safetensors"):
        save_tokens(tmp_path / "a.npz", random_take())


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_tokens(tmp_path / "a.safetensors", random_take("s"))
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(BarkFileError, match="The tokens could not be saved"):
        save_tokens(path, random_take("f"), overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# -- written by others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [KEYS, KEYS[:1], KEYS[1:], KEYS[2:]])
@pytest.mark.parametrize("family", ["suno", "nano"])
def test_sunos_npz_whole_or_in_part(tmp_path: Path, wanted: tuple[str, ...], family: str) -> None:
    arrays = {key: ARRAYS[key] % 200 for key in wanted}
    np.savez_compressed(tmp_path / "a.npz", **arrays, **({} if family == "suno" else {"family": np.array(family)}))
    take = load_tokens(tmp_path / "a.npz")
    same(take, arrays)
    assert take.family == family
    assert take.about == About(version="")


def test_our_own_speaker_prompts(tmp_path: Path) -> None:
    speaker = SpeakerPrompt(*ARRAYS.values())  # type: ignore[arg-type]
    take = load_tokens(speaker.save(tmp_path / "a.npz"))
    assert (take.semantic, take.coarse, take.fine) == (speaker.semantic, speaker.coarse, speaker.fine)


@pytest.mark.parametrize("names", [("semantic", "coarse", "fine"), ("text", "coarse_2", "fine")])
def test_other_layouts_of_npz(tmp_path: Path, names: tuple[str, str, str]) -> None:
    np.savez(tmp_path / "a.npz", **dict(zip(names, ARRAYS.values(), strict=True)))
    same(load_tokens(tmp_path / "a.npz"), ARRAYS)


def test_a_text_beside_the_tokens_is_no_token(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", text=np.array("a transcript"), coarse_prompt=ARRAYS[KEYS[1]])
    same(load_tokens(tmp_path / "a.npz"), {KEYS[1]: ARRAYS[KEYS[1]]})


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("kind", ["tensors", "arrays", "int32 arrays", "some"])
def test_full_generations_saved_by_torch(tmp_path: Path, modern: bool, kind: str) -> None:
    content: dict[str, Any] = dict(ARRAYS)
    if kind == "tensors":
        content = {key: torch.from_numpy(value) for key, value in ARRAYS.items()}
    if kind == "int32 arrays":
        content = {key: value.astype(np.int32) for key, value in ARRAYS.items()}
    if kind == "some":
        content = {KEYS[0]: ARRAYS[KEYS[0]], KEYS[1]: None, "note": "x"}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=modern)
    same(load_tokens(tmp_path / "a.pt"), {KEYS[0]: ARRAYS[KEYS[0]]} if kind == "some" else ARRAYS)


@pytest.mark.parametrize("kind", list(KINDS))
def test_plain_arrays_are_told_by_their_shape(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "a.npy", ARRAYS[KINDS[kind]])
    same(load_tokens(tmp_path / "a.npy"), {KINDS[kind]: ARRAYS[KINDS[kind]]})
    assert load_tokens(tmp_path / "a.npy", family="other").family == "other"


def test_the_name_of_a_file_does_not_matter(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)
    (tmp_path / "a.npz").rename(tmp_path / "a.bin")
    same(load_tokens(tmp_path / "a.bin"), ARRAYS)


# -- refused -------------------------------------------------------------------------------------------------------


def header(metadata: Any, tensors: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file by hand."""
    words = json.dumps({"__metadata__": metadata, **tensors}).encode()
    return struct.pack("<Q", len(words) if length is None else length) + words + data


def tensor(shape: list[int], size: int, dtype: str = "I32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


SUNO = {"family": "suno"}
TWO = {"semantic": tensor([2], 8)}
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "a web page": (b"<html>", "web page"),
    "a sound": (b"RIFF\0\0\0\0WAVE", "sound file"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "a picture"),
    "JSON": (b'{"a": 1}', "JSON"),
    "no family": (header({}, TWO, bytes(8)), "which family"),
    "a family that is none": (header({"family": ""}, TWO, bytes(8)), "family must be a name"),
    "weights": (header(SUNO, {"blocks.0.weight": tensor([2], 8, "F32")}, bytes(8)), r"no tokens.*blocks\.0\.weight"),
    "no tensors": (header(SUNO, {}), "no tokens.*nothing"),
    "floats": (header(SUNO, {"semantic": tensor([2], 8, "F32")}, bytes(8)), "not F32"),
    "bfloat16": (header(SUNO, {"semantic": tensor([4], 8, "BF16")}, bytes(8)), "not BF16"),
    "truth values": (header(SUNO, {"semantic": tensor([8], 8, "BOOL")}, bytes(8)), "not BOOL"),
    "negative": (header(SUNO, TWO, struct.pack("<2i", 1, -1)), "0 … 9,999.*-1"),
    "too large": (header(SUNO, TWO, struct.pack("<2i", 1, 10_000)), "0 … 9,999"),
    "no ids": (header(SUNO, {"semantic": tensor([0], 0)}), r"T ≥ 1"),
    "a wrong rank": (header(SUNO, {"coarse": tensor([2], 8)}, bytes(8)), r"\[2, F\]"),
    "fewer bytes than promised": (header(SUNO, {"semantic": tensor([9], 36)}, bytes(8)), "damaged or cut short"),
    "a shape that lies": (header(SUNO, {"semantic": tensor([2**60], 8)}, bytes(8)), "damaged or cut short"),
    "a header that lies": (header(SUNO, TWO, bytes(8), length=10**6), "damaged or cut short"),
    "an endless header": (header(SUNO, TWO, bytes(8), length=2**39), "damaged or cut short"),
    "a seed that is no JSON": (header({**SUNO, "seed": "{"}, TWO, bytes(8)), "valid JSON"),
    "a seed with NaN": (header({**SUNO, "seed": '{"fine": NaN}'}, TWO, bytes(8)), "NaN is no JSON"),
    "a nested bomb": (header({**SUNO, "sampling": "[" * 100_000}, TWO, bytes(8)), "valid JSON"),
    "sampling of no stage": (header({**SUNO, "sampling": '{"x": {}}'}, TWO, bytes(8)), "some of the stages"),
    "an endless knob": (header({**SUNO, "sampling": '{"fine": {"x": 1%s}}' % ("0" * 400)}, TWO, bytes(8)), "finite"),
    "an endless text": (header({**SUNO, "text": "a" * 100_001}, TWO, bytes(8)), "100,001 characters"),
    "numbers as metadata": (header({"family": 7}, TWO, bytes(8)), "damaged or cut short"),
    "half a zip": (b"PK\x03\x04" + bytes(60), "damaged or incomplete"),
    "an array cut short": (b"\x93NUMPY\x01\x00", "cannot be used"),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_files_are_refused_by_name(tmp_path: Path, why: str) -> None:
    content, reason = BAD[why]
    path = tmp_path / "take.safetensors"
    if why == "half a zip":
        path = path.with_suffix(".pt")
    path.write_bytes(content)
    with pytest.raises(BarkFileError, match=rf"(?s)take\.(safetensors|pt).*{reason}"):
        load_tokens(path)


def test_a_nested_bomb_as_the_header_itself(tmp_path: Path) -> None:
    words = b'{"a":' * 50_000
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(words)) + words)
    with pytest.raises(BarkFileError, match="damaged or cut short"):
        load_tokens(tmp_path / "a.safetensors")


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(BarkFileError, match=r"300 MiB.*weights"):
        load_tokens(path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"x": np.zeros(3, np.int64)}, "no tokens that can be told.*it has x"),
        ({KEYS[0]: np.full(3, np.nan)}, "whole numbers, not float64"),
        ({KEYS[0]: np.array([1, -1])}, "0 … 9,999"),
        ({KEYS[0]: np.array([{"a": 1}], dtype=object)}, "pickled objects are never opened"),
        ({KEYS[1]: np.zeros((8, 3), np.int64)}, r"\[2, F\]"),
        ({KEYS[0]: np.array([1]), "family": np.array("")}, "family must be a name"),
        ({KEYS[0]: np.array([1]), "family": np.array(["a", "b"])}, "family must be one name"),
        ({KEYS[0]: np.array([1]), "family": np.array(7)}, "family must be one name"),
        ({}, "nothing|unknown format"),
    ],
)
def test_npz_that_are_no_tokens(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    np.savez(tmp_path / "take.npz", **arrays)
    with pytest.raises(BarkFileError, match=rf"(?s)take\.npz.*({reason})"):
        load_tokens(tmp_path / "take.npz")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 4), np.int64), r"\[3, 4\].*\[2, F\]"),
        (np.zeros((75, 8), np.int64), "transpose"),
        (np.zeros((1, 2, 3), np.int64), "shape"),
        (np.int64(3), "shape"),
        (np.array([0.5]), "whole numbers"),
        (np.array([{"a": 1}], dtype=object), "never opened"),
    ],
)
def test_npy_that_are_no_tokens(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "take.npy", array)
    with pytest.raises(BarkFileError, match=rf"(?s)take\.npy.*{reason}"):
        load_tokens(tmp_path / "take.npy")


class Writes:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("inside", ["a value", "an array"])
def test_no_torch_file_runs_anything(tmp_path: Path, modern: bool, inside: str) -> None:
    mark = tmp_path / "executed"
    trap: Any = Writes(mark)
    if inside == "an array":
        trap = np.array([trap], dtype=object)
    torch.save({KEYS[0]: trap}, tmp_path / "take.pt", _use_new_zipfile_serialization=modern)
    with pytest.raises(BarkFileError, match=r"take\.pt"):
        load_tokens(tmp_path / "take.pt")
    assert not mark.exists()
    torch.load(tmp_path / "take.pt", weights_only=False)
    assert mark.exists()  # the trap was a real one


class Huge:
    """Unpickling this asks numpy for a thousand terabytes."""

    def __reduce__(self) -> tuple[Any, ...]:
        reconstruct = np.array([1]).__reduce__()[0]
        return reconstruct, (np.ndarray, (2**50,), b"b")


def test_a_torch_file_cannot_ask_for_memory(tmp_path: Path) -> None:
    torch.save({KEYS[0]: Huge()}, tmp_path / "take.pt")
    with pytest.raises(BarkFileError, match=r"take\.pt.*T ≥ 1"):
        load_tokens(tmp_path / "take.pt")


@pytest.mark.parametrize("content", [[1, 2], {"x": 1}, {KEYS[0]: "abc"}, {KEYS[0]: torch.tensor([0.5])}, {}])
def test_torch_files_that_are_no_tokens(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "take.pt")
    with pytest.raises(BarkFileError, match=r"take\.pt"):
        load_tokens(tmp_path / "take.pt")


def test_a_plain_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "take.pt").write_bytes(pickle.dumps(dict.fromkeys(KEYS, Writes(tmp_path / "executed"))))
    with pytest.raises(BarkFileError, match=r"take\.pt"):
        load_tokens(tmp_path / "take.pt")
    assert not (tmp_path / "executed").exists()


def test_folders_missing_files_and_impossible_names(tmp_path: Path) -> None:
    for load in (load_tokens, load_take):
        with pytest.raises(BarkFileError, match=r"There is no .*file"):
            load(tmp_path / "absent.safetensors")
        for path in (tmp_path, "a\0b.safetensors", "a" * 5_000):
            with pytest.raises(BarkFileError, match="cannot be read"):
                load(path)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["safetensors", "npz", "npy", "pt"]), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damaged_files_never_escape_as_other_errors(kind: str, place: int, value: int, cut: bool) -> None:
    """Any one byte changed, or the file cut anywhere: tokens or a BarkFileError, nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{kind}")
        if kind == "safetensors":
            save_tokens(path, random_take(frames=9), {"workflow": "{}"})
        elif kind == "npz":
            np.savez(path, **ARRAYS)
        elif kind == "npy":
            np.save(path, ARRAYS[KEYS[2]])
        else:
            torch.save(dict(ARRAYS), path)
        data = bytearray(path.read_bytes())
        place %= len(data)
        data[place] = value
        path.write_bytes(bytes(data[:place]) if cut else bytes(data))
        with contextlib.suppress(BarkFileError):
            load_tokens(path)


def test_a_foreign_safetensors_with_further_tensors_is_read(tmp_path: Path) -> None:
    """Such as the file that Inspect Tokens gives to the browser."""
    tensors = {"semantic": np.array([1, 2], np.int32), "trace.entropy": np.zeros(2, np.float32)}
    save_file(tensors, tmp_path / "a.safetensors", {"family": "nano", "summary": "x"})
    take = load_tokens(tmp_path / "a.safetensors")
    assert take == Take(SemanticTokens([1, 2], family="nano"))
    assert take.about == About(version="")


# -- from a file to sound ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoken() -> Any:
    from bark_engine import Bark

    bark = Bark.load("nano")
    return bark, bark.say("Hello.", seed=3)


def test_every_kind_is_finished_to_the_same_sound(spoken: Any) -> None:
    bark, speech = spoken
    about = About(seed={"semantic": 3})
    for kinds, missing in (
        ({"semantic": speech.semantic}, ["coarse", "fine"]),
        ({"coarse": speech.coarse}, ["fine"]),
        ({"fine": speech.fine}, []),
        ({"semantic": speech.semantic, "fine": speech.fine}, []),
    ):
        take = Take(**kinds, about=about)
        assert missing_stages(take) == missing
        seed = None if "semantic" in kinds else 3
        whole, audio = finish(bark, take, seed=seed)
        np.testing.assert_array_equal(audio.samples, speech.audio.samples)
        assert whole.fine == speech.fine
        assert whole.semantic == take.semantic


def test_the_seed_of_a_stage_goes_before_that_of_the_words(spoken: Any) -> None:
    bark, speech = spoken
    take = Take(coarse=speech.coarse, about=About(seed={"semantic": 3, "fine": 9}))
    whole, _ = finish(bark, take)
    assert whole.fine == bark.coarse_to_fine(speech.coarse, seed=9)
    assert finish(bark, take, seed=3)[0].fine == speech.fine


def test_what_is_finished_tells_how(spoken: Any) -> None:
    """Of a file that says nothing, as much as is known now."""
    bark, speech = spoken
    voice = bark_voice("low")
    whole, _ = finish(bark, Take(semantic=speech.semantic, about=About(version="")), voice, np.int64(7))  # type: ignore[arg-type]
    knobs = {"coarse": asdict(CoarseSampling()), "fine": asdict(FineSampling())}
    seeds = {"coarse": 7, "fine": 7}
    assert whole.about == About(speaker="low", models="nano", seed=seeds, sampling=knobs, version="")
    again, _ = finish(bark, Take(coarse=whole.coarse, about=whole.about), voice)
    assert again == Take(coarse=whole.coarse, fine=whole.fine)
    assert again.about == whole.about
    fine = Take(fine=whole.fine, about=ABOUT)
    assert finish(bark, fine, voice, 7)[0].about == ABOUT


def test_what_stages_do_not_have_in_common_is_not_told_of_all(spoken: Any) -> None:
    bark, speech = spoken
    about = About(text="Hello.", speaker="nano/high", models="large", seed={"semantic": 3, "coarse": 1, "fine": 2})
    made = finish(bark, Take(coarse=speech.coarse, about=about), bark_voice("low"), seed=8)[0].about
    assert (made.text, made.speaker, made.models) == ("Hello.", "", "")
    assert made.seed == {"semantic": 3, "coarse": 1, "fine": 8}
    assert set(made.sampling) == {"fine"}
    without = finish(bark, Take(coarse=speech.coarse, about=about))[0].about
    assert without.speaker == "nano/high"  # a stage without a voice says nothing of one, as in a graph
    nameless = replace(bark_voice("low"), name="\udc80")
    assert finish(bark, Take(coarse=speech.coarse), nameless)[0].about.speaker == ""


@pytest.mark.parametrize("wrong", [{"speaker": "low"}, {"seed": -1}, {"fine": CoarseSampling()}, {"fine": {}}])
def test_what_no_stage_takes_is_refused_in_its_words(spoken: Any, wrong: dict[str, Any]) -> None:
    bark, speech = spoken
    with pytest.raises(BarkInputError, match=r"must be a SpeakerPrompt|^seed must be|This stage takes FineSampling"):
        finish(bark, Take(coarse=speech.coarse), **wrong)


def bark_voice(name: str) -> SpeakerPrompt:
    """One of nano's voices."""
    return SpeakerPrompt.load(nano_folder() / "speakers" / f"{name}.npz")


def test_models_of_another_family_are_refused(spoken: Any) -> None:
    with pytest.raises(BarkInputError, match="family 'suno'"):
        finish(spoken[0], random_take())


# -- shelves -------------------------------------------------------------------------------------------------------


def test_shelves_list_what_they_find(tmp_path: Path) -> None:
    for name in ("kept/b.npz", "kept/deep/a.npz", "kept/.hidden.npz", "kept/c.txt", "kept/con.npz", "given/b.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "given" / "deep").mkdir()
    (tmp_path / "given" / "deep" / "d.npz").write_bytes(b"")
    shelves = [Shelf(tmp_path / "kept"), Shelf(tmp_path / "absent"), Shelf(tmp_path / "given", "input", deep=False)]
    names = list_names(shelves, (".npz",))
    assert names == ["b.npz", "deep/a.npz", "b.npz [input]"]
    found = [find_file(name, shelves, (".npz",)) for name in names]
    assert found == [tmp_path / "kept/b.npz", tmp_path / "kept/deep/a.npz", tmp_path / "given/b.npz"]
    assert find_file("deep\\a.npz", shelves, (".npz",)) == tmp_path / "kept/deep/a.npz"


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("absent.npz", BarkFileError, "There is no file"),
        ("../a.npz", BarkInputError, "upwards"),
        ("/a.npz", BarkInputError, "absolute"),
        ("a.exe", BarkInputError, "cannot be chosen"),
        ("", BarkInputError, "cannot be chosen"),
        ("a.npz [temp]", BarkInputError, "cannot be chosen"),
        ("../a.npz [input]", BarkInputError, "upwards"),
    ],
)
def test_names_that_are_none_are_refused(tmp_path: Path, name: str, error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        find_file(name, [Shelf(tmp_path), Shelf(tmp_path, "input")], (".npz",))
