"""Keeping tokens: in files of their own, and back from there or from inside a sound file."""

from typing import Any

from comfy_api.latest import io

from ..bark_engine import BarkError, BarkInputError, CoarseTokens, FineTokens, SemanticTokens
from ..bark_engine.keep import About, Take, load_tokens, read_sound
from ..bark_engine.keep.shelf import find_file, list_names
from ..bark_engine.keep.sound_file import SUFFIXES as SOUND_SUFFIXES
from ..bark_engine.keep.sound_file import no_tokens, read_tokens
from ..bark_engine.keep.token_file import SUFFIXES as TOKEN_SUFFIXES
from . import host
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic
from .upstream import about_tokens

KINDS = {"semantic": "what is said and how", "coarse": "the rough sound", "fine": "the whole sound"}


class SaveTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkSaveTokens",
            display_name="Save Tokens",
            category=CATEGORY,
            search_aliases=["bark", "keep", "store", "export tokens", "safetensors"],
            description="Keeps tokens as one file in models/bark/tokens, with the text, seeds and voice that made them "
            "and the workflow inside: drop the file on ComfyUI to get the graph back. Connect any of the three kinds. "
            "Nothing is ever overwritten. Passes the tokens on.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                *token_inputs(),
                io.String.Input(
                    "filename_prefix",
                    default="take",
                    display_name="filename prefix",
                    tooltip="Name and folders inside models/bark/tokens; a number is added. Knows %year%, %month%, "
                    "%day%, %hour%, %minute% and %second%; ComfyUI's other tokens are refused.",
                ),
            ],
            outputs=token_outputs("The same tokens. Nodes behind a kind that is not connected are skipped."),
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return host.check_prefix(filename_prefix, host.token_folder(), "the file")

    @classmethod
    def execute(
        cls,
        filename_prefix: str,
        semantic: SemanticTokens | None = None,
        coarse: CoarseTokens | None = None,
        fine: FineTokens | None = None,
    ) -> io.NodeOutput:
        take = take_of(cls, semantic, coarse, fine)
        if take is None:
            raise BarkInputError("No tokens are connected to Save Tokens. Connect at least one of the three kinds.")
        name = host.save_take(take, filename_prefix, cls)
        missing = "Save Tokens has no {kind} tokens to pass on: nothing is connected to that input."
        return io.NodeOutput(*_wires(take, missing), ui={"text": [f"Saved as {name}"]})


