"""Sound files that remember: the tokens in them, and the sound itself. Writing is `audio_files.save_audio`'s business.

Tokens are a text (`text_form.py`) under the key `bark`, beside the `prompt` and `workflow` of ComfyUI: a Vorbis comment
in FLAC and Opus, a user text (TXXX) of ID3 in MP3, an entry of the JSON comment in WAV. Players pass it over. WAV is
read here; the other formats by PyAV, which is imported when such a file is met.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BarkError, BarkFileError, BarkInputError
from .mp3 import counted_seconds
from .riff import open_wav, to_float
from .take import Take
from .text_form import from_text, to_text

KEY = "bark"
SUFFIXES = (".flac", ".opus", ".mp3", ".wav", ".ogg", ".oga")  # of files that can hold tokens
MAX_SAMPLES = 2**28  # of all channels together: three hours at 24 kHz, as much memory as 1 GiB
_LOSS = 0.15  # seconds that lossy formats lose at either end, together
_TELL_THEIR_LENGTH = ("flac", "ogg")  # FFmpeg's names; that of other formats may be a guess
_STARTS = (b"fLaC", b"OggS", b"RIFF", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")


@dataclass(frozen=True, slots=True)
class SoundFile:
    """What is in a sound file: samples float32 `[C, n]`, Hz, and the tokens where there are any."""

    samples: npt.NDArray[np.float32]
    sample_rate: int
    take: Take | None


def tokens_tag(take: Take) -> dict[str, str]:
    """The entry of `save_audio`'s metadata that holds a take. It goes last: what reads `workflow` looks in front."""
    return {KEY: to_text(take)}


def is_sound(path: str | os.PathLike[str]) -> bool:
    """Whether the first bytes are those of a sound file that can hold tokens. Raises BarkFileError, where none is."""
    path = Path(path)
    with _readable(path), path.open("rb") as file:
        return file.read(4).startswith(_STARTS)


def read_sound(path: str | os.PathLike[str]) -> SoundFile:
    """Sound and tokens. Raises BarkFileError for what is no sound, cut short, or holds tokens that are damaged.

    Not every file tells that it was cut: an MP3 without a Xing or Info header and an Ogg file do not.
    """
    path = Path(path)
    with _readable(path):
        if _is_wav(path):
            wav = open_wav(path)
            _check_length(wav.frames * wav.channels, path)
            return SoundFile(_checked(wav.samples(), path), wav.sample_rate, _take_in({"comment": wav.comment}, path))
        metadata, samples, rate = _by_pyav(path, with_sound=True)
    return SoundFile(_checked(samples, path), rate, _take_in(metadata, path))


def read_tokens(path: str | os.PathLike[str]) -> Take:
    """The tokens in a sound file, without decoding it. Raises BarkFileError, also where it has none."""
    path = Path(path)
    with _readable(path):
        metadata = {"comment": open_wav(path).comment} if _is_wav(path) else _by_pyav(path, with_sound=False)[0]
    take = _take_in(metadata, path)
    if take is None:
        raise BarkFileError(no_tokens(path))
    return take


def no_tokens(path: Path) -> str:
    """The sentence for a sound file without tokens."""
    return (
        f"{path.name} is a sound without tokens in it. Save Audio (Bark) puts them there when token wires are "
        "connected to it, and so does --keep-tokens on the command line; programs that convert sound may drop them."
    )


def _take_in(metadata: dict[str, str], path: Path) -> Take | None:
    """The take under our key, whatever its case, or in a comment that is JSON, as in WAV; None where there is none."""
    tags = {name.lower(): text for name, text in metadata.items()}
    text: Any = tags.get(KEY)
    if text is None and tags.get("comment", "").lstrip().startswith("{"):
        try:
            comment = json.loads(tags["comment"])
        except (ValueError, RecursionError):  # a comment of somebody else
            return None
        text = comment.get(KEY) if isinstance(comment, dict) else None
    if text is None:
        return None
    if not isinstance(text, str):
        raise BarkFileError(f"{path.name}: the tokens in its comment are no text. Take a fresh copy.")
    return from_text(text, path.name)


