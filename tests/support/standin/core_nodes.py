"""ComfyUI's own audio nodes, as far as tests and examples use them: enough to pass sound on and to save it."""

from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

from support.sound import read_sound, write_flac


class _Save(io.ComfyNode):
    folder = "output"

    @classmethod
    def execute(cls, audio: dict[str, Any], filename_prefix: str = "ComfyUI_temp") -> io.NodeOutput:
        root = folder_paths.get_temp_directory() if cls.folder == "temp" else folder_paths.get_output_directory()
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, root)
        saved = []
        for number, clip in enumerate(audio["waveform"]):
            file = f"{name}_{counter + number:05}_.flac"
            write_flac(Path(folder, file), clip.numpy(), audio["sample_rate"])
            saved.append({"filename": file, "subfolder": subfolder, "type": cls.folder})
        return io.NodeOutput(audio, ui={"audio": saved})


class SaveAudio(_Save):
    @classmethod
    def define_schema(cls) -> io.Schema:
        prefix = io.String.Input("filename_prefix", default="audio/ComfyUI")
        return io.Schema(
            "SaveAudio",
            inputs=[io.Audio.Input("audio"), prefix],
            outputs=[io.Audio.Output("saved")],
            is_output_node=True,
        )


class PreviewAudio(_Save):
    folder = "temp"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "PreviewAudio",
            inputs=[io.Audio.Input("audio")],
            outputs=[io.Audio.Output("shown")],
            is_output_node=True,
        )


class LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        folder = Path(folder_paths.get_input_directory())
        files = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        return io.Schema(
            "LoadAudio", inputs=[io.Combo.Input("audio", options=files)], outputs=[io.Audio.Output("sound")]
        )

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        sound = read_sound(Path(folder_paths.get_input_directory(), audio))
        return io.NodeOutput({"waveform": torch.from_numpy(sound.samples)[None], "sample_rate": sound.rate})


class TrimAudioDuration(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        start = io.Float.Input("start_index", default=0.0, min=-1e10, max=1e10)
        seconds = io.Float.Input("duration", default=60.0, min=0.0)
        return io.Schema(
            "TrimAudioDuration", inputs=[io.Audio.Input("audio"), start, seconds], outputs=[io.Audio.Output("cut")]
        )

    @classmethod
    def execute(cls, audio: dict[str, Any], start_index: float, duration: float) -> io.NodeOutput:
        rate, length = audio["sample_rate"], audio["waveform"].shape[-1]
        start = round(start_index * rate) + (length if start_index < 0 else 0)
        cut = audio["waveform"][..., max(start, 0) : start + round(duration * rate)]
        return io.NodeOutput({"waveform": cut, "sample_rate": rate})


class AudioConcat(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        direction = io.Combo.Input("direction", options=["after", "before"], default="after")
        return io.Schema(
            "AudioConcat",
            inputs=[io.Audio.Input("audio1"), io.Audio.Input("audio2"), direction],
            outputs=[io.Audio.Output("joined")],
        )

    @classmethod
    def execute(cls, audio1: dict[str, Any], audio2: dict[str, Any], direction: str) -> io.NodeOutput:
        parts = [audio["waveform"].expand(-1, 2, -1) for audio in (audio1, audio2)]  # mono becomes stereo, always
        joined = torch.cat(parts if direction == "after" else parts[::-1], dim=-1)
        return io.NodeOutput({"waveform": joined, "sample_rate": audio1["sample_rate"]})


class AudioMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        method = io.Combo.Input("merge_method", options=["add", "mean", "subtract", "multiply"])
        return io.Schema(
            "AudioMerge",
            inputs=[io.Audio.Input("audio1"), io.Audio.Input("audio2"), method],
            outputs=[io.Audio.Output("merged")],
        )

    @classmethod
    def execute(cls, audio1: dict[str, Any], audio2: dict[str, Any], merge_method: str) -> io.NodeOutput:
        first, second = audio1["waveform"], audio2["waveform"]
        length = first.shape[-1]
        second = torch.nn.functional.pad(second[..., :length], (0, max(length - second.shape[-1], 0)))
        merged = {"add": first + second, "mean": (first + second) / 2, "subtract": first - second}.get(
            merge_method, first * second
        )
        return io.NodeOutput({"waveform": merged / max(1.0, float(merged.abs().max())), **_rate(audio1)})


class AudioAdjustVolume(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        volume = io.Int.Input("volume", default=1, min=-100, max=100)
        return io.Schema(
            "AudioAdjustVolume", inputs=[io.Audio.Input("audio"), volume], outputs=[io.Audio.Output("louder")]
        )

    @classmethod
    def execute(cls, audio: dict[str, Any], volume: int) -> io.NodeOutput:
        return io.NodeOutput({"waveform": audio["waveform"] * 10 ** (volume / 20), **_rate(audio)})


class EmptyAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            "EmptyAudio",
            inputs=[
                io.Float.Input("duration", default=60.0, min=0.0),
                io.Int.Input("sample_rate", default=44_100, min=1),
                io.Int.Input("channels", default=2, min=1, max=2),
            ],
            outputs=[io.Audio.Output("silence")],
        )

    @classmethod
    def execute(cls, duration: float, sample_rate: int, channels: int) -> io.NodeOutput:
        silence = torch.from_numpy(np.zeros((1, channels, round(duration * sample_rate)), np.float32))
        return io.NodeOutput({"waveform": silence, "sample_rate": sample_rate})


class CoreNodes(ComfyExtension):
    """The nodes of this file."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            SaveAudio,
            PreviewAudio,
            LoadAudio,
            TrimAudioDuration,
            AudioConcat,
            AudioMerge,
            AudioAdjustVolume,
            EmptyAudio,
        ]


def _rate(audio: dict[str, Any]) -> dict[str, int]:
    return {"sample_rate": audio["sample_rate"]}
