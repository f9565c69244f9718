"""What requests will cost before anything runs: memory from the sizes of the networks, time from a stored speed.

Memory does not depend on the texts: caches are as long as the models allow. Time does, and on the machine: its speed is
measured once (`Bark.measure_speed`) and kept in the user's cache folder.
"""

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .atomic import replacing
from .checkpoint import StageFile, weight_bytes
from .coarse import trim_history
from .codec import PIECE, CodecShape
from .fine import plan_windows
from .graphs import bucket
from .library.places import cache_folder
from .many import FINE_ROWS, Request
from .precision import cache_dtype, name_of
from .sampling import MAX_COARSE_HISTORY, is_filtered
from .spec import BarkSpec
from .transformer import NetworkShape, cache_bytes

if TYPE_CHECKING:
    from .bark import Bark

LETTERS_PER_SECOND = 15  # of read English, spaces included; a guess for texts whose length in sound nobody knows
ACTIVATIONS = 14  # widths of float32 that a layer holds for each position of a long pass: its input, three of queries
# to values, four of MLP before and after GELU, and their copies in another precision
DECODED_SAMPLES = 5  # filters of float32 for each sample that the codec's widest layers hold at once, source and result
TIMED_STEPS = 12
TIMED_ROWS = 16  # whose step tells what a further row costs


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some requests take. `bytes` is the peak on the device: `weights` of all stages, and `working` beside them.

    `speech_seconds` is how much sound they will be, a guess from their lengths; `seconds` how long the work takes, or
    None where this machine's speed was not measured.
    """

    bytes: int
    weights: int
    working: int
    speech_seconds: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of one set of models on one machine: what the parts of the work take.

    `step` is that of one token of one row in the text and coarse stages, `row` what each further row of a batch adds,
    which "auto" may run in another precision; `position` is that of one position of a prefill, `window` of a pass of
    the fine stage, `decoded` of decoding a second.
    """

    step: float
    row: float
    position: float
    window: float
    decoded: float


def estimate(
    bark: "Bark", requests: Sequence[Request], rows: int, size: int, dtype: str, device: torch.device
) -> Estimate:
    """See `Bark.estimate`; `rows` of a batch decide the precision, `size` of them share a step."""
    files = (bark.models.text, bark.models.coarse, bark.models.fine, bark.models.codec)
    dtypes = {file.stage: bark.manager.dtype(dtype, device, file, rows) for file in files}
    weights = sum(_resident_weights(file, dtypes[file.stage]) for file in files)
    kept = sum(_kept(file, dtypes[file.stage], device, size) for file in files) if bark.graphs else 0
    longest = max((_speech_seconds(request, bark.spec) for request in requests), default=0.0)
    own = size if not bark.graphs or any(map(_draws_by_itself, requests)) else 0
    working = max(working_bytes(file, bark.spec, dtypes[file.stage], device, size, own, longest) for file in files)
    spoken = sum(_speech_seconds(request, bark.spec) for request in requests)
    alone = {file.stage: bark.manager.dtype(dtype, device, file) for file in files}
    speed = stored_speed(_key(bark, alone, device))
    seconds = None if speed is None else _seconds(bark.spec, requests, size, speed, dtypes["coarse"] != torch.float32)
    return Estimate(weights + kept + working, weights, kept + working, spoken, seconds)


def _resident_weights(file: StageFile, dtype: torch.dtype) -> int:
    """What a stage's weights take while it runs: all but a table of text tokens that is mapped from its file.

    Such a table is read a few rows at a time; one that is stored narrower than float32 has to be copied.
    """
    size = weight_bytes(file.stage, file.shape, dtype)
    mapped = file.layout == "converted" or file.dtype == torch.float32
    if isinstance(file.shape, NetworkShape) and not file.shape.codebooks and mapped:
        size -= file.shape.input_vocab * file.shape.n_embd * 4
    return size


