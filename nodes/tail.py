"""Trim Tail: cut what comes after the speech, before the slow stages are paid for it."""

from comfy_api.latest import io

from ..bark_engine import SemanticTokens, Trace
from ..bark_engine.tail import DEFAULT_STRICTNESS, trim_tail
from . import host
from .sockets import CATEGORY, BarkSemantic, BarkTrace


class TrimTail(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkTrimTail",
            display_name="Trim Tail",
            category=CATEGORY,
            search_aliases=["bark", "cut", "end", "silence", "babble", "hallucination", "loop", "rescue"],
            description="Finds where the speech in semantic tokens ended and a tail began: silence, a held sound, the "
            "same again and again, or babble after the end that the model saw. Cuts it off before the slow coarse "
            "stage, and says why. Put it between Text to Semantic and Semantic to Coarse.",
            inputs=[
                BarkSemantic.Input("semantic", display_name="semantic", tooltip="From Text to Semantic."),
                BarkTrace.Input(
                    "trace",
                    display_name="trace",
                    optional=True,
                    tooltip="From the Text to Semantic that made the tokens: with it babble is found, too. Without it, "
                    "only silence, held sounds and loops.",
                ),
                io.Float.Input(
                    "strictness",
                    default=DEFAULT_STRICTNESS,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_name="strictness",
                    tooltip="How soon something counts as a tail. More: shorter silences, and an end the model was "
                    "less sure of; less: only long and clear ones; 0: never.",
                ),
            ],
            outputs=[
                BarkSemantic.Output("semantic_tokens", display_name="semantic", tooltip="The speech without its tail."),
                io.String.Output("reason", display_name="reason", tooltip="What was found, in a sentence."),
                io.Float.Output("seconds", display_name="seconds", tooltip="Where the speech ended, in seconds."),
                BarkTrace.Output(
                    "tail_trace",
                    display_name="trace",
                    tooltip="The trace with the tail marked in it. Connect it to Inspect Tokens.",
                ),
            ],
        )

    @classmethod
    def execute(cls, semantic: SemanticTokens, strictness: float, trace: Trace | None = None) -> io.NodeOutput:
        tokens, tail = trim_tail(semantic, trace, strictness)
        known = Trace.of_nothing(semantic) if trace is None else trace
        return io.NodeOutput(tokens, tail.reason, tail.seconds, known.with_tail(tail.as_dict()))