def _is_wav(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"RIFF"


def _by_pyav(path: Path, with_sound: bool) -> tuple[dict[str, str], npt.NDArray[np.float32], int]:
    """Metadata of container and stream, samples `[C, n]` (none without `with_sound`), and Hz."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise BarkInputError(
            f"{path.name} is read by PyAV, which cannot be imported ({error}). Install it (pip install av), or use WAV "
            "or a token file, which need nothing."
        ) from None
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.audio:
                raise BarkFileError(f"{path.name} has no sound in it. Choose a sound file.")
            stream = container.streams.audio[0]
            metadata = {**stream.metadata, **container.metadata}
            rate = stream.codec_context.sample_rate
            if not with_sound:
                return metadata, np.zeros((1, 0), np.float32), rate
            samples = _decoded(container, stream, path)
            promised = _promised(container, stream, path)
    except (FFmpegError, EOFError, IndexError) as error:
        raise BarkFileError(
            f"{path.name} cannot be read as sound ({error}). It may be cut short or another kind of file; take a fresh "
            "copy."
        ) from None
    if samples.shape[1] / rate < promised - _LOSS:
        raise BarkFileError(
            f"{path.name} is cut short: it promises {promised:.1f} s and {samples.shape[1] / rate:.1f} s follow. "
            "Take a fresh copy."
        )
    return metadata, samples, rate


def _promised(container: Any, stream: Any, path: Path) -> float:
    """Seconds of sound that a file's own header promises; 0 where it does not, and FFmpeg only guesses by its size."""
    seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
    if container.format.name == "mp3":
        # The smaller one, because FFmpeg guesses also where there is much behind the sound, such as a picture.
        return min(seconds, counted_seconds(path, stream.codec_context.sample_rate))
    return seconds if container.format.name in _TELL_THEIR_LENGTH else 0.0


def _decoded(container: Any, stream: Any, path: Path) -> npt.NDArray[np.float32]:
    """All samples of a stream, `[C, n]`.

    Behind the sound of an MP3 may be anything, such as lyrics or zeros, and it is passed over, as players do. Where
    more than a moment of sound follows it was no end, and the file is refused; so is what begins with no sound.
    """
    from av.error import InvalidDataError

    parts: list[npt.NDArray[np.float32]] = []
    count, rest = 0, 0  # rest: samples of one channel behind what is no sound
    ended = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except InvalidDataError:
            if not parts or container.format.name != "mp3":
                raise
            ended = True
            continue
        if ended:
            rest += sum(frame.samples for frame in frames)
            continue
        for frame in frames:
            part = _frame(frame)
            count += part.size
            _check_length(count, path)
            parts.append(part)
    if not parts or any(part.shape[0] != parts[0].shape[0] for part in parts):
        raise BarkFileError(f"{path.name} holds no sound, or one whose channels change. Choose another file.")
    samples, rate = np.concatenate(parts, axis=1), stream.codec_context.sample_rate
    if rest > _LOSS * rate:
        raise BarkFileError(
            f"{path.name} is damaged: after {samples.shape[1] / rate:.1f} s comes a part that is no sound, and then "
            "sound again. Take a fresh copy."
        )
    return samples


def _frame(frame: Any) -> npt.NDArray[np.float32]:
    """The samples of one frame, `[C, n]`."""
    part = frame.to_ndarray()
    if not frame.format.is_planar:  # packed: channels side by side in one row
        part = part.reshape(-1, frame.layout.nb_channels).T
    if part.dtype.kind == "i":
        part = to_float(part >> 8, 24) if part.dtype.itemsize == 4 else to_float(part, 8 * part.dtype.itemsize)
    return part.astype(np.float32)


def _check_length(count: int, path: Path) -> None:
    if count > MAX_SAMPLES:
        raise BarkFileError(
            f"{path.name} is longer than {MAX_SAMPLES:,} samples of all channels, about three hours. Cut it into parts."
        )


def _checked(samples: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float32]:
    if samples.size == 0 or not np.isfinite(samples).all():
        raise BarkFileError(f"{path.name} has no samples, or some that are not numbers. Take a fresh copy.")
    return np.ascontiguousarray(samples)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the system says about a file, or an impossible path, into a BarkFileError."""
    try:
        yield
    except BarkError:
        raise
    except FileNotFoundError:
        raise BarkFileError(f"There is no file {path}. Check the name and the folder.") from None
    except (OSError, ValueError) as error:
        raise BarkFileError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from None
