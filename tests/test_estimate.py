"""What requests will cost: bytes against what is really there, seconds against sums by hand, and nothing loaded."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine import (
    Bark,
    BarkFileError,
    BarkInputError,
    CoarseSampling,
    ModelManager,
    Request,
    SemanticSampling,
    SemanticTokens,
    SpeakerPrompt,
    Speed,
    graphs,
)
from bark_engine import estimate as module
from bark_engine.checkpoint import StageFile, load_stage
from bark_engine.coarse import CoarseRow
from bark_engine.estimate import LETTERS_PER_SECOND
from bark_engine.many import bytes_per_row
from bark_engine.transformer import KeyValueCache, RowCache

LOW_VOICE = Path(module.__file__).parent / "assets" / "nano" / "speakers" / "low.npz"


@pytest.fixture
def bark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bark:
    """nano in a manager of its own, on a machine of unknown speed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Bark.load("nano", manager=ModelManager(), device="cpu")


def request(seconds: float, **given: object) -> Request:
    """A text that sounds for so long by the guess."""
    return Request("a" * round(seconds * LETTERS_PER_SECOND), **given)  # type: ignore[arg-type]


def test_nothing_is_loaded_and_no_time_is_made_up(bark: Bark) -> None:
    told = bark.estimate([request(2)])
    assert told.seconds is None
    assert told.speech_seconds == pytest.approx(2)
    assert told.bytes == told.weights + told.working
    assert bark.manager.loaded() == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_weights_are_those_that_get_loaded(bark: Bark, dtype: str) -> None:
    stages = (bark.models.text, bark.models.coarse, bark.models.fine, bark.models.codec)
    held = 0
    for file in stages:
        loaded = load_stage(file, bark.manager.dtype(dtype, bark.device, file))
        training = (".inited", ".cluster_size", ".embed_avg")
        held += sum(t.numel() * t.itemsize for n, t in loaded.state_dict().items() if not n.endswith(training))
    tables = sum(file.shape.input_vocab * file.shape.n_embd * 4 for file in stages[:2])  # type: ignore[union-attr]
    copied = held - (tables if stages[0].layout == "converted" else 0)
    assert bark.estimate([request(2)], dtype=dtype).weights == copied


