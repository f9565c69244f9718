"""In a real browser, a node's help as a person opens it, with its picture; and each picture as the server sends it."""

import urllib.request
from urllib.parse import urlsplit

import pytest
from test_help_pages import FOLDER, pictures

from support.browser import RENDERERS, Window
from support.browser_fixtures import in_a_browser
from support.comfy_server import PACK_NAME
from support.graphs import snapshot
from support.real_host import RealHost

ADDRESS = f"/extensions/{PACK_NAME}/docs"
SHOWN = """(title) => {
    const page = document.querySelector(".node-help-content");
    const image = page?.querySelector("img");
    return page?.querySelector("h1")?.textContent === title && image?.complete
        ? { source: image.src, alt: image.alt, width: image.naturalWidth } : null;
}"""

pytestmark = in_a_browser


@pytest.mark.parametrize("renderer", RENDERERS)
def test_the_info_button_opens_page_and_picture(window: Window) -> None:
    """Select a node, press the button that appears above it."""
    for node in ("BarkInspectTokens", "BarkTrimTail", "BarkLoadModels"):
        (number,) = window.build([{"type": node, "at": [500, 400]}], [])
        window.page.evaluate("(id) => app.canvas.selectNode(app.graph.getNodeById(id))", number)
        window.page.get_by_test_id("info-button").click()
        title = snapshot()[node]["display_name"]
        window.page.wait_for_function(f"(title) => ({SHOWN})(title)", arg=title, timeout=20_000)
        shown = window.page.evaluate(SHOWN, title)
        alt, file = pictures(node)[0]
        assert urlsplit(shown["source"]).path == f"{ADDRESS}/{file}"
        assert shown["alt"] == alt
        assert shown["width"] > 0
    # ComfyUI asks for a page in the user's language first, and the console keeps that there is none.
    assert [text for text in window.complaints() if "404" not in text] == []


def test_every_picture_is_served_as_one(host: RealHost) -> None:
    for page in FOLDER.glob("*.md"):
        for _, file in pictures(page.stem):
            with urllib.request.urlopen(f"{host.server.url}{ADDRESS}/{file}", timeout=60) as answer:
                assert answer.status == 200
                assert answer.headers["Content-Type"] == "image/jpeg"
                assert answer.read() == (FOLDER / file).read_bytes()
