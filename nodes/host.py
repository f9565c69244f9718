"""The bridge to ComfyUI: the only file that imports `comfy.*` and `folder_paths`.

Folders, placement through real ModelPatchers, progress and interruption, sound in ComfyUI's form, and the files that
nodes save. No Bark rules: those are the engine's.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import numbers
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.utils import get_executing_context
from server import PromptServer
from torch import nn

from ..bark_engine import Audio, BarkFileError, BarkInputError, ModelManager
from ..bark_engine.atomic import replacing
from ..bark_engine.audio_files import FORMATS, save_audio
from ..bark_engine.checkpoint import StageFile, narrowed_weights
from ..bark_engine.errors import BarkNameTakenError
from ..bark_engine.keep import Take, save_tokens
from ..bark_engine.keep.shelf import Shelf
from ..bark_engine.library.download import OnProgress
from ..bark_engine.library.places import SPEAKERS_FOLDER, TOKENS_FOLDER
from ..bark_engine.paths import MAX_COMPONENT, safe_child, visible_child
from ..bark_engine.placement import DEVICES, check_device, free_bytes, is_on
from ..bark_engine.precision import best_on_cpu, name_of
from ..bark_engine.progress import OnStep
from ..bark_engine.view import View, make_payload

log = logging.getLogger(__name__)

MODELS_FOLDER = "bark"
EXAMPLES_FOLDER = Path(__file__).parent.parent / "example_workflows"  # ComfyUI serves it, so the browser can play there
TEMP_FOLDER = "bark"  # inside ComfyUI's temp folder, which is emptied at every start

TIME_TOKENS = ("%year%", "%month%", "%day%", "%hour%", "%minute%", "%second%")  # ComfyUI's server replaces these
BATCH_TOKEN = "%batch_num%"
_KNOWN_TOKEN = re.compile("|".join((*TIME_TOKENS, BATCH_TOKEN)))
_BROWSER_TOKEN = re.compile(r"%(date:[^%]*|[^%.]+\.[^%.]+)%")  # %date:yyyy-MM-dd%, %KSampler.seed%


def schema(**given: Any) -> io.Schema:
    """An `io.Schema` without the fields that this ComfyUI does not know yet (`search_aliases` came with 0.11)."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{name: value for name, value in given.items() if name in known})


# -- folders --------------------------------------------------------------------------------------------------------


@cache
def _register_folder() -> None:
    """Add models/bark to what the user's extra model paths already say; the first of all is ComfyUI's own."""
    own = str(Path(folder_paths.models_dir, MODELS_FOLDER))
    folder_paths.add_model_folder_path(MODELS_FOLDER, own, is_default=True)


def model_folders() -> list[Path]:
    """Where Bark models are looked for, models/bark first, then the extra model paths."""
    _register_folder()
    return [Path(folder) for folder in folder_paths.get_folder_paths(MODELS_FOLDER)]


def speaker_folders() -> list[Path]:
    """The folder `speakers` inside each model folder."""
    return [folder / SPEAKERS_FOLDER for folder in model_folders()]


def token_folder() -> Path:
    """Where tokens are saved."""
    return model_folders()[0] / TOKENS_FOLDER


def output_folder() -> Path:
    """Where sound is saved."""
    return Path(folder_paths.get_output_directory())


def token_shelves() -> list[Shelf]:
    """Where token files are offered from: the folders `tokens`, ComfyUI's input folder, then the folders `speakers`."""
    kept = [Shelf(folder / TOKENS_FOLDER) for folder in model_folders()]
    voices = [Shelf(folder, "speaker") for folder in speaker_folders()]
    return [*kept, Shelf(Path(folder_paths.get_input_directory()), "input", deep=False), *voices]


def sound_shelves() -> list[Shelf]:
    """Where sound files are offered from: ComfyUI's input folder, its output folder, then the pack's own example."""
    given = Shelf(Path(folder_paths.get_input_directory()), deep=False)
    saved = Shelf(Path(folder_paths.get_output_directory()), "output")
    return [given, saved, Shelf(EXAMPLES_FOLDER, "example", deep=False)]


# -- placement ------------------------------------------------------------------------------------------------------


def devices() -> list[str]:
    """The devices to choose from: the engine's names, and each card by its number where there are several."""
    cards = torch.cuda.device_count()
    return [*DEVICES, *(f"cuda:{number}" for number in range(cards) if cards > 1)]