def working_bytes(
    file: StageFile, spec: BarkSpec, dtype: torch.dtype, device: torch.device, rows: int, caches: int, seconds: float
) -> int:
    """What a stage takes beside its weights while it runs, for `rows` at once, `caches` of which are set aside anew.

    For the codec `seconds` of sound count instead, up to those that it works on at a time.
    """
    shape = file.shape
    if isinstance(shape, CodecShape):
        return int(DECODED_SAMPLES * 4 * shape.filters * min(spec.sample_rate * seconds, PIECE * spec.hop_length))
    if shape.codebooks:
        windows = min(rows, FINE_ROWS)
        drawn = 3 * spec.codebook_size  # logits, what is left of them and the noise of the draw
        return 4 * windows * spec.fine_window * (ACTIVATIONS * shape.n_embd + drawn)
    positions = spec.text_positions if file.stage == "text" else spec.coarse_positions
    kept = cache_bytes(shape, positions, cache_dtype(dtype, device, rows))
    read = max(spec.text_length + 1, _window_positions(MAX_COARSE_HISTORY, spec))
    return caches * kept + 4 * read * ACTIVATIONS * shape.n_embd


def _kept(file: StageFile, dtype: torch.dtype, device: torch.device, rows: int) -> int:
    """The caches that one replay per token keeps between runs, of the text and coarse stages (graphs.py)."""
    shape = file.shape
    if isinstance(shape, CodecShape) or shape.codebooks:
        return 0
    return bucket(rows) * cache_bytes(shape, shape.block_size, cache_dtype(dtype, device, rows))


def _draws_by_itself(request: Request) -> bool:
    """Whether a request cannot be replayed and has a cache of its own, whatever is kept for the others."""
    return is_filtered(request.semantic) or is_filtered(request.coarse)


def _speech_seconds(request: Request, spec: BarkSpec) -> float:
    """How long a text will sound, at most what fits."""
    guess = max(1.0, len(request.text) / LETTERS_PER_SECOND)
    limits = (guess, request.semantic.max_seconds, spec.max_semantic / spec.semantic_rate)
    return min(limit for limit in limits if limit is not None)


def _seconds(spec: BarkSpec, requests: Sequence[Request], rows: int, speed: Speed, continues: bool) -> float:
    """Steps that full batches share, a prefill for each text and window, a pass for each codebook and window.

    `continues`: whether coarse windows that only go on further are not read anew.
    """
    lengths = [_speech_seconds(request, spec) for request in requests]
    coarse = [spec.coarse_codebooks * spec.frame_rate * length for length in lengths]
    tokens = sum(spec.semantic_rate * length for length in lengths) + sum(coarse)
    shared = max(1, min(rows, len(requests)))
    steps = tokens / shared * (speed.step + (shared - 1) * speed.row)
    prefills = len(requests) * (spec.text_length + 1) + sum(
        _read_in_windows(request, max(1, round(spec.semantic_rate * length)), spec, continues)
        for length, request in zip(lengths, requests, strict=True)
    )
    windows = sum(len(plan_windows(0, math.ceil(spec.frame_rate * length), spec)) for length in lengths)
    passes = windows * (spec.fine_codebooks - spec.coarse_codebooks)
    return steps + prefills * speed.position + passes * speed.window + sum(lengths) * speed.decoded


def _read_in_windows(request: Request, semantic: int, spec: BarkSpec, continues: bool) -> int:
    """Positions of all prompts that the coarse stage reads for so many semantic tokens; the rules are `CoarseRow`'s."""
    sampling = request.coarse
    past = math.floor(sampling.max_history / spec.coarse_per_semantic)
    semantic_history, history = trim_history(request.speaker, spec, past)
    read = 0
    for step in range(0, spec.coarse_codebooks * spec.frames_for(semantic), sampling.window):
        now, made = len(semantic_history) + round(step / spec.coarse_per_semantic), len(history) + step
        as_before = now <= past and made <= sampling.max_history
        if not (continues and step and as_before):
            read += _window_positions(min(made, sampling.max_history), spec)
    return read


def _window_positions(history: int, spec: BarkSpec) -> int:
    """Positions of the prompt of a coarse window with so many tokens of the past."""
    return spec.coarse_semantic_window + 1 + history


# -- speed ---------------------------------------------------------------------------------------------------------


