"""Files to choose from by name: `list_names` for a list, `find_file` for the path behind one of its names."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BarkFileError, BarkInputError
from ..paths import safe_child

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder that is offered. `label` goes behind its names, as in "x.flac [output]"; `deep`: sub-folders, too."""

    folder: Path
    label: str = ""
    deep: bool = True

    def name_of(self, inside: str) -> str:
        """What a file of this shelf is called in the list."""
        return f"{inside} [{self.label}]" if self.label else inside


def list_names(shelves: Sequence[Shelf], suffixes: Sequence[str]) -> list[str]:
    """All names that `find_file` takes, shelf by shelf, each in alphabetical order, with "/" between folders.

    Hidden files, names that are not usable on every system and symlinks that lead out of their folder are left out.
    Nothing is opened.
    """
    return list(dict.fromkeys(shelf.name_of(inside) for shelf in shelves for inside in _inside(shelf, suffixes)))


def find_file(name: str, shelves: Sequence[Shelf], suffixes: Sequence[str]) -> Path:
    """The file of that name on the first shelf that has it.

    Raises BarkInputError for a name that can never be one, BarkFileError where there is no such file.
    """
    inside, label = _split(name, {shelf.label for shelf in shelves})
    if not inside.lower().endswith(tuple(suffixes)):
        raise BarkInputError(
            f"{name[:100]!r} cannot be chosen here; files that end in {', '.join(suffixes)} can. "
            "Pick one from the list."
        )
    places = [shelf for shelf in shelves if shelf.label == label]
    for shelf in places:
        path = safe_child(shelf.folder, inside)
        if path.is_file():
            return path
    folders = ", ".join(str(shelf.folder) for shelf in places)
    raise BarkFileError(f"There is no file {inside[:100]!r} in {folders}. Put it there, or choose another.")


def _split(name: str, labels: set[str]) -> tuple[str, str]:
    """A name of the list → the name inside the shelf, and the label."""
    for label in labels - {""}:
        if name.endswith(f" [{label}]"):
            return name.removesuffix(f" [{label}]"), label
    return name, ""


def _inside(shelf: Shelf, suffixes: Sequence[str]) -> Iterator[str]:
    names = []
    for place, folders, files in os.walk(shelf.folder, onerror=_note_unreadable):
        folders[:] = [name for name in folders if shelf.deep and not name.startswith(".")]
        inside = Path(place).relative_to(shelf.folder)
        wanted = (file for file in files if file.lower().endswith(tuple(suffixes)) and not file.startswith("."))
        names += [(inside / file).as_posix() for file in wanted]
    return (name for name in sorted(names, key=lambda name: (name.casefold(), name)) if _is_usable(shelf.folder, name))


def _is_usable(folder: Path, name: str) -> bool:
    try:
        path = safe_child(folder, name)
    except BarkInputError:
        return False
    return path == folder / name and path.is_file()


def _note_unreadable(error: OSError) -> None:
    """Say in the log which folder is not listed; one that does not exist is simply empty."""
    if not isinstance(error, FileNotFoundError):
        log.warning("the files in %s are not listed: %s", error.filename, error.strerror)
