"""ComfyUI's way in: the nodes, and the folder of the front end. Nothing is imported until the host asks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import BarkExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> BarkExtension:
    """Called by ComfyUI 0.3.48 and later; gives it the pack's nodes."""
    try:
        from .nodes import BarkExtension
    except Exception:
        logging.getLogger(__name__).exception("The Bark nodes could not be loaded")  # the host hides the traceback
        raise
    return BarkExtension()
