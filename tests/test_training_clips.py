"""The data folder: what is read, who may be whose history, and what is refused with which words."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bark_engine import SpeakerPrompt
from bark_engine.errors import BarkFileError
from bark_engine.training.batches import ExampleSource
from bark_engine.training.clips import ClipFolder
from support.clips import SMALL, TOY, VOCABULARY, make_clip, write_clips


def folder_of(path: Path, **speakers: list[int]) -> Path:
    rng = np.random.default_rng(0)
    clips = [
        make_clip(TOY, length, rng, f"{name}{number}", "" if name == "nobody" else name)
        for name, lengths in speakers.items()
        for number, length in enumerate(lengths)
    ]
    return write_clips(path, clips, TOY.family)


def rewrite(data: Path, name: str, **arrays: np.ndarray) -> None:
    with np.load(data / "tokens" / f"{name}.npz") as file:
        np.savez(data / "tokens" / f"{name}.npz", **{**file, **arrays})


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_clips_are_read_as_they_were_written_and_are_speaker_prompts(tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10, 20], nobody=[15])
    for stage, used in (("semantic", ["semantic"]), ("coarse", ["semantic", "coarse"]), ("fine", ["fine"])):
        folder = ClipFolder.open(data, TOY, stage)
        assert [clip.name for clip in folder.clips] == ["ann0", "ann1", "nobody0"]
        for clip in folder.clips:
            prompt = SpeakerPrompt.load(data / "tokens" / f"{clip.name}.npz")
            for part in ("semantic", "coarse", "fine"):
                wanted = np.asarray(getattr(prompt, part)) if part in used else np.zeros(0)
                assert np.array_equal(getattr(clip, part), wanted)
                assert getattr(clip, part).dtype == np.int16


def test_history_is_another_clip_of_the_same_speaker_and_split(tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [("a", "ann", "train"), ("b", "ann", "train"), ("c", "ann", "train"), ("d", "ann", "validation")]
    names += [("e", "ann", "validation"), ("f", "bob", "train"), ("g", "", "train"), ("h", "", "train")]
    clips = [make_clip(TOY, 10, rng, *name) for name in names]
    folder = ClipFolder.open(write_clips(tmp_path / "data", clips, TOY.family), TOY, "semantic")
    drawn: dict[str, list[str]] = {}
    for number, clip in enumerate(folder.clips):
        histories = [folder.history_for(number, 0.5, rng) for _ in range(400)]
        drawn[clip.name] = [history.name for history in histories if history is not None]
    assert {name: set(others) for name, others in drawn.items()} == {
        "a": {"b", "c"},
        "b": {"a", "c"},
        "c": {"a", "b"},
        "d": {"e"},
        "e": {"d"},
        "f": set(),  # has no other clip
        "g": set(),  # the voice without a prompt
        "h": set(),
    }
    assert len(drawn["a"]) == pytest.approx(200, abs=40)
    assert drawn["a"].count("b") == pytest.approx(100, abs=40)
    assert folder.history_for(0, 0.0, rng) is None


def test_clips_without_codes_serve_the_semantic_stage_alone(tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10, 20, 30])
    with np.load(data / "tokens" / "ann1.npz") as file:
        np.savez(data / "tokens" / "ann1.npz", semantic_prompt=file["semantic_prompt"], family=file["family"])
    assert [ClipFolder.open(data, TOY, stage).skipped for stage in ("semantic", "coarse", "fine")] == [0, 1, 1]
    assert [clip.name for clip in ClipFolder.open(data, TOY, "fine").clips] == ["ann0", "ann2"]


def test_validation_examples_are_always_the_same(tmp_path: Path):
    rng = np.random.default_rng(0)
    clips = [make_clip(SMALL, 12, rng, f"c{n}", "ann", "validation" if n < 6 else "train") for n in range(9)]
    data = write_clips(tmp_path / "data", clips, SMALL.family)
    for stage in ("semantic", "coarse", "fine"):
        folder = ClipFolder.open(data, SMALL, stage)
        one, other = (ExampleSource(folder, SMALL, 0.5, VOCABULARY).validation(4) for _ in range(2))
        assert len(one) == 4
        for ours, theirs in zip(one, other, strict=True):
            assert np.array_equal(ours.targets, theirs.targets)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not valid JSON"),
        ('["a"]', "line 2 must be a JSON object"),
        ('{"name": "x", "text": "", "speaker": ""}', "name, text, speaker, split"),
        ('{"name": "x", "text": "", "speaker": "", "split": "test"}', "one of train, validation, not 'test'"),
        ('{"name": "", "text": "", "speaker": "", "split": "train"}', "the name is empty"),
        ('{"name": "ann0", "text": "", "speaker": "", "split": "train"}', "'ann0' is there twice"),
        ('{"name": "x", "text": "", "speaker": "", "split": "train"}', "there is no .*x.npz"),
        ('{"name": "../x", "text": "", "speaker": "", "split": "train"}', "leads upwards"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(line: str, words: str, tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10])
    with (data / "clips.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BarkFileError, match=words) as error:
        ClipFolder.open(data, TOY, "semantic")
    assert "line 2" in str(error.value)


@pytest.mark.parametrize(
    ("stage", "arrays", "words"),
    [
        ("semantic", {"family": np.array("suno")}, "of the family 'suno', but 'toy' is trained"),
        ("semantic", {"semantic_prompt": np.array([1, 40])}, "must lie in 0 … 39; it runs from 1 to 40"),
        ("semantic", {"semantic_prompt": np.array([-1, 4])}, "runs from -1 to 4"),
        ("semantic", {"semantic_prompt": np.zeros((2, 2), int)}, r"must have shape \[T\]"),
        ("semantic", {"semantic_prompt": np.array([0.5])}, "whole numbers, not float64"),
        ("semantic", {"semantic_prompt": np.zeros(49, int)}, "49 semantic tokens; the model says 48 at most"),
        ("coarse", {"coarse_prompt": np.zeros((3, 15), int)}, r"must have shape \[2, F\]"),
        ("coarse", {"coarse_prompt": np.zeros((2, 20), int)}, "20 coarse frames for 10 semantic tokens; 15 go with"),
        ("fine", {"fine_prompt": np.zeros((8, 0), int)}, "not empty"),
        ("fine", {"fine_prompt": np.full((8, 9), 24)}, "0 … 23"),
        ("fine", {"fine_prompt": np.array([{}])}, "cannot be read as .npz tokens"),
    ],
)
def test_bad_tokens_are_refused_by_file(stage: str, arrays: dict, words: str, tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10])
    rewrite(data, "ann0", **arrays)
    with pytest.raises(BarkFileError, match=words) as error:
        ClipFolder.open(data, TOY, stage)
    assert "ann0.npz" in str(error.value)


def test_a_header_that_promises_more_than_memory_holds_is_refused(tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10])
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (2**50,)})
    with zipfile.ZipFile(data / "tokens" / "ann0.npz", "w") as archive:
        archive.writestr("semantic_prompt.npy", header.getvalue() + bytes(80))
        archive.writestr("family.npy", npy(np.array("toy")))
    with pytest.raises(BarkFileError, match=r"ann0.npz cannot be read as .npz tokens.*header promises"):
        ClipFolder.open(data, TOY, "semantic")


def test_packed_bytes_that_are_damaged_are_refused(tmp_path: Path):
    data = folder_of(tmp_path / "data", ann=[10])
    path = data / "tokens" / "ann0.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("family.npy", npy(np.array("toy")))
        place = archive.fp.tell()  # type: ignore[union-attr]
        archive.writestr("semantic_prompt.npy", npy(np.arange(10)))
    content = bytearray(path.read_bytes())
    first = place + 30 + len("semantic_prompt.npy")
    content[first : first + 4] = b"\xff" * 4
    path.write_bytes(content)
    with pytest.raises(BarkFileError, match=r"ann0.npz cannot be read as .npz tokens"):
        ClipFolder.open(data, TOY, "semantic")


def test_what_is_missing_or_damaged_is_said(tmp_path: Path):
    with pytest.raises(BarkFileError, match=r"no .*clips.jsonl. A data folder holds"):
        ClipFolder.open(tmp_path, TOY, "fine")
    data = folder_of(tmp_path / "data", ann=[10])
    (data / "tokens" / "ann0.npz").write_bytes(b"PK no zip")
    with pytest.raises(BarkFileError, match=r"ann0.npz cannot be read"):
        ClipFolder.open(data, TOY, "fine")
    np.savez(data / "tokens" / "ann0.npz", family=np.array("toy"))
    with pytest.raises(BarkFileError, match="None of the 1 clips"):
        ClipFolder.open(data, TOY, "fine")
    (data / "clips.jsonl").write_text(json.dumps([]) + "\n")
    with pytest.raises(BarkFileError, match="must be a JSON object"):
        ClipFolder.open(data, TOY, "fine")
    (data / "clips.jsonl").write_text("\n")
    with pytest.raises(BarkFileError, match="lists no clips"):
        ClipFolder.open(data, TOY, "fine")


def test_the_end_of_a_clip_is_cut_from_all_its_tokens_alike():
    clip = make_clip(TOY, 30, np.random.default_rng(0))
    end = clip.end(0.2, TOY)
    assert [len(end.semantic), end.coarse.shape[1], end.fine.shape[1]] == [10, 15, 15]
    for part in ("semantic", "coarse", "fine"):
        whole, cut = getattr(clip, part), getattr(end, part)
        assert np.array_equal(whole[..., -cut.shape[-1] :], cut)
    assert len(clip.end(99, TOY).semantic) == len(clip.semantic)
    assert len(clip.end(0.001, TOY).semantic) == 2, "a speaker prompt of one token cannot be used"


def test_a_history_is_as_long_as_was_asked(tmp_path: Path):
    folder = ClipFolder.open(folder_of(tmp_path / "data", ann=[30, 40, 45]), TOY, "semantic")
    source = ExampleSource(folder, TOY, 1.0, VOCABULARY, history_seconds=0.2)
    for number in range(3):
        example = source.draw(number, np.random.default_rng(number))
        past = example.history[example.history != TOY.end_token]
        assert len(past) == 10
        assert any(np.array_equal(past, clip.semantic[-10:]) for clip in folder.clips if clip != folder.clips[number])
