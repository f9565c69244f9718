"""Cut and swap tokens: a part, several parts joined, a range replaced or repeated, codebooks of one sound in another.

All kinds are cut at the same points of time, 49.9 per second, so that semantic, coarse and fine tokens of one take stay
together. Nothing is changed in place: the tokens that came in are as they were.
"""

from numbers import Real

from comfy_api.latest import io

from ..bark_engine import BarkInputError, CoarseTokens, FineTokens, editing
from ..bark_engine.tokens import Tokens
from . import host, inputs
from .sockets import CATEGORY, AnyBarkTokens, BarkCoarse, BarkCodes, BarkFine

MAX_TIMES = 1_000
MAX_CODEBOOK = 31  # EnCodec has 32; Suno's models use eight of them
SEARCH = ["bark", "edit"]
LATER = ("third", "fourth", "fifth", "sixth", "seventh", "eighth")


class TrimTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkTrimTokens",
            display_name="Trim Tokens",
            category=CATEGORY,
            search_aliases=[*SEARCH, "cut", "crop", "select"],
            description="The part of any tokens between two times. Connect start and end of Inspect Tokens to cut out "
            "what is selected there. Semantic, coarse and fine tokens cut at one time stay together.",
            inputs=[
                AnyBarkTokens.Input("tokens", display_name="tokens", tooltip="Semantic, coarse or fine tokens."),
                *inputs.range_inputs("part"),
            ],
            outputs=[AnyBarkTokens.Output("part", display_name="tokens", tooltip="The part, of the same kind.")],
        )

    @classmethod
    def execute(cls, tokens: Tokens, start: float, end: float) -> io.NodeOutput:
        return io.NodeOutput(editing.trim(tokens, start, end))


class JoinTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkJoinTokens",
            display_name="Join Tokens",
            category=CATEGORY,
            search_aliases=[*SEARCH, "concat", "append", "add", "combine"],
            description="Up to eight pieces of one kind, one after the other. All must be semantic, or all coarse, or "
            "all fine, and of one set of models. Connect the result to the next stage, which smooths the seams.",
            inputs=[
                AnyBarkTokens.Input("first", display_name="first", tooltip="What comes first; any kind of tokens."),
                AnyBarkTokens.Input("second", display_name="second", tooltip="What follows, of the same kind."),
                *(
                    AnyBarkTokens.Input(
                        name, display_name=name, optional=True, tooltip="A further piece; those left out are skipped."
                    )
                    for name in LATER
                ),
            ],
            outputs=[AnyBarkTokens.Output("joined", display_name="tokens", tooltip="All pieces, of the same kind.")],
        )

    @classmethod
    def execute(
        cls,
        first: Tokens,
        second: Tokens,
        third: Tokens | None = None,
        fourth: Tokens | None = None,
        fifth: Tokens | None = None,
        sixth: Tokens | None = None,
        seventh: Tokens | None = None,
        eighth: Tokens | None = None,
    ) -> io.NodeOutput:
        pieces = (first, second, third, fourth, fifth, sixth, seventh, eighth)
        return io.NodeOutput(editing.join([piece for piece in pieces if piece is not None]))


class ReplaceRange(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkReplaceRange",
            display_name="Replace Range",
            category=CATEGORY,
            search_aliases=[*SEARCH, "insert", "delete", "remove", "cut out", "paste"],
            description="Puts other tokens in place of a range, shorter or longer ones, or takes the range out. Say a "
            "word again in a second take and put it into the first. Connect the result to the next stage.",
            inputs=[
                AnyBarkTokens.Input("tokens", display_name="tokens", tooltip="Semantic, coarse or fine tokens."),
                AnyBarkTokens.Input(
                    "insert",
                    display_name="insert",
                    optional=True,
                    tooltip="What to put there, of the same kind. Without it the range is taken out.",
                ),
                *inputs.range_inputs("range", "The same time as start: nothing is taken out, the insert goes between."),
            ],
            outputs=[AnyBarkTokens.Output("replaced", display_name="tokens", tooltip="The whole, of the same kind.")],
        )

    @classmethod
    def execute(cls, tokens: Tokens, start: float, end: float, insert: Tokens | None = None) -> io.NodeOutput:
        # Put in place of a part of themselves, tokens grow: only in place of all they stay as long as they are.
        if insert is not None and len(editing.replace_range(tokens, start, end, tokens)) == len(tokens):
            raise BarkInputError(
                f"The range from {start:g} s to {f'{end:g} s' if end else 'the end'} covers all tokens, so nothing of "
                "the tokens would stay. Choose the part to replace, or put the insert before or behind them with Join "
                "Tokens."
            )
        return io.NodeOutput(editing.replace_range(tokens, start, end, insert))


