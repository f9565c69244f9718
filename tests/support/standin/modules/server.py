"""Stand-in for `server`: messages to the one browser there is."""

from collections.abc import Callable
from typing import Any


class PromptServer:
    """Passes on what is sent to the browser that queued the running prompt; all else reaches nobody."""

    instance: "PromptServer"

    def __init__(self) -> None:
        self.client_id: str | None = "browser"
        self.hook: Callable[[str, dict[str, Any]], None] | None = None

    def send_sync(self, event: str, data: dict[str, Any], sid: str | None = None) -> None:
        if self.hook is not None and sid == self.client_id:
            self.hook(event, data)


PromptServer.instance = PromptServer()
