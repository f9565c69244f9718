"""What is on each picture: small graphs, as data. `__main__.py` builds, runs and photographs them.

A scene has columns of nodes, from left to right; a number among the nodes leaves so many pixels free. Wires are written
"node.output node.input", with a comma before the next one. Nodes stand in the colours of the example workflows,
neighbours mostly folded.
"""

from dataclasses import dataclass, field, replace
from typing import Any

MODELS = "BarkLoadModels"
COLOURS = {  # ComfyUI's names; a node that is missing here is brown
    MODELS: "pale_blue",
    **dict.fromkeys(("BarkTextToSemantic", "BarkTextToSpeech", "BarkTextLines"), "green"),
    "BarkSemanticToCoarse": "cyan",
    "BarkCoarseToFine": "blue",
    **dict.fromkeys(("BarkDecodeFineTokens", "BarkEncodeAudio", "BarkSaveAudio", "BarkLoadAudio"), "purple"),
    "BarkJoinAudio": "purple",
    **dict.fromkeys(("BarkLoadSpeakerPrompt", "BarkMakeSpeakerPrompt", "BarkSaveSpeakerPrompt"), "red"),
    **dict.fromkeys(("BarkMixSpeakerPrompts", "BarkCropSpeakerPrompt"), "red"),
    **dict.fromkeys(("LoadAudio", "PreviewAny"), "black"),
}
STAGES = (  # get a wire from the node "models"
    *("BarkTextToSemantic", "BarkSemanticToCoarse", "BarkCoarseToFine", "BarkDecodeFineTokens", "BarkTextToSpeech"),
    "BarkEncodeAudio",
)
RECORDING, TOKENS = "my_recording.flac", "take.safetensors"  # made before the first picture
SENTENCE = "Look at me: every token is a moment, and you can see where I pause."
ENDLESS = "This take is good, but it does not know when to stop."


@dataclass(frozen=True)
class Node:
    """One node: its name in wires, its type, values of widgets; `height` matters for nodes with a view alone."""

    name: str
    type: str
    values: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    width: int = 0  # pixels of the graph; 0: as narrow as ComfyUI makes it
    height: int = 0
    folded: bool = False
    indent: int = 0  # pixels


@dataclass(frozen=True)
class Scene:
    """One picture: pixels in width, most bytes; `playhead` in seconds is for its views, which then have a sound."""

    columns: list[list[Node | int]]
    wires: list[str]
    width: int = 720
    bytes: int = 25_000
    playhead: float = 0.0

    @property
    def nodes(self) -> list[Node]:
        return [node for column in self.columns for node in column if isinstance(node, Node)]


def folded(name: str, kind: str, title: str = "", **values: Any) -> Node:
    return Node(name, kind, values, title, folded=True)


def stairs(*nodes: Node, start: int = 0, step: int = 35) -> list[Node | int]:
    """Nodes below each other, each a little further to the right, so that a wire between them is seen."""
    return [item for i, node in enumerate(nodes) for item in (replace(node, indent=start + i * step), 30)][:-1]


def view(name: str, title: str = "", width: int = 470, height: int = 0, **values: Any) -> Node:
    return Node(name, "BarkInspectTokens", values, title, width, height)


def say(name: str = "say", title: str = "", text: str = SENTENCE, seed: int = 4, **values: Any) -> Node:
    return folded(name, "BarkTextToSemantic", title, text=text, seed=seed, **values)


def speak(name: str = "speak", title: str = "", text: str = SENTENCE, seed: int = 4) -> Node:
    return folded(name, "BarkTextToSpeech", title, text=text, seed=seed)


def chain(*names: str) -> str:
    """The wires between stages called `say`, `coarse`, `fine` and `decode`, as far as they are named."""
    steps = ("say.semantic coarse.semantic", "coarse.coarse fine.coarse", "fine.fine decode.fine")
    return ", ".join(step for step in steps if {end.split(".")[0] for end in step.split()} <= set(names))


def every(source: str, target: str, *names: str) -> str:
    """Wires from outputs to inputs of the same names."""
    return ", ".join(f"{source}.{name} {target}.{name}" for name in names)


