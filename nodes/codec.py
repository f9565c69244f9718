"""Between tokens and sound: fine tokens [8, F] at 75 frames per second ↔ AUDIO at 24 kHz, through EnCodec."""

from typing import Any

from comfy_api.latest import io

from ..bark_engine import Bark, FineTokens
from . import host, inputs
from .sockets import CATEGORY, BarkCoarse, BarkFine


class DecodeFineTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkDecodeFineTokens",
            display_name="Decode Fine Tokens",
            category=CATEGORY,
            search_aliases=["bark", "encodec"],
            description="Turns fine tokens into sound: 24 kHz, mono. Connect the result to Save Audio (Bark) or to any "
            "audio node.",
            inputs=[
                inputs.models_input(),
                BarkFine.Input("fine", display_name="fine", tooltip="From Coarse to Fine or Encode Audio."),
            ],
            outputs=[io.Audio.Output("audio", display_name="audio", tooltip="24 kHz, mono, −1 … 1.")],
        )

    @classmethod
    def execute(cls, models: Bark, fine: FineTokens) -> io.NodeOutput:
        return io.NodeOutput(host.to_host_audio(models.decode(fine, on_step=host.progress())))


class EncodeAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkEncodeAudio",
            display_name="Encode Audio",
            category=CATEGORY,
            search_aliases=["bark", "encodec", "voice cloning"],
            description="Turns any recording into fine and coarse tokens, so that it can be cut, mixed and decoded "
            "like speech that Bark made. Any sample rate; stereo is averaged to mono.",
            inputs=[
                inputs.models_input(),
                io.Audio.Input("audio", display_name="audio", tooltip="Mono or stereo, any rate, one clip."),
            ],
            outputs=[
                BarkFine.Output("fine_tokens", display_name="fine", tooltip="Eight codebooks, 75 frames per second."),
                BarkCoarse.Output("coarse_tokens", display_name="coarse", tooltip="The first two of them."),
            ],
        )

    @classmethod
    def execute(cls, models: Bark, audio: dict[str, Any]) -> io.NodeOutput:
        fine = models.encode(host.one_voice(audio), on_step=host.progress())
        return io.NodeOutput(fine, fine.coarse)
