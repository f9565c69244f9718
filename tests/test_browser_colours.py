"""A token has one colour: the view in the browser and the picture drawn on the server agree about it."""

import numpy as np
import pytest

from bark_engine.view import colours
from support.browser import Window
from support.browser_fixtures import in_a_browser
from support.comfy_server import PACK_NAME

pytestmark = [*in_a_browser, pytest.mark.parametrize("renderer", ["classic"])]


def test_python_and_javascript_give_the_same_colours(window: Window) -> None:
    """Every third semantic id of Suno's, and all codes of all codebooks, on a dark ground."""
    semantic, codes = window.page.evaluate(
        f"""async () => {{
            const {{ semanticColour, codeColour }} = await import("/extensions/{PACK_NAME}/js/inspector/colours.js");
            const many = (length, make) => Array.from({{ length }}, (_, number) => make(number));
            return [
                many(3333, (number) => semanticColour(3 * number, true)),
                many(8, (codebook) => many(1024, (code) => codeColour(code, codebook, true))),
            ];
        }}"""
    )
    assert np.array_equal(semantic, colours.id_colours(3 * np.arange(3_333)))
    assert np.array_equal(codes, colours.code_colours(np.tile(np.arange(1_024), (8, 1))))
