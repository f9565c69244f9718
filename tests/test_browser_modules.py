"""The JavaScript of the view that does not draw: the file reader, the axis, pyramids and repeats, in a real browser."""

import base64
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.browser import Window
from support.browser_fixtures import in_a_browser
from support.comfy_server import PACK_NAME
from support.inspector import RATE, write_view
from support.real_host import RealHost

pytestmark = [*in_a_browser, pytest.mark.parametrize("renderer", ["classic"])]

MODULES = f"/extensions/{PACK_NAME}/js/inspector"


def test_safetensors_in_javascript(window: Window, tmp_path: Path) -> None:
    """What Python writes is read, bit by bit; files that are cut, foreign or lie about their size are refused."""
    arrays = write_view(tmp_path / "view.safetensors", 3.0)
    whole = (tmp_path / "view.safetensors").read_bytes()
    read = f"""async (text) => {{
        const {{ readSafetensors }} = await import("{MODULES}/safetensors.js");
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        try {{
            const {{ tensors, metadata }} = readSafetensors(bytes.buffer);
            const plain = ([name, {{ shape, data }}]) => [name, [shape, [...data].map(Number)]];
            return [Object.fromEntries(Object.entries(tensors).map(plain)), metadata];
        }} catch (error) {{
            return error.message;
        }}
    }}"""

    def answer(content: bytes) -> Any:
        return window.page.evaluate(read, base64.b64encode(content).decode())

    tensors, metadata = answer(whole)
    assert metadata["family"] == "suno"
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        shape, numbers = tensors[name]
        assert shape == list(array.shape)
        np.testing.assert_array_equal(np.array(numbers, array.dtype).reshape(array.shape), array)
    hostile = [
        b"",
        b"ID3\x04",
        whole[:-10],
        whole[:300],
        (2**62).to_bytes(8, "little") + whole[8:],
        whole.replace(b'"I32"', b'"X32"', 1),
        whole.replace(b"[8,225]", b"[8,999]", 1),
        whole[:8] + b"\xff" * 20 + whole[28:],
    ]
    for content in hostile:
        message = answer(content)
        assert isinstance(message, str), content[:40]
        assert message.startswith("The view cannot be read: "), message


def test_the_axis_in_javascript(window: Window) -> None:
    """Zooming keeps the time under the pointer, nothing is shown that is not there, clocks say what they should."""

    @settings(max_examples=60, deadline=None)
    @given(
        seconds=st.floats(0.5, 4000),
        steps=st.lists(
            st.tuples(st.sampled_from(["zoom", "pan"]), st.floats(0.1, 8), st.floats(0, 700)), min_size=1, max_size=6
        ),
    )
    def check(seconds: float, steps: list[tuple[str, float, float]]) -> None:
        states = window.page.evaluate(
            f"""async ([seconds, steps]) => {{
                const {{ TimeAxis }} = await import("{MODULES}/time_axis.js");
                const axis = new TimeAxis(seconds, 700);
                return steps.map(([what, size, x]) => {{
                    const before = axis.time(x);
                    what === "zoom" ? axis.zoom(size, x) : axis.pan((size - 2) * 100);
                    return [what, before, axis.time(x), axis.start, axis.end, axis.span, axis.x(axis.time(x)) - x];
                }});
            }}""",
            [seconds, steps],
        )
        for what, before, after, start, end, span, error in states:
            assert start >= 0
            assert end <= seconds + 1e-6 * seconds
            assert abs(error) < 1e-6
            if what == "zoom" and start > 0 and end < seconds - 1e-9:
                assert after == pytest.approx(before, abs=1e-6 * span + 1e-9)

    check()
    clocks = [[3.25, 0.01], [83.5, 0.1], [59.999, 0.01], [600, 1], [5, 1], [0.5, 0.001]]
    assert window.page.evaluate(
        f"""async (clocks) => {{
            const {{ clock }} = await import("{MODULES}/time_axis.js");
            return clocks.map((given) => clock(...given));
        }}""",
        clocks,
    ) == ["3.25", "1:23.5", "1:00.00", "10:00", "5", "0.500"]


