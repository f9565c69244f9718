"""Where model files may lie on this machine, and what is in each place; the choice among them is `model_sets.py`.

A place is one folder. Looking into it reads file headers only, once per state of the folder. Nothing here writes,
and nothing reaches the network.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
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
SPEAKERS_FOLDER, TOKENS_FOLDER = "speakers", "tokens"  # inside a model folder, but no models
_WEIGHTS = (".pt", ".pth", ".th", ".bin", ".ckpt", ".safetensors")
_WIDTHS = {(24, 1024): "large", (12, 768): "small"}  # (layers, width) → size, in all three stages of Suno's
_PUBLISHED = ("suno", "suno_bark", "bark_v0", *(repo.rpartition("/")[2] for repo in MODEL_REPOS))
_PACK = Path(__file__).parent.parent.parent  # the pack's folder, where the engine was not installed by itself
_RANDOM_SOURCES = ("random_models.py", "spec.py", "transformer.py", "codec.py", "text.py")

Shelf = tuple[tuple[StageFile, ...], tuple[str, ...]]
"""What a folder holds: its usable stages, and a sentence for each file that cannot be used."""

_shelves: dict[Path, tuple[object, Shelf]] = {}
_shelves_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that may hold model files, and what it is to a person.

    `own_name` is that of a sub-folder of a searched folder, where people keep what they trained beside Suno's models.
    """

    folder: Path
    words: str
    own_name: str | None = field(default=None, compare=False)

    def may_be_sunos(self, size: str) -> bool:
        """Whether nothing in the name of the folder says that a network of that size in it is somebody's own."""
        return self.own_name is None or self.own_name.casefold() in (size, *_PUBLISHED)


# -- folders of this engine --------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME`, or `~/.cache`: the rule of Suno's own code, followed on every system."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def downloads_folder() -> Path:
    """Where a script or the command line keeps downloaded models; always searched. It need not exist."""
    return cache_folder() / "bark_engine" / "models"


def own_roots() -> list[Path]:
    """The folders that are searched whoever asks: `downloads_folder()`, and models/bark of the ComfyUI around the pack.

    The nodes give that of their ComfyUI anyway; scripts and the command line would not find what it has without.
    """
    hosts = [_PACK.parent.parent / "models" / "bark"] if _PACK.parent.name == "custom_nodes" else []
    return [downloads_folder(), *hosts]


def search_roots(folders: Sequence[Path]) -> list[Path]:
    """The folders in which models have names of their own, best first: those given, then `own_roots()`, each once."""
    given = [Path(folder) for folder in folders]
    known = {os.path.realpath(folder) for folder in given}
    return [*given, *(root for root in own_roots() if os.path.realpath(root) not in known)]


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

    own = [*search_roots(folders), cache_folder() / "suno" / "bark_v0"]
    return f"{', '.join(map(str, own))} and the Hugging Face cache {constants.HF_HUB_CACHE}"


def model_places(folders: Sequence[Path]) -> list[Place]:
    """Every folder that is searched for models, best first: see `find_model_set`. Missing ones are left out."""
    roots = search_roots(folders)
    places = [
        Place(sub, f"the folder {sub}", None if sub in roots else sub.name)
        for folder in roots
        for sub in _with_subs(folder)
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
        snapshots = [path for path in base.iterdir() if _is_folder(path)]
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
    """The folder and the folders in it, links included: those named after a size, then by name.

    Without hidden ones, those that hold voices and tokens, and links that lead back.
    """
    if not _is_folder(folder):
        return
    yield folder
    try:
        paths = sorted(folder.iterdir(), key=lambda path: (path.name.casefold() not in _WIDTHS.values(), path))
    except OSError as error:
        warn_once(f"the folder {folder} cannot be listed: {error}")
        return
    for path in paths:
        others = path.name.startswith(".") or path.name.casefold() in (SPEAKERS_FOLDER, TOKENS_FOLDER)
        if not others and _is_folder(path):
            if _leads_back(path, folder):
                warn_once(f"the link {path} is passed over: it leads back to a folder that it lies in.")
            else:
                yield path


def _leads_back(folder: Path, root: Path) -> bool:
    """Whether a folder in `root` is a link to `root` itself or to a folder around it."""
    return Path(os.path.realpath(root)).is_relative_to(os.path.realpath(folder))


def _is_folder(path: Path) -> bool:
    """`Path.is_dir`, and False rather than an error for a link to where nobody may look."""
    return os.path.isdir(path)  # noqa: PTH112


@cache
def warn_once(sentence: str) -> None:
    """A warning in the log that is not repeated at every search."""
    log.warning("%s", sentence)


# -- what is in a place ------------------------------------------------------------------------------------------


def shelf(folder: Path) -> Shelf:
    """The stages in the files of one folder, and what is wrong with the others; never raises.

    Remembered until a file of the folder changes in name, size or time; a file that cannot be used is logged once.
    """
    try:
        with os.scandir(folder) as entries:
            files = sorted(((entry.name, _state(entry)) for entry in entries), key=lambda file: file[0])
    except OSError as error:
        return (), (f"The folder {folder} cannot be read ({error.strerror or error}).",)
    with _shelves_lock:
        known = _shelves.get(folder)
    if known and known[0] == files:
        return known[1]
    unseen = [_passed_over(folder / name, state) for name, state in files if isinstance(state, str)]
    stages, faults = _look_into(folder)
    found = stages, (*(fault for path, fault in unseen if path.suffix in _WEIGHTS), *faults)
    with _shelves_lock:
        _shelves[folder] = (files, found)
    return found


def _state(entry: "os.DirEntry[str]") -> tuple[int, int] | str:
    """Time in ns and size of what an entry of a folder leads to, or why neither can be known."""
    try:
        stat = entry.stat()
    except OSError as error:
        lost = isinstance(error, FileNotFoundError) and entry.is_symlink()
        return "a link to nothing" if lost else error.strerror or str(error)
    return stat.st_mtime_ns, stat.st_size


def _passed_over(path: Path, reason: str) -> tuple[Path, str]:
    """A file that cannot even be looked at, and the sentence for it, which goes into the log."""
    fault = f"{path} cannot be read ({reason})."
    log.warning("a file is passed over: %s", fault)
    return path, fault


def _look_into(folder: Path) -> Shelf:
    """`describe_folder`, and file by file where one of them cannot be used, so that it does not hide the others."""
    try:
        return describe_folder(folder), ()
    except (BarkFileError, OSError):
        faults: list[str] = []
        stages = [
            stage
            for path in sorted(folder.iterdir())
            if path.suffix in _WEIGHTS and os.path.isfile(path)  # noqa: PTH113 (Path.is_file may raise)
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
