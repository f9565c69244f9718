"""The picture of a view: lanes under one ruler of time, drawn into an array of pixels.

From the top: the sound as waveform and spectrogram, then each kind of tokens, with the curves of the trace over the
tokens that it belongs to. What is not given has no lane, so the picture is as high as it needs to be.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..audio import Audio
from ..drawing import Colour, Image, blend, line, text, text_width, ticks
from ..tokens import Tokens
from ..trace import Trace
from . import colours, lanes
from .lanes import Axis
from .sound import SPECTROGRAM_RATE, top_hertz
from .timeline import View

WIDTH = 1_200  # pixels
LEFT, RIGHT, TOP, BOTTOM = 164, 20, 40, 14  # margins around the lanes
GAP = 10  # between two lanes
Paint = Callable[[Image], None]
Notes = list[tuple[str, Colour]]


@dataclass(frozen=True, slots=True)
class _Lane:
    """A strip of the picture: how high it is, the words at its left, what is painted in it."""

    height: int
    notes: Notes
    paint: Paint
    rows: int = 1  # codebooks, which are numbered at the inner edge of the margin


def draw_view(view: View, selection: tuple[float, float]) -> Image:
    """The picture, bytes `[H, 1200, 3]`; a selection (start, end in seconds) that is not all of it is marked."""
    axis = Axis(WIDTH - LEFT - RIGHT, view.seconds)
    drawn = list(_lanes(view, axis))
    height = TOP + sum(lane.height + GAP for lane in drawn) - GAP + BOTTOM
    image = np.full((height, WIDTH, 3), colours.BACKGROUND, dtype=np.uint8)
    top = TOP
    for lane in drawn:
        area = image[top : top + lane.height, LEFT : WIDTH - RIGHT]
        area[:] = colours.LANE
        lane.paint(area)
        _label(image[top : top + lane.height, :LEFT], lane)
        top += lane.height + GAP
    _ruler(image, axis, view)
    if selection != (0.0, view.seconds):
        _mark(image[TOP - 6 : height - BOTTOM + 6, LEFT : WIDTH - RIGHT], axis, selection)
    return image


def _lanes(view: View, axis: Axis) -> Iterator[_Lane]:
    if view.audio is not None:
        yield from _sound_lanes(view.audio, view.spectrogram, axis)
    for name, tokens in view.tokens.items():
        if view.trace is not None and view.trace.kind == name:
            yield _trace_lane(view.trace, axis, view.rate(name))
        if tokens is not None:
            yield _semantic_lane(tokens, axis, view) if name == "semantic" else _code_lane(name, tokens, axis, view)


def _sound_lanes(audio: Audio, levels: npt.NDArray[np.uint8], axis: Axis) -> Iterator[_Lane]:
    samples, rate = audio.samples, audio.sample_rate
    notes = [("waveform", colours.WAVE), (f"peak {np.abs(samples).max():.2f}", colours.DIM)]
    yield _Lane(84, notes, lambda area: lanes.paint_wave(area, axis, samples, rate))
    notes = [("spectrogram", colours.TEXT), (f"0-{top_hertz(rate) / 1000:.3g} kHz", colours.DIM)]
    yield _Lane(118, notes, lambda area: lanes.paint_spectrogram(area, axis, levels, SPECTROGRAM_RATE))


def _semantic_lane(tokens: Tokens, axis: Axis, view: View) -> _Lane:
    ids, rate = np.asarray(tokens), view.rate("semantic")

    def paint(area: Image) -> None:
        lanes.paint_ids(area[:40], axis, ids, rate)
        lanes.paint_repeats(area[42:], axis, ids, rate)

    notes = [("semantic", colours.TEXT), (f"{len(ids)} tokens", colours.DIM), ("repeats", colours.REPEAT)]
    return _Lane(62, notes, paint)


def _code_lane(name: str, tokens: Tokens, axis: Axis, view: View) -> _Lane:
    codes, rate = np.asarray(tokens), view.rate(name)
    notes = [(name, colours.TEXT), (f"{len(codes)} × {codes.shape[1]}", colours.DIM)]
    height = (23 if len(codes) <= 2 else 16) * len(codes)
    return _Lane(height, notes, lambda area: lanes.paint_codes(area, axis, codes, rate), rows=len(codes))


def _trace_lane(trace: Trace, axis: Axis, rate: float) -> _Lane:
    """Curves of all steps; of the codebooks of a frame, the mean of those that were chosen."""
    probability, entropy = (_over_time(values) for values in (trace.probability, trace.entropy))
    highest = float(np.ceil(np.fmax.reduce(entropy, initial=1.0)))

    def paint(area: Image) -> None:
        lanes.paint_curve(area, axis, probability, rate, 1.0, colours.PROBABILITY, fill=True)
        lanes.paint_curve(area, axis, entropy, rate, highest, colours.ENTROPY, fill=False)
        if trace.end_probability is not None:
            lanes.paint_curve(area, axis, trace.end_probability, rate, 1.0, colours.END, fill=False)
        stops = {rule: step / rate for rule, step in trace.stops.items()}
        if trace.tail is not None and trace.tail["seconds"] < axis.seconds:
            blend(area[:, axis.column(trace.tail["seconds"]) :], colours.END, 0.25)
            stops["tail"] = trace.tail["seconds"]
        for number, (rule, moment) in enumerate(stops.items()):
            _stop(area, axis, moment, rule, 6 + 18 * number)

    notes = [("trace", colours.TEXT)]
    if not np.isnan(probability).all():
        notes = [("probability", colours.PROBABILITY), (f"entropy 0-{highest:.0f}", colours.ENTROPY)]
    if trace.end_probability is not None:
        notes.append(("end 0-1", colours.END))
    return _Lane(92, notes, paint)


def _over_time(values: np.ndarray) -> np.ndarray:
    """`[N]` as it is; `[K, F]` → `[F]`, the mean over the codebooks that have a value."""
    if values.ndim == 1:
        return values
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a frame has none: it stays a gap
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)


def _stop(area: Image, axis: Axis, seconds: float, rule: str, top: int) -> None:
    """Where a rule would have stopped: a dashed line with its name; nothing where that is later than all there is."""
    if seconds > axis.seconds:
        return
    column, width = axis.column(seconds), text_width(rule)
    area[np.arange(len(area)) % 8 < 5, column] = colours.END
    left = column - width - 6 if column >= width + 6 else column + 6
    blend(area[top - 2 : top + 16, left - 3 : left + width + 3], colours.BACKGROUND, 0.7)
    text(area, left, top, rule, colours.END)


def _label(margin: Image, lane: _Lane) -> None:
    """The words at the left of a lane, in the middle of its height; numbers of codebooks, as many as have room."""
    top = max(0, (len(margin) - 20 * len(lane.notes)) // 2 + 2)
    for number, (words, colour) in enumerate(lane.notes):
        text(margin, 12, top + 20 * number, words, colour)
    if lane.rows > 1:
        height = len(margin) // lane.rows
        for row in range(0, lane.rows, 1 if height >= 20 else 2):
            text(margin, LEFT - 16, row * height + height // 2 - 7, str(row), colours.DIM)


def _ruler(image: Image, axis: Axis, view: View) -> None:
    """Seconds along the top, and a faint line down through all lanes at each."""
    text(image, 12, 12, f"{view.seconds:.2f} s", colours.TEXT)
    for moment in ticks(0.0, axis.seconds, parts=10):
        column = LEFT + axis.column(moment)
        blend(image[TOP:, column : column + 1], colours.GRID, 0.35)
        line(image, (column, TOP - 8), (column, TOP - 2), colours.DIM)
        words = f"{moment:g}"
        text(image, min(column - text_width(words) // 2, WIDTH - RIGHT - text_width(words)), 12, words, colours.TEXT)


def _mark(area: Image, axis: Axis, selection: tuple[float, float]) -> None:
    """Darken what is not selected, and draw the two edges."""
    first, last = (axis.column(moment) for moment in selection)
    blend(area[:, :first], colours.BACKGROUND, 0.65)
    blend(area[:, last:], colours.BACKGROUND, 0.65)
    area[:, max(0, first - 1) : first + 1] = colours.SELECTION
    area[:, last : last + 2] = colours.SELECTION
    area[:3, first:last] = colours.SELECTION
    area[-3:, first:last] = colours.SELECTION
