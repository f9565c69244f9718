"""Voices on disk, in caches and on a hub, for the tests of the speaker library; and a machine with none of its own."""

import io
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from bark_engine import SpeakerPrompt
from bark_engine.library import speakers as speaker_library
from bark_engine.speaker import KEYS

VOICE = "v2/en_speaker_6"
PINNED = {
    "suno/bark": "70a8a7d34168586dc5d028fa9666aceade177992",
    "suno/bark-small": "1dbd7a128513b8ae4a4e2130fed57b7ac9da5bcd",
}


def voice_arrays(seed: int = 0, semantic: int = 40) -> dict[str, np.ndarray]:
    """The three arrays of a voice as Suno's files have them."""
    random = np.random.default_rng(seed)
    fine = random.integers(0, 1024, (8, int(semantic * 75 / 49.9)), dtype=np.int32)
    ids = random.integers(0, 10_000, semantic, dtype=np.int64)
    return dict(zip(KEYS, (ids, np.asfortranarray(fine[:2].astype(np.int64)), fine), strict=True))


def put_voice(folder: Path, name: str, seed: int = 0) -> Path:
    """A voice as a file in a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **voice_arrays(seed))  # type: ignore[arg-type]
    return path


def npy_bytes(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def voice_npy_files(name: str, seed: int = 0) -> dict[str, bytes]:
    """A voice as the hub has it, by path in the repository."""
    return {f"speaker_embeddings/{name}_{key}.npy": npy_bytes(array) for key, array in voice_arrays(seed).items()}


def fill_cache(repo: str, revision: str, files: dict[str, bytes], main: bool) -> None:
    """Files in the Hugging Face cache, as a download by another program leaves them."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    for path, content in files.items():
        target = place / "snapshots" / revision / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if main:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(revision)


def assert_is_voice(speaker: SpeakerPrompt, arrays: dict[str, np.ndarray]) -> None:
    for key, tokens in zip(KEYS, (speaker.semantic, speaker.coarse, speaker.fine), strict=True):
        np.testing.assert_array_equal(np.asarray(tokens), arrays[key])


def everything_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def link_or_skip(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system lets only administrators make symlinks")


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No voice is on this machine but those that a test puts there."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(speaker_library.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "speakers").mkdir()
    return tmp_path / "speakers"