class RepeatRange(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkRepeatRange",
            display_name="Repeat Range",
            category=CATEGORY,
            search_aliases=[*SEARCH, "loop", "stutter", "stretch"],
            description="A range heard several times in a row: a pause made longer, a laugh that goes on, a stutter. "
            "What lies before and after it stays. Connect the result to the next stage.",
            inputs=[
                AnyBarkTokens.Input("tokens", display_name="tokens", tooltip="Semantic, coarse or fine tokens."),
                *inputs.range_inputs("range"),
                io.Int.Input(
                    "times",
                    default=2,
                    min=1,
                    max=MAX_TIMES,
                    display_name="times",
                    tooltip="How often the range is heard in all. 1: as it is.",
                ),
            ],
            outputs=[AnyBarkTokens.Output("repeated", display_name="tokens", tooltip="The whole, of the same kind.")],
        )

    @classmethod
    def execute(cls, tokens: Tokens, start: float, end: float, times: int) -> io.NodeOutput:
        if isinstance(times, Real) and times > MAX_TIMES:  # by a wire, past the limit of the widget
            raise BarkInputError(
                f"A range can be heard {MAX_TIMES:,} times in all at most; {times:,} was given. Lower times, or repeat "
                "the result again."
            )
        return io.NodeOutput(editing.repeat_range(tokens, start, end, times))


class SwapCodebooks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkSwapCodebooks",
            display_name="Swap Codebooks",
            category=CATEGORY,
            search_aliases=[*SEARCH, "mix", "rows", "encodec"],
            description="Takes some codebooks of a sound from another: the low ones carry words, voice and melody, the "
            "high ones air and detail. Between two renderings of one take it moves the difference from one to the "
            "other; between two takes it makes hybrids. Connect the result to Coarse to Fine or Decode Fine Tokens.",
            inputs=[
                BarkCodes.Input("tokens", display_name="tokens", tooltip="Coarse or fine tokens: what is kept."),
                BarkCodes.Input(
                    "source",
                    display_name="source",
                    tooltip="Coarse or fine tokens: where the codebooks come from, frame by frame.",
                ),
                io.Int.Input(
                    "first",
                    default=0,
                    min=0,
                    max=MAX_CODEBOOK,
                    display_name="first codebook",
                    tooltip="The lowest codebook to take. Coarse tokens have 0 and 1, fine tokens 0 to 7.",
                ),
                io.Int.Input(
                    "last",
                    default=1,
                    min=0,
                    max=MAX_CODEBOOK,
                    display_name="last codebook",
                    tooltip="The highest codebook to take, itself included.",
                ),
                io.Combo.Input(
                    "length",
                    options=list(editing.LENGTH_RULES),
                    default=editing.LENGTH_RULES[0],
                    display_name="length",
                    tooltip="For two sounds that are not equally long. refuse: stop and say so. shorter: cut both to "
                    "the shorter. keep: as long as tokens, which keep their own codes where the source has ended.",
                ),
            ],
            outputs=[BarkCodes.Output("swapped", display_name="tokens", tooltip="Of the kind of tokens.")],
        )

    @classmethod
    def execute(
        cls,
        tokens: CoarseTokens | FineTokens,
        source: CoarseTokens | FineTokens,
        first: int,
        last: int,
        length: editing.LengthRule,
    ) -> io.NodeOutput:
        if last < first:
            raise BarkInputError(f"The last codebook, {last}, is below the first, {first}. Exchange the two.")
        return io.NodeOutput(editing.swap_codebooks(tokens, source, range(first, last + 1), length))


class CoarseFromFine(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkCoarseFromFine",
            display_name="Coarse from Fine",
            category=CATEGORY,
            search_aliases=[*SEARCH, "codebooks", "encodec"],
            description="The first two of eight codebooks, which are the coarse tokens of the same sound. Connect them "
            "to Coarse to Fine to have the other six made anew, or to Make Speaker Prompt after cutting fine tokens.",
            inputs=[BarkFine.Input("fine", display_name="fine", tooltip="Fine tokens of any origin.")],
            outputs=[BarkCoarse.Output("coarse_tokens", display_name="coarse", tooltip="Codebooks 0 and 1.")],
        )

    @classmethod
    def execute(cls, fine: FineTokens) -> io.NodeOutput:
        return io.NodeOutput(editing.coarse_from_fine(fine))
