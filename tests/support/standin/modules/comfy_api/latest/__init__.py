"""Stand-in for ComfyUI's V3 API."""

from . import io


class ComfyExtension:
    """What `comfy_entrypoint` returns."""

    async def on_load(self) -> None:
        """Called once by newer hosts."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The pack's nodes."""
        raise NotImplementedError


__all__ = ["ComfyExtension", "io"]
