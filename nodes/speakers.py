"""Voices: load a speaker prompt, make one from tokens or from other voices, save it as Suno's own .npz."""

from pathlib import Path

from comfy_api.latest import io

from ..bark_engine import BarkError, BarkFileError, CoarseTokens, FineTokens, SemanticTokens, SpeakerPrompt, editing
from ..bark_engine.library.speakers import check_speaker_name, find_speaker, list_speakers, speaker_file
from ..bark_engine.paths import safe_child, visible_child
from . import host, inputs
from .sockets import CATEGORY, BarkCoarse, BarkFine, BarkSemantic, BarkSpeaker


class LoadSpeakerPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkLoadSpeakerPrompt",
            display_name="Load Speaker Prompt",
            category=CATEGORY,
            search_aliases=["bark", "voice", "history prompt", "voice preset"],
            description="A voice to continue: a .npz file from models/bark/speakers, one of nano's two, or one of "
            "Suno's 261. A voice speaks its own language best; in another one it has an accent. Connect it to any "
            "stage, the same to all of them for one steady voice.",
            inputs=[
                io.Combo.Input(
                    "speaker",
                    options=list_speakers(host.speaker_folders()),
                    display_name="speaker",
                    tooltip="Files in models/bark/speakers come first, then nano's voices, which fit the nano "
                    "models, then Suno's by language (v2 are the better ones). Press R to look again.",
                ),
                io.Boolean.Input(
                    "download",
                    default=False,
                    display_name="download",
                    tooltip="On: fetch a voice of Suno's from the Hugging Face hub when it is not here (some 50 kB). "
                    "Off: never use the network.",
                ),
            ],
            outputs=[
                BarkSpeaker.Output("speaker_prompt", display_name="speaker", tooltip="The tokens of one utterance.")
            ],
        )

    @classmethod
    def validate_inputs(cls, speaker: str | None = None) -> bool | str:
        try:
            if speaker is not None:
                check_speaker_name(speaker, host.speaker_folders())
        except BarkError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, speaker: str, **_: object) -> str:
        """Changes when the file was replaced, or appeared."""
        try:
            return host.file_mark(speaker_file(speaker, host.speaker_folders()))
        except BarkError as error:
            return str(error)

    @classmethod
    def execute(cls, speaker: str, download: bool) -> io.NodeOutput:
        folders = host.speaker_folders()
        return io.NodeOutput(
            find_speaker(speaker, folders=folders, download=download, on_progress=host.download_progress())
        )


class MakeSpeakerPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkMakeSpeakerPrompt",
            display_name="Make Speaker Prompt",
            category=CATEGORY,
            search_aliases=["bark", "voice", "history prompt", "clone"],
            description="Turns one take into a voice: the next text is spoken as if it came after it. All three token "
            "wires must describe the same stretch of sound. Connect the result to the stages, or "
            "to Save Speaker Prompt.",
            inputs=[
                BarkSemantic.Input("semantic", display_name="semantic", tooltip="What was said in the take."),
                BarkCoarse.Input("coarse", display_name="coarse", tooltip="The rough sound of the same take."),
                BarkFine.Input("fine", display_name="fine", tooltip="The whole sound of the same take."),
                io.String.Input(
                    "name", default="my voice", display_name="name", tooltip="What to call the voice; for people only."
                ),
            ],
            outputs=[BarkSpeaker.Output("speaker_prompt", display_name="speaker", tooltip="The take as a voice.")],
        )

    @classmethod
    def execute(cls, semantic: SemanticTokens, coarse: CoarseTokens, fine: FineTokens, name: str) -> io.NodeOutput:
        return io.NodeOutput(SpeakerPrompt(semantic, coarse, fine, name=name))


class MixSpeakerPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkMixSpeakerPrompts",
            display_name="Mix Speaker Prompts",
            category=CATEGORY,
            search_aliases=["bark", "voice", "history prompt", "blend", "combine"],
            description="A new voice out of two: the semantic tokens of one, which carry pace, accent and manner, with "
            "the coarse and fine tokens of another, which carry the sound. Connect it to the stages, or to Save "
            "Speaker Prompt.",
            inputs=[
                BarkSpeaker.Input("words", display_name="words", tooltip="The voice that says how it is spoken."),
                BarkSpeaker.Input("sound", display_name="sound", tooltip="The voice that says how it sounds."),
            ],
            outputs=[
                BarkSpeaker.Output(
                    "speaker_prompt", display_name="speaker", tooltip="The new voice, as long as the shorter of both."
                )
            ],
        )

    @classmethod
    def execute(cls, words: SpeakerPrompt, sound: SpeakerPrompt) -> io.NodeOutput:
        return io.NodeOutput(editing.mix_speaker_prompts(words, sound))


class CropSpeakerPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkCropSpeakerPrompt",
            display_name="Crop Speaker Prompt",
            category=CATEGORY,
            search_aliases=["bark", "voice", "history prompt", "cut", "trim"],
            description="A part of a voice between two times, semantic, coarse and fine tokens cut together. The "
            "stages go on from its end, so end it where the voice is calm. Connect it to the stages, or to Save "
            "Speaker Prompt.",
            inputs=[
                BarkSpeaker.Input("speaker", display_name="speaker", tooltip="The voice to take a part of."),
                *inputs.range_inputs("part"),
            ],
            outputs=[BarkSpeaker.Output("speaker_prompt", display_name="speaker", tooltip="The part as a voice.")],
        )

    @classmethod
    def execute(cls, speaker: SpeakerPrompt, start: float, end: float) -> io.NodeOutput:
        return io.NodeOutput(editing.crop_speaker_prompt(speaker, start, end))


class SaveSpeakerPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkSaveSpeakerPrompt",
            display_name="Save Speaker Prompt",
            category=CATEGORY,
            search_aliases=["bark", "voice", "history prompt"],
            description="Keeps a voice as a .npz file in models/bark/speakers, in Suno's own format. It appears in "
            "Load Speaker Prompt after pressing R. Passes the voice on.",
            is_output_node=True,
            inputs=[
                BarkSpeaker.Input("speaker", display_name="speaker", tooltip="The voice to keep."),
                io.String.Input(
                    "name",
                    default="my_voice",
                    display_name="name",
                    tooltip="File name without .npz; folders are written with /. Only inside models/bark/speakers.",
                ),
                io.Boolean.Input(
                    "overwrite",
                    default=False,
                    display_name="overwrite",
                    tooltip="On: replace an older voice of that name. Off: refuse, so that nothing is lost.",
                ),
            ],
            outputs=[BarkSpeaker.Output("speaker_prompt", display_name="speaker", tooltip="The same voice.")],
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        try:
            if name is not None:
                _voice_path(name)
        except BarkError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, name: str | None = None, overwrite: bool = False, **_: object) -> str:
        """Changes with the file where it may be replaced: a cache that remembers an older take would leave a newer.

        After a file was written the node runs once more, and finds its voice there. What comes by a wire is not seen.
        """
        if name is None or not overwrite:
            return "only what comes in counts"
        try:
            path = _voice_path(name)
            return host.file_mark(path if path.exists() else None)
        except (BarkError, OSError) as error:
            return str(error)

    @classmethod
    def execute(cls, speaker: SpeakerPrompt, name: str, overwrite: bool) -> io.NodeOutput:
        path = _voice_path(name)
        if not _holds(path, speaker):
            speaker.save(path, overwrite=overwrite)
        return io.NodeOutput(speaker, ui={"text": [f"Saved as {path.relative_to(host.speaker_folders()[0])}"]})


def _holds(path: Path, speaker: SpeakerPrompt) -> bool:
    """Whether a file is this very voice already; False for a damaged one."""
    try:
        return path.exists() and SpeakerPrompt.load(path) == speaker
    except BarkFileError:
        return False


def _voice_path(name: str) -> Path:
    """Where a voice of this name is kept; BarkInputError for a name that is none without its .npz either."""
    folder = host.speaker_folders()[0]
    visible_child(folder, name, "the voice")
    return safe_child(folder, name if name.lower().endswith(".npz") else f"{name}.npz")
