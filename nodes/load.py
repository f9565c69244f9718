"""Where every Bark graph begins: which models, in which precision, on which device."""

from comfy_api.latest import io

from ..bark_engine import Bark, BarkError
from ..bark_engine.library.download import SIZES
from ..bark_engine.library.model_sets import DEFAULT_MODELS, IncompleteModelsError, find_model_set, find_or_download
from ..bark_engine.library.sources import list_model_sets
from ..bark_engine.precision import PRECISIONS
from . import host
from .sockets import CATEGORY, BarkModels

SAME = "same"  # a stage that is not given a set of its own


class LoadBarkModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        found = list_model_sets(host.model_folders())
        names = list(dict.fromkeys([*SIZES, *found]))
        return host.schema(
            node_id="BarkLoadModels",
            display_name="Load Bark Models",
            category=CATEGORY,
            search_aliases=["bark", "suno", "tts", "loader"],
            description="Chooses the models that all other Bark nodes use. Nothing is read before a stage runs, and "
            "two loaders with the same setting share one copy. Connect the result to the stage nodes or to Bark Text "
            "to Speech.",
            inputs=[
                io.Combo.Input(
                    "models",
                    options=names,
                    default=next((name for name in found if name in SIZES), DEFAULT_MODELS),
                    display_name="models",
                    tooltip="large: best, 4.4 GB as float32; small: faster, 1.7 GB; nano: a toy reader of English "
                    "that comes with the pack; random: noise, for tests; other names are folders in models/bark.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    display_name="precision",
                    tooltip="auto: what the device is good at. float32 gives exactly Suno's tokens on a CPU; float16 "
                    "and bfloat16 halve the weights of attention and MLP, int8 quarters them. The rest stays float32.",
                ),
                io.Combo.Input(
                    "device",
                    options=host.devices(),
                    default="auto",
                    display_name="device",
                    tooltip="auto: the device that ComfyUI uses; the CPU with --novram.",
                ),
                *(_stage_input(stage, names) for stage in ("text", "coarse", "fine")),
                io.Boolean.Input(
                    "download",
                    default=False,
                    display_name="download",
                    tooltip="On: fetch Suno's large or small models from the Hugging Face hub into models/bark when "
                    "they are missing (13 GB or 4.8 GB), or what is missing of them. Off: never use the network.",
                ),
            ],
            outputs=[
                BarkModels.Output(
                    "bark_models", display_name="models", tooltip="All four stages, each read when it first runs."
                )
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        models: str | None = None,
        text_models: str | None = None,
        coarse_models: str | None = None,
        fine_models: str | None = None,
    ) -> bool | str:
        if models is None or text_models is None or coarse_models is None or fine_models is None:
            return True  # one that comes by a wire is not known yet
        try:
            stages = _own_sets(text_models, coarse_models, fine_models)
            find_model_set(models, stages=stages, folders=host.model_folders())
        except IncompleteModelsError:  # running says what is missing, or downloads it
            return True
        except BarkError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, models: str, text_models: str, coarse_models: str, fine_models: str, **_: object
    ) -> str:
        """Changes when a model file was replaced, or appeared."""
        try:
            stages = _own_sets(text_models, coarse_models, fine_models)
            found = find_model_set(models, stages=stages, folders=host.model_folders())
        except BarkError as error:
            return str(error)
        files = (found.text, found.coarse, found.fine, found.codec)
        return " ".join(host.file_mark(path) for path in (*(file.path for file in files), found.vocabulary))

    @classmethod
    def execute(
        cls,
        models: str,
        precision: str,
        device: str,
        text_models: str,
        coarse_models: str,
        fine_models: str,
        download: bool,
    ) -> io.NodeOutput:
        stages, folders = _own_sets(text_models, coarse_models, fine_models), host.model_folders()
        if download:
            found = find_or_download(models, folders[0], host.download_progress(), stages=stages, folders=folders)
        else:
            found = find_model_set(models, stages=stages, folders=folders)
        return io.NodeOutput(Bark(found, device, precision, host.manager()))


def _stage_input(stage: str, names: list[str]) -> io.Input:
    """Another size for one stage."""
    return io.Combo.Input(
        f"{stage}_models",
        options=[SAME, *names],
        default=SAME,
        display_name=f"{stage} models",
        tooltip=f"Take the {stage} stage from another set, such as large text with small fine. same: as above.",
    )


def _own_sets(text: str, coarse: str, fine: str) -> dict[str, str]:
    """The stages that are given a set of their own."""
    return {stage: name for stage, name in (("text", text), ("coarse", coarse), ("fine", fine)) if name != SAME}
