"""Suno's models from the Hugging Face hub, fetched only when someone asks for it (`download_models`).

Transfers go through `huggingface_hub`, so its tokens, mirrors (HF_ENDPOINT), proxies and offline switch
(HF_HUB_OFFLINE) are honoured. A file grows under a private name in `FOLDER/.download`, is checked against its known
hash, and only then gets its own name: under that it is complete or absent, never half. A transfer that was cut or
stopped goes on where it ended. Nothing here searches for models (`model_sets.py`) or reads them (`checkpoint/`).

Why not `hf_hub_download`: in huggingface_hub 0.x, which transformers 4 needs, it reports no progress and cannot be
stopped. Its inner step `http_get` takes any file object, in the same way in 0.36, 1.3 and 2.4.
"""

import contextlib
import errno
import hashlib
import inspect
import io
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import BarkDownloadError, BarkInputError
from ..progress import Stopped, guarded

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

log = logging.getLogger(__name__)

OnProgress = Callable[[int, int, str], None]
"""`on_progress(done_bytes, total_bytes, file_name)`; may raise to stop."""

SIZES = ("large", "small")
STATE_FOLDER = ".download"
KNOCK_SECONDS = 10  # for the first answer of the hub or a mirror
HASH_BLOCK = 16 * 2**20  # bytes between two looks at `on_progress` while a file is checked


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file to fetch: where it is, what it is called here, and how to know it.

    `size` is in bytes; the hub's own number may be up to 1 % larger, because for some files only the size of the
    tensors inside is known. `digest` is "md5:…" or "sha256:…" in hexadecimal.
    """

    name: str
    repo: str
    revision: str
    path: str
    size: int
    digest: str


def _original(name: str, size: int, md5: str) -> HubFile:
    """A checkpoint as Suno published it, weights and optimizer state in one pickle."""
    return HubFile(name, _SUNO, _SUNO_REVISION, name, size, f"md5:{md5}")


_SUNO = "suno/bark"
_SUNO_REVISION = "70a8a7d34168586dc5d028fa9666aceade177992"
_ENCODEC = "facebook/encodec_24khz"
_ENCODEC_REVISION = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"

# MD5 sums: the list in the history of suno-ai/bark (generation.py, spring 2023), repeated by its forks; sizes:
# parameters × 12 bytes (weights and two Adam moments). vocab.txt is multilingual BERT's; size and SHA-256 of it and
# of the codec as published with the hub repositories.
MANIFEST: Mapping[str, HubFile] = {
    "text large": _original("text_2.pt", 5_353_058_304, "54afa89d65e318d4f5f80e8e8799026a"),
    "coarse large": _original("coarse_2.pt", 3_934_334_976, "8a98094e5e3a255a5c9c0ab7efe8fd28"),
    "fine large": _original("fine_2.pt", 3_741_474_816, "59d184ed44e3650774a2f0503a48a97b"),
    "text small": _original("text.pt", 2_315_879_424, "b3e42bcbab23b688355cd44128c4cdd3"),
    "coarse small": _original("coarse.pt", 1_251_836_928, "5fe964825e3b0321f9d5f3857b89194d"),
    "fine small": _original("fine.pt", 1_106_970_624, "5428d1befe05be2ba32195496e58dc90"),
    "codec": HubFile(
        "encodec_24khz.safetensors",
        _ENCODEC,
        _ENCODEC_REVISION,
        "model.safetensors",
        93_092_872,
        "sha256:37a7cb100f71a29e6c1d815aca8666a1d7ea8885ebe44c306c751a5103559d57",
    ),
    "vocabulary": HubFile(
        "vocab.txt",
        _SUNO,
        _SUNO_REVISION,
        "vocab.txt",
        995_526,
        "sha256:fe0fda7c425b48c516fc8f160d594c8022a0808447475c1a7c6d6479763f310c",
    ),
}


def download_models(
    models: str | Path,
    folder: str | Path,
    on_progress: OnProgress | None = None,
    stages: Mapping[str, str | Path] | None = None,
    *,
    parts: Collection[str] | None = None,
    manifest: Mapping[str, HubFile] = MANIFEST,
    endpoint: str | None = None,
) -> list[Path]:
    """Fetch Suno's "large" or "small" models into `folder`; the paths of all their files, in the order of the stages.

    `stages` gives single stages ("text", "coarse", "fine", "codec") another size; a stage with any other name or path
    is the caller's own and not fetched. `parts` leaves out all of these but some, by their keys in the manifest. Files
    that are there and have the right hash are not fetched again; each is hashed once, and the result kept in
    `FOLDER/.download`. `manifest` and `endpoint` say what to fetch and from where (default: Suno's files, from
    $HF_ENDPOINT or the hub).

    `on_progress(done, total, name)` counts bytes of all missing files, about every 10 MB, and bytes read while one
    that was there before is checked. What it raises ends the download and reaches the caller; the next call goes on.

    Raises BarkInputError where no stage has one of Suno's sizes, and BarkDownloadError, with what to do, for anything
    that goes wrong.
    """
    keys = _wanted(models, stages or {})
    files = [manifest[key] for key in keys if parts is None or key in parts]
    target = Path(folder)
    report = guarded(on_progress) if on_progress else (lambda done, total, name: None)
    try:
        with _only_one(target):
            missing = [file for file in files if not _is_there(target, file, report)]
            if missing:
                _fetch_all(missing, target, report, endpoint)
    except Stopped as stop:
        raise stop.reason from None
    except OSError as error:
        raise _disk_error(error, target) from error
    return [target / file.name for file in files]


def _wanted(models: str | Path, stages: Mapping[str, str | Path]) -> list[str]:
    """Keys of the manifest: networks of Suno's sizes, the codec unless it is the caller's own, the vocabulary."""
    sizes = {stage: stages.get(stage, models) for stage in ("text", "coarse", "fine")}
    keys = [f"{stage} {size}" for stage, size in sizes.items() if size in SIZES]
    unknown = set(stages) - {*sizes, "codec"}
    if not keys or unknown:
        raise BarkInputError(
            "Only Suno's own models can be downloaded, 'large' or 'small', with a size for text, coarse and fine; "
            f"asked for were {str(models)!r}{f' and the stage {min(unknown)!r}' if unknown else ''}."
        )
    if stages.get("codec", SIZES[0]) in SIZES:
        keys.append("codec")
    return [*keys, "vocabulary"]


# -- what is in the folder ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder for this download; two that append to one file would spoil it. Makes the folder."""
    from filelock import FileLock, Timeout

    state = folder / STATE_FOLDER
    state.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(state / "lock", timeout=0):
            yield
    except Timeout:
        raise BarkDownloadError(
            f"Another download into {folder} is going on. Wait until it has ended, then ask again."
        ) from None


