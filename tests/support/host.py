"""One way to talk to a host of the nodes, a real ComfyUI or the stand-in: give it a prompt, read what happened.

result = host.run(prompt)
assert result.status == "success" and result.ran == ["3", "4"]
"""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .graphs import Graph, Node

Prompt = dict[str, dict[str, Any]]
LAST_EVENTS = {
    "execution_success": "success",
    "execution_error": "error",
    "execution_interrupted": "interrupted",
}


@dataclass
class Result:
    """What became of a prompt.

    `status` is "success", "error" (a node raised), "interrupted" or "refused" (a 400). `ran` lists the nodes that were
    executed, in order; `cached` those whose outputs were there already; `ui` what nodes sent to the browser.
    `blocked` lists the nodes that were stopped by an output in front of them, with what the user is told;
    `message` is what a person reads: the node's error, or everything that the 400 says.
    """

    status: str
    ran: list[str] = field(default_factory=list)
    cached: set[str] = field(default_factory=set)
    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    message: str = ""
    failed: str = ""
    node_errors: dict[str, Any] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)


class Run:
    """A prompt on its way; gets the host's messages from another thread."""

    def __init__(self) -> None:
        self._messages: list[tuple[str, dict[str, Any]]] = []
        self._news = threading.Condition()
        self._ui: dict[str, Any] | None = None

    def add(self, event: str, data: dict[str, Any]) -> None:
        """A message of the host."""
        with self._news:
            self._messages.append((event, data))
            self._news.notify_all()

    def finish(self, ui: dict[str, Any]) -> None:
        """No more messages; these are the outputs."""
        with self._news:
            self._ui = ui
            self._news.notify_all()

    def wait_for_progress(self, node: str, seconds: float = 60) -> None:
        """Until the node has moved its progress bar for the first time."""
        self._wait(lambda: any(e == "progress" and d.get("node") == node for e, d in self._messages), seconds)

    def progress_of(self, node: str) -> list[tuple[int, int]]:
        """All (value, max) that the host reported for a node."""
        with self._news:
            return [(d["value"], d["max"]) for e, d in self._messages if e == "progress" and d.get("node") == node]

    def events(self, name: str) -> list[dict[str, Any]]:
        """All messages of one name so far."""
        with self._news:
            return [data for event, data in self._messages if event == name]

    def result(self, seconds: float = 180) -> Result:
        """Wait for the end."""
        self._wait(lambda: self._ui is not None, seconds)
        result = Result("unknown", ui=self._ui or {})
        for event, data in self._messages:
            if event == "executing" and data.get("node") is not None:
                result.ran.append(data["node"])
            elif event == "execution_cached":
                result.cached = set(data["nodes"])
            elif data.get("exception_type") == "ExecutionBlocked":
                result.blocked[data["node_id"]] = data["exception_message"]
            elif event in LAST_EVENTS:
                result.status = LAST_EVENTS[event]
                result.message = data.get("exception_message", "").strip()
                result.failed = data.get("node_id", "")
        return result

    def _wait(self, happened: Any, seconds: float) -> None:
        with self._news:
            if not self._news.wait_for(lambda: happened() or self._ui is not None, seconds):
                raise TimeoutError(f"Nothing of the kind within {seconds} s; the host said: {self._messages[-5:]}")


class Host(Protocol):
    """A place where nodes run."""

    name: str
    real: bool
    base: Path  # holds models, input, output and temp

    def object_info(self) -> dict[str, Any]:
        """All nodes as the browser learns them."""
        ...

    def submit(self, prompt: Prompt, workflow: dict[str, Any] | None = None) -> "Run | Result":
        """Queue a prompt; a Result with status "refused" when it is answered with a 400."""
        ...

    def interrupt(self) -> None:
        """What the stop button does."""
        ...

    def free(self) -> None:
        """Unload all models and drop all cached outputs."""
        ...

    def log_text(self) -> str:
        """What was logged so far."""
        ...


def run(host: Host, prompt: Prompt, workflow: dict[str, Any] | None = None) -> Result:
    """Queue a prompt and wait for its end."""
    answer = host.submit(prompt, workflow)
    return answer if isinstance(answer, Result) else answer.result()


def start(host: Host, prompt: Prompt) -> Run:
    """Queue a prompt that must be accepted."""
    answer = host.submit(prompt)
    assert isinstance(answer, Run), answer
    return answer


def saved_files(host: Host, result: Result, node: str) -> list[Path]:
    """The files a node told the browser about."""
    return [host.base / item["type"] / item["subfolder"] / item["filename"] for item in result.ui[node]["audio"]]


def shown_text(result: Result, node: Node) -> str:
    """The one text that a node told the browser to show."""
    (text,) = result.ui[node.key]["text"]
    return text


def probe_values(result: Result, probe: Node) -> list[Any]:
    """What a probe of the probe pack told, once for each item of a list that came to it."""
    assert result.status == "success", result.message
    return [json.loads(text) for text in result.ui[probe.key]["text"]]


def probe_value(result: Result, probe: Node) -> Any:
    """What a probe told where a single item came to it."""
    (value,) = probe_values(result, probe)
    return value


def run_probes(host: Host, graph: Graph, **wires: Any) -> dict[str, dict[str, Any]]:
    """Run the graph with a ProbeValue at the end of each wire; what came through, by the names given."""
    probes = {name: graph.add("ProbeValue", value=wire) for name, wire in wires.items()}
    result = run(host, graph)
    return {name: probe_value(result, probe) for name, probe in probes.items()}


def refusal(body: dict[str, Any]) -> Result:
    """A 400's body as a Result; the message holds every sentence of it."""
    parts = [body["error"], *(error for node in body["node_errors"].values() for error in node["errors"])]
    message = "\n".join(f"{part['message']}: {part.get('details', '')}" for part in parts)
    return Result("refused", message=message, node_errors=body["node_errors"])
