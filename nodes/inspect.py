"""Look at tokens: a view on the node, the same as a picture, and a summary in words."""

from typing import Any

from comfy_api.latest import io

from ..bark_engine import CoarseTokens, FineTokens, SemanticTokens, Trace
from ..bark_engine.view import View, draw_view, summary
from . import host, inputs
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic, BarkTrace


class InspectTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkInspectTokens",
            display_name="Inspect Tokens",
            category=CATEGORY,
            search_aliases=["bark", "view", "show", "preview", "waveform", "spectrogram", "trim", "select"],
            description="Shows tokens and sound on one axis of time: semantic tokens as coloured blocks, coarse and "
            "fine tokens as maps of their codebooks, the sound as waveform and spectrogram, and what the model knew "
            "as curves. Connect any of its inputs, at least one. Drag over the view to select a part; connect start "
            "and end to Trim Tokens to cut there.",
            is_output_node=True,
            inputs=[
                BarkSemantic.Input(
                    "semantic", display_name="semantic", optional=True, tooltip="Semantic tokens, 49.9 per second."
                ),
                BarkCoarse.Input(
                    "coarse", display_name="coarse", optional=True, tooltip="Coarse tokens: two codebooks."
                ),
                BarkFine.Input("fine", display_name="fine", optional=True, tooltip="Fine tokens: eight codebooks."),
                io.Audio.Input(
                    "audio",
                    display_name="audio",
                    optional=True,
                    tooltip="The sound of the same take, to be seen and played; one clip, mono or stereo.",
                ),
                BarkTrace.Input(
                    "trace",
                    display_name="trace",
                    optional=True,
                    tooltip="From the stage that made the tokens: how sure it was of each, shown as curves.",
                ),
                inputs.seconds_input(
                    "start", "Where the selection starts, in seconds. Dragging over the view fills it in."
                ),
                inputs.seconds_input(
                    "end", "Where the selection ends, in seconds. 0: at the end of the longest input."
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The view as a picture, selection marked."),
                io.String.Output(
                    "summary",
                    display_name="summary",
                    tooltip="Lengths, distinct ids, repeats, silence, and what the trace says, line by line.",
                ),
                io.Float.Output("start_seconds", display_name="start", tooltip="Start of the selection in seconds."),
                io.Float.Output("end_seconds", display_name="end", tooltip="End of the selection in seconds; never 0."),
            ],
        )

    @classmethod
    def execute(
        cls,
        start: float,
        end: float,
        semantic: SemanticTokens | None = None,
        coarse: CoarseTokens | None = None,
        fine: FineTokens | None = None,
        audio: dict[str, Any] | None = None,
        trace: Trace | None = None,
    ) -> io.NodeOutput:
        sound = None if audio is None else host.one_voice(audio, to="look at")
        view = View(semantic, coarse, fine, sound, trace)
        selection = view.selection(start, end)
        image = host.to_host_image(draw_view(view, selection))
        shown = {**host.show_view(view), "start": start, "end": end}  # for a selection that came by wires
        return io.NodeOutput(image, summary(view), *selection, ui={"bark_view": [shown]})