def _is_there(folder: Path, file: HubFile, report: OnProgress) -> bool:
    """Whether the file is in the folder with the right content; another file of its name is refused, not replaced."""
    path = folder / file.name
    if not path.exists():
        return False
    if _record(folder).get(file.name) == _mark(path, file):
        return True
    size = path.stat().st_size
    found = _hash(path, file, lambda done: report(done, size, file.name))
    if found != file.digest:
        raise BarkDownloadError(
            f"{path} is there already, but is not the file that Suno published (expected {file.digest}, found "
            f"{found}). Rename or remove it and ask again, or use it as it is, without the download."
        )
    _remember(folder, file)
    return True


def _hash(path: Path, file: HubFile, report: Callable[[int], None]) -> str:
    """The digest of a file, in the manner of `file.digest`; `report(bytes_read)` may raise to stop."""
    kind = file.digest.partition(":")[0]
    state = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(HASH_BLOCK):
            state.update(block)
            report(handle.tell())
    return f"{kind}:{state.hexdigest()}"


def _record(folder: Path) -> dict[str, Any]:
    """What was verified before, by file name; an unreadable record only costs hashing again."""
    try:
        record = json.loads((folder / STATE_FOLDER / "verified.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _mark(path: Path, file: HubFile) -> list[Any]:
    """What tells that a verified file was not touched since."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, file.digest]


def _remember(folder: Path, file: HubFile) -> None:
    """Note that the file in the folder has the right hash."""
    record = _record(folder) | {file.name: _mark(folder / file.name, file)}
    fresh = folder / STATE_FOLDER / "verified.json.new"
    fresh.write_text(json.dumps(record, indent=1), encoding="utf-8")
    fresh.replace(folder / STATE_FOLDER / "verified.json")


# -- fetching ----------------------------------------------------------------------------------------------------


class _PartFile(io.BufferedWriter):
    """A growing file that tells its length after each write."""

    def __init__(self, path: Path, report: Callable[[int], None]):
        super().__init__(cast(Any, io.FileIO(path, "ab")))
        self._report = report

    def write(self, data: Any, /) -> int:
        written = super().write(data)
        self._report(self.tell())
        return written


def _fetch_all(files: list[HubFile], folder: Path, report: OnProgress, endpoint: str | None) -> None:
    """Ask for all sizes first, so that a missing file or a full disk is known before gigabytes are moved."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise BarkDownloadError(
            f"Asked to download {', '.join(file.name for file in files)}, but HF_HUB_OFFLINE is set, which forbids it. "
            f"Unset it, or put the files into {folder} yourself."
        )
    sizes = [_size_on_hub(file, endpoint) for file in files]
    parts = [_part_path(folder, file) for file in files]
    _require_space(folder, sum(sizes) - sum(part.stat().st_size for part in parts if part.exists()))
    before, total = 0, sum(sizes)
    for file, part, size in zip(files, parts, sizes, strict=True):
        tell = partial(_tell, report, before, total, file.name)
        _fetch(file, part, size, tell, endpoint)
        _check(file, part, lambda _, tell=tell, size=size: tell(size))
        part.replace(folder / file.name)
        _remember(folder, file)
        log.info("downloaded %s (%.1f MB) from %s to %s", file.name, size / 1e6, file.repo, folder)
        before += size


def _tell(report: OnProgress, before: int, total: int, name: str, done: int) -> None:
    """Report `done` bytes of one file as bytes of the whole download."""
    report(before + done, total, name)


def _part_path(folder: Path, file: HubFile) -> Path:
    """Where a file grows; the digest in its name keeps two versions of one file apart."""
    return folder / STATE_FOLDER / f"{file.name}.{file.digest.partition(':')[2][:12]}.part"


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BarkDownloadError(
            f"The download needs {needed / 1e9:.2f} GB, but only {free / 1e9:.2f} GB are free in {folder}. "
            "Free some space, choose another folder, or take the small models."
        )


def _size_on_hub(file: HubFile, endpoint: str | None) -> int:
    """Bytes of the file as the hub announces them, refused where they cannot be right."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
    try:
        size = announced(url).size
    except (*transport_errors(), OSError) as error:
        raise _hub_error(error, file, url) from error
    if size is None or not file.size <= size <= file.size * 1.01:
        raise BarkDownloadError(
            f"{url} should have about {file.size:,} bytes, but the server says {'nothing' if size is None else size}. "
            "That is another file, or a proxy or mirror in between; check HF_ENDPOINT and your proxy."
        )
    return size


def _fetch(file: HubFile, part: Path, size: int, report: Callable[[int], None], endpoint: str | None) -> None:
    """Let `part` grow to `size` bytes, over as many connections as it takes while each brings something."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # pyright: ignore[reportPrivateImportUsage]
    from tqdm import tqdm

    url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=endpoint)
    # Uncompressed, or the byte counts of a resumed transfer would not add up. An explicit range also keeps the
    # library from handing the file to hf_transfer, which cannot be stopped.
    headers = build_hf_headers() | {"Accept-Encoding": "identity", "Range": "bytes=0-"}
    takes_bar = "_tqdm_bar" in inspect.signature(http_get).parameters
    quiet: dict[str, Any] = {"_tqdm_bar": tqdm(disable=True)} if takes_bar else {}
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have == size:
            return
        if have > size:
            part.unlink()
            have = 0
        report(have)
        try:
            with _PartFile(part, report) as handle:
                http_get(url, cast(BinaryIO, handle), resume_size=have, headers=headers, expected_size=size, **quiet)
        except (*transport_errors(), OSError) as error:
            grown = part.stat().st_size
            if getattr(error, "errno", None) == errno.ENOSPC or not have < grown <= size:
                if grown > size:
                    part.unlink()
                raise _hub_error(error, file, url) from error
            log.info("the connection for %s ended at %d of %d bytes (%s); going on", file.name, grown, size, error)