def measure_speed(bark: "Bark") -> Speed:
    """See `Bark.measure_speed`."""
    step, position = bark.run_stage("coarse", lambda network, frugal: _time_causal(network, 1))
    many, _ = bark.run_stage("coarse", lambda network, frugal: _time_causal(network, TIMED_ROWS), TIMED_ROWS)
    window = bark.run_stage("fine", lambda network, frugal: _time_fine(network, bark.spec))
    decoded = bark.run_stage("codec", lambda codec, frugal: _time_codec(codec, bark.spec))
    speed = Speed(step, max(0.0, (many - step) / (TIMED_ROWS - 1)), position, window, decoded)
    dtypes = {stage: bark.dtype_of(stage) for stage in ("text", "coarse", "fine", "codec")}
    _store(_key(bark, dtypes, bark.device), speed)
    return speed


def stored_speed(key: str) -> Speed | None:
    """What was measured for such models on such a device here, or None. A damaged file counts as none."""
    try:
        return Speed(**{name: float(value) for name, value in _stored()[key].items()})
    except (KeyError, AttributeError, ValueError, TypeError):
        return None


def _store(key: str, speed: Speed) -> None:
    known = _stored()
    with replacing(_file(), "The speed of this machine") as temporary:
        temporary.write_text(json.dumps(known | {key: asdict(speed)}, indent=1) + "\n", encoding="utf-8")


def _stored() -> dict[str, Any]:
    """What the file holds; a damaged one counts as none."""
    try:
        known = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _file() -> Path:
    return cache_folder() / "bark_engine" / "speed.json"


def _key(bark: "Bark", dtypes: dict[str, torch.dtype], device: torch.device) -> str:
    """Models of these sizes in these precisions, on this device with so many threads, with this torch."""
    parts = [f"{stage} {_size(getattr(bark.models, stage))} {name_of(dtype)}" for stage, dtype in dtypes.items()]
    if device.type == "cuda":
        parts.append(torch.cuda.get_device_name(device))
    else:
        parts.append(f"{platform.machine()} {device.type} {torch.get_num_threads()} threads")
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _size(file: StageFile) -> str:
    shape = file.shape
    return f"{shape.n_layer}x{shape.n_embd}" if isinstance(shape, NetworkShape) else f"{shape.filters}"


def _time_causal(network: Any, rows: int) -> tuple[float, float]:
    """Seconds of a step of so many rows in the middle of the cache, and of a position of the prefill before it."""
    length = network.shape.block_size // 2
    with torch.inference_mode():
        cache = network.new_rows(rows, network.shape.block_size)
        ids = torch.zeros(1, length, dtype=torch.int64, device=cache.keys.device)
        network(network.embed(ids), cache.row(0, length))  # the first time is never the fastest
        prefill = _seconds_of(lambda: network(network.embed(ids), cache.row(0, length)), 1, cache.keys.device)
        cache.rows, cache.lengths[:] = rows, length
        one = torch.zeros(rows, 1, dtype=torch.int64, device=cache.keys.device)
        network.step_rows(network.embed(one), cache)
        step = _seconds_of(lambda: network.step_rows(network.embed(one), cache), TIMED_STEPS, cache.keys.device)
    return step, prefill / length


def _time_fine(network: Any, spec: BarkSpec) -> float:
    """Seconds of a pass over one window."""
    device = network.transformer.wpe.weight.device
    codes = torch.zeros(1, spec.fine_window, spec.fine_codebooks, dtype=torch.int64, device=device)
    with torch.inference_mode():
        network(codes, spec.coarse_codebooks, 0, spec.codebook_size)
        return _seconds_of(lambda: network(codes, spec.coarse_codebooks, 0, spec.codebook_size), 1, device)


def _time_codec(codec: Any, spec: BarkSpec) -> float:
    """Seconds of decoding a second of sound."""
    device = codec.quantizer.vq.layers[0]._codebook.embed.device
    codes = torch.zeros(1, spec.fine_codebooks, 2 * round(spec.frame_rate), dtype=torch.int64, device=device)
    with torch.inference_mode():
        return _seconds_of(lambda: codec.decode(codes), 1, device) / 2


def _seconds_of(job: Callable[[], Any], times: int, device: torch.device) -> float:
    """The median of a few runs, each waited for."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
