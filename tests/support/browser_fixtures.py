"""The fixtures of the browser tests, and the marks that such a test file carries: `pytestmark = browser_tests`.

`in_a_browser` leaves the renderer to the test file, for what does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from .browser import NODES_2_SINCE, RENDERERS, Window, find_chromium, windows
from .host_fixtures import REAL

if TYPE_CHECKING:
    from .real_host import RealHost

in_a_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(REAL is None, reason="no ComfyUI at $COMFYUI_PATH, above the pack, or ~/comfy/ComfyUI"),
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium on the PATH"),
    pytest.mark.parametrize("host", ["ComfyUI"], indirect=True),
]
browser_tests = [*in_a_browser, pytest.mark.parametrize("renderer", RENDERERS)]


@pytest.fixture(scope="module")
def open_window(host: RealHost) -> Iterator[Callable[[str], Window]]:
    """Makes the window of a renderer, once."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed (tests/requirements.txt)")
    with windows(host.server) as window:
        yield window


@pytest.fixture
def window(renderer: str, host: RealHost, open_window: Callable[[str], Window]) -> Window:
    """ComfyUI in a browser, with the classic canvas or with Nodes 2.0."""
    version = tuple(int(part) for part in host.server.version.split("."))
    if renderer != "classic" and version < NODES_2_SINCE:
        pytest.skip(f"ComfyUI {host.server.version} has no Nodes 2.0")
    return open_window(renderer)


__all__ = ["open_window", "window"]