def _check(file: HubFile, part: Path, report: Callable[[int], None]) -> None:
    """Compare the finished file with its known hash; a wrong one is removed, since resuming cannot mend it."""
    found = _hash(part, file, report)
    if found != file.digest:
        part.unlink()
        raise BarkDownloadError(
            f"{file.name} arrived damaged or is not the file that was asked for (expected {file.digest}, found "
            f"{found}) and was removed. Ask again; if it stays like this, the mirror or proxy in between changes it."
        )


# -- errors as sentences -----------------------------------------------------------------------------------------


def transport_errors() -> tuple[type[Exception], ...]:
    """The root of the HTTP client's errors: requests under huggingface_hub 0.x, httpx under 1.x, httpx2 under 2.x.

    The library's own HTTP error inherits from it, which spares us importing a client that may not be installed.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return ([kind for kind in HfHubHTTPError.__mro__ if kind.__module__ != "builtins"][-1],)


def announced(url: str) -> "HfFileMetadata":
    """What the hub says of a file: its size in bytes and its etag. Raises one of `transport_errors`.

    The first request is one without huggingface_hub's retries, which take half a minute to find that there is no
    network; any answer to it is good.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.utils import get_session  # pyright: ignore

    get_session().head(url, timeout=KNOCK_SECONDS)
    return get_hf_file_metadata(url)


