"""Small pictures without a plotting library: letters, lines, ticks and PNG, on a numpy array of pixels.

An image is bytes `[rows, columns, 3]`; the functions draw into it. What lies outside is clipped or left out.
"""

import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]  # [rows, columns, 3]
Colour = tuple[int, int, int]

LETTER_WIDTH, LETTER_HEIGHT = 6, 7  # dots; a letter is five wide, and one stays free behind it

# 5 × 7 letters, 5 × 9 with what hangs below the line: a row of five bits per pair of hex digits, from the top.
_GLYPHS = {
    "0": "0e11131519110e", "1": "040c040404040e", "2": "0e11010204081f", "3": "1f02040201110e", "4": "02060a121f0202",
    "5": "1f101e0101110e", "6": "0608101e11110e", "7": "1f010204080808", "8": "0e11110e11110e", "9": "0e11110f01020c",
    ".": "00000000000c0c", "-": "0000001f000000", " ": "00000000000000", "a": "00000e010f110f", "b": "10101619111e00",
    "c": "00000e1010110e", "d": "01010d1311110f", "e": "00000e111f100e", "f": "0609081c080808",
    "g": "00000d1311130d010e", "h": "10101619111111", "i": "04000c0404040e", "k": "10101214181412",
    "l": "0c04040404040e", "m": "00001a15151111", "n": "00001619111111", "o": "00000e1111110e",
    "p": "000016191119161010", "r": "00001619101010", "s": "00000e100e011e", "t": "08081c08080906",
    "u": "0000111111130d", "v": "00001111110a04", "j": "02000602020202120c", "q": "00000d1311130d0101",
    "w": "0000111115150a", "x": "0000110a040a11", "y": "0000111111130d010e", "z": "00001f0204081f",
    "H": "1111111f111111", "×": "00110a040a1100", ":": "000c0c000c0c00", ",": "00000000000c0c0408",
    "/": "00010204081000", "_": "0000000000001f", "?": "0e110102040004", "!": "04040404040004", "'": "04040000000000",
    "%": "18190204081303", "(": "02040808080402", ")": "08040202020408",
}  # fmt: skip


def text(image: Image, left: int, top: int, content: str, colour: Colour, scale: int = 2) -> None:
    """Letters of 5 × 7 dots, `scale` pixels to a dot; what has no glyph is left blank, what has no room left out."""
    rows, columns, _ = image.shape
    for number, char in enumerate(content):
        glyph = bytes.fromhex(_GLYPHS.get(char, _GLYPHS[" "]))
        dots = np.array([[row >> bit & 1 for bit in range(4, -1, -1)] for row in glyph], dtype=bool)
        dots = dots.repeat(scale, axis=0).repeat(scale, axis=1)
        (height, width), x = dots.shape, left + LETTER_WIDTH * scale * number
        if 0 <= x <= columns - width and 0 <= top <= rows - height:
            image[top : top + height, x : x + width][dots] = colour


def text_width(content: str, scale: int = 2) -> int:
    """Pixels from the first dot of a text to its last."""
    return max(0, LETTER_WIDTH * len(content) - 1) * scale


def line(
    image: Image, start: tuple[float, float], end: tuple[float, float], colour: Colour, thickness: int = 1
) -> None:
    """A straight line between two places (column, row); what lies outside is drawn at the border."""
    height, width, _ = image.shape
    count = int(max(abs(end[0] - start[0]), abs(end[1] - start[1]))) + 2
    columns = np.rint(np.linspace(start[0], end[0], count)).astype(int)
    rows = np.rint(np.linspace(start[1], end[1], count)).astype(int)
    for across in range(thickness):
        for down in range(thickness):
            image[(rows + down).clip(0, height - 1), (columns + across).clip(0, width - 1)] = colour


def blend(image: Image, colour: Colour, share: float) -> None:
    """Mix a colour into every pixel: a `share` of 0 changes nothing, 1 leaves nothing of what was there."""
    image[:] = np.rint(image * (1.0 - share) + np.array(colour) * share).astype(np.uint8)


def ticks(low: float, high: float, parts: int = 5) -> Sequence[float]:
    """Round values in a range, about `parts` steps apart: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def png(image: Image) -> bytes:
    """A picture `[rows, columns, 3]` of bytes as a PNG file (RGB, 8 bits, no interlacing)."""
    rows, columns, _ = image.shape

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = np.concatenate([np.zeros((rows, 1), np.uint8), image.reshape(rows, 3 * columns)], axis=1)  # filter 0
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content