def test_caches_are_those_that_get_made(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest of all caches that a run sets aside, from the tensors themselves."""
    made: list[int] = []
    for kind in (KeyValueCache, RowCache):

        def watched(self, *args, real=kind.__init__, **knobs):  # type: ignore[no-untyped-def]
            real(self, *args, **knobs)
            made.append(2 * self.keys.numel() * self.keys.itemsize)

        monkeypatch.setattr(kind, "__init__", watched)
    few = SemanticSampling(max_seconds=0.1, early_stop=False)
    requests = [Request("Hello.", semantic=few)] * 128
    list(bark.say_many(requests[:3], batch_size=3))
    assert max(made) <= bark.estimate(requests[:3], batch_size=3).working
    more = bark.estimate(requests, batch_size=128).bytes - bark.estimate(requests, batch_size=64).bytes
    assert more / 64 == max(made) / 3, "in large batches the caches are what grows"


@pytest.mark.parametrize("rows", [1, 3])
def test_with_graphs_the_buffers_that_stay_are_counted(rows: int) -> None:
    """Those of both causal stages, from the tensors themselves; rows that are not replayed have caches of their own."""
    few, filtered = SemanticSampling(max_seconds=0.1, early_stop=False), SemanticSampling(top_k=5)

    def nano(with_graphs: bool) -> Bark:
        return Bark.load("nano", manager=ModelManager(), device="cpu", dtype="float32", graphs=with_graphs)

    def working(with_graphs: bool, sampling: SemanticSampling, batch: int = rows) -> int:
        return nano(with_graphs).estimate([request(1, semantic=sampling)] * batch, batch_size=batch).working

    graphs.let_go()
    bark = nano(with_graphs=True)
    list(bark.say_many([request(1, semantic=few)] * rows, batch_size=rows))
    kept = [replayer.buffers for replayer in graphs._idle.values()]
    assert len(kept) == 2
    held = [tensor for one in kept for tensor in (one.cache.keys, one.cache.values, one.noise, one.hidden)]
    counted = working(True, filtered) - working(False, filtered)
    assert counted == pytest.approx(sum(tensor.numel() * tensor.itemsize for tensor in held), rel=0.05)
    assert counted <= working(True, few) <= working(True, filtered)
    assert working(True, few, 128) < working(True, filtered, 128), "in large batches caches are most of what is taken"


def test_memory_is_flat_in_texts_and_requests(bark: Bark) -> None:
    short, long = request(1), request(12)
    one = bark.estimate([short] * 50, batch_size=4)
    assert bark.estimate([short] * 100, batch_size=4).bytes == one.bytes
    codec_only = bark.estimate([long] * 50, batch_size=4).bytes - one.bytes
    assert 0 <= codec_only < 0.5 * one.bytes
    assert bark.estimate([short] * 50, batch_size=8).bytes > one.bytes


def test_seconds_are_the_sum_of_the_parts(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(step=1.0, row=0.1, position=0.001, window=7.0, decoded=0.5)
    monkeypatch.setattr(module, "stored_speed", lambda key: speed)
    spec = bark.spec
    tokens = 2 * (spec.semantic_rate + 2 * spec.frame_rate)
    prefill = 0.001 * (spec.text_length + 1)
    rest = prefill + 6 * 7.0 + 2 * 0.5
    first = 0.001 * (256 + 1)  # and all windows after it only go on further
    assert bark.estimate([request(2)], "bfloat16").seconds == pytest.approx(tokens + rest + first)
    both = bark.estimate([request(2)] * 2, "bfloat16", batch_size=2).seconds
    assert both == pytest.approx(tokens * 1.1 + 2 * (rest + first))
    windows = 0.001 * (5 * (256 + 1) + 60 + 120 + 180 + 240)  # 300 coarse tokens in windows of 60, each read anew
    assert bark.estimate([request(2)], "float32").seconds == pytest.approx(tokens + rest + windows)
    voice = SpeakerPrompt.load(LOW_VOICE, spec.family)
    told = bark.estimate([request(2, speaker=voice)], "float32").seconds
    assert told == pytest.approx(tokens + rest + windows + 0.001 * 5 * 278)  # whose tokens are in front of all windows
    asked = SemanticSampling(max_seconds=1.0)
    assert bark.estimate([request(2, semantic=asked)]).speech_seconds == 1.0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("speaker", [None, SpeakerPrompt.load(LOW_VOICE, "nano")], ids=["no voice", "a voice"])
@pytest.mark.parametrize("sampling", [CoarseSampling(), CoarseSampling(max_history=100, window=77)])
@pytest.mark.parametrize("seconds", [1, 4, 8, 12])
def test_positions_are_those_that_the_coarse_stage_reads(
    bark: Bark,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    sampling: CoarseSampling,
    speaker: SpeakerPrompt | None,
    dtype: str,
) -> None:
    """Against the stage's own row, walked through from the first token to the last."""
    monkeypatch.setattr(module, "stored_speed", lambda key: Speed(0.0, 0.0, 1.0, 0.0, 0.0))
    tokens = SemanticTokens(np.zeros(round(seconds * bark.spec.semantic_rate), int), bark.spec.family)
    row = CoarseRow(tokens, bark.spec, speaker, sampling, 0, continues=dtype != "float32")
    network: Any = SimpleNamespace(embed=lambda ids: ids, lm_head=SimpleNamespace(weight=torch.zeros(1)))
    read = bark.spec.text_length + 1
    while not row.finished:
        if row.wants_prompt:
            read += row.prompt(network).shape[1]
        row.accept(0)
    assert bark.estimate([request(seconds, speaker=speaker, coarse=sampling)], dtype).seconds == read


def test_speed_is_measured_once_and_kept(bark: Bark, tmp_path: Path) -> None:
    speed = bark.measure_speed()
    assert min(speed.step, speed.position, speed.window, speed.decoded) > 0
    told = bark.estimate([request(3)])
    assert told.seconds is not None
    assert told.seconds > 0
    again = Bark.load("nano", manager=ModelManager(), device="cpu").estimate([request(3)])
    assert again == told
    assert bark.estimate([request(3)], dtype="int8").seconds is None, "another precision was not measured"
    kept = tmp_path / "bark_engine" / "speed.json"
    (key,) = json.loads(kept.read_text())
    for damaged in ("{", "[]", "7", "[" * 100_000, json.dumps({key: []}), json.dumps({key: {"step": "fast"}})):
        kept.write_text(damaged)
        assert bark.estimate([request(3)]).seconds is None
        module._store(key, speed)
        assert module.stored_speed(key) == speed, "it is no worse than a missing one"


def test_a_speed_that_cannot_be_kept_is_a_sentence(bark: Bark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for timed in ("_time_fine", "_time_codec"):
        monkeypatch.setattr(module, timed, lambda *_: 1.0)
    monkeypatch.setattr(module, "_time_causal", lambda *_: (1.0, 1.0))
    (tmp_path / "bark_engine").write_text("a file where the folder would be")
    with pytest.raises(BarkFileError, match="The speed of this machine could not be saved as"):
        bark.measure_speed()


def test_a_speed_is_one_for_batches_that_auto_runs_in_another_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors with AVX512-BF16: int8 for few texts, bfloat16 for many."""
    bark = Bark.load("nano", manager=ModelManager(), device="cpu")

    def best(device: torch.device, file: StageFile, rows: int = 1) -> torch.dtype:
        return torch.bfloat16 if rows > 8 else torch.float32

    monkeypatch.setattr(bark.manager.placement, "best_dtype", best)
    bark.measure_speed()
    seconds = [bark.estimate([request(3)] * count).seconds for count in (1, 8, 9, 16)]
    assert None not in seconds


def test_a_batch_for_another_device_is_sized_for_that_device(bark: Bark, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = {"cpu": 10**12, "mps": 4 * 3 * bytes_per_row(bark, 16, torch.device("mps"), "float32")}
    monkeypatch.setattr(bark.manager.placement, "room", lambda device: rooms[device.type])
    monkeypatch.setattr(bark.manager.placement, "device", torch.device)
    many = [request(1)] * 100
    assert bark.estimate(many, dtype="float32", device="mps") == bark.estimate(
        many, dtype="float32", device="mps", batch_size=3
    )


def test_what_cannot_be_is_refused(bark: Bark) -> None:
    with pytest.raises(BarkInputError, match="'int4' is unknown"):
        bark.estimate([request(1)], dtype="int4")
    with pytest.raises(BarkInputError, match="'tpu' is unknown"):
        bark.estimate([request(1)], device="tpu")
    assert bark.estimate([]).speech_seconds == 0
    assert torch.device("cpu") == bark.device
