"""Where model files may lie on this machine, and what is in each place; the choice among them is `model_sets.py`.

A place is one folder. Looking into it reads file headers only, once per state of the folder. Nothing here writes,
and nothing reaches the network.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import random_models
from ..checkpoint import StageFile, describe, describe_folder
from ..errors import BarkFileError
from ..text import BUNDLED_VOCABULARY
from ..transformer import NetworkShape

log = logging.getLogger(__name__)

MODEL_REPOS = ("suno/bark", "suno/bark-small", "GitMylo/bark-safetensors")
CODEC_REPO = "facebook/encodec_24khz"
CODEC_FILE = "encodec_24khz-d7cc33bc.th"  # as the encodec package downloads it, into the folder of torch.hub
BERT_REPOS = ("google-bert/bert-base-multilingual-cased", "bert-base-multilingual-cased")
_WIDTHS = {(24, 1024): "large", (12, 768): "small"}  # (layers, width) → size, in all three stages of Suno's
_RANDOM_SOURCES = ("random_models.py", "spec.py", "transformer.py", "codec.py", "text.py")

Shelf = tuple[tuple[StageFile, ...], tuple[str, ...]]
"""What a folder holds: its usable stages, and a sentence for each file that cannot be used."""

_shelves: dict[Path, tuple[object, Shelf]] = {}
_shelves_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that may hold model files, and what it is to a person."""

    folder: Path
    words: str


# -- folders of this engine --------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME`, or `~/.cache`: the rule of Suno's own code, followed on every system."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def downloads_folder() -> Path:
    """Where a script or the command line keeps downloaded models; always searched. It need not exist."""
    return cache_folder() / "bark_engine" / "models"


def nano_folder() -> Path:
    """Where the pack's own small models are; they come with the code."""
    return Path(__file__).parent.parent / "assets" / "nano"


def random_models_folder() -> Path:
    """Where the models with random weights are made; the name changes with the code that makes them."""
    digest = hashlib.sha256()
    for path in (BUNDLED_VOCABULARY, *(Path(random_models.__file__).with_name(name) for name in _RANDOM_SOURCES)):
        digest.update(path.read_bytes())
    return cache_folder() / "bark_engine" / f"random-{digest.hexdigest()[:12]}"


# -- places ------------------------------------------------------------------------------------------------------


def searched(folders: Sequence[Path]) -> str:
    """All roots of the search in words, those that do not exist included."""
    from huggingface_hub import constants

    own = [*folders, downloads_folder(), cache_folder() / "suno" / "bark_v0"]
    return f"{', '.join(map(str, own))} and the Hugging Face cache {constants.HF_HUB_CACHE}"


def model_places(folders: Sequence[Path]) -> list[Place]:
    """Every folder that is searched for models, best first: see `find_model_set`. Missing ones are left out."""
    places = [
        Place(sub, f"the folder {sub}") for folder in (*folders, downloads_folder()) for sub in _with_subs(folder)
    ]
    suno = cache_folder() / "suno" / "bark_v0"
    places += [Place(suno, f"Suno's own cache ({suno})")] if suno.is_dir() else []
    places += [place for repo in MODEL_REPOS for place in hub_places(repo)]
    first: dict[Path, Place] = {}
    for place in places:
        first.setdefault(place.folder, place)
    return list(first.values())


def hub_places(repo: str) -> list[Place]:
    """The snapshots of a repository in the Hugging Face cache ($HF_HUB_CACHE, $HF_HOME), the newest first."""
    from huggingface_hub import constants

    base = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "snapshots"
    try:
        snapshots = [path for path in base.iterdir() if path.is_dir()]
        snapshots.sort(key=lambda path: (-path.stat().st_mtime_ns, path.name))
    except OSError:  # nothing of this repository, or a cache that may not be read
        return []
    return [Place(path, f"the Hugging Face cache of {repo} ({path})") for path in snapshots]


def codec_files() -> Iterator[tuple[StageFile, Place]]:
    """EnCodec by itself: in the Hugging Face cache, then where the encodec package puts it."""
    for place in hub_places(CODEC_REPO):
        for file in shelf(place.folder)[0]:
            if file.stage == "codec":
                yield file, place
    path = Path(torch.hub.get_dir()) / "checkpoints" / CODEC_FILE
    if path.is_file():
        for file in _described(path, [])[:1]:
            yield file, Place(path.parent, f"the cache of torch.hub ({path.parent})")


def _with_subs(folder: Path) -> Iterator[Path]:
    """The folder and the folders in it, without hidden ones, by name."""
    folder = Path(folder)
    if folder.is_dir():
        yield folder
        try:
            yield from sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError as error:
            log.warning("the folder %s cannot be listed: %s", folder, error)


# -- what is in a place ------------------------------------------------------------------------------------------


def shelf(folder: Path) -> Shelf:
    """The stages in the files of one folder, and what is wrong with the others; never raises.

    Remembered until a file of the folder changes in name, size or time; a file that cannot be used is logged once.
    """
    try:
        with os.scandir(folder) as entries:
            files = sorted((entry.name, entry.stat().st_mtime_ns, entry.stat().st_size) for entry in entries)
    except OSError as error:
        return (), (f"The folder {folder} cannot be read ({error.strerror or error}).",)
    with _shelves_lock:
        known = _shelves.get(folder)
    if known and known[0] == files:
        return known[1]
    found = _look_into(folder)
    with _shelves_lock:
        _shelves[folder] = (files, found)
    return found


def _look_into(folder: Path) -> Shelf:
    """`describe_folder`, and file by file where one of them cannot be used, so that it does not hide the others."""
    try:
        return describe_folder(folder), ()
    except (BarkFileError, OSError):
        faults: list[str] = []
        stages = [
            stage
            for path in sorted(folder.iterdir())
            if path.suffix in (".pt", ".pth", ".th", ".bin", ".ckpt", ".safetensors") and path.is_file()
            for stage in _described(path, faults)
        ]
        return tuple(stages), tuple(faults)


def _described(path: Path, faults: list[str]) -> tuple[StageFile, ...]:
    """`describe`, with a refusal added to `faults` and to the log."""
    try:
        return describe(path)
    except (BarkFileError, OSError) as error:
        fault = str(error) if isinstance(error, BarkFileError) else f"{path} cannot be read ({error.strerror})."
        log.warning("a model file is passed over: %s", fault)
        faults.append(fault)
        return ()


def size_of(file: StageFile) -> str | None:
    """The size, "large" or "small" for a network of one of Suno's sizes, by its weights; None for others and codecs."""
    shape = file.shape
    return _WIDTHS.get((shape.n_layer, shape.n_embd)) if isinstance(shape, NetworkShape) else None


def preferred(files: Sequence[StageFile]) -> tuple[StageFile, ...]:
    """Stages of a folder, best first where it has one twice: larger, usual name, full precision, no pickle, by name."""

    def rank(file: StageFile) -> tuple[object, ...]:
        usual = file.path.stem in {file.stage, f"{file.stage}_2", "model", "pytorch_model"}
        return -file.parameters, not usual, -file.dtype.itemsize, file.path.suffix != ".safetensors", file.path.name

    return tuple(sorted(files, key=rank))
