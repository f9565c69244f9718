"""The one-box node: text in, sound out, and the tokens of every stage for those who want to go on with them.

It takes lists, so that many texts share the steps of one batch. A single text is a list of one.
"""

import logging
from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ..bark_engine import (
    Bark,
    BarkError,
    BarkInputError,
    CoarseSampling,
    FineSampling,
    Request,
    SemanticSampling,
    SpeakerPrompt,
    Speech,
)
from . import host, inputs, lists
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic

log = logging.getLogger(__name__)

Outcome = Speech | BarkError


class TextToSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        semantic, coarse, fine = SemanticSampling(), CoarseSampling(), FineSampling()
        return host.schema(
            node_id="BarkTextToSpeech",
            display_name="Bark Text to Speech",
            category=CATEGORY,
            search_aliases=["bark", "tts", "suno", "voice", "speak", "batch"],
            description="Text in, speech out: all stages in one box, with one seed. A list of texts is spoken in one "
            "batch. Use the stage nodes instead to try one stage again while the others stay. Connect the audio to "
            "Save Audio (Bark) or to any audio node.",
            is_input_list=True,
            inputs=[
                inputs.models_input(),
                inputs.text_input("A list of texts, as Text Lines makes it, is spoken in one batch."),
                inputs.speaker_input("A list gives each text its own."),
                inputs.temperature_input(semantic.temperature, "text_temperature", "the text stage (words, pace)"),
                inputs.temperature_input(coarse.temperature, "coarse_temperature", "the coarse stage (voice, melody)"),
                inputs.temperature_input(fine.temperature, "fine_temperature", "the fine stage (detail)"),
                inputs.seed_input(
                    "All stages use it, and all texts of a list; for a seed of its own for each text, connect a list "
                    "of INTs in the order of the texts."
                ),
            ],
            outputs=[
                io.Audio.Output("audio", display_name="audio", is_output_list=True, tooltip="24 kHz, mono."),
                BarkSemantic.Output(
                    "semantic_tokens",
                    display_name="semantic",
                    is_output_list=True,
                    tooltip="What was said and how.",
                ),
                BarkCoarse.Output(
                    "coarse_tokens", display_name="coarse", is_output_list=True, tooltip="The rough sound."
                ),
                BarkFine.Output("fine_tokens", display_name="fine", is_output_list=True, tooltip="The whole sound."),
            ],
        )

    @classmethod
    def validate_inputs(cls, text: Sequence[str | None] | None = None) -> bool | str:
        return inputs.check_text(text[0] if text else None)

    @classmethod
    def execute(
        cls,
        models: list[Bark],
        text: list[str],
        text_temperature: list[float],
        coarse_temperature: list[float],
        fine_temperature: list[float],
        seed: list[int],
        speaker: list[SpeakerPrompt | None] | None = None,
    ) -> io.NodeOutput:
        runs = lists.paired(
            {
                "models": models,
                "text": text,
                "speaker": [None] if speaker is None else speaker,
                "seed": seed,
                "text_temperature": text_temperature,
                "coarse_temperature": coarse_temperature,
                "fine_temperature": fine_temperature,
            }
        )
        bark = _the_one_set(models)
        outcomes = _speak(bark, _requests(runs))
        speeches = [outcome for outcome in outcomes if isinstance(outcome, Speech)]
        failed = _failed(outcomes)
        return io.NodeOutput(
            [host.to_host_audio(speech.audio) for speech in speeches],
            [speech.semantic for speech in speeches],
            [speech.coarse for speech in speeches],
            [speech.fine for speech in speeches],
            ui={"bark_failed": [failed]} if failed else None,  # for web/js/failed_texts.js
        )


def _the_one_set(models: Sequence[Bark]) -> Bark:
    """The models that speak all texts. Raises BarkInputError where there are several."""
    if any(other is not models[0] for other in models):
        raise BarkInputError(
            f"A list of {len(models)} sets of models arrived, but one batch is spoken by one set. "
            "Use a Bark Text to Speech node for each set."
        )
    return models[0]


def _request(
    models: Bark,
    text: str,
    speaker: SpeakerPrompt | None,
    seed: int,
    text_temperature: float,
    coarse_temperature: float,
    fine_temperature: float,
) -> Request:
    """What is asked for, with all checks that need no stage. Raises BarkInputError."""
    samplings = SemanticSampling(text_temperature), CoarseSampling(coarse_temperature), FineSampling(fine_temperature)
    request = Request(text, speaker, seed, *samplings)
    models.check_request(request)
    return request


def _requests(runs: Sequence[dict[str, Any]]) -> list[Request]:
    """A request for every run, or one BarkInputError that names each run that cannot be."""
    requests: list[Request] = []
    faults: list[BarkInputError] = []
    told: list[str] = []
    for number, run in enumerate(runs, 1):
        try:
            requests.append(_request(**run))
        except BarkInputError as error:
            faults.append(error)
            told.append(f"Text {number} of {len(runs)}: {error}")
    if faults:
        raise faults[0] if len(runs) == 1 else BarkInputError("\n".join(told)) from faults[0]
    return requests


def _speak(bark: Bark, requests: Sequence[Request]) -> list[Outcome]:
    """What became of each request, in their order. Raises what `Bark.say` raises for a single one."""
    if len(requests) == 1:
        return [_say(bark, requests[0])]
    outcomes = dict(bark.say_many(requests, on_step=host.progress()))
    return [outcomes[number] for number in range(len(requests))]


def _say(bark: Bark, request: Request) -> Speech:
    return bark.say(
        request.text,
        request.speaker,
        request.seed,
        request.semantic,
        request.coarse,
        request.fine,
        on_step=host.progress(),
    )


def _failed(outcomes: Sequence[Outcome]) -> str:
    """What a person reads when some of the texts could not be spoken; empty when all were. Goes into the log, too.

    Raises BarkError when none was.
    """
    total = len(outcomes)
    failures = [f"Text {n} of {total}: {error}" for n, error in enumerate(outcomes, 1) if isinstance(error, BarkError)]
    if not failures:
        return ""
    if len(failures) == total:
        raise BarkError("\n".join(["None of the texts could be spoken.", *failures]))
    told = "\n".join([f"{len(failures)} of {total} texts could not be spoken; the outputs hold the others.", *failures])
    log.warning("Bark Text to Speech: %s", told)
    return told
