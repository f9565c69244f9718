"""`safe_child`: what a stranger's workflow may name, and what it may not; `files_in` lists just that."""

import contextlib
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bark_engine import paths
from bark_engine.errors import BarkInputError
from bark_engine.paths import MAX_COMPONENT, files_in, safe_child


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("voice.npz", ("voice.npz",)),
        ("mine/voice.npz", ("mine", "voice.npz")),
        ("mine\\deep\\voice.npz", ("mine", "deep", "voice.npz")),
        ("en_speaker_6", ("en_speaker_6",)),
        ("Grüße ♪ 语音.npz", ("Grüße ♪ 语音.npz",)),
        (".hidden", (".hidden",)),
        ("console.npz", ("console.npz",)),  # only starts like a device
        ("COM10.npz", ("COM10.npz",)),
        ("a..b", ("a..b",)),
        ("x" * MAX_COMPONENT, ("x" * MAX_COMPONENT,)),
    ],
)
def test_plain_names_are_joined_with_the_root(tmp_path: Path, name: str, parts: tuple[str, ...]) -> None:
    assert safe_child(tmp_path, name) == tmp_path.joinpath(*parts)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("..", "upwards"),
        ("../x", "upwards"),
        ("a/../x", "upwards"),
        ("a\\..\\..\\x", "upwards"),
        (".", "dot"),
        ("./x", "dot"),
        ("... /x", "dot"),
        ("/etc/passwd", "absolute"),
        ("\\x", "absolute"),
        ("\\\\server\\share\\x", "absolute"),
        ("\\\\?\\C:\\x", "absolute"),
        ("C:\\x", "absolute"),
        ("c:x", "absolute"),
        ("a//b", "empty folder"),
        ("a/", "empty folder"),
        ("x\0.npz", "control"),
        ("x\n", "control"),
        ("x\x7f", "control"),
        ("x\x9f", "control"),
        ("x\ud800", "surrogate"),
        ("voice.npz:stream", "characters"),
        ("what?.npz", "characters"),
        ("x ", "space"),
        ("x.", "dot"),
        ("a /b", "space"),
        ("CON", "device"),
        ("nul.npz", "device"),
        ("a/Aux.tar.gz", "device"),
        ("com1", "device"),
        ("LPT9.txt", "device"),
        ("COM¹.txt", "device"),
        ("CON .txt", "device"),
        ("conin$", "device"),
        ("x" * (MAX_COMPONENT + 1), "bytes"),
        ("語" * 86, "bytes"),  # 258 bytes in UTF-8
    ],
)
def test_everything_else_is_refused_with_a_sentence(tmp_path: Path, name: str, fault: str) -> None:
    with pytest.raises(BarkInputError, match=fault) as caught:
        safe_child(tmp_path, name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BarkInputError, match="must be text, not bytes"):
        safe_child(tmp_path, b"x")  # type: ignore[arg-type]


def _link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("this system lets only administrators make symlinks")


def test_a_symlink_out_of_the_root_is_refused_also_through_a_folder(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root_of_another"  # a prefix of the name, not of the path
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    _link(root / "file", outside / "secret")
    _link(root / "folder", outside)
    _link(root / "dangling", outside / "not there")
    for name in ("file", "folder/secret", "folder\\secret", "folder/new", "dangling"):
        with pytest.raises(BarkInputError, match="symlink"):
            safe_child(root, name)


def test_a_symlink_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    _link(tmp_path / "alias", tmp_path / "real")
    assert safe_child(tmp_path, "alias/x") == tmp_path / "alias" / "x"


def test_the_root_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    _link(tmp_path / "models", tmp_path / "disk")
    assert safe_child(tmp_path / "models", "x") == tmp_path / "models" / "x"


def test_a_loop_of_symlinks_is_refused_or_leads_nowhere(tmp_path: Path) -> None:
    _link(tmp_path / "a", tmp_path / "b")
    _link(tmp_path / "b", tmp_path / "a")
    with contextlib.suppress(BarkInputError):  # Python 3.13 resolves a loop to itself instead of raising
        assert not safe_child(tmp_path, "a/x").exists()


def _everything(folder: Path) -> list[str]:
    return list(files_in(folder, lambda name: True, "files"))


def test_what_is_listed_is_what_may_be_named(tmp_path: Path) -> None:
    """The listing asks less of the disk for each file than `safe_child`; what it offers must be the same."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "deep" / ".hidden").mkdir(parents=True)
    outside.mkdir()
    for path in ("b", "A", "deep/c", ".no", "deep/.no", "deep/.hidden/no", "CON.txt", "ends in a dot.", "back\\slash"):
        (root / path).write_text("x")
    (outside / "secret").write_text("x")
    links = {"out": outside / "secret", "folder": outside, "dangling": root / "no", "loop": root / "loop"}
    for link, target in {**links, "inside": root / "deep" / "c"}.items():
        _link(root / link, target)
    assert _everything(root) == ["A", "b", "deep/c", "inside"]
    for name in _everything(root):
        assert safe_child(root, name).is_file()


def test_a_folder_that_is_elsewhere_is_not_listed_where_python_walks_into_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does into junctions of Windows until Python 3.12."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    (outside / "deep").mkdir(parents=True)
    for folder in (root, outside, outside / "deep"):
        (folder / "file").write_text("x")
    _link(root / "junction", outside)
    walk = os.walk
    monkeypatch.setattr(paths.os, "walk", lambda top, **given: walk(top, followlinks=True, **given))
    assert _everything(root) == ["file"]


@given(st.text(alphabet=string.printable + "./\\:é語\0", max_size=40))
def test_whatever_the_name_the_path_is_inside_or_refused(name: str) -> None:
    root = Path(os.sep) / "srv" / "models"
    try:
        path = safe_child(root, name)
    except BarkInputError:
        return
    relative = Path(os.path.normpath(path)).relative_to(root)
    assert relative.parts
    assert ".." not in relative.parts