def test_envelopes_and_repeats_in_javascript(window: Window) -> None:
    """Against slow twins: the smallest and largest value of each stretch, and which tokens are stuck."""
    random = np.random.default_rng(3)
    values_in = random.normal(size=1000)
    levels = window.page.evaluate(
        f"""async (values) => {{
            const {{ Envelope }} = await import("{MODULES}/pyramid.js");
            return new Envelope(Float32Array.from(values)).levels.map(({{ low, high }}) => [[...low], [...high]]);
        }}""",
        values_in.tolist(),
    )
    assert len(levels) > 8
    for number, (low, high) in enumerate(levels):
        stretches = [values_in[i : i + 2**number] for i in range(0, 1000, 2**number)]
        np.testing.assert_allclose(low, [part.min() for part in stretches], rtol=1e-6)
        np.testing.assert_allclose(high, [part.max() for part in stretches], rtol=1e-6)

    for seed in range(20):
        random = np.random.default_rng(seed)
        parts = [np.tile(random.integers(0, 4, random.integers(1, 6)), random.integers(1, 14)) for _ in range(8)]
        ids = np.concatenate(parts).tolist()
        found = window.page.evaluate(
            f'async (ids) => [...(await import("{MODULES}/clip.js")).findRepeats(Int32Array.from(ids))]', ids
        )
        assert found == stuck(ids), seed


def stuck(ids: list[int]) -> list[int]:
    """The shortest period that holds around each token: ten times one id, or a pattern of up to 40 three times."""
    periods = [0] * len(ids)
    for period in range(40, 0, -1):
        least = 10 if period == 1 else 3 * period
        for start in range(len(ids) - least + 1):
            part = ids[start : start + least]
            if part[period:] == part[:-period]:
                periods[start : start + least] = [period] * least
    return periods


# The lanes of a clip and the trace's share in it, made of the lengths of its arrays and what else its file says.
LANES = f"""async ([lengths, metadata]) => {{
    const {{ makeClip }} = await import("{MODULES}/clip.js"), {{ makeLanes }} = await import("{MODULES}/lanes.js");
    const filled = (shape) => new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5);
    const tensor = ([name, shape]) => [name, {{ shape, data: filled(shape) }}];
    const clip = makeClip({{ tensors: Object.fromEntries(Object.entries(lengths).map(tensor)), metadata }});
    const lanes = makeLanes(clip, {{ dark: true, heat: [] }});
    const trace = lanes.find(({{ title }}) => title === "trace");
    return {{
        lanes: lanes.map(({{ title }}) => title),
        seconds: clip.seconds,
        words: trace?.probe(0.1, 0.5)?.words ?? null,
        known: clip.tracks.map(({{ kind, curves }}) => [kind, curves?.probability.values.length ?? null]),
    }};
}}"""


@pytest.mark.parametrize(
    ("given", "kind", "lanes"),
    [
        ({}, "semantic", ["trace"]),
        ({}, "coarse", ["trace"]),
        ({"wave": [300, 2]}, "semantic", ["waveform", "trace"]),
        ({"fine": [8, 150]}, "coarse", ["trace", "fine"]),
        ({"semantic": [100], "fine": [8, 150]}, "coarse", ["semantic", "trace", "fine"]),
        ({"semantic": [100], "coarse": [2, 150]}, "semantic", ["trace", "semantic", "coarse"]),
    ],
    ids=str,
)
def test_a_trace_has_a_lane_without_its_tokens(
    window: Window, given: dict[str, list[int]], kind: str, lanes: list[str]
) -> None:
    """As in the picture: where they would stand, with all that it knows, and as long as it is."""
    shape = [100] if kind == "semantic" else [2, 150]
    lengths = {**given, "trace.probability": shape, "trace.entropy": shape}
    found = window.page.evaluate(LANES, [lengths, {"trace_kind": kind}])
    assert found["lanes"] == lanes
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
    assert found["words"][-2:] == ["probability 50.0 %", "entropy 0.50"]


