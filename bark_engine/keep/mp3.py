"""How long an MP3 says that it is. Only a Xing or Info header knows; without one FFmpeg's duration is a guess."""

import re
from pathlib import Path

_TAG = re.compile(rb"Xing|Info")  # in the first frame, where bit rates vary and where they do not
_REACH = 2**16  # bytes behind the ID3 tags in which the first frame is looked for, as by FFmpeg
_MPEG_1 = 3
_HEADER = 4  # bytes that begin a frame


def counted_seconds(path: Path, sample_rate: int) -> float:
    """Seconds of all frames that the header in the first frame of an MP3 counts; 0 where it has none.

    The encoder's run-in and what fills its last frame are among them.
    """
    data = _behind_id3(path)
    for found in _TAG.finditer(data):
        for gap in (32, 17, 9):  # between the header and the tag
            start = found.start() - gap - _HEADER
            if start >= 0 and _gap(data[start : start + _HEADER]) == gap:
                flags, frames = (int.from_bytes(data[found.end() + at :][:4], "big") for at in (0, 4))
                samples = 1_152 if _version(data[start + 1]) == _MPEG_1 else 576  # of one frame
                return frames * samples / sample_rate if flags & 1 else 0.0
    return 0.0


def _behind_id3(path: Path) -> bytes:
    """The beginning of what follows the ID3v2 tags at the beginning of a file; there may be several."""
    with path.open("rb") as file:
        start = 0
        while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
            size = sum((byte & 127) << (7 * (3 - place)) for place, byte in enumerate(tag[6:]))
            start += 10 + size + (10 if tag[5] & 16 else 0)  # a footer repeats the header
            file.seek(start)
        file.seek(start)
        return file.read(_REACH)


def _version(second: int) -> int:
    """The MPEG version in the second byte of a frame: 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5."""
    return second >> 3 & 3


def _gap(header: bytes) -> int:
    """Bytes between the header of a Layer III frame and the tag in it; 0 for what is no such header."""
    sync, layer = header[0] == 0xFF and header[1] >> 5 == 7, header[1] >> 1 & 3
    if not sync or layer != 1:  # 1 stands for Layer III
        return 0
    mono = header[3] >> 6 == 3
    return (17 if mono else 32) if _version(header[1]) == _MPEG_1 else (9 if mono else 17)
