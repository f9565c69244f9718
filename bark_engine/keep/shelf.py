"""Files to choose from by name: `list_names` for a list, `find_file` for the path behind one of its names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BarkFileError, BarkInputError
from ..paths import files_in, safe_child


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
    ends = tuple(suffixes)
    names: dict[str, None] = {}
    for shelf in shelves:
        inside = files_in(shelf.folder, lambda name: name.lower().endswith(ends), "the files", shelf.deep)
        names |= dict.fromkeys(map(shelf.name_of, inside))
    return list(names)


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
