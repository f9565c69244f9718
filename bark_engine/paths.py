"""Names that a person (or a workflow from a stranger) gives for files: resolved inside one folder, or refused.

Every name that reaches the disk from a node goes through `safe_child`. Paths that a script or a command line gives
are its own business and do not.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import BarkInputError

log = logging.getLogger(__name__)

MAX_COMPONENT = 255  # bytes in one file name: the limit of ext4, APFS and NTFS (there, UTF-16 units)

# Device names of Windows, which open a device in every folder and with every extension; source: Microsoft,
# "Naming Files, Paths, and Namespaces". The superscript digits count as digits there.
_RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE | re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # NTFS; a colon is also a drive ("C:x") and an alternate stream ("x:y")


def safe_child(root: Path, name: str) -> Path:
    """The path of `name` inside `root`, whether it exists or not; symlinks are followed and must stay inside.

    `name` may have sub-folders, written with `/` or `\\` (a workflow saved on Windows has backslashes), and must be
    usable on every system. Raises BarkInputError for anything else: empty, absolute, `..`, control characters,
    reserved Windows names, trailing dots or spaces, a component over 255 bytes, a symlink that leads out of `root`.
    The result is `root` joined with the name, so messages show the path as the person knows it.
    """
    if not isinstance(name, str):
        raise BarkInputError(f"A file name must be text, not {type(name).__name__}.")
    parts = name.replace("\\", "/").split("/")
    if fault := _fault(name, parts):
        raise BarkInputError(
            f"The name {_shown(name)} {fault}. Give a plain name inside {root}, with '/' between folders."
        )
    path = Path(root, *parts)
    if not _stays_inside(root, path):
        raise BarkInputError(
            f"The name {_shown(name)} leads out of {root} through a symlink, which is not followed, because names come "
            "with workflows. Make the folder it points to known to ComfyUI (extra_model_paths.yaml, "
            "--output-directory), or copy the file."
        )
    return path


def visible_child(root: Path, name: str, what: str) -> Path:
    """As `safe_child`, for `what` is about to be written there: a name that would hide it is refused, too."""
    path = safe_child(root, name)
    if any(part.startswith(".") for part in path.relative_to(root).parts):
        raise BarkInputError(f"The name {name!r} starts with a dot, so {what} would be hidden. Leave the dot out.")
    return path


def files_in(folder: Path, wanted: Callable[[str], bool], what: str, deep: bool = True) -> Iterator[str]:
    """Names of the files in a folder whose own name is `wanted`, sorted, with "/" between sub-folders (`deep`).

    Hidden files and folders, names that `safe_child` refuses, and symlinks that lead elsewhere are left out; so is what
    cannot be read, which the log says of `what`. Nothing is opened, and a folder that does not exist is empty.
    """

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            log.warning("%s in %s are not listed: %s", what, error.filename, error.strerror)

    names: list[str] = []
    for place, folders, files in os.walk(folder, onerror=note):
        if not _stays_inside(folder, Path(place)):  # a junction of Windows, which Python follows until 3.12
            folders.clear()
            continue
        folders[:] = [name for name in folders if deep and not name.startswith(".")]
        inside = Path(place).relative_to(folder).as_posix()
        before = "" if inside == "." else f"{inside}/"
        names += [before + file for file in files if wanted(file) and not file.startswith(".")]
    return (name for name in sorted(names, key=lambda name: (name.casefold(), name)) if _is_usable(folder, name))


def _is_usable(folder: Path, name: str) -> bool:
    """Whether `safe_child` leads to this very file, found without following links to folders, by this name."""
    if "\\" in name or _fault(name, name.split("/")):
        return False
    path = Path(folder, name)
    # Only a link can lead out, and to ask where a path really is takes twenty times as long as all else here.
    return path.is_file() and (not path.is_symlink() or _stays_inside(folder, path))


def _stays_inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(Path(root).resolve())
    except (OSError, RuntimeError):  # a loop of symlinks: RuntimeError until Python 3.12, OSError on some systems
        return False


def _fault(name: str, parts: list[str]) -> str | None:
    """What is wrong with a name and its components, as the end of a sentence."""
    return _fault_of_name(name) or next((fault for part in parts if (fault := _fault_of_part(part))), None)


def _fault_of_name(name: str) -> str | None:
    """What is wrong with the name as a whole, as the end of a sentence."""
    if not name.strip():
        return "is empty"
    if _CONTROL.search(name):
        return "has a control character in it"
    if _SURROGATE.search(name):
        return "has half of a character in it (a lone surrogate)"
    if name[0] in "/\\" or name[1:2] == ":":
        return "is an absolute path"
    return None


def _fault_of_part(part: str) -> str | None:
    """What is wrong with one component, as the end of a sentence."""
    if not part:
        return "has an empty folder name in it"
    if part == "..":
        return "leads upwards with '..'"
    if part[-1] in ". " or part[0] == " ":
        return "has a part that ends in a dot or a space, or starts with a space"
    if len(part.encode("utf-8")) > MAX_COMPONENT:
        return f"has a part of more than {MAX_COMPONENT} bytes"
    if _FORBIDDEN.search(part):
        return 'has one of the characters < > : " | ? * in it'
    if _RESERVED.fullmatch(part):
        return f"has the part {part!r}, which is a device on Windows"
    return None


def _shown(name: str) -> str:
    """The name, quoted and short enough for a message."""
    return repr(name) if len(name) <= 80 else f"{name[:77]!r}…"
