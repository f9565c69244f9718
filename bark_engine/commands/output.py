"""The sound file that a command writes: its format by its name, with the tokens inside when asked."""

import os
import tempfile
from pathlib import Path

from ..audio import Audio
from ..audio_files import FORMATS, save_audio
from ..errors import BarkInputError
from ..keep import Take, tokens_tag

_BY_SUFFIX = {kind.suffix: name for name, kind in FORMATS.items()}
_OTHERS = (".ogg", ".oga", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".webm", ".mp4", ".npz", ".safetensors")


def check_output(name: str) -> Path:
    """The path of the sound file, after refusing (BarkInputError) what cannot become one, before minutes are spent.

    `name` is as it was typed: a slash at its end, which a Path has not, makes it a folder, whether it is there or not.
    """
    output = Path(name)
    if output.is_dir() or name.endswith(("/", os.sep)):
        inside = output / "hello.wav"
        raise BarkInputError(f"{name or output} is a folder. Name the file to write in it, such as {inside}.")
    if output.exists() and not output.is_file():
        raise BarkInputError(f"{output} is a device or a pipe, not a file. Name a file to write, such as hello.wav.")
    if output.suffix.lower() in _OTHERS:
        raise BarkInputError(
            f"{output} has the name of a format that is not written here; known are {', '.join(_BY_SUFFIX)}. "
            f"Name it {output.with_suffix('.wav').name}."
        )
    kind = format_of(output)
    if kind != "wav":
        _require_encoder(FORMATS[kind].name, output)
    _require_folder(output)
    return output


def format_of(output: Path) -> str:
    """The format of `save_audio` that the name asks for; WAV where it asks for none."""
    return _BY_SUFFIX.get(output.suffix.lower(), "wav")


def _require_folder(output: Path) -> None:
    """Refuse (BarkInputError) a file for whose folder there can be none, or in which nothing may be written."""
    # A link to nothing is there, too: no folder can be made in its place.
    folder = next(place for place in output.absolute().parents if os.path.lexists(place))
    if not folder.is_dir():
        raise BarkInputError(f"{folder} is a file, not a folder, so {output} cannot be in it. Choose another folder.")
    try:
        # Tried, because permissions do not tell of read-only disks, nor of /proc. The file has no name, or soon none.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BarkInputError(
            f"{output} cannot be written: nothing can be saved in the folder {folder} ({error.strerror or error}). "
            "Choose another folder."
        ) from None


def _require_encoder(kind: str, output: Path) -> None:
    """Refuse (BarkInputError) a format that PyAV encodes where there is none; ComfyUI brings it, nothing else does."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise BarkInputError(
            f"{kind} files are written by PyAV, which cannot be imported ({error}). Install it (pip install av), or "
            f"name the file {output.with_suffix('.wav').name}: WAV needs nothing, and holds tokens as well."
        ) from None


def write_sound(output: Path, audio: Audio, take: Take | None) -> None:
    """Write the sound, with the tokens of a take inside where there is one. Raises what `save_audio` raises."""
    metadata = {} if take is None else tokens_tag(take)
    save_audio(output, audio.samples[None], audio.sample_rate, format_of(output), metadata=metadata)
