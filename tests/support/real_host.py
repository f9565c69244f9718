"""A real ComfyUI server as a `Host`: prompts by HTTP, messages by websocket."""

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import websocket

from .comfy_server import ComfyServer
from .host import Prompt, Result, Run, refusal


class RealHost:
    """One client of a running server."""

    real = True

    def __init__(self, server: ComfyServer):
        self.server = server
        self.name = f"ComfyUI {server.version}"
        self.base: Path = server.base
        self._client = uuid.uuid4().hex
        self._runs: dict[str, Run] = {}
        self._socket = websocket.create_connection(f"ws://{server.address}/ws?clientId={self._client}", timeout=300)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def object_info(self) -> dict[str, Any]:
        return self.server.get_json("/object_info")

    def submit(self, prompt: Prompt, workflow: dict[str, Any] | None = None) -> Run | Result:
        name, run = str(uuid.uuid4()), Run()
        self._runs[name] = run
        extra = {} if workflow is None else {"extra_pnginfo": {"workflow": workflow}}
        body = {"prompt": prompt, "prompt_id": name, "client_id": self._client, "extra_data": extra}
        status, answer = self.server.post_json("/prompt", body)
        if status == 400:
            return refusal(answer)
        assert status == 200, answer
        # A node that is refused does not keep other outputs from running; for tests a refusal is a refusal.
        if answer["node_errors"]:
            run.result()
            return refusal({"error": {"message": "partly refused"}, "node_errors": answer["node_errors"]})
        return run

    def interrupt(self) -> None:
        status, _ = self.server.post_json("/interrupt", {})
        assert status == 200

    def free(self) -> None:
        status, _ = self.server.post_json("/free", {"unload_models": True, "free_memory": True})
        assert status == 200
        time.sleep(1)  # the server's worker does it when it wakes up, and says nothing

    def log_text(self) -> str:
        return self.server.log_text()

    def _listen(self) -> None:
        while True:
            try:
                message = self._socket.recv()
            except (websocket.WebSocketException, OSError):
                return
            if not isinstance(message, str) or not message:
                continue
            packet = json.loads(message)
            data = packet["data"]
            run = self._runs.get(data.get("prompt_id", ""))
            if run is None:
                continue
            run.add(packet["type"], data)
            if packet["type"] == "executing" and data["node"] is None:
                history = json.loads(self.server.get(f"/history/{data['prompt_id']}"))  # may echo a test's NaN
                run.finish(history[data["prompt_id"]]["outputs"])
