"""Files that are complete or absent: `replacing` writes beside the target and moves the result into place."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import BarkFileError, BarkNameTakenError


@contextlib.contextmanager
def replacing(path: Path, what: str, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; at the end it becomes `path`, in one step.

    Whatever goes wrong inside, the temporary file is removed and an older file of that name stays as it was; without
    `overwrite` it does so in any case, also one that another program has just written (BarkNameTakenError). The folder
    is made when it is missing. An OSError (disk full, read-only) becomes a BarkFileError that calls the file `what`, as
    in "The speaker prompt".
    """
    temporary: Path | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=f".part{path.suffix}")
            temporary = Path(name)
            os.close(handle)
            yield temporary
            _match_ordinary_permissions(temporary)
            if overwrite:
                temporary.replace(path)
            else:
                _become_new(temporary, path)
        except OSError as error:
            raise BarkFileError(
                f"{what} could not be saved as {path} ({error.strerror or error}). Free some space or choose another "
                "folder; an older file of that name is untouched."
            ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _become_new(temporary: Path, path: Path) -> None:
    """Give a file a further name, which nobody has yet."""
    try:
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: take the name first
            path.touch(exist_ok=False)
            try:
                temporary.replace(path)
            except OSError:
                path.unlink()
                raise
    except FileExistsError:
        raise BarkNameTakenError(
            f"{path.name} is there already. Choose another name, or allow overwriting it."
        ) from None


def _match_ordinary_permissions(path: Path) -> None:
    """Give a file of `mkstemp`, which only its owner may read, the rights that `open` would have given."""
    if os.name == "posix":
        probe = path.with_name(path.name + ".mode")
        try:
            probe.touch()
            path.chmod(probe.stat().st_mode)
        finally:
            probe.unlink(missing_ok=True)
