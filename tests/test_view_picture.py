"""The picture that Inspect Tokens draws on the server: every pixel of a lane is where its time is."""

import numpy as np
import pytest

from bark_engine import Audio, CoarseTokens, FineTokens, SemanticTokens, Trace
from bark_engine.drawing import line, text, text_width, ticks
from bark_engine.view import View, colours, draw_view, summary
from bark_engine.view.lanes import Axis
from bark_engine.view.picture import LEFT, RIGHT, TOP, WIDTH

LANES = WIDTH - LEFT - RIGHT  # pixels across


def whole(view: View) -> np.ndarray:
    return draw_view(view, view.selection(0, 0))


def changed_columns(first: np.ndarray, second: np.ndarray) -> list[int]:
    """Columns of pixels, counted from the beginning of the lanes, in which two pictures differ."""
    return (np.flatnonzero((first != second).any(axis=(0, 2))) - LEFT).tolist()


def columns_of(start: float, end: float, seconds: float) -> list[int]:
    """Columns whose middle lies in a stretch of time; a slow twin of `Axis.positions`."""
    return [n for n in range(LANES) if start <= (n + 0.5) / LANES * seconds < end]


@pytest.mark.parametrize(("count", "rate"), [(7, 49.9), (499, 49.9), (75, 75.0), (9_000, 75.0)])
def test_each_column_shows_the_value_at_its_middle(count: int, rate: float) -> None:
    seconds = 1.25 * count / rate
    found = Axis(LANES, seconds).positions(rate, count)
    middles = [(n + 0.5) / LANES * seconds for n in range(LANES)]
    assert found.tolist() == [int(middle * rate) for middle in middles if int(middle * rate) < count]


def test_what_is_too_short_to_see_is_seen() -> None:
    assert Axis(LANES, 3_600.0).positions(49.9, 1).tolist() == [0]


def test_one_other_token_changes_the_picture_in_its_time_alone() -> None:
    ids = np.arange(100) % 60
    other = ids.copy()
    other[40] = 77  # neither neighbour is 77, so runs stay as they are
    seconds = 100 / 49.9
    found = changed_columns(whole(View(SemanticTokens(ids))), whole(View(SemanticTokens(other))))
    expected = columns_of(40 / 49.9, 41 / 49.9, seconds)
    assert found == expected[1:]  # the first is the seam
    assert len(expected) >= 10


def test_one_other_code_changes_one_row_in_its_time_alone() -> None:
    codes = np.random.default_rng(3).integers(0, 500, (8, 90))
    other = codes.copy()
    other[5, 30] = 1_000
    pictures = whole(View(fine=FineTokens(codes))), whole(View(fine=FineTokens(other)))
    assert changed_columns(*pictures) == columns_of(30 / 75, 31 / 75, 90 / 75)
    rows = np.flatnonzero((pictures[0] != pictures[1]).any(axis=(1, 2))) - TOP
    assert rows.min() // 16 == rows.max() // 16 == 5
    lone = pictures[1][TOP + 5 * 16 + 8, LEFT + columns_of(30 / 75, 31 / 75, 1.2)[3]]
    assert np.array_equal(lone, colours.code_colours(other)[5, 30])


def test_ids_have_their_own_colours() -> None:
    """The same id the same, wherever it is; two thousand ids almost all another one, none hard to see."""
    found = colours.id_colours(np.arange(2_000))
    assert len({tuple(colour) for colour in found.tolist()}) > 1_900
    assert (found @ [0.299, 0.587, 0.114]).min() > 80  # on a ground of 30
    assert np.array_equal(colours.id_colours(np.array([[7, 9], [9, 7]]))[0], found[[7, 9]])


def test_repeats_hang_under_the_strip() -> None:
    ids = np.arange(60)
    ids[20:36] = 5
    picture = whole(View(SemanticTokens(ids)))
    bars = (picture[TOP + 42 : TOP + 62, LEFT : WIDTH - RIGHT] == colours.REPEAT).all(axis=2)
    columns = np.flatnonzero(bars.any(axis=0)).tolist()
    inside = columns_of(20 / 49.9, 36 / 49.9, 60 / 49.9)
    assert set(inside) - set(columns) <= {
        int(n * LANES / (60 / 49.9) + 0.5) for n in ticks(0, 60 / 49.9, 10)
    }  # grid lines
    assert set(columns) <= set(inside)
    assert bars.sum(axis=0).max() == 16  # log2 16 / log2 32 of 20 pixels


def test_the_sound_is_drawn_where_it_sounds() -> None:
    samples = np.zeros(24_000, np.float32)
    samples[6_000:12_000] = np.sin(np.arange(6_000) * 0.3)
    picture = whole(View(audio=Audio(samples)))
    wave = (picture[TOP : TOP + 84, LEFT : WIDTH - RIGHT] == colours.WAVE).all(axis=2).sum(axis=0)
    loud = np.flatnonzero(wave > 20)
    assert abs(loud[0] - 0.25 * LANES) <= 1
    assert abs(loud[-1] - 0.5 * LANES) <= 1
    assert wave[loud].max() >= 80
    heat = picture[TOP + 94 : TOP + 94 + 118, LEFT : WIDTH - RIGHT].astype(int).sum(axis=2).max(axis=0)
    assert heat[int(0.3 * LANES)] > 400
    assert heat[int(0.85 * LANES)] < 80


