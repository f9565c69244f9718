"""Sound to files, in ComfyUI's output folder, with the workflow inside and a player on the node."""

from typing import Any

import numpy as np
from comfy_api.latest import io

from ..bark_engine import Audio
from ..bark_engine.audio import resample
from ..bark_engine.audio_files import peak_normalise
from . import host
from .sockets import CATEGORY

# What the format widget offers → file extension and options of `save_audio`.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "flac": ("flac", {}),
    "wav 16-bit": ("wav", {"bit_depth": "16"}),
    "wav 24-bit": ("wav", {"bit_depth": "24"}),
    "wav 32-bit float": ("wav", {"bit_depth": "32f"}),
    "mp3": ("mp3", {}),
    "opus": ("opus", {}),
}
LOSSY = ("mp3", "opus")
BIT_RATES = ("64k", "96k", "128k", "160k", "192k", "320k")
RATES = {"native": None, "44100": 44_100, "48000": 48_000}


class SaveAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkSaveAudio",
            display_name="Save Audio (Bark)",
            category=CATEGORY,
            search_aliases=["bark", "save", "wav", "flac", "mp3", "opus", "export"],
            description="Writes sound to the output folder and plays it. Mono stays mono. FLAC, MP3 and Opus carry the "
            "workflow: drop the file on ComfyUI to get the graph back. Passes the audio on.",
            is_output_node=True,
            inputs=[
                io.Audio.Input("audio", display_name="audio", tooltip="Any sound; each clip of a batch gets a file."),
                io.String.Input(
                    "filename_prefix",
                    default="audio/bark",
                    display_name="filename prefix",
                    tooltip="Name and folders inside the output folder; a number is added. Knows ComfyUI's tokens, "
                    "such as %year%-%month%-%day% and %batch_num%.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="flac",
                    display_name="format",
                    tooltip="flac: lossless and small. wav: for audio editors. mp3, opus: smallest, lossy.",
                ),
                io.Combo.Input(
                    "sample_rate",
                    options=list(RATES),
                    default="native",
                    display_name="sample rate",
                    tooltip="native: as it comes, 24,000 Hz from Bark. 44100 and 48000 fit CD and video projects; they "
                    "add no detail.",
                ),
                io.Combo.Input(
                    "bit_rate",
                    options=list(BIT_RATES),
                    default="128k",
                    display_name="bit rate",
                    tooltip="For mp3 and opus: more sounds better and takes more space. Mp3 at 24,000 Hz ends at 160k.",
                ),
                io.Boolean.Input(
                    "normalise",
                    default=False,
                    display_name="normalise",
                    tooltip="On: scale the clip so that its peak is at −1 dBFS. Off: leave the loudness alone.",
                ),
            ],
            outputs=[io.Audio.Output("saved_audio", display_name="audio", tooltip="The sound as it came in.")],
        )

    @classmethod
    def execute(
        cls, audio: dict[str, Any], filename_prefix: str, format: str, sample_rate: str, bit_rate: str, normalise: bool
    ) -> io.NodeOutput:
        clips, rate = host.clips_of(audio)
        wanted = RATES[sample_rate] or rate
        ready = [_prepared(clip, rate, wanted, normalise) for clip in clips]
        extension, options = FORMATS[format]
        if format in LOSSY:
            options = {**options, "bit_rate": bit_rate}
        saved = host.save_clips(ready, wanted, filename_prefix, extension, cls, **options)
        return io.NodeOutput(audio, ui={"audio": saved})


def _prepared(clip: np.ndarray, rate: int, wanted: int, normalise: bool) -> np.ndarray:
    """A clip `[C, n]` at the wanted rate and, where asked, at full level; checks each channel on the way."""
    channels = [resample(Audio(channel, rate), wanted).samples for channel in clip]
    stacked = np.stack(channels)
    return peak_normalise(stacked) if normalise else stacked
