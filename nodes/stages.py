"""The three token stages, one node each: text → semantic (49.9 per second) → coarse (2 × 75) → fine (8 × 75).

Each node has its own seed and its own knobs, so changing a later stage re-uses what the earlier ones made.
"""

from comfy_api.latest import io

from ..bark_engine import (
    Bark,
    BarkError,
    CoarseSampling,
    CoarseTokens,
    FineSampling,
    SemanticSampling,
    SemanticTokens,
    SpeakerPrompt,
    TraceRecorder,
)
from ..bark_engine.sampling import MAX_COARSE_HISTORY, MAX_COARSE_WINDOW_END, MIN_COARSE_HISTORY
from . import host, inputs, live
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic, BarkTrace


def trace_output(what: str) -> io.Output:
    """What a stage knew about its tokens; `what` is the first sentence of the tooltip."""
    return BarkTrace.Output("trace", display_name="trace", tooltip=f"{what} Connect it to Inspect Tokens.")


class TextToSemantic(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = SemanticSampling()
        return host.schema(
            node_id="BarkTextToSemantic",
            display_name="Text to Semantic",
            category=CATEGORY,
            search_aliases=["bark", "tts", "text to speech", "voice"],
            description="Decides what is said and how: words, pace, laughter and pauses, as semantic tokens. "
            "Use it to try the same text with several seeds before paying for the later stages. "
            "Connect the result to Semantic to Coarse.",
            inputs=[
                inputs.models_input(),
                inputs.text_input(),
                inputs.speaker_input(),
                inputs.temperature_input(defaults.temperature),
                io.Float.Input(
                    "min_eos_p",
                    default=defaults.min_eos_p or 0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    display_name="stop probability",
                    tooltip="Stop as soon as the model thinks with this probability that the speech has ended. Less: "
                    "stops earlier and invents no tail (0.05 is good for short texts); more: may go on; 0: off.",
                ),
                io.Float.Input(
                    "max_seconds",
                    default=0.0,
                    min=0.0,
                    max=15.4,
                    step=0.1,
                    display_name="max seconds",
                    tooltip="Stop after this many seconds of speech. 0: as long as fits, 15.4 s with Suno's models.",
                ),
                io.Boolean.Input(
                    "early_stop",
                    default=defaults.early_stop,
                    display_name="early stop",
                    tooltip="On: the speech ends where the model ends it. Off: it goes on until max seconds.",
                ),
                inputs.top_k_input(),
                inputs.top_p_input(),
                inputs.seed_input(),
            ],
            outputs=[
                BarkSemantic.Output(
                    "semantic_tokens",
                    display_name="semantic",
                    tooltip="What is said and how: 49.9 tokens per second.",
                ),
                trace_output("How sure the model was of each token, and how near it saw the end. For Trim Tail, too."),
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
        temperature: float,
        min_eos_p: float,
        max_seconds: float,
        early_stop: bool,
        top_k: int,
        top_p: float,
        seed: int,
        speaker: SpeakerPrompt | None = None,
    ) -> io.NodeOutput:
        sampling = inputs.semantic_sampling(temperature, top_k, top_p, min_eos_p, max_seconds, early_stop)
        trace = TraceRecorder()
        tokens = models.text_to_semantic(text, speaker, sampling, seed, live.progress(trace), trace)
        return io.NodeOutput(tokens, trace.result())


class SemanticToCoarse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = CoarseSampling()
        return host.schema(
            node_id="BarkSemanticToCoarse",
            display_name="Semantic to Coarse",
            category=CATEGORY,
            search_aliases=["bark", "tts"],
            description="Turns semantic tokens into the rough sound: the first two of eight codebooks, with voice, "
            "room and melody. For long texts the slowest stage. Connect the result to Coarse to Fine.",
            inputs=[
                inputs.models_input(),
                BarkSemantic.Input("semantic", display_name="semantic", tooltip="From Text to Semantic."),
                inputs.speaker_input(),
                inputs.temperature_input(defaults.temperature),
                io.Int.Input(
                    "max_history",
                    default=defaults.max_history,
                    min=MIN_COARSE_HISTORY,
                    max=MAX_COARSE_HISTORY,
                    display_name="max history",
                    tooltip="Tokens of the past that each window sees, two per frame. More: steadier voice; less: "
                    "the voice may drift, and hardly any time is saved. Together with window at most "
                    f"{MAX_COARSE_WINDOW_END}.",
                ),
                io.Int.Input(
                    "window",
                    default=defaults.window,
                    min=1,
                    max=MAX_COARSE_WINDOW_END - MIN_COARSE_HISTORY,
                    display_name="window",
                    tooltip="Tokens made before the past is cut anew, two per frame. More: faster, but the text runs "
                    f"ahead; less: slower. Together with max history at most {MAX_COARSE_WINDOW_END}.",
                ),
                inputs.top_k_input(),
                inputs.top_p_input(),
                inputs.seed_input(),
            ],
            outputs=[
                BarkCoarse.Output(
                    "coarse_tokens",
                    display_name="coarse",
                    tooltip="The rough sound: two codebooks, 75 frames per second.",
                ),
                trace_output("How sure the model was of each code."),
            ],
        )

    @classmethod
    def validate_inputs(cls, max_history: int | None = None, window: int | None = None) -> bool | str:
        try:  # one that comes by a wire is not known yet, and counts as its least
            CoarseSampling(
                max_history=MIN_COARSE_HISTORY if max_history is None else max_history,
                window=1 if window is None else window,
            )
        except BarkError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        models: Bark,
        semantic: SemanticTokens,
        temperature: float,
        max_history: int,
        window: int,
        top_k: int,
        top_p: float,
        seed: int,
        speaker: SpeakerPrompt | None = None,
    ) -> io.NodeOutput:
        sampling = inputs.coarse_sampling(temperature, top_k, top_p, max_history, window)
        trace = TraceRecorder()
        tokens = models.semantic_to_coarse(semantic, speaker, sampling, seed, live.progress(trace), trace)
        return io.NodeOutput(tokens, trace.result())


class CoarseToFine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkCoarseToFine",
            display_name="Coarse to Fine",
            category=CATEGORY,
            search_aliases=["bark", "tts"],
            description="Adds the six codebooks that make the sound clear. Use it again on old coarse tokens to hear "
            "another rendering of the same take. Connect the result to Decode Fine Tokens.",
            inputs=[
                inputs.models_input(),
                BarkCoarse.Input("coarse", display_name="coarse", tooltip="From Semantic to Coarse."),
                inputs.speaker_input(),
                inputs.temperature_input(FineSampling().temperature),
                inputs.seed_input(),
            ],
            outputs=[
                BarkFine.Output(
                    "fine_tokens",
                    display_name="fine",
                    tooltip="The whole sound: eight codebooks, 75 frames per second.",
                ),
                trace_output("How sure the model was of each code of the six new codebooks."),
            ],
        )

    @classmethod
    def execute(
        cls, models: Bark, coarse: CoarseTokens, temperature: float, seed: int, speaker: SpeakerPrompt | None = None
    ) -> io.NodeOutput:
        trace = TraceRecorder()
        tokens = models.coarse_to_fine(coarse, speaker, FineSampling(temperature), seed, live.progress(trace), trace)
        return io.NodeOutput(tokens, trace.result())
