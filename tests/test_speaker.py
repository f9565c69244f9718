"""Speaker prompts: every shipped one, those from the wild, those that must be refused, and saving."""

import contextlib
import errno
import io
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bark_engine.coarse import trim_history
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.speaker import KEYS, SpeakerPrompt, check_stretch, require_speaker
from bark_engine.spec import SUNO, BarkSpec, register_family
from bark_engine.tokens import CoarseTokens, FineTokens, SemanticTokens
from support.suno_reference import load_suno
from support.tiny_models import as_speaker, prompt_arrays, prompt_folder, shipped_prompt


def write(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    """An `.npz` as numpy writes it, object arrays pickled."""
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def same(speaker: SpeakerPrompt, arrays: Any) -> None:
    np.testing.assert_array_equal(speaker.semantic.ids, arrays[KEYS[0]])
    np.testing.assert_array_equal(speaker.coarse.codes, arrays[KEYS[1]])
    np.testing.assert_array_equal(speaker.fine.codes, arrays[KEYS[2]])


# -- the shipped ones ----------------------------------------------------------------------------------------------


def slow_trim(semantic: list[int], coarse: list[list[int]], max_history: int) -> tuple[list[int], list[int]]:
    """Suno's arithmetic for the coarse stage's history, one token at a time."""
    ratio = 75 / 49.9 * 2
    flat = []
    for frame in range(len(coarse[0])):
        flat += [coarse[0][frame] + 10_000, coarse[1][frame] + 11_024]
    kept = min(int(max_history // ratio), len(semantic) // 2 * 2, int(len(flat) // ratio))
    return semantic[len(semantic) - kept :], flat[len(flat) - round(kept * ratio) : len(flat) - 2]


def test_all_shipped_prompts_load_and_are_trimmed_like_suno() -> None:
    files = sorted(prompt_folder().rglob("*.npz"))
    assert len(files) == 271
    odd = set()
    for file in files:
        speaker = SpeakerPrompt.load(file)
        with np.load(file) as arrays:
            same(speaker, arrays)
            semantic, coarse = arrays[KEYS[0]].tolist(), arrays[KEYS[1]].tolist()
        assert speaker.name == file.stem
        for max_history in (60, 333, 630):
            past = int(np.floor(max_history / SUNO.coarse_per_semantic))
            trimmed = trim_history(speaker, SUNO, past)
            assert trimmed == slow_trim(semantic, coarse, max_history)
        if len(trimmed[1]) % 2:
            odd.add(file.relative_to(prompt_folder()).with_suffix("").as_posix())
    assert odd == {"tr_speaker_4", "v2/tr_speaker_5", "v2/zh_speaker_6"}  # start on codebook 1


# -- from the wild -------------------------------------------------------------------------------------------------

ARRAYS = prompt_arrays(50)
METADATA = '{"author": "x"}'


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.uint64, np.float32, np.float64])
def test_other_number_types(tmp_path: Path, kind: type) -> None:
    file = write(tmp_path / "a.npz", **{key: value.astype(kind) for key, value in ARRAYS.items()})
    speaker = SpeakerPrompt.load(file)
    same(speaker, ARRAYS)
    assert speaker.fine.codes.dtype == np.int64


@pytest.mark.parametrize(
    "extra",
    [
        {"metadata": np.array(list(METADATA))},
        {"metadata": np.array(list(METADATA), dtype=object)},
        {"text": np.array("a transcript"), "semantic": np.zeros(7)},
    ],
    ids=["characters", "objects", "names of other layouts"],
)
def test_extra_arrays_are_passed_over(tmp_path: Path, extra: dict[str, np.ndarray]) -> None:
    for number, arrays in enumerate(({**ARRAYS, **extra}, {**extra, **ARRAYS})):
        same(SpeakerPrompt.load(write(tmp_path / f"{number}.npz", **arrays)), ARRAYS)


@pytest.mark.parametrize(
    "names",
    [("semantic", "coarse", "fine"), ("text", "coarse_2", "fine")],
    ids=["training data", "the first prompts of April 2023"],
)
def test_other_key_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    renamed = dict(zip(names, ARRAYS.values(), strict=True))
    if "coarse_2" in names:
        renamed["coarse_1"] = ARRAYS[KEYS[0]]  # the semantic tokens once more
    same(SpeakerPrompt.load(write(tmp_path / "a.npz", **renamed)), ARRAYS)


def test_fortran_order_and_compression(tmp_path: Path) -> None:
    arrays = {key: np.asfortranarray(value) for key, value in ARRAYS.items()}
    same(SpeakerPrompt.load(write(tmp_path / "a.npz", compressed=True, **arrays)), ARRAYS)


def test_shortest_prompts(tmp_path: Path) -> None:
    same(SpeakerPrompt.load(write(tmp_path / "a.npz", **prompt_arrays(2))), prompt_arrays(2))


# -- refused -------------------------------------------------------------------------------------------------------


class Writes:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("key", [*KEYS, "metadata"])
def test_nothing_is_ever_unpickled(tmp_path: Path, key: str) -> None:
    mark = tmp_path / "executed"
    trap = np.array([Writes(mark)], dtype=object)
    file = write(tmp_path / "a.npz", **{**ARRAYS, key: trap})
    if key == "metadata":
        SpeakerPrompt.load(file)
    else:
        with pytest.raises(BarkFileError, match=rf"a\.npz: {key}\.npy .*pickled objects are never opened"):
            SpeakerPrompt.load(file)
    assert not mark.exists()
    with np.load(file, allow_pickle=True) as opened:
        _ = opened[key]
    assert mark.exists()  # the trap was a real one


def without(key: str) -> dict[str, np.ndarray]:
    return {name: value for name, value in ARRAYS.items() if name != key}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "semantic only": ({KEYS[0]: ARRAYS[KEYS[0]]}, "lacks coarse_prompt, fine_prompt"),
    "no fine": (without(KEYS[2]), "lacks fine_prompt. It holds semantic_prompt, coarse_prompt"),
    "fine None": ({**ARRAYS, KEYS[2]: None}, "fine_prompt.npy cannot be used"),
    "nothing": ({}, "It holds nothing"),
    "wrong ratio": ({**ARRAYS, KEYS[1]: ARRAYS[KEYS[1]][:, :60]}, "60 frames for 50 tokens"),
    "short fine": ({**ARRAYS, KEYS[2]: ARRAYS[KEYS[2]][:, :3]}, "1.50 fine frames .* 3 frames for 50 tokens"),
    "semantic rank": ({**ARRAYS, KEYS[0]: ARRAYS[KEYS[0]][None]}, r"shape \[T\].*\[1, 50\]"),
    "coarse rank": ({**ARRAYS, KEYS[1]: ARRAYS[KEYS[1]][0]}, r"shape \[2, F\]"),
    "eight coarse rows": ({**ARRAYS, KEYS[1]: ARRAYS[KEYS[2]]}, r"shape \[2, F\].*\[8, 75\]"),
    "fine transposed": ({**ARRAYS, KEYS[2]: ARRAYS[KEYS[2]].T}, r"shape \[8, F\].*\[75, 8\]"),
    "zero length": ({**ARRAYS, KEYS[0]: np.zeros(0, np.int64)}, r"T ≥ 1.*\[0\]"),
    "zero frames": ({**ARRAYS, KEYS[1]: np.zeros((2, 0), np.int64)}, r"F ≥ 1"),
    "semantic too large": ({**ARRAYS, KEYS[0]: ARRAYS[KEYS[0]] * 0 + 10_000}, r"0 … 9,999.*10,000"),
    "negative": ({**ARRAYS, KEYS[1]: ARRAYS[KEYS[1]] * 0 - 1}, r"0 … 1,023.*-1"),
    "fine padding": ({**ARRAYS, KEYS[2]: ARRAYS[KEYS[2]] * 0 + 1_024}, r"0 … 1,023.*1,024"),
    "fractions": ({**ARRAYS, KEYS[0]: ARRAYS[KEYS[0]] + 0.5}, "whole numbers, not float64"),
    "not numbers": ({**ARRAYS, KEYS[0]: np.full(50, np.nan)}, "whole numbers, not float64"),
    "truth values": ({**ARRAYS, KEYS[0]: np.ones(50, bool)}, "whole numbers, not bool"),
    "letters": ({**ARRAYS, KEYS[0]: np.array(["a"] * 50)}, "whole numbers, not <U1"),
    "one token": (prompt_arrays(1) | {KEYS[1]: np.zeros((2, 2), np.int64)}, "frames"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_the_name_and_the_rule(tmp_path: Path, why: str) -> None:
    arrays, rule = REFUSED[why]
    with pytest.raises(BarkFileError, match=rf"(?s)voice\.npz.*{rule}"):
        SpeakerPrompt.load(write(tmp_path / "voice.npz", **arrays))


def with_member(path: Path, name: str, data: bytes) -> Path:
    """A good prompt in which one member holds other bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in ARRAYS.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, value)
            archive.writestr(f"{key}.npy", data if key == name else stream.getvalue())
    return path


def npy(header: str) -> bytes:
    text = header.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        npy("{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000000,), }"),
        npy("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999, 99999999999, 99999999999), }"),
        npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1, -1), }"),
        npy("{'descr': '<i8', 'fortran_order': False, 'shape': (True, 50), }"),
        npy("{'descr': '<i8', 'shape': (50,)}"),
        npy("{'descr': [('a', '<i8'), 'b'], 'fortran_order': False, 'shape': (50,)}"),
        npy("{'descr': 'nonsense', 'fortran_order': False, 'shape': (50,)}"),
        npy("{'descr': '<i8', 'fortran_order': False, 'shape': ("),
        npy("(" * 3_000),
        npy("-" * 5_000 + "1"),
        npy("{" + " " * 20_000 + "}"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        b"\x93NUMPY\x09\x00" + b"\0" * 50,
        b"\x93NUMPY\x01\x00",
        b"",
        npy("{1: 2, 'a': 3}"),
        npy("{'descr': ((), ()), 'fortran_order': False, 'shape': (50,)}"),
        npy("  {\n 1}\n}"),
        b"not an array",
    ],
    ids=lambda data: data[:90].decode("latin1").strip(),
)
def test_absurd_array_headers(tmp_path: Path, data: bytes) -> None:
    file = with_member(tmp_path / "voice.npz", KEYS[0], data)
    with pytest.raises(BarkFileError, match=r"voice\.npz"):
        SpeakerPrompt.load(file)


def test_absurd_sizes(tmp_path: Path) -> None:
    """A member of 200 MiB of zeros, packed to some kilobytes, is refused before it is unpacked."""
    file = tmp_path / "voice.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in KEYS:
            with archive.open(f"{key}.npy", "w") as member:
                for _ in range(200):
                    member.write(bytes(2**20))
    with pytest.raises(BarkFileError, match="says it holds 200 MiB"):
        SpeakerPrompt.load(file)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(200), b"PK\x03\x04" + bytes(40), b"PK\x05\x06"])
def test_other_files_with_the_right_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "voice.npz").write_bytes(data)
    with pytest.raises(BarkFileError, match=r"voice\.npz cannot be read"):
        SpeakerPrompt.load(tmp_path / "voice.npz")


def test_folders_missing_files_and_impossible_names(tmp_path: Path) -> None:
    with pytest.raises(BarkFileError, match="There is no speaker prompt file"):
        SpeakerPrompt.load(tmp_path / "absent.npz")
    with pytest.raises(BarkFileError, match="cannot be read"):
        SpeakerPrompt.load(tmp_path)
    with pytest.raises(BarkFileError, match="cannot be read"):
        SpeakerPrompt.load("a\0b.npz")


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_damaged_files_never_escape_as_other_errors(compressed: bool, place: int, value: int, cut: bool) -> None:
    """Any one byte changed, or the file cut anywhere: a usable prompt or a BarkFileError, nothing else."""
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **ARRAYS)
    data = bytearray(stream.getvalue())
    place %= len(data)
    data[place] = value
    with contextlib.suppress(BarkFileError):
        with_bytes(bytes(data[:place]) if cut else bytes(data))


def with_bytes(data: bytes) -> SpeakerPrompt:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "damaged.npz"
        file.write_bytes(data)
        return SpeakerPrompt.load(file)


def test_made_from_parts() -> None:
    speaker = as_speaker(ARRAYS)
    assert isinstance(speaker.semantic, SemanticTokens)
    assert isinstance(speaker.coarse, CoarseTokens)
    assert isinstance(speaker.fine, FineTokens)
    assert speaker.seconds == 1.0
    assert speaker == as_speaker(ARRAYS)
    assert hash(speaker) == hash(as_speaker(ARRAYS))
    assert speaker != as_speaker(prompt_arrays(50, seed=1))
    with pytest.raises(BarkInputError, match=r"needs about 1\.50 coarse frames.*60 frames for 50 tokens \(1\.20\)"):
        as_speaker({**ARRAYS, KEYS[1]: ARRAYS[KEYS[1]][:, :60]})
    with pytest.raises(BarkInputError, match="are of the family 'other'"):
        SpeakerPrompt(
            SemanticTokens(ARRAYS[KEYS[0]]),
            CoarseTokens(ARRAYS[KEYS[1]], family="other"),
            FineTokens(ARRAYS[KEYS[2]]),
        )
    with pytest.raises(BarkInputError, match=r"must be a SpeakerPrompt or None, not str.*SpeakerPrompt\.load"):
        require_speaker("en_speaker_6")
    require_speaker(speaker)
    require_speaker(None)


def test_the_number_of_frames_that_is_named_can_be_used() -> None:
    """Below ten tokens the rounding to one decimal leaves no number for some of them."""
    hopeless = []
    for count in range(1, 40):
        arrays = [np.zeros(count, int), np.zeros((2, 200), int), np.zeros((8, 200), int)]
        with pytest.raises(BarkInputError, match="200 frames for") as caught:
            SpeakerPrompt(*arrays)  # type: ignore[arg-type]
        if named := re.search(rf" {count} tokens go with (\d+) frames", str(caught.value)):
            frames = int(named[1])
            SpeakerPrompt(arrays[0], arrays[1][:, :frames], arrays[2][:, :frames])  # type: ignore[arg-type]
        else:
            assert "too short" in str(caught.value)
            assert "use 10 tokens or more" in str(caught.value)
            hopeless.append(count)
    assert hopeless == [1, 3, 5, 7, 9]


def test_the_ratio_of_a_family_waits_until_it_is_known() -> None:
    arrays = (np.zeros(10, int), np.zeros((2, 20), int), np.zeros((8, 20), int))
    speaker = SpeakerPrompt(*arrays, family="speaker_test_late")  # type: ignore[arg-type]
    spec = register_family(BarkSpec(family="speaker_test_late", semantic_rate=37.5))
    check_stretch(speaker, spec)
    assert SpeakerPrompt(*arrays, family="speaker_test_late") == speaker  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match=r"about 1\.50 coarse frames"):
        check_stretch(speaker, SUNO)


def test_one_semantic_token_is_too_short() -> None:
    """Suno's slice [-0:] would then keep the whole history; a ratio that fits needs another family."""
    register_family(BarkSpec(family="speaker_test_slow", semantic_rate=37.5))
    arrays = (np.zeros(1, int), np.zeros((2, 2), int), np.zeros((8, 2), int))
    with pytest.raises(BarkInputError, match="too short"):
        SpeakerPrompt(*arrays, family="speaker_test_slow")  # type: ignore[arg-type]


# -- saving --------------------------------------------------------------------------------------------------------


def test_saved_prompts_can_be_read_by_suno(tmp_path: Path) -> None:
    speaker = SpeakerPrompt.load(shipped_prompt("announcer"))
    file = speaker.save(tmp_path / "new folder" / "voice.npz")
    assert SpeakerPrompt.load(file) == speaker
    with np.load(file) as arrays:
        assert sorted(arrays) == sorted(KEYS)
        assert all(arrays[key].dtype == np.int64 for key in KEYS)
        same(speaker, arrays)
    theirs = load_suno().generation._load_history_prompt(str(file))
    same(speaker, theirs)
    assert [path.name for path in file.parent.iterdir()] == ["voice.npz"]


def test_saving_under_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarkInputError, match=r"'voice\.wav' ends otherwise"):
        as_speaker(ARRAYS).save(tmp_path / "voice.wav")
    assert not list(tmp_path.iterdir())
    same(SpeakerPrompt.load(as_speaker(ARRAYS).save(tmp_path / "LOUD.NPZ")), ARRAYS)


def test_saving_over_an_older_file(tmp_path: Path) -> None:
    file = as_speaker(ARRAYS).save(tmp_path / "voice.npz")
    other = as_speaker(prompt_arrays(80))
    with pytest.raises(BarkFileError, match="is there already"):
        other.save(file, overwrite=False)
    assert SpeakerPrompt.load(file) == as_speaker(ARRAYS)
    other.save(file)
    assert SpeakerPrompt.load(file) == other


@pytest.mark.parametrize("when", ["while writing", "while moving", "while making the file"])
def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Disk full or read-only: the older file is whole and nothing else is left."""
    file = as_speaker(ARRAYS).save(tmp_path / "voice.npz")
    full = OSError(errno.ENOSPC, "No space left on device")

    def fails(*_: Any, **__: Any) -> None:
        raise full

    def writes_half(stream: Any, **_: Any) -> None:
        stream.write(b"half")
        raise full

    if when == "while writing":
        monkeypatch.setattr(np, "savez", writes_half)
    elif when == "while moving":
        monkeypatch.setattr(Path, "replace", fails)
    else:
        monkeypatch.setattr("tempfile.mkstemp", fails)
    with pytest.raises(BarkFileError, match=r"speaker prompt could not be saved.*voice\.npz.*No space left"):
        as_speaker(prompt_arrays(80)).save(file)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["voice.npz"]
    assert SpeakerPrompt.load(file) == as_speaker(ARRAYS)
