"""Prompts for a host, written short: inputs that are not given get the node's own default.

graph = Graph()
models = graph.add("BarkLoadModels", models="nano")
graph.add("BarkTextToSemantic", models=models, text="Hello.")
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).resolve().parents[1] / "snapshots" / "object_info.json"
NODE_IDS = [
    "BarkLoadModels",
    "BarkTextLines",
    "BarkTextToSpeech",
    "BarkJoinAudio",
    "BarkLoadSpeakerPrompt",
    "BarkTextToSemantic",
    "BarkSemanticToCoarse",
    "BarkCoarseToFine",
    "BarkDecodeFineTokens",
    "BarkEncodeAudio",
    "BarkInspectTokens",
    "BarkTrimTokens",
    "BarkTrimTail",
    "BarkJoinTokens",
    "BarkReplaceRange",
    "BarkRepeatRange",
    "BarkSwapCodebooks",
    "BarkCoarseFromFine",
    "BarkMakeSpeakerPrompt",
    "BarkMixSpeakerPrompts",
    "BarkCropSpeakerPrompt",
    "BarkSaveSpeakerPrompt",
    "BarkSaveTokens",
    "BarkLoadTokens",
    "BarkSaveAudio",
    "BarkLoadAudio",
]
"""Frozen: a saved workflow names nodes by these."""

PROBE_SOUND = {"kind": "tone", "clips": 1, "channels": 1, "samples": 24_000, "rate": 24_000}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@functools.cache
def snapshot() -> dict[str, Any]:
    """The pack's nodes as the stored object_info has them."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Node:
    """A node in a graph; given as an input it stands for its first output."""

    key: str

    def out(self, slot: int) -> list[Any]:
        """Another output."""
        return [self.key, slot]


class Graph(dict[str, dict[str, Any]]):
    """A prompt in API format."""

    def add(self, class_type: str, **given: Any) -> Node:
        """Add a node; a Node as a value is a wire."""
        key = str(len(self) + 1)
        required = snapshot().get(class_type, {}).get("input", {}).get("required", {})
        defaults = {name: options["default"] for name, (_, options) in required.items() if "default" in options}
        if class_type == "ProbeSound":
            defaults = PROBE_SOUND
        wires = {name: value.out(0) if isinstance(value, Node) else value for name, value in given.items()}
        self[key] = {"class_type": class_type, "inputs": {**defaults, **wires}}
        return Node(key)

    def changed(self, node: Node, **inputs: Any) -> "Graph":
        """A copy with other inputs on one node."""
        copy = Graph(json.loads(json.dumps(self)))
        copy[node.key]["inputs"].update(inputs)
        return copy


@dataclass(frozen=True)
class Take:
    """The nodes of one spoken take, stage by stage."""

    models: Node
    semantic: Node
    coarse: Node
    fine: Node
    audio: Node

    @property
    def stages(self) -> tuple[Node, ...]:
        """All of them, in the order in which they run."""
        return self.models, self.semantic, self.coarse, self.fine, self.audio


def add_take(graph: Graph, text: str = "Hello there.", seconds: float = 0.6, seed: int = 1, **models: Any) -> Take:
    """All four stages; short, because every test runs one."""
    loader = graph.add("BarkLoadModels", **{"models": "nano", **models})
    semantic = graph.add("BarkTextToSemantic", models=loader, text=text, max_seconds=seconds, seed=seed)
    coarse = graph.add("BarkSemanticToCoarse", models=loader, semantic=semantic, seed=seed)
    fine = graph.add("BarkCoarseToFine", models=loader, coarse=coarse, seed=seed)
    return Take(loader, semantic, coarse, fine, graph.add("BarkDecodeFineTokens", models=loader, fine=fine))