@pytest.mark.parametrize("kind", ["semantic", "coarse", "fine"])
def test_the_trace_is_drawn_for_each_kind(kind: str) -> None:
    """Its lane, with a step of the probability where it is in time, and a gap where there is no number."""
    shape = {"semantic": (100,), "coarse": (2, 150), "fine": (8, 150)}[kind]
    values = np.full(shape, 0.25, np.float32)
    step = round(0.45 * shape[-1])  # not under a line of the ruler
    values[..., step:] = 0.75
    if kind == "fine":
        values[:2] = np.nan
    values[..., -10:] = np.nan
    picture = whole(View(trace=Trace(kind, "suno", values, values * 0)))
    lane = (picture[TOP : TOP + 92, LEFT : WIDTH - RIGHT] == colours.PROBABILITY).all(axis=2)
    quarter, three = (int(np.flatnonzero(lane[:, int(at * LANES)]).mean()) for at in (0.33, 0.67))
    assert quarter == pytest.approx(90 - 0.25 * 89, abs=1.5)
    assert three == pytest.approx(90 - 0.75 * 89, abs=1.5)
    steep = np.flatnonzero(lane.sum(axis=0) > 30)
    assert steep.tolist() == [pytest.approx(step / shape[-1] * LANES, abs=1)]
    assert not lane[:, LANES - 5 :].any()


def test_stops_and_tail_are_marked() -> None:
    bare = Trace("semantic", "suno", np.full(100, 0.5), np.zeros(100))
    seen = Trace("semantic", "suno", np.full(100, 0.5), np.zeros(100), stops={"min_eos_p": 50, "full": 768})
    found = changed_columns(whole(View(trace=bare)), whole(View(trace=seen)))
    assert LANES // 2 - text_width("min_eos_p") - 10 <= found[0]
    assert found[-1] == LANES // 2
    tailed = bare.with_tail({"step": 75, "seconds": 75 / 49.9, "reason": "x"})
    found = changed_columns(whole(View(trace=bare)), whole(View(trace=tailed)))
    assert found[-LANES // 4 :] == list(range(LANES * 3 // 4, LANES))
    assert found[0] >= LANES * 3 // 4 - text_width("tail") - 10  # its name
    none = bare.with_tail({"step": 100, "seconds": 100 / 49.9, "reason": "x"})
    assert np.array_equal(whole(View(trace=bare)), whole(View(trace=none)))


@pytest.mark.filterwarnings("error")
def test_a_trace_that_only_carries_a_tail_is_drawn() -> None:
    tokens = SemanticTokens(np.arange(100))
    bare, tailed = (
        Trace.of_nothing(tokens),
        Trace.of_nothing(tokens).with_tail({"step": 50, "seconds": 1.0, "reason": "x"}),
    )
    found = changed_columns(whole(View(tokens, trace=bare)), whole(View(tokens, trace=tailed)))
    assert found[-1] == LANES - 1
    assert "nan" not in summary(View(tokens, trace=tailed))


def test_the_ruler_has_round_seconds_in_their_place() -> None:
    """Faint lines through the lanes, at every tick and nowhere else."""
    picture = whole(View(coarse=CoarseTokens(np.zeros((2, 150), int))))
    row = picture[TOP + 5, LEFT : WIDTH - RIGHT]
    columns = np.flatnonzero((row != row[3]).any(axis=1))
    assert columns.tolist() == [int(n * 0.2 / 2.0 * LANES + 0.5) for n in range(10)] + [LANES - 1]


def test_a_selection_is_marked_and_the_rest_is_darker() -> None:
    view = View(SemanticTokens(np.arange(100)), audio=Audio(np.ones(48_000, np.float32) / 2))
    plain, marked = whole(view), draw_view(view, view.selection(0.5, 1.0))
    edges = np.flatnonzero((marked[TOP + 50] == colours.SELECTION).all(axis=1)) - LEFT
    first, last = (int(moment / view.seconds * LANES + 0.5) for moment in (0.5, 1.0))
    assert edges.tolist() == [first - 1, first, last, last + 1]
    inside, outside = slice(LEFT + first + 2, LEFT + last - 2), slice(LEFT, LEFT + first - 3)
    lanes = slice(TOP + 4, -20)
    assert np.array_equal(plain[lanes, inside], marked[lanes, inside])
    darker = np.rint(plain[lanes, outside] * 0.35 + np.array(colours.BACKGROUND) * 0.65)
    assert np.array_equal(marked[lanes, outside], darker)


def test_every_lane_is_there_and_none_too_many() -> None:
    everything = View(
        SemanticTokens(np.arange(100)),
        CoarseTokens(np.ones((2, 150), int)),
        FineTokens(np.ones((8, 150), int)),
        Audio(np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)),
        Trace("coarse", "suno", np.ones((2, 150)), np.ones((2, 150))),
    )
    picture = whole(everything)
    assert picture.dtype == np.uint8
    assert picture.shape == (634, 1_200, 3)
    assert whole(View(everything.semantic)).shape == (TOP + 62 + 14, 1_200, 3)


# -- letters, lines, ticks ------------------------------------------------------------------------------------------


def test_letters_have_their_place() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    text(image, 10, 5, "Hp", (255, 255, 255))
    rows, columns = np.nonzero(image[..., 0])
    assert (rows.min(), columns.min()) == (5, 10)
    assert columns.max() + 1 - columns.min() == text_width("Hp")
    assert rows.max() == 5 + 2 * 9 - 1  # p hangs below the line
    before = image.copy()
    text(image, 55, 5, "m", (9, 9, 9))  # no room
    text(image, 5, 20, "m", (9, 9, 9))
    assert np.array_equal(image, before)


def test_lines_stay_inside() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    line(image, (-5.0, 3.0), (30.0, 3.0), (1, 2, 3))
    assert np.array_equal(image[3], np.tile(np.array([1, 2, 3], np.uint8), (20, 1)))
    assert not image[[0, 1, 2, 4, 5]].any()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 2, [0, 0.5, 1, 1.5, 2]),
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0.3, 0.9, [0.4, 0.6, 0.8]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert list(ticks(low, high)) == pytest.approx(expected)
