"""Pictures of speech: two mel spectrograms above each other on one time axis, as PNG; no plotting library is needed."""

from pathlib import Path

import numpy as np
from speech_judge import HIGHEST, LOWEST, RATE, Floats, log_mel

from bark_engine.drawing import Image, png, text, text_width

BANDS = 80
HOP = 80  # samples per column: 200 columns per second
BAND_HEIGHT = 3  # pixels
RANGE_DB = 60.0  # from the darkest to the brightest
LEFT, RIGHT, TOP, GAP, BOTTOM = 62, 16, 42, 46, 40  # margins in pixels
TICKS_HZ = (250, 500, 1_000, 2_000, 4_000)
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (110, 110, 110)
# Dark to bright in even steps of lightness, so that grey-scale prints read the same: anchors of our own.
COLOURS = ((8, 6, 30), (60, 20, 95), (140, 35, 105), (215, 70, 75), (250, 150, 50), (255, 240, 170))


def compare(path: Path, title: str, ours: tuple[str, Floats], theirs: tuple[str, Floats]) -> None:
    """Write a PNG with two named sounds `[n]` at RATE above each other, in seconds and hertz."""
    longest = max(len(ours[1]), len(theirs[1]))
    panel_height, panel_width = BANDS * BAND_HEIGHT, 1 + longest // HOP
    width = max(LEFT + panel_width, LEFT + text_width(title)) + RIGHT
    canvas = np.full((TOP + 2 * panel_height + GAP + BOTTOM, width, 3), PAPER, np.uint8)
    text(canvas, LEFT, 4, title.lower(), INK)
    for top, (name, sound) in ((TOP, ours), (TOP + panel_height + GAP, theirs)):
        picture = spectrogram(sound)
        canvas[top : top + panel_height, LEFT : LEFT + picture.shape[1]] = picture
        text(canvas, LEFT, top - 19, name.lower(), FAINT)
        for hertz in TICKS_HZ:
            y = top + panel_height - round(_height(hertz) * panel_height)
            canvas[y, LEFT - 6 : LEFT] = INK
            text(canvas, LEFT - 10 - text_width(str(hertz)), y - 6, str(hertz), INK)
        for tick in range(2 * longest // RATE + 1):  # every half second
            x = LEFT + tick * RATE // (2 * HOP)
            canvas[top + panel_height : top + panel_height + (8 if tick % 2 == 0 else 4), x] = INK
            if tick % 2 == 0:
                text(canvas, x - 4, top + panel_height + 10, str(tick // 2), INK)
    text(canvas, width - RIGHT - text_width("seconds", 1), canvas.shape[0] - 12, "seconds", FAINT, scale=1)
    path.write_bytes(png(canvas))


def spectrogram(sound: Floats) -> Image:
    """The log-mel spectrogram of a sound `[n]` as pixels `[BANDS · BAND_HEIGHT, 1 + (n − 1) // HOP, 3]`."""
    decibels = log_mel(sound, BANDS, HOP, RANGE_DB)
    spread = max(float(np.ptp(decibels)), 1e-6)
    shade = (decibels - decibels.min()) / spread * (len(COLOURS) - 1)
    anchors = np.array(COLOURS, dtype=float)
    coloured = np.stack([np.interp(shade, np.arange(len(anchors)), anchors[:, c]) for c in range(3)], axis=-1)
    return coloured.transpose(1, 0, 2)[::-1].repeat(BAND_HEIGHT, axis=0).astype(np.uint8)


def _height(hertz: float) -> float:
    """Where a frequency lies between the lowest and the highest mel band, 0 … 1."""
    mel = [np.log10(1 + f / 700) for f in (LOWEST, hertz, HIGHEST)]
    return float((mel[1] - mel[0]) / (mel[2] - mel[0]))
