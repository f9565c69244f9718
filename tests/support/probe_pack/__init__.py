"""A pack for tests, beside the real one in a host: odd sounds, what came through a wire, which models are loaded."""

import hashlib
import json
import time
from typing import Any

import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io


class ProbeSound(io.ComfyNode):
    """A sound of any shape."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeSound",
            inputs=[
                io.Combo.Input("kind", options=["tone", "nan", "none"], default="tone"),
                io.Int.Input("clips", default=1, min=1, max=9),
                io.Int.Input("channels", default=1, min=1, max=9),
                io.Int.Input("samples", default=24_000, min=0, max=1_000_000),
                io.Int.Input("rate", default=24_000, min=1, max=400_000),
            ],
            outputs=[io.Audio.Output("sound", display_name="sound")],
        )

    @classmethod
    def execute(cls, kind: str, clips: int, channels: int, samples: int, rate: int) -> io.NodeOutput:
        if kind == "none":
            return io.NodeOutput(None)  # what LoadVideo sends for a silent video
        waves = [torch.sin(torch.arange(samples) * (0.05 + 0.01 * n)) / 2 for n in range(clips * channels)]
        waveform = torch.stack(waves).reshape(clips, channels, samples).float()
        if kind == "nan":
            waveform[..., samples // 2] = float("nan")
        return io.NodeOutput({"waveform": waveform, "sample_rate": rate})


class ProbeLists(io.ComfyNode):
    """Lists of any length, written as JSON."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeLists",
            inputs=[io.String.Input(name, default="[]") for name in ("texts", "integers", "numbers", "switches")],
            outputs=[
                io.String.Output("text_list", is_output_list=True),
                io.Int.Output("integer_list", is_output_list=True),
                io.Float.Output("number_list", is_output_list=True),
                io.Boolean.Output("switch_list", is_output_list=True),
            ],
        )

    @classmethod
    def execute(cls, texts: str, integers: str, numbers: str, switches: str) -> io.NodeOutput:
        return io.NodeOutput(*(json.loads(values) for values in (texts, integers, numbers, switches)))


class ProbeValue(io.ComfyNode):
    """Says as JSON what it got."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeValue",
            inputs=[io.AnyType.Input("value")],
            outputs=[io.AnyType.Output("same", display_name="same")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        return io.NodeOutput(value, ui={"text": [json.dumps(_describe(value))]})


class ProbeModels(io.ComfyNode):
    """Says as JSON which models the host holds, whenever it is asked."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ProbeModels",
            inputs=[io.AnyType.Input("after")],
            outputs=[io.AnyType.Output("same", display_name="same")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        return time.time()

    @classmethod
    def execute(cls, after: Any) -> io.NodeOutput:
        patchers = [entry.model for entry in comfy.model_management.current_loaded_models]
        found = [
            {"patcher": type(patcher).__name__, "module": type(patcher.model).__name__, "on": str(patcher.load_device)}
            for patcher in patchers
            if patcher is not None
        ]
        return io.NodeOutput(after, ui={"text": [json.dumps(found)]})


def _describe(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        wave = value["waveform"]
        told = {"kind": "AUDIO", "rate": value["sample_rate"], "shape": list(wave.shape), "dtype": str(wave.dtype)}
        return told | {"device": str(wave.device), "hash": _hash(wave.cpu().numpy())}
    if isinstance(value, torch.Tensor):
        told = {"kind": "Tensor", "shape": list(value.shape), "dtype": str(value.dtype), "device": str(value.device)}
        return told | {"lowest": float(value.min()), "highest": float(value.max())}
    if isinstance(value, (str, float)):
        return {"kind": type(value).__name__, "value": value}
    array = getattr(value, "codes", getattr(value, "ids", None))
    told = {"kind": type(value).__name__, "family": getattr(value, "family", None)}
    if array is None:
        return told | {"name": getattr(value, "name", None)}
    return told | {"shape": list(array.shape), "writeable": bool(array.flags.writeable), "hash": _hash(array)}


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


class Probe(ComfyExtension):
    """The nodes of this file."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ProbeSound, ProbeLists, ProbeValue, ProbeModels]


async def comfy_entrypoint() -> Probe:
    """Called by the host."""
    return Probe()
