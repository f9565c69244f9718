"""The sound file that a command writes: its format by its name, with the tokens inside when asked."""

from pathlib import Path

from ..audio import Audio
from ..audio_files import FORMATS, save_audio
from ..errors import BarkInputError
from ..keep import Take, tokens_tag

_BY_SUFFIX = {kind.suffix: name for name, kind in FORMATS.items()}
_OTHERS = (".ogg", ".oga", ".m4a", ".aac", ".aif", ".aiff", ".wma", ".webm", ".mp4", ".npz", ".safetensors")


def check_output(output: Path) -> None:
    """Refuse (BarkInputError) what cannot become the sound file before minutes are spent on its sound."""
    if output.is_dir():
        raise BarkInputError(f"{output} is a folder. Name the file to write in it, such as {output / 'hello.wav'}.")
    if output.suffix.lower() in _OTHERS:
        raise BarkInputError(
            f"{output} has the name of a format that is not written here; known are {', '.join(_BY_SUFFIX)}. "
            f"Name it {output.with_suffix('.wav').name}."
        )
    kind = format_of(output)
    if kind != "wav":
        _require_encoder(FORMATS[kind].name, output)


def format_of(output: Path) -> str:
    """The format of `save_audio` that the name asks for; WAV where it asks for none."""
    return _BY_SUFFIX.get(output.suffix.lower(), "wav")


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