def test_tokens_know_what_the_trace_knew_of_them(window: Window) -> None:
    """Also of those that Trim Tail left; of other tokens than its own the trace says nothing, beside them it stands."""
    trace = {"trace.probability": [100], "trace.entropy": [100], "trace.end_probability": [101]}
    metadata = {"trace_kind": "semantic", "tail": '{"step": 60, "seconds": 1.2, "reason": "silence", "cut": true}'}
    for columns, known in [(100, 100), (60, 100), (80, None)]:
        found = window.page.evaluate(LANES, [{**trace, "semantic": [columns]}, metadata])
        assert found["lanes"] == ["trace", "semantic"]
        assert found["known"] == [["semantic", known]]
        assert found["words"] == ["trace of step 4", "probability 50.0 %", "entropy 0.50", "end 50.0 %"]
        assert found["seconds"] == pytest.approx(100 / RATE)


def test_the_player_stops_where_no_frame_is_drawn(host: RealHost, window: Window) -> None:
    """As in a hidden tab: at the end of the selection, or it begins again there."""
    (host.base / "temp").mkdir(exist_ok=True)
    with wave.open(str(host.base / "temp" / "silence.wav"), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 24_000 * 5))
    script = f"""async () => {{
        const {{ Player }} = await import("{MODULES}/player.js");
        const player = new Player({{ onChange: () => {{}}, onTime: () => {{}} }});
        const until = async (condition) => {{
            for (let tries = 0; !condition() && tries < 500; tries++) await new Promise((done) => setTimeout(done, 20));
            return [player.playing, player.time];
        }};
        player.tick = () => {{}}; // what a frame would call
        player.open(app.api.apiURL("/view?filename=silence.wav&type=temp"));
        player.range = [0.5, 1];
        await player.play();
        const once = await until(() => !player.playing);
        player.loop = true;
        await player.play();
        await until(() => player.time > 0.6);
        const again = await until(() => player.time < 0.6);
        player.close();
        return [once, again];
    }}"""
    once, again = window.page.evaluate(script)
    assert once == [False, 1]
    assert again == [True, pytest.approx(0.5, abs=0.1)]


def test_tiles_in_javascript(window: Window) -> None:
    """A picture of several tiles is drawn pixel by pixel where one column is one pixel, and averaged where two are."""
    script = f"""async () => {{
        const {{ TilePyramid }} = await import("{MODULES}/pyramid.js");
        const {{ TimeAxis }} = await import("{MODULES}/time_axis.js");
        const width = 2500, grey = (column) => (column * 7) % 256;
        const tiles = new TilePyramid(width, 1, (first, count, pixels) => {{
            for (let i = 0; i < count; i++) pixels[i] = (0xff000000 | (grey(first + i) * 0x010101)) >>> 0;
        }});
        const drawn = (pixels, start, end) => {{
            const canvas = Object.assign(document.createElement("canvas"), {{ width: pixels, height: 1 }});
            const axis = new TimeAxis(width, pixels), ctx = canvas.getContext("2d");
            axis.show(start, end);
            const complete = tiles.draw(ctx, axis, 1, {{ left: 0, top: 0, height: 1 }}, Infinity);
            return [complete, [...ctx.getImageData(0, 0, pixels, 1).data].filter((_, i) => i % 4 === 0)];
        }};
        const late = new TilePyramid(width, 1, () => {{}}).draw(
            document.createElement("canvas").getContext("2d"), new TimeAxis(width, 100), 1,
            {{ left: 0, top: 0, height: 1 }}, 0);
        return [drawn(2500, 0, 2500), drawn(500, 900, 1400), drawn(1250, 0, 2500), late];
    }}"""
    whole, part, half, late = window.page.evaluate(script)
    grey = np.arange(2500) * 7 % 256
    assert whole == [True, grey.tolist()]
    assert part == [True, grey[900:1400].tolist()]
    assert half[0]
    np.testing.assert_allclose(half[1], grey.reshape(-1, 2).mean(axis=1), atol=1.5)
    assert late is False  # no time left: come again