class HostPlacement:
    """Leaves every decision about memory to comfy.model_management; each stage is a real ModelPatcher."""

    def device(self, wanted: str) -> torch.device:
        """ComfyUI's own choice for "auto", otherwise the named device; BarkInputError where it is missing.

        With --novram "auto" is the CPU: Bark's layers cannot be brought to the card one by one.
        """
        management = comfy.model_management
        if wanted != "auto":
            return check_device(wanted)
        if management.vram_state == management.VRAMState.NO_VRAM:
            return torch.device("cpu")
        return management.get_torch_device()

    def best_dtype(self, device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        """What ComfyUI thinks the device is good at; what the engine thinks the CPU is; float32 on MPS."""
        if device.type == "cpu":
            return best_on_cpu(file.stage, narrowed_weights(file.shape), rows)
        if device.type == "mps":  # where Bark gets noisy in half
            return torch.float32
        if comfy.model_management.should_use_bf16(device):
            return torch.bfloat16
        return torch.float16 if comfy.model_management.should_use_fp16(device) else torch.float32

    def place(self, stage: nn.Module, device: torch.device) -> "_HostStage":
        """Wrap a stage that was just read; it moves when it runs."""
        return _HostStage(stage, device)

    def room(self, device: torch.device) -> int | None:
        """What is free, and what ComfyUI would unload: the models of all packs."""
        if device.type == "cpu":
            return free_bytes(device)
        free = comfy.model_management.get_free_memory(device)
        for entry in comfy.model_management.current_loaded_models:
            if (patcher := entry.model) is not None and is_on(patcher.load_device, device):
                free += entry.model_loaded_memory()
        return int(free)

    def make_room(self) -> None:
        """Unload every model of every pack and give cached memory back."""
        comfy.model_management.unload_all_models()
        comfy.model_management.soft_empty_cache()


class _HostStage:
    """One stage in a ModelPatcher."""

    def __init__(self, stage: nn.Module, device: torch.device):
        offload = torch.device("cpu") if device.type == "cpu" else comfy.model_management.unet_offload_device()
        self._patcher = ModelPatcher(stage, load_device=device, offload_device=offload)

    @contextlib.contextmanager
    def running(self, working_bytes: int) -> Iterator[nn.Module]:
        # Before every run: another node may have moved the weights away since. `force_full_load`, because layers that
        # are not comfy.ops layers would otherwise be left behind on the CPU without a word.
        comfy.model_management.load_models_gpu([self._patcher], memory_required=working_bytes, force_full_load=True)
        stage, wanted, home = self._patcher.model, self._patcher.load_device, self._patcher.offload_device
        if not all(is_on(weight.device, wanted) for weight in stage.parameters()):
            # --novram loads nothing fully: run whole where the weights live.
            log.warning("ComfyUI did not bring the whole stage to %s, so it runs on %s.", wanted, home)
            stage.to(home)
        yield stage

    def release(self) -> None:
        self._patcher.detach()


@cache
def manager() -> ModelManager:
    """The one manager of this ComfyUI: two loaders with the same setting share one copy."""
    return ModelManager(HostPlacement())


# -- progress -------------------------------------------------------------------------------------------------------


def progress() -> OnStep:
    """An `on_step` that moves the node's progress bar and raises when the user interrupts."""
    bar = comfy.utils.ProgressBar(1)

    def on_step(done: int, total: int) -> None:
        # ComfyUI 0.9.2 and later throttles the bar, and with it the check that the bar makes.
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return on_step


def sender() -> Callable[[str, dict[str, Any]], None] | None:
    """Sends an event about the running node, which it names, to the browser that queued the prompt.

    None where no browser did, and outside of a prompt.
    """
    context, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if context is None or server is None or server.client_id is None:
        return None
    place, client = {"node": context.node_id, "prompt_id": context.prompt_id}, server.client_id
    return lambda event, data: server.send_sync(event, {**place, **data}, client)


def download_progress() -> OnProgress:
    """Like `progress`, for a download, which counts bytes."""
    on_step = progress()
    return lambda done, total, name: on_step(done, max(total, 1))


# -- sound ----------------------------------------------------------------------------------------------------------


def to_host_audio(audio: Audio) -> dict[str, Any]:
    """Audio → ComfyUI's AUDIO: waveform float32 `[1, 1, n]` on the CPU."""
    return clip_to_host(audio.samples[None], audio.sample_rate)


def clip_to_host(samples: np.ndarray, rate: int) -> dict[str, Any]:
    """Samples float32 `[C, n]` → ComfyUI's AUDIO: waveform `[1, C, n]` on the CPU."""
    return {"waveform": torch.tensor(samples)[None], "sample_rate": rate}


def clips_of(audio: Any) -> tuple[list[np.ndarray], int]:
    """ComfyUI's AUDIO → its clips, each float32 `[C, n]`, and the sample rate.

    Accepts what other packs send: `[C, n]` or `[n]` as well, any float type, any device. Raises BarkInputError for
    what is no sound at all, and for whole numbers, whose scale nobody knows.
    """
    # A Mapping, not only a dict: VideoHelperSuite's sound is read from the video when it is first asked for.
    waveform, rate = (audio.get("waveform"), audio.get("sample_rate")) if isinstance(audio, Mapping) else (None, None)
    if not isinstance(waveform, torch.Tensor) or rate is None:
        raise BarkInputError(
            "The audio input holds no sound: it must be ComfyUI's AUDIO, with a waveform and a sample rate. "
            "A video without a sound track gives none; connect a node that does."
        )
    if not isinstance(rate, numbers.Real) or not float(rate).is_integer() or rate < 1:
        raise BarkInputError(f"The audio input's sample rate is {rate!r}; it must be a whole number of hertz.")
    if not 1 <= waveform.ndim <= 3 or waveform.numel() == 0:
        raise BarkInputError(
            f"The audio input has shape {list(waveform.shape)}; it must be [clips, channels, samples] with at least "
            "one sample."
        )
    if not waveform.is_floating_point():
        raise BarkInputError(
            f"The audio input's samples must be floating point in −1 … 1, not {name_of(waveform.dtype)}. Divide whole "
            "numbers by the largest that their format holds, 32,768 for 16 bits."
        )
    batch = waveform.detach().float().cpu()
    batch = batch.reshape((1,) * (3 - batch.ndim) + tuple(batch.shape))
    return [clip.numpy() for clip in batch], int(float(rate))


def one_voice(audio: Any, to: str = "encode") -> Audio:
    """ComfyUI's AUDIO → Audio: one clip, mono or stereo (averaged). Raises BarkInputError; `to` says what for."""
    clips, rate = clips_of(audio)
    if len(clips) != 1:
        raise BarkInputError(f"The audio input is a batch of {len(clips)} clips; {to} them one at a time.")
    if len(clips[0]) > 2:
        raise BarkInputError(
            f"The audio input has {len(clips[0])} channels; it must be mono or stereo. Mix it down first."
        )
    return Audio(clips[0].mean(axis=0), rate)


def save_clips(
    clips: list[np.ndarray],
    rate: int,
    prefix: str,
    file_format: str,
    quality: str,
    cls: type[io.ComfyNode],
    more: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """Write each clip under the output folder; returns what the browser's player needs to find them.

    `prefix` may hold folders and ComfyUI's tokens (%year%, %batch_num%, …); it cannot leave the output folder. The
    workflow goes into the file unless ComfyUI runs with --disable-metadata, and `more` metadata always, behind it.
    Format and quality as in `save_audio`.
    Raises BarkInputError for a prefix that leaves the folder, BarkFileError where a file cannot be written.
    """
    suffix = FORMATS[file_format].suffix
    folder, name, counter, subfolder = _place(prefix, output_folder(), suffix)

    def file_name(number: int) -> str:
        return f"{name.replace(BATCH_TOKEN, str(number))}_{counter + number:05}{suffix}"

    # ComfyUI 0.3.64 counts only names with a further underscore, and none counts those with %batch_num% in them.
    while any(Path(folder, file_name(number)).exists() for number in range(len(clips))):
        counter += 1
    how: dict[str, Any] = {"quality": quality, "metadata": {**_workflow(cls), **(more or {})}, "overwrite": False}
    saved = []
    for number, clip in enumerate(clips):
        while True:
            file = file_name(number)
            try:
                save_audio(Path(folder, file), clip, rate, file_format, **how)
                break
            except BarkNameTakenError:  # by another ComfyUI that saves into this folder
                counter += 1
        saved.append({"filename": file, "subfolder": subfolder, "type": "output"})
    return saved


def save_take(take: Take, prefix: str, cls: type[io.ComfyNode]) -> str:
    """Write a token file into models/bark/tokens under a name that is free; returns the name, with folders.

    Prefix and workflow as in `save_clips`. Raises BarkInputError, BarkFileError.
    """
    root = token_folder()
    folder, name, counter, _ = _place(prefix, root, ".safetensors", "the file")

    def path() -> Path:
        return Path(folder, f"{name}_{counter:05}.safetensors")

    while path().exists():  # as in `save_clips`: 0.3.64 counts from 1 again, and a take is only worth writing once
        counter += 1
    workflow = _workflow(cls)
    while True:
        try:
            return save_tokens(path(), take, workflow).relative_to(root).as_posix()
        except BarkNameTakenError:  # by another ComfyUI that saves into this folder
            counter += 1


def to_host_image(picture: np.ndarray) -> torch.Tensor:
    """A picture, bytes `[H, W, 3]` → ComfyUI's IMAGE: float32 `[1, H, W, 3]` in 0 … 1 on the CPU."""
    return torch.from_numpy(picture.astype(np.float32) / 255.0)[None]


def show_view(view: View) -> dict[str, str]:
    """Put a view and its sound into ComfyUI's temp folder; returns what the browser needs to find the view.

    Names tell the content, so a view that is shown again is not written again. Raises BarkFileError.
    """
    sound = None
    if view.audio is not None:
        mark = hashlib.sha256(view.audio.samples.tobytes() + str(view.audio.sample_rate).encode()).hexdigest()[:24]
        path, sound = _temp_place(f"sound_{mark}.wav")
        if not path.exists():
            save_audio(path, view.audio.samples, view.audio.sample_rate)
    payload = make_payload(view, sound)
    path, shown = _temp_place(f"view_{payload.mark}.safetensors")
    if not path.exists():
        with replacing(path, "The view") as temporary:
            temporary.write_bytes(payload.to_bytes())
    return shown


def _temp_place(name: str) -> tuple[Path, dict[str, str]]:
    """A file of ours in the temp folder, and how the browser asks for it."""
    path = Path(folder_paths.get_temp_directory(), TEMP_FOLDER, name)
    return path, {"filename": name, "subfolder": TEMP_FOLDER, "type": "temp"}


def check_prefix(prefix: str | None, root: Path, visible: str = "") -> bool | str:
    """For `validate_inputs`: a sentence for a prefix that is typed in and cannot be one inside a folder.

    `visible` is what must not be hidden there, if anything.
    """
    try:
        if prefix is not None:
            _require_prefix(prefix, root, visible)
    except BarkInputError as error:
        return str(error)
    return True


def _require_prefix(prefix: str, root: Path, visible: str) -> None:
    """Raises BarkInputError for a prefix that leads out of the folder, hides `visible`, or would be taken literally."""
    # Without what is known first: in %year%_v1.2_%month% nothing lies between two signs that belong together.
    if token := _BROWSER_TOKEN.search(_KNOWN_TOKEN.sub("", str(prefix))):
        raise BarkInputError(
            f"The prefix has {token[0]!r} in it, which ComfyUI replaces for its own nodes only. Here it knows "
            f"{', '.join(TIME_TOKENS)}, and {BATCH_TOKEN} in Save Audio (Bark); use those, or leave it out."
        )
    if visible:
        visible_child(root, prefix, visible)
    else:
        safe_child(root, prefix)


def _place(prefix: str, root: Path, suffix: str, visible: str = "") -> tuple[str, str, int, str]:
    """Folder, file name, counter and sub-folder for a prefix inside a folder, from ComfyUI itself.

    Raises BarkInputError for a prefix that cannot be one (`visible` as in `check_prefix`) or is too long with its
    number and suffix, BarkFileError where the folder cannot be made or read.
    """
    _require_prefix(prefix, root, visible)
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix.replace("\\", "/"), str(root))
    except OSError as error:
        raise BarkFileError(
            f"The folder for {prefix!r} cannot be made or read in {root} ({error.strerror or error}). "
            "Check the rights and the free space, or choose another prefix."
        ) from error
    longest = len(f"{name}_{counter:05}_{suffix}".encode()) - MAX_COMPONENT
    if longest > 0:
        raise BarkInputError(
            f"The file name {name[:40]!r}… is {longest} bytes too long with its number and {suffix}. Shorten the "
            "prefix; Chinese and Japanese characters take three bytes each."
        )
    return folder, name, counter, subfolder


def _workflow(cls: type[io.ComfyNode]) -> dict[str, str]:
    """The graph as ComfyUI's own nodes store it, or nothing with --disable-metadata."""
    if args.disable_metadata:
        return {}
    parts = {"prompt": cls.hidden.prompt, **(cls.hidden.extra_pnginfo or {})}
    return {name: json.dumps(value) for name, value in parts.items() if value is not None}


def blocked(sentence: str) -> ExecutionBlocker:
    """An output that stops the nodes behind it, and only those, and tells the user why.

    It does so once: ComfyUI keeps the stopped nodes as done, without the sentence, so that further runs stay silent
    until something in front of them changes.
    """
    return ExecutionBlocker(sentence)


def file_mark(path: Path | None) -> str:
    """Changes whenever a file does: for `fingerprint_inputs`, which runs for every prompt and must be cheap."""
    if path is None:
        return "absent"
    status = path.stat()
    return f"{path}:{status.st_mtime_ns}:{status.st_size}"
