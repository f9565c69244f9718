"""The one-box node: text in, sound out, and the tokens of every stage for those who want to go on with them."""

from comfy_api.latest import io

from ..bark_engine import Bark, CoarseSampling, FineSampling, SemanticSampling, SpeakerPrompt
from . import host, inputs
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic


class TextToSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        semantic, coarse, fine = SemanticSampling(), CoarseSampling(), FineSampling()
        return host.schema(
            node_id="BarkTextToSpeech",
            display_name="Bark Text to Speech",
            category=CATEGORY,
            search_aliases=["bark", "tts", "suno", "voice", "speak"],
            description="Text in, speech out: all stages in one box, with one seed. Use the stage nodes instead to try "
            "one stage again while the others stay. Connect the audio to Save Audio (Bark) or to any audio node.",
            inputs=[
                inputs.models_input(),
                inputs.text_input(),
                inputs.speaker_input(),
                inputs.temperature_input(semantic.temperature, "text_temperature", "the text stage (words, pace)"),
                inputs.temperature_input(coarse.temperature, "coarse_temperature", "the coarse stage (voice, melody)"),
                inputs.temperature_input(fine.temperature, "fine_temperature", "the fine stage (detail)"),
                inputs.seed_input(),
            ],
            outputs=[
                io.Audio.Output("audio", display_name="audio", tooltip="24 kHz, mono."),
                BarkSemantic.Output("semantic_tokens", display_name="semantic", tooltip="What was said and how."),
                BarkCoarse.Output("coarse_tokens", display_name="coarse", tooltip="The rough sound."),
                BarkFine.Output("fine_tokens", display_name="fine", tooltip="The whole sound."),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str | None = None) -> bool | str:
        return inputs.check_text(text)

    @classmethod
    def execute(
        cls,
        models: Bark,
        text: str,
        text_temperature: float,
        coarse_temperature: float,
        fine_temperature: float,
        seed: int,
        speaker: SpeakerPrompt | None = None,
    ) -> io.NodeOutput:
        speech = models.say(
            text,
            speaker,
            seed,
            SemanticSampling(text_temperature),
            CoarseSampling(coarse_temperature),
            FineSampling(fine_temperature),
            on_step=host.progress(),
        )
        return io.NodeOutput(host.to_host_audio(speech.audio), speech.semantic, speech.coarse, speech.fine)
