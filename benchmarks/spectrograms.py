"""Pictures of speech: two mel spectrograms above each other on one time axis, as PNG; numpy and zlib are enough."""

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from speech_judge import HIGHEST, LOWEST, RATE, Floats, log_mel

Pixels = npt.NDArray[np.uint8]  # [height, width, 3]
Colour = tuple[int, int, int]  # red, green, blue

BANDS = 80
HOP = 80  # samples per column: 200 columns per second
BAND_HEIGHT = 3  # pixels
RANGE_DB = 60.0  # from the darkest to the brightest
LEFT, RIGHT, TOP, GAP, BOTTOM = 62, 16, 38, 42, 40  # margins in pixels
TEXT_SCALE = 2
TICKS_HZ = (250, 500, 1_000, 2_000, 4_000)
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (110, 110, 110)
# Dark to bright in even steps of lightness, so that grey-scale prints read the same: anchors of our own.
COLOURS = ((8, 6, 30), (60, 20, 95), (140, 35, 105), (215, 70, 75), (250, 150, 50), (255, 240, 170))

# Five columns of seven pixels a letter; bit 0 is the top one. Letters are drawn as capitals.
FONT = {
    "A": "7E1111117E", "B": "7F49494936", "C": "3E41414122", "D": "7F4141413E", "E": "7F49494941", "F": "7F09090901",
    "G": "3E4149493A", "H": "7F0808087F", "I": "00417F4100", "J": "2040413F01", "K": "7F08142241", "L": "7F40404040",
    "M": "7F020C027F", "N": "7F0408107F", "O": "3E4141413E", "P": "7F09090906", "Q": "3E4151215E", "R": "7F09192946",
    "S": "2649494932", "T": "01017F0101", "U": "3F4040403F", "V": "0F3040300F", "W": "3F4038403F", "X": "6314081463",
    "Y": "0708700807", "Z": "6151494543", "0": "3E5149453E", "1": "00427F4000", "2": "4261514946", "3": "2241494936",
    "4": "1814127F10", "5": "2745454539", "6": "3C4A494930", "7": "0171090503", "8": "3649494936", "9": "064949291E",
    ".": "0060600000", ",": "0050300000", "?": "0201510906", "!": "00005F0000", "'": "0000070000", "-": "0808080808",
    ":": "0036360000", "%": "2313086462", "(": "001C224100", ")": "0041221C00", " ": "0000000000",
}  # fmt: skip


def compare(path: Path, title: str, ours: tuple[str, Floats], theirs: tuple[str, Floats]) -> None:
    """Write a PNG with two named sounds `[n]` at RATE above each other, in seconds and hertz."""
    longest = max(len(ours[1]), len(theirs[1]))
    panel_height, panel_width = BANDS * BAND_HEIGHT, 1 + longest // HOP
    width = max(LEFT + panel_width, LEFT + _text_width(title)) + RIGHT
    canvas = np.full((TOP + 2 * panel_height + GAP + BOTTOM, width, 3), PAPER, np.uint8)
    write_text(canvas, LEFT, 4, title, INK)
    for top, (name, sound) in ((TOP, ours), (TOP + panel_height + GAP, theirs)):
        picture = spectrogram(sound)
        canvas[top : top + panel_height, LEFT : LEFT + picture.shape[1]] = picture
        write_text(canvas, LEFT, top - 15, name, FAINT)
        for hertz in TICKS_HZ:
            y = top + panel_height - round(_height(hertz) * panel_height)
            canvas[y, LEFT - 6 : LEFT] = INK
            write_text(canvas, LEFT - 10 - _text_width(str(hertz)), y - 6, str(hertz), INK)
        for tick in range(2 * longest // RATE + 1):  # every half second
            x = LEFT + tick * RATE // (2 * HOP)
            canvas[top + panel_height : top + panel_height + (8 if tick % 2 == 0 else 4), x] = INK
            if tick % 2 == 0:
                write_text(canvas, x - 4, top + panel_height + 10, str(tick // 2), INK)
    write_text(canvas, width - RIGHT - _text_width("SECONDS", 1), canvas.shape[0] - 12, "SECONDS", FAINT, scale=1)
    write_png(path, canvas)


def spectrogram(sound: Floats) -> Pixels:
    """The log-mel spectrogram of a sound `[n]` as pixels `[BANDS · BAND_HEIGHT, 1 + (n − 1) // HOP, 3]`."""
    decibels = log_mel(sound, BANDS, HOP, RANGE_DB)
    spread = max(float(np.ptp(decibels)), 1e-6)
    shade = (decibels - decibels.min()) / spread * (len(COLOURS) - 1)
    anchors = np.array(COLOURS, dtype=float)
    coloured = np.stack([np.interp(shade, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=-1)
    return coloured.transpose(1, 0, 2)[::-1].repeat(BAND_HEIGHT, axis=0).astype(np.uint8)


def write_text(canvas: Pixels, x: int, y: int, text: str, colour: Colour, scale: int = TEXT_SCALE) -> None:
    """Draw a line of text in capitals with its top left corner at (x, y); letters without a picture are blank."""
    for letter in text.upper():
        columns = np.frombuffer(bytes.fromhex(FONT.get(letter, FONT[" "])), np.uint8)
        dots = (columns[None, :] >> np.arange(7)[:, None] & 1).astype(bool)
        dots = dots.repeat(scale, axis=0).repeat(scale, axis=1)
        area = canvas[y : y + dots.shape[0], x : x + dots.shape[1]]
        area[dots[: area.shape[0], : area.shape[1]]] = colour
        x += 6 * scale


def write_png(path: Path, pixels: Pixels) -> None:
    """Write pixels `[height, width, 3]` as an 8-bit RGB PNG."""
    height, width, _ = pixels.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, width * 3)], axis=1)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def _text_width(text: str, scale: int = TEXT_SCALE) -> int:
    return 6 * scale * len(text)


def _height(hertz: float) -> float:
    """Where a frequency lies between the lowest and the highest mel band, 0 … 1."""
    mel = [np.log10(1 + f / 700) for f in (LOWEST, hertz, HIGHEST)]
    return float((mel[1] - mel[0]) / (mel[2] - mel[0]))
