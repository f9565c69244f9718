"""WAV files, read with nothing but numpy: the samples, and the comment in which this pack keeps what it knows."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ..errors import BarkFileError

MAX_CHUNKS = 10_000
MAX_COMMENT = 128 * 2**20
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# A program that cannot go back to fill in a size writes the largest that there is (ffmpeg), or about 2 GiB in whole
# frames (sox). So much sound is never read here: a file that was cut is not mistaken for one of these.
_UNKNOWN_SIZE = 0x7FFF0000
_CHUNK = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class WavFile:
    """Where things are in a WAV file; nothing of the samples is read yet."""

    path: Path
    tag: int  # 1: whole numbers, 3: floating point
    bits: int  # of one sample of one channel that count; they are the highest ones of its bytes
    frame_bytes: int  # of one sample of all channels
    channels: int
    sample_rate: int  # Hz
    start: int  # the first byte of the samples
    size: int  # bytes of all samples
    comment: str  # ICMT of the INFO list, empty where there is none

    @property
    def frames(self) -> int:
        """Samples of one channel."""
        return self.size // self.frame_bytes

    def samples(self) -> npt.NDArray[np.float32]:
        """float32 `[C, n]`; the inverse of how `save_audio` makes whole numbers, at least −1."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.frames * self.frame_bytes)
        width = self.frame_bytes // self.channels
        return _as_float(data, self.tag, width, self.bits).reshape(-1, self.channels).T


def open_wav(path: Path) -> WavFile:
    """Walk through the chunks of a WAV file. Raises BarkFileError for a damaged one, and for sound that is no PCM."""
    form = data = None
    comment = ""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(0)
            riff, whole, wave = struct.unpack("<4sI4s", file.read(12))
            if (riff, wave) != (b"RIFF", b"WAVE"):
                raise BarkFileError(f"{path.name} is no WAV file. Choose another one, or take a fresh copy.")
            for _ in range(MAX_CHUNKS):
                header = file.read(_CHUNK.size)
                if len(header) < _CHUNK.size:
                    break
                name, size = _CHUNK.unpack(header)
                start = file.tell()
                if name == b"data":
                    closed = start < whole + 8 < _UNKNOWN_SIZE  # the file says that something follows, and how much
                    size = end - start if size == 0 and not closed else _data_size(size, end - start, path)
                    data = start, size
                elif name == b"fmt ":
                    form = file.read(min(size, 40))
                elif name == b"LIST":
                    comment = comment or _comment_in(file, min(start + size, end))
                file.seek(start + size + size % 2)
    except struct.error:
        raise BarkFileError(f"{path.name} ends in the middle of its header. Take a fresh copy.") from None
    if form is None or data is None:
        raise BarkFileError(f"{path.name} holds no sound that can be read: a part of it is missing. Take a fresh copy.")
    return _described(path, form, data, comment)


def _data_size(promised: int, there: int, path: Path) -> int:
    if promised > there:
        if promised >= _UNKNOWN_SIZE:
            return there
        raise BarkFileError(
            f"{path.name} is cut short: it promises {promised:,} bytes of sound and {there:,} follow. "
            "Take a fresh copy."
        )
    return promised


def _described(path: Path, form: bytes, data: tuple[int, int], comment: str) -> WavFile:
    if len(form) < 16:
        raise BarkFileError(f"{path.name} does not say what its sound is like. Take a fresh copy.")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack("<HHIIHH", form[:16])
    valid = bits
    if tag == _EXTENSIBLE and len(form) >= 26:
        valid, tag = (int.from_bytes(form[at : at + 2], "little") for at in (18, 24))
    known = (tag == _PCM and bits in (8, 16, 24, 32)) or (tag == _FLOAT and bits in (32, 64))
    if not known or not channels or not rate:
        raise BarkFileError(
            f"{path.name} is a WAV of a kind that is not read here (format {tag}, {bits} bits, {channels} channels, "
            f"{rate} Hz). Save it as 16-bit PCM, with ffmpeg for example."
        )
    frame_bytes = frame_bytes or channels * bits // 8  # some programs leave it out
    width, left = divmod(frame_bytes, channels)
    if left or width * 8 < bits or width * 8 > (32 if tag == _PCM else bits):
        raise BarkFileError(
            f"{path.name} contradicts itself: {bits} bits for each of {channels} channels do not fit {frame_bytes} "
            "bytes for all of them. Save it as 16-bit PCM, with ffmpeg for example."
        )
    if tag == _FLOAT or not 8 <= valid <= bits:
        valid = bits
    return WavFile(path, tag, valid, frame_bytes, channels, rate, *data, comment)


def _comment_in(file: BinaryIO, end: int) -> str:
    """The comment in an INFO list, whose content begins where the file is; empty where there is none."""
    if file.read(4) != b"INFO":
        return ""
    for _ in range(MAX_CHUNKS):
        if file.tell() + _CHUNK.size > end:
            return ""
        name, size = _CHUNK.unpack(file.read(_CHUNK.size))
        if name == b"ICMT":
            room = min(size, end - file.tell(), MAX_COMMENT)
            return file.read(room).split(b"\0")[0].decode("utf-8", "replace")
        file.seek(size + size % 2, 1)
    return ""


def _as_float(data: bytes, tag: int, width: int, bits: int) -> npt.NDArray[np.float32]:
    """Samples of `width` bytes each, of which the highest `bits` bits count."""
    if tag == _FLOAT:
        return np.frombuffer(data, "<f4" if width == 4 else "<f8").astype(np.float32)
    if width == 1:  # the only one without a sign
        whole = np.frombuffer(data, np.uint8).astype(np.int32) - 128
    elif width == 3:
        four = np.zeros((len(data) // 3, 4), np.uint8)
        four[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        whole = four.view("<i4")[:, 0] >> 8
    else:
        whole = np.frombuffer(data, "<i2" if width == 2 else "<i4")
    return to_float(whole >> (8 * width - bits), bits)


def to_float(whole: npt.NDArray[np.integer], bits: int) -> npt.NDArray[np.float32]:
    """Signed whole numbers of `bits` bits → −1 … 1, so that `save_audio` makes the same numbers of them again."""
    scale = 2 ** (bits - 1) - 1
    return np.maximum(whole.astype(np.float64) / scale, -1.0).astype(np.float32)