KINDS = ("semantic", "coarse", "fine")
MODEL = folded("models", MODELS)
COARSE, FINE = folded("coarse", "BarkSemanticToCoarse", seed=2), folded("fine", "BarkCoarseToFine", seed=3)
DECODE = folded("decode", "BarkDecodeFineTokens")
SAVE = Node("save", "BarkSaveAudio", width=300)
SPEAK = Node("speak", "BarkTextToSpeech", {"text": "And now you know my voice.", "seed": 8}, width=330)
RANGE = {"start": 1.15, "end": 2.3}
EVERYTHING_IN_VIEW = [
    chain("say", "coarse", "fine", "decode"),
    "say.semantic look.semantic, coarse.coarse look.coarse, fine.fine look.fine",
    "decode.audio look.audio, say.trace look.trace",
]

SCENES = {
    "BarkLoadModels": Scene(
        [[Node("models", MODELS, width=270)], stairs(say(), COARSE, FINE, DECODE, step=50), [60, SAVE]],
        [chain("say", "coarse", "fine", "decode"), "decode.audio save.audio"],
    ),
    "BarkTextLines": Scene(
        [
            [MODEL, 30, Node("lines", "BarkTextLines", {"text": "The train leaves at seven.\nGood night."}, width=280)],
            [Node("speak", "BarkTextToSpeech", {"seed": 1}, width=300)],
            [SAVE],
        ],
        ["lines.lines speak.text, speak.audio save.audio"],
    ),
    "BarkJoinAudio": Scene(
        [
            [
                MODEL,
                30,
                Node("lines", "BarkTextLines", {"text": "The train leaves at seven.\nGood night."}, width=280),
                30,
                folded("voice", "BarkLoadSpeakerPrompt", speaker="nano/low"),
            ],
            [speak(seed=1)],
            [Node("join", "BarkJoinAudio", width=250)],
            [SAVE],
        ],
        ["lines.lines speak.text, voice.speaker speak.speaker", "speak.audio join.audio, join.audio save.audio"],
        bytes=22_000,
    ),
    "BarkTextToSpeech": Scene(
        [
            [MODEL, 30, folded("voice", "BarkLoadSpeakerPrompt", speaker="nano/low")],
            [Node("speak", "BarkTextToSpeech", {"text": SENTENCE, "seed": 4}, width=330)],
            [view("look")],
        ],
        ["voice.speaker speak.speaker", every("speak", "look", *KINDS, "audio")],
    ),
    "BarkLoadSpeakerPrompt": Scene(
        [[MODEL, 30, Node("voice", "BarkLoadSpeakerPrompt", {"speaker": "nano/low"}, width=270)], [SPEAK], [SAVE]],
        ["voice.speaker speak.speaker, speak.audio save.audio"],
    ),
    "BarkTextToSemantic": Scene(
        [
            [MODEL, 30, folded("voice", "BarkLoadSpeakerPrompt", speaker="nano/low")],
            [Node("say", "BarkTextToSemantic", {"text": SENTENCE, "seed": 4}, width=330)],
            [COARSE, 30, view("look", height=330)],
        ],
        [chain("say", "coarse"), "voice.speaker say.speaker", every("say", "look", "semantic", "trace")],
    ),
    "BarkSemanticToCoarse": Scene(
        [
            stairs(MODEL, say()),
            [Node("coarse", "BarkSemanticToCoarse", {"seed": 2}, width=280)],
            [FINE, 30, view("look", height=330)],
        ],
        [chain("say", "coarse", "fine"), every("coarse", "look", "coarse", "trace")],
    ),
    "BarkCoarseToFine": Scene(
        [
            stairs(MODEL, say(), COARSE),
            [Node("fine", "BarkCoarseToFine", {"seed": 3}, width=280)],
            [DECODE, 30, view("look", height=330)],
        ],
        [chain("say", "coarse", "fine", "decode"), every("fine", "look", "fine", "trace")],
    ),
    "BarkDecodeFineTokens": Scene(
        [
            stairs(MODEL, say(), COARSE),
            [20, Node("fine", "BarkCoarseToFine", {"seed": 3}, width=270)],
            [30, Node("decode", "BarkDecodeFineTokens", width=210)],
            [SAVE],
        ],
        [chain("say", "coarse", "fine", "decode"), "decode.audio save.audio"],
    ),
    "BarkEncodeAudio": Scene(
        [
            [MODEL, 30, Node("load", "LoadAudio", {"audio": RECORDING}, width=280)],
            [10, Node("encode", "BarkEncodeAudio", width=200)],
            [view("look", height=430)],
        ],
        [
            "load.AUDIO encode.audio, load.AUDIO look.audio",
            every("encode", "look", "fine"),
        ],
    ),
    "BarkInspectTokens": Scene(
        [
            stairs(MODEL, say(), COARSE, FINE, DECODE, step=20),
            [view("look", width=640, height=620, **RANGE)],
        ],
        EVERYTHING_IN_VIEW,
        bytes=34_000,
        playhead=1.6,
    ),
    "BarkTrimTokens": Scene(
        [
            [*stairs(MODEL, say()), 50, view("before", "Inspect Tokens: before", 400, **RANGE)],
            [Node("trim", "BarkTrimTokens", width=270), 70, view("after", "Inspect Tokens: after", 400)],
        ],
        [
            "say.semantic trim.tokens, say.semantic before.semantic",
            "before.start trim.start, before.end trim.end, trim.tokens after.semantic",
        ],
    ),
    "BarkTrimTail": Scene(
        [
            [
                *stairs(MODEL, say(text=ENDLESS, seed=1, max_seconds=7, early_stop=False)),
                *(30, Node("trim", "BarkTrimTail", width=250), 30, replace(COARSE, indent=60)),
            ],
            [
                view("before", "Inspect Tokens: the whole take", 540, 310),
                *(20, view("after", "Inspect Tokens: without its tail", 540)),
            ],
        ],
        [
            every("say", "trim", "semantic", "trace"),
            "trim.semantic coarse.semantic",
            "say.semantic before.semantic, trim.trace before.trace, trim.semantic after.semantic",
        ],
    ),
    "BarkJoinTokens": Scene(
        [
            [MODEL, 40, say("one", "first take", "Good morning.", 3), 40, say("two", "second take", "Here I am.", 5)],
            [Node("join", "BarkJoinTokens", width=200)],
            [view("look"), 20, COARSE],
        ],
        [
            "one.semantic join.first, two.semantic join.second",
            "join.tokens look.semantic, join.tokens coarse.semantic",
        ],
    ),
    "BarkReplaceRange": Scene(
        [
            [
                *stairs(MODEL, say("one", "a take"), say("two", "other words", "Here I am.", 5)),
                *(50, view("before", "Inspect Tokens: before", 400, **RANGE)),
            ],
            [Node("replace", "BarkReplaceRange", width=270), 70, view("after", "Inspect Tokens: after", 400)],
        ],
        [
            "one.semantic before.semantic, one.semantic replace.tokens, two.semantic replace.insert",
            "before.start replace.start, before.end replace.end, replace.tokens after.semantic",
        ],
    ),
    "BarkRepeatRange": Scene(
        [
            [*stairs(MODEL, say()), 50, view("before", "Inspect Tokens: before", 400, **RANGE)],
            [
                Node("repeat", "BarkRepeatRange", {"times": 3}, width=270),
                70,
                view("after", "Inspect Tokens: after", 400),
            ],
        ],
        [
            "say.semantic repeat.tokens, say.semantic before.semantic",
            "before.start repeat.start, before.end repeat.end, repeat.tokens after.semantic",
        ],
    ),
    "BarkSwapCodebooks": Scene(
        [
            [
                *stairs(MODEL, speak("one", "a take"), speak("two", "another take", ENDLESS, 1)),
                *(30, Node("swap", "BarkSwapCodebooks", {"first": 4, "last": 7, "length": "shorter"}, width=270)),
            ],
            [view("before", "Inspect Tokens: before"), 20, view("after", "Inspect Tokens: after")],
        ],
        [
            "one.fine swap.tokens, two.fine swap.source, one.fine before.fine, swap.tokens after.fine",
        ],
    ),
    "BarkCoarseFromFine": Scene(
        [
            stairs(MODEL, folded("load", "LoadAudio", audio=RECORDING), folded("encode", "BarkEncodeAudio")),
            [Node("first", "BarkCoarseFromFine", width=210), 30, FINE],
            [view("look")],
        ],
        [
            "load.AUDIO encode.audio, encode.fine first.fine",
            "first.coarse look.coarse, encode.fine look.fine, first.coarse fine.coarse",
        ],
    ),
    "BarkMakeSpeakerPrompt": Scene(
        [
            stairs(MODEL, speak("take", "a take")),
            [Node("make", "BarkMakeSpeakerPrompt", {"name": "my voice"}, width=250)],
            [SPEAK, 30, replace(folded("save", "BarkSaveAudio"), indent=140)],
        ],
        [
            every("take", "make", *KINDS),
            "make.speaker speak.speaker, speak.audio save.audio",
        ],
    ),
    "BarkMixSpeakerPrompts": Scene(
        [
            [
                *(MODEL, 30, Node("low", "BarkLoadSpeakerPrompt", {"speaker": "nano/low"}, width=250)),
                *(30, Node("high", "BarkLoadSpeakerPrompt", {"speaker": "nano/high"}, width=250)),
            ],
            [60, Node("mix", "BarkMixSpeakerPrompts", width=210)],
            [SPEAK, 30, replace(folded("save", "BarkSaveAudio"), indent=140)],
        ],
        [
            "low.speaker mix.words, high.speaker mix.sound, mix.speaker speak.speaker, speak.audio save.audio",
        ],
    ),
    "BarkCropSpeakerPrompt": Scene(
        [
            [MODEL, 30, Node("low", "BarkLoadSpeakerPrompt", {"speaker": "nano/low"}, width=250)],
            [60, Node("crop", "BarkCropSpeakerPrompt", {"start": 0.5}, width=230)],
            [SPEAK, 30, replace(folded("save", "BarkSaveAudio"), indent=140)],
        ],
        [
            "low.speaker crop.speaker, crop.speaker speak.speaker, speak.audio save.audio",
        ],
    ),
    "BarkSaveSpeakerPrompt": Scene(
        [
            stairs(MODEL, speak("take", "a take")),
            [Node("make", "BarkMakeSpeakerPrompt", {"name": "my voice"}, width=250)],
            [Node("keep", "BarkSaveSpeakerPrompt", {"overwrite": True}, width=270)],
        ],
        [every("take", "make", *KINDS), "make.speaker keep.speaker"],
    ),
    "BarkSaveTokens": Scene(
        [
            stairs(MODEL, say()),
            [50, *stairs(COARSE, FINE)],
            [Node("keep", "BarkSaveTokens", width=270)],
            [20, DECODE],
        ],
        [
            chain("say", "coarse", "fine"),
            "say.semantic keep.semantic, coarse.coarse keep.coarse, fine.fine keep.fine, keep.fine decode.fine",
        ],
    ),
    "BarkLoadTokens": Scene(
        [[Node("load", "BarkLoadTokens", {"file": TOKENS}, width=290)], [view("look", height=420)]],
        [every("load", "look", *KINDS)],
    ),
    "BarkSaveAudio": Scene(
        [
            [MODEL, 50, Node("speak", "BarkTextToSpeech", {"text": SENTENCE, "seed": 4}, width=330)],
            [Node("save", "BarkSaveAudio", width=330)],
        ],
        ["speak.audio save.audio", every("speak", "save", *KINDS)],
    ),
    "BarkLoadAudio": Scene(
        [
            [Node("load", "BarkLoadAudio", {"audio": "spoken_by_nano.flac [example]"}, width=300)],
            [view("look", height=480)],
        ],
        [every("load", "look", *KINDS, "audio")],
    ),
    "inspector": Scene(
        [
            [
                *(MODEL, 50, Node("say", "BarkTextToSemantic", {"text": SENTENCE, "seed": 4}, width=300)),
                *(50, *stairs(COARSE, FINE, DECODE, start=60)),
            ],
            [view("look", width=1100, height=780, **RANGE)],
        ],
        EVERYTHING_IN_VIEW,
        width=1400,
        bytes=300_000,
        playhead=1.6,
    ),
}