class LoadTokens(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkLoadTokens",
            display_name="Load Tokens",
            category=CATEGORY,
            search_aliases=["bark", "keep", "open tokens", "safetensors", "npz", "full generation"],
            description="Brings kept tokens back as wires: files of Save Tokens, Suno's .npz prompts and full "
            "generations, dicts of them saved by torch, and plain .npy arrays. A kind that the file lacks stops only "
            "the nodes that want it. Connect the wires where the stages would be.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=list_names(host.token_shelves(), TOKEN_SUFFIXES),
                    display_name="file",
                    tooltip="Files in models/bark/tokens and the extra model paths come first, then those in ComfyUI's "
                    "input folder, then the voices in models/bark/speakers. Press R to look again.",
                )
            ],
            outputs=[
                *token_outputs("Stops the nodes behind it when the file has none."),
                io.String.Output(
                    "text", display_name="text", tooltip="What was said, where the file tells it; for people and texts."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return _findable(file, host.token_shelves(), TOKEN_SUFFIXES)

    @classmethod
    def fingerprint_inputs(cls, file: str, **_: object) -> str:
        """Changes when the file was replaced, or appeared."""
        return _mark(file, host.token_shelves(), TOKEN_SUFFIXES)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        take = load_tokens(find_file(file, host.token_shelves(), TOKEN_SUFFIXES))
        text = take.about.text or host.blocked(f"{file} does not say what text its tokens were made from.")
        return io.NodeOutput(*_wires(take, f"{file} holds no {{kind}} tokens. {_there(take)}"), text)


class LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkLoadAudio",
            display_name="Load Bark Audio",
            category=CATEGORY,
            search_aliases=["bark", "load audio", "tokens", "flac", "opus", "open sound"],
            description="Opens a sound file and brings back the tokens inside it, which Save Audio (Bark) puts there "
            "when token wires are connected to it. A kind that the file lacks stops only the nodes that want it. "
            "Connect the tokens where the stages would be.",
            inputs=[
                io.Combo.Input(
                    "audio",
                    options=list_names(host.sound_shelves(), SOUND_SUFFIXES),
                    upload=io.UploadType.audio,
                    display_name="audio",
                    tooltip="Sound files in ComfyUI's input folder come first, then those in its output folder, then "
                    "an example of this pack. FLAC, Opus, MP3 and WAV can hold tokens. Press R to look again.",
                )
            ],
            outputs=[
                io.Audio.Output("loaded_audio", display_name="audio", tooltip="The sound in the file, as it is."),
                *token_outputs("Stops the nodes behind it when the file has none."),
            ],
        )

    @classmethod
    def validate_inputs(cls, audio: str | None = None) -> bool | str:
        return _findable(audio, host.sound_shelves(), SOUND_SUFFIXES)

    @classmethod
    def fingerprint_inputs(cls, audio: str, **_: object) -> str:
        """Changes when the file was replaced, or appeared."""
        return _mark(audio, host.sound_shelves(), SOUND_SUFFIXES)

    @classmethod
    def execute(cls, audio: str) -> io.NodeOutput:
        path = find_file(audio, host.sound_shelves(), SOUND_SUFFIXES)
        sound = read_sound(path)
        missing = f"{audio} holds no {{kind}} tokens. {_there(sound.take)}" if sound.take else no_tokens(path)
        return io.NodeOutput(host.clip_to_host(sound.samples, sound.sample_rate), *_wires(sound.take, missing))


# -- what the nodes that keep tokens share -------------------------------------------------------------------------


def token_inputs(more: str = "") -> list[io.Input]:
    """The three kinds as inputs that may stay open; `more` is a further sentence of the tooltips."""
    sockets = (BarkSemantic, BarkCoarse, BarkFine)
    return [
        socket.Input(
            kind,
            display_name=kind,
            optional=True,
            tooltip=f"The {kind} tokens to keep: {what}.{f' {more}' if more else ''}",
        )
        for socket, (kind, what) in zip(sockets, KINDS.items(), strict=True)
    ]


def token_outputs(more: str) -> list[io.Output]:
    """The three kinds as outputs; `more` is the second sentence of their tooltips."""
    sockets = (BarkSemantic, BarkCoarse, BarkFine)
    return [
        socket.Output(f"{kind}_tokens", display_name=kind, tooltip=f"{what[0].upper()}{what[1:]}. {more}")
        for socket, (kind, what) in zip(sockets, KINDS.items(), strict=True)
    ]


def take_of(
    cls: type[io.ComfyNode], semantic: SemanticTokens | None, coarse: CoarseTokens | None, fine: FineTokens | None
) -> Take | None:
    """The tokens that reached a node, with what the graph says about them; None where nothing is connected."""
    if semantic is None and coarse is None and fine is None:
        return None
    return Take(semantic, coarse, fine, about_tokens(cls.hidden.prompt, cls.hidden.unique_id, of_file=_about_file))


def _about_file(loader: str, name: str) -> About:
    """What a file of Load Tokens or Load Bark Audio says about its tokens; nothing where it cannot be read any more."""
    try:
        if loader == "BarkLoadTokens":
            return load_tokens(find_file(name, host.token_shelves(), TOKEN_SUFFIXES)).about
        return read_tokens(find_file(name, host.sound_shelves(), SOUND_SUFFIXES)).about
    except BarkError:
        return About()


def _wires(take: Take | None, missing: str) -> list[Any]:
    """The outputs of the three kinds; for one that is missing, what stops the nodes behind it with that sentence."""
    tokens: dict[str, Any] = dict(take.tokens) if take else {}
    return [tokens.get(kind) or host.blocked(missing.replace("{kind}", kind)) for kind in KINDS]


def _there(take: Take) -> str:
    return f"It has {' and '.join(take.tokens)} ones; go on from those."


def _findable(name: str | None, shelves: Any, suffixes: tuple[str, ...]) -> bool | str:
    """For `validate_inputs`: a sentence for a file that is not there."""
    try:
        if name is not None:
            find_file(name, shelves, suffixes)
    except BarkError as error:
        return str(error)
    return True


def _mark(name: str | None, shelves: Any, suffixes: tuple[str, ...]) -> str:
    """For `fingerprint_inputs`, which does not see a name that comes by a wire: the wire's source counts then."""
    try:
        return "wired" if name is None else host.file_mark(find_file(name, shelves, suffixes))
    except BarkError as error:
        return str(error)