def reason_of(error: Exception) -> str:
    """What went wrong, in a few words for a sentence in brackets."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP {status}"
    if type(error).__name__ in ("ConnectionError", "ConnectError", "ConnectTimeout", "ProxyError", "SSLError"):
        return "no connection"
    if "Timeout" in type(error).__name__:
        return "no answer in time"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _hub_error(error: Exception, file: HubFile, url: str) -> BarkDownloadError:
    """A sentence for what the network, the hub or the disk said."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return _disk_error(cast(OSError, error), Path(file.name))
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        advice = "Sign in with `hf auth login` or set HF_TOKEN, and check that HF_ENDPOINT, if set, is the hub you mean"
    elif status == 404:
        advice = "The server does not have it; if HF_ENDPOINT names a mirror, try without, or fetch the file by hand"
    elif status == 429:
        advice = "That is too many requests; wait a few minutes and ask again"
    elif status is not None:
        advice = "The server has trouble of its own; ask again later, what has arrived is kept"
    else:
        advice = "Check the network, the proxy and HF_ENDPOINT and ask again; what has arrived is kept"
    return BarkDownloadError(f"{file.name} could not be fetched from {url} ({reason_of(error)}). {advice}.")


def _disk_error(error: OSError, path: Path) -> BarkDownloadError:
    """A sentence for a folder that cannot be written, or is full."""
    if error.errno == errno.ENOSPC:
        return BarkDownloadError(
            f"The disk is full while downloading {path}. Free some space and ask again; what has arrived is kept."
        )
    return BarkDownloadError(
        f"The models cannot be stored in {path} ({error.strerror or error}). Choose a folder that can be written."
    )
