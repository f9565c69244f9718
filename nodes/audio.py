"""Sound to files, in ComfyUI's output folder, with the workflow inside and a player on the node."""

from typing import Any

from comfy_api.latest import io

from ..bark_engine import BarkInputError, CoarseTokens, FineTokens, SemanticTokens
from ..bark_engine.audio_files import peak_normalise, resample_channels
from ..bark_engine.keep import tokens_tag
from . import host
from .keep import take_of, token_inputs
from .sockets import CATEGORY

# What the format widget offers → format and quality of `save_audio`; None: the bit rate widget says it.
FORMATS: dict[str, tuple[str, str | None]] = {
    "flac": ("flac", "16-bit"),
    "flac 24-bit": ("flac", "24-bit"),
    "wav 16-bit": ("wav", "16-bit"),
    "wav 24-bit": ("wav", "24-bit"),
    "wav 32-bit float": ("wav", "32-bit float"),
    "mp3": ("mp3", None),
    "opus": ("opus", None),
}
BIT_RATES = ("64k", "96k", "128k", "192k")
RATES = {"native": None, "44100": 44_100, "48000": 48_000}


class SaveAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="BarkSaveAudio",
            display_name="Save Audio (Bark)",
            category=CATEGORY,
            search_aliases=["bark", "save", "wav", "flac", "mp3", "opus", "export"],
            description="Writes sound to the output folder and plays it. Mono stays mono. The file carries the "
            "workflow: drop it on ComfyUI to get the graph back. Tokens that are connected are kept inside the file, "
            "from where Load Bark Audio brings them back. Passes the audio on.",
            is_output_node=True,
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Audio.Input("audio", display_name="audio", tooltip="Any sound; each clip of a batch gets a file."),
                io.String.Input(
                    "filename_prefix",
                    default="audio/bark",
                    display_name="filename prefix",
                    tooltip="Name and folders inside the output folder; a number is added. Knows %year%, %month%, "
                    "%day%, %hour%, %minute%, %second% and %batch_num%; ComfyUI's other tokens are refused.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="flac",
                    display_name="format",
                    tooltip="flac: lossless and small, 16-bit or 24-bit. wav: for audio editors. mp3, opus: smallest, "
                    "lossy.",
                ),
                io.Combo.Input(
                    "sample_rate",
                    options=list(RATES),
                    default="native",
                    display_name="sample rate",
                    tooltip="native: as it comes, 24,000 Hz from Bark. 44100 and 48000 fit CD and video projects; they "
                    "add no detail. opus knows no 44100 and takes 48000 instead.",
                ),
                io.Combo.Input(
                    "bit_rate",
                    options=list(BIT_RATES),
                    default="128k",
                    display_name="bit rate",
                    tooltip="For mp3 and opus: more sounds better and takes more space. MP3 at 24,000 Hz ends below "
                    "192k; choose 44100 for that.",
                ),
                io.Boolean.Input(
                    "normalise",
                    default=False,
                    display_name="normalise",
                    tooltip="On: scale the clip so that its peak is at −1 dBFS. Off: leave the loudness alone.",
                ),
                *token_inputs("They go inside the sound file, of any format; players pass them over."),
            ],
            outputs=[io.Audio.Output("saved_audio", display_name="audio", tooltip="The sound as it came in.")],
        )

    @classmethod
    def validate_inputs(
        cls, filename_prefix: str | None = None, format: str | None = None, sample_rate: str | None = None
    ) -> bool | str:
        for given, known in ((format, FORMATS), (sample_rate, RATES)):  # ComfyUI 0.3.64 leaves lists to the nodes
            if given is not None and given not in known:
                return _not_in_list(given, known)
        return host.check_prefix(filename_prefix, host.output_folder())

    @classmethod
    def execute(
        cls,
        audio: dict[str, Any],
        filename_prefix: str,
        format: str,
        sample_rate: str,
        bit_rate: str,
        normalise: bool,
        semantic: SemanticTokens | None = None,
        coarse: CoarseTokens | None = None,
        fine: FineTokens | None = None,
    ) -> io.NodeOutput:
        for given, known in ((format, FORMATS), (sample_rate, RATES)):  # what came by a wire
            if given not in known:
                raise BarkInputError(_not_in_list(given, known))
        clips, rate = host.clips_of(audio)
        take = take_of(cls, semantic, coarse, fine)
        if take and len(clips) > 1:
            raise BarkInputError(
                f"The audio input is a batch of {len(clips)} clips, and one set of tokens cannot describe them all. "
                "Save the clips one at a time or as a list, or disconnect the tokens."
            )
        wanted = RATES[sample_rate] or rate
        clips = [resample_channels(clip, rate, wanted) for clip in clips]
        if normalise:
            clips = [peak_normalise(clip) for clip in clips]
        file_format, quality = FORMATS[format]
        tag = tokens_tag(take) if take else {}
        saved = host.save_clips(clips, wanted, filename_prefix, file_format, quality or bit_rate, cls, tag)
        return io.NodeOutput(audio, ui={"audio": saved})


def _not_in_list(given: str, known: dict[str, Any]) -> str:
    """The sentence for a choice that is none."""
    return f"{given!r} is not in the list. Choose one of: {', '.join(known)}."
