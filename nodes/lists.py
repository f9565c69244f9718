"""Many things at once: a list of texts from one text, one sound from a list, and how lists at a node are paired."""

from collections.abc import Mapping, Sequence
from typing import Any

from comfy_api.latest import io

from ..bark_engine import BarkInputError
from ..bark_engine.joining import MAX_PAUSE, PAUSE, join_sounds
from . import host, inputs
from .sockets import CATEGORY


class TextLines(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkTextLines",
            display_name="Text Lines",
            category=CATEGORY,
            search_aliases=["bark", "split text", "lines", "list of texts", "batch"],
            description="Makes a list of texts from one text, a line each. Connect it to Bark Text to Speech, which "
            "speaks the whole list in one batch; any other node runs once for each line.",
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    default="Good morning.\nHow are you today?",
                    display_name="text",
                    tooltip="One text per line, in the order of the list. Empty lines are left out, and so are spaces "
                    "at the ends of a line.",
                )
            ],
            outputs=[
                io.String.Output(
                    "lines", display_name="lines", is_output_list=True, tooltip="A list: one text per line."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, text: str | None = None) -> bool | str:
        return inputs.check_text(text)

    @classmethod
    def execute(cls, text: str) -> io.NodeOutput:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines:
            raise BarkInputError("The text has no line with a word in it. Write at least one.")
        return io.NodeOutput(lines)


class JoinAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkJoinAudio",
            display_name="Join Audio (Bark)",
            category=CATEGORY,
            search_aliases=["bark", "concatenate", "combine clips", "merge audio", "long text", "list to one"],
            description="Puts all clips of a list one after another into one sound, with a pause between them. So a "
            "long text is read: Text Lines, Bark Text to Speech with a speaker, and this. Connect it to Save Audio "
            "(Bark) or to any audio node.",
            is_input_list=True,
            inputs=[
                io.Audio.Input(
                    "audio",
                    display_name="audio",
                    tooltip="A list of clips, in their order; a batch counts as its clips. A single clip stays as it "
                    "is.",
                ),
                io.Float.Input(
                    "pause",
                    default=PAUSE,
                    min=0.0,
                    max=MAX_PAUSE,
                    step=0.05,
                    display_name="pause",
                    tooltip="Silence between two clips, in seconds. 0: none.",
                ),
            ],
            outputs=[
                io.Audio.Output(
                    "joined_audio",
                    display_name="audio",
                    tooltip="One clip, at the highest sample rate and with the most channels of the list.",
                )
            ],
        )

    @classmethod
    def execute(cls, audio: list[Any], pause: list[float]) -> io.NodeOutput:
        sounds = [(clip, rate) for clips, rate in map(host.clips_of, audio) for clip in clips]
        return io.NodeOutput(host.clip_to_host(*join_sounds(sounds, pause[0])))


def paired(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Inputs that arrived as lists → the inputs of each single run, as ComfyUI pairs them when it maps a node.

    The longest list decides how many there are; a shorter one repeats its last value. Raises BarkInputError for a
    list with nothing in it.
    """
    for name, column in columns.items():
        if not column:
            raise BarkInputError(f"The list at the input {name!r} is empty. Connect one that holds something.")
    count = max(len(column) for column in columns.values())
    return [{name: column[min(n, len(column) - 1)] for name, column in columns.items()} for n in range(count)]
