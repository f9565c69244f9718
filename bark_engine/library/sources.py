"""Which files may be meant by the name of a set of models, best first: `sources_of`, and `list_model_sets`.

A name is that of a size of Suno's, of what comes with the pack, or of a folder or file. Putting a set together from
what is found is `model_sets.py`; where files may lie, `places.py`. Nothing is written here but a tiny set with random
weights, for tests of formats.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoint import StageFile, describe
from ..checkpoint.reading import FOLDER_FILES
from ..errors import BarkFileError, BarkInputError
from ..paths import safe_child
from ..random_models import write_random_models
from ..spec import SUNO
from .download import SIZES
from .family import spec_beside
from .places import (
    Place,
    model_places,
    nano_folder,
    preferred,
    random_models_folder,
    search_roots,
    shelf,
    size_of,
    warn_once,
)

log = logging.getLogger(__name__)

NANO, RANDOM = "nano", "random"
EMBEDDED = (NANO, RANDOM)  # to be had without any file of the user's
NETWORKS = ("text", "coarse", "fine")


@dataclass(frozen=True)
class Source:
    """Stages that belong together, in the order of preference, and where they are."""

    files: tuple[StageFile, ...]
    place: Place

    def pick(self, stage: str) -> StageFile | None:
        return next((file for file in self.files if file.stage == stage), None)


@dataclass(frozen=True)
class Search:
    """Where to look, and whether a text may be a path."""

    folders: Sequence[Path]
    allow_paths: bool
    places: list[Place] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", model_places(self.folders))


def sources_of(models: str | Path, search: Search) -> Iterator[Source]:
    """Where `models` may come from, best first."""
    if models == NANO:
        yield _folder_source(nano_folder(), "the small models that come with the pack")
    elif models == RANDOM:
        yield _folder_source(_random_models(), "the models with random weights")
    elif isinstance(models, str) and models in SIZES:
        for place in sorted(search.places, key=lambda place: not place.may_be_sunos(models)):
            yield Source(preferred(_of_size(place.folder, models)), place)
    else:
        path = models if isinstance(models, Path) else _named(models, search)
        if path.is_dir():
            yield _folder_source(path, f"the folder {path}")
        else:
            yield Source(describe(path), Place(path.parent, f"the file {path}"))


def list_model_sets(folders: Sequence[Path]) -> list[str]:
    """The names that `find_model_set` would know now, for a list to choose from; "nano" and "random" are the last.

    "large" and "small" where their three networks are there, sub-folders with at least one usable stage, and single
    files with all three networks. Bad files are logged and passed over.
    """
    places = model_places([Path(folder) for folder in folders])
    names = [size for size in SIZES if _is_there(size, places)]
    for root in search_roots(folders):
        for place in places:
            if place.folder == root:
                names += [file.path.stem for file in shelf(root)[0] if _has_all(file, shelf(root)[0])]
            elif place.folder.parent == root and _is_safe(root, place.folder.name) and shelf(place.folder)[0]:
                names.append(place.folder.name)
    return [*(name for name in dict.fromkeys(names) if name not in EMBEDDED), *EMBEDDED]


def _folder_source(folder: Path, words: str) -> Source:
    return Source(preferred(shelf(folder)[0]), Place(folder, words))


def _named(name: str, search: Search) -> Path:
    """The folder or file of that name in the searched folders, or the path itself where texts may be paths."""
    if search.allow_paths and (any(sign in name for sign in "/\\~") or os.path.exists(name)):  # noqa: PTH110
        path = Path(os.path.expanduser(name))  # noqa: PTH111 (the methods of Path raise for impossible names)
        if not os.path.exists(path):  # noqa: PTH110
            raise BarkFileError(f"There is no folder or file {path}. Check the path.")
        return path
    roots = search_roots(search.folders)
    for root in roots:
        path = safe_child(root, name)
        if path.exists():
            return path
        if path.parent.is_dir():
            same = sorted(file for file in path.parent.iterdir() if file.stem == path.name and file.is_file())
            weights = [safe_child(root, str(file.relative_to(root))) for file in same if file.suffix != ".json"]
            if weights:
                return weights[0]
    raise BarkFileError(
        f"There are no models called {name!r}. Known are: {', '.join(list_model_sets(search.folders))}. "
        f"Looked for a folder or file of that name in {', '.join(map(str, roots))}."
    )


def _of_size(folder: Path, size: str) -> tuple[StageFile, ...]:
    """Suno's networks of that size in a folder, and its codecs; nothing of another family, whatever its size."""
    files = shelf(folder)[0]
    try:
        other = files and (spec_beside(folder) or SUNO).family != SUNO.family
    except BarkFileError as error:
        log.warning("the folder %s is passed over: %s", folder, error)
        other = True
    return () if other else tuple(file for file in files if file.stage == "codec" or size_of(file) == size)


def _is_there(size: str, places: Sequence[Place]) -> bool:
    """Whether `find_model_set` would find the networks of that size."""
    files = [(place.may_be_sunos(size), _of_size(place.folder, size)) for place in places]
    together = [file for likely, some in files if likely for file in some]
    return any(_has(some, NETWORKS) for some in (together, *(some for _, some in files)))


def _has(files: Sequence[StageFile], stages: Sequence[str]) -> bool:
    return set(stages) <= {file.stage for file in files}


def _has_all(file: StageFile, files: Sequence[StageFile]) -> bool:
    """Whether one file holds all networks, and has a name of its own that may be used."""
    complete = _has([other for other in files if other.path == file.path], NETWORKS)
    return complete and file.path.name not in FOLDER_FILES and _is_safe(file.path.parent, file.path.name)


def _is_safe(root: Path, name: str) -> bool:
    try:
        safe_child(root, name)
    except BarkInputError as error:
        warn_once(f"{Path(root, name)} is not offered by its name: {error}")
        return False
    return True


def _random_models() -> Path:
    """The folder of the models with random weights, which is made the first time."""
    folder = random_models_folder()
    try:
        write_random_models(folder)
    except BarkFileError as error:
        raise BarkFileError(f"{error} XDG_CACHE_HOME names the folder in which it is made.") from None
    return folder
