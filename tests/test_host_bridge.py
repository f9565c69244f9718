"""`nodes/host.py` piece by piece: placement with devices that are not here, progress, the shapes of AUDIO, folders."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bark_engine import Bark
from support.standin.host import StandInHost

CPU, META = torch.device("cpu"), torch.device("meta")


@pytest.fixture
def bridge(standin: StandInHost) -> ModuleType:
    return standin.module("nodes.host")


@pytest.fixture
def management(standin: StandInHost) -> ModuleType:
    import comfy.model_management

    return comfy.model_management


@pytest.fixture
def engine(standin: StandInHost) -> ModuleType:
    return standin.module("bark_engine")


# -- placement ------------------------------------------------------------------------------------------------------


def test_auto_is_what_the_host_chose(
    bridge: ModuleType, management: ModuleType, engine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(management, "get_torch_device", lambda: META)
    placement = bridge.HostPlacement()
    assert placement.device("auto") == META
    assert placement.device("cpu") == CPU
    with pytest.raises(engine.BarkInputError, match="tpu"):
        placement.device("tpu")


def test_auto_is_the_processor_where_the_host_keeps_no_model_on_the_card(
    bridge: ModuleType, management: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--novram: a whole stage is never brought there, so its precision must be the processor's from the start."""
    monkeypatch.setattr(management, "get_torch_device", lambda: META)
    monkeypatch.setattr(management, "vram_state", management.VRAMState.NO_VRAM)
    assert bridge.HostPlacement().device("auto") == CPU


def test_a_batch_may_count_on_what_the_host_would_unload(
    bridge: ModuleType, management: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    placement = bridge.HostPlacement()
    other = placement.place(nn.Linear(10, 10, bias=False), META)
    here = placement.place(nn.Linear(99, 99), CPU)
    for stage in (other, here):
        with stage.running(0):
            pass
    monkeypatch.setattr(management, "get_free_memory", lambda device: 1_000 if device == META else 0)
    assert placement.room(META) == 1_400
    monkeypatch.setattr(bridge, "free_bytes", lambda device: 7)
    assert placement.room(CPU) == 7


@pytest.mark.parametrize(("cards", "more"), [(0, []), (1, []), (2, ["cuda:0", "cuda:1"])])
def test_cards_are_offered_by_number_where_there_are_several(
    standin: StandInHost, monkeypatch: pytest.MonkeyPatch, cards: int, more: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    options = standin.object_info()["BarkLoadModels"]["input"]["required"]["device"][1]["options"]
    assert options == ["auto", "cuda", "mps", "cpu", *more]


@pytest.mark.parametrize(
    ("device", "bf16", "fp16", "wanted"),
    [
        ("cpu", True, True, torch.float32),
        ("mps", True, True, torch.float32),
        ("cuda", True, True, torch.bfloat16),
        ("cuda", False, True, torch.float16),
        ("cuda", False, False, torch.float32),
    ],
)
def test_auto_precision_asks_the_host(
    bridge: ModuleType,
    management: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    bf16: bool,
    fp16: bool,
    wanted: torch.dtype,
) -> None:
    monkeypatch.setattr(management, "should_use_bf16", lambda _: bf16)
    monkeypatch.setattr(management, "should_use_fp16", lambda _: fp16)
    file = Bark.load("nano").models.text
    assert bridge.HostPlacement().best_dtype(torch.device(device), file) == wanted


def test_every_run_asks_for_a_full_load_with_room_to_work(
    bridge: ModuleType, management: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may have pushed the weights out since the last run, or only a part of them."""
    asked: list[tuple[Any, ...]] = []
    real = management.load_models_gpu

    def load(models: Any, memory_required: float = 0, force_full_load: bool = False) -> None:
        asked.append((len(models), memory_required, force_full_load))
        real(models)

    monkeypatch.setattr(management, "load_models_gpu", load)
    stage = nn.Linear(2, 2)
    placed = bridge.HostPlacement().place(stage, CPU)
    for room in (100, 200):
        with placed.running(room) as module:
            assert module is stage
    assert asked == [(1, 100, True), (1, 200, True)]


def test_a_stage_that_was_left_in_pieces_runs_whole_where_it_lives(
    bridge: ModuleType, management: ModuleType, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """--novram loads nothing fully: some layers arrive, others stay. Here "arriving" is becoming meta tensors."""
    moved_to: list[torch.device] = []

    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2, device=META), nn.Linear(2, 2)

        def to(self, device: torch.device) -> "Stage":  # type: ignore[override]
            moved_to.append(device)
            return self

    monkeypatch.setattr(management, "load_models_gpu", lambda *_, **__: None)
    with bridge.HostPlacement().place(Stage(), META).running(0):
        assert moved_to == [CPU]
    assert "so it runs on cpu" in caplog.text


def test_a_stage_that_arrived_stays_there(bridge: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with bridge.HostPlacement().place(nn.Linear(2, 2), META).running(0) as module:
        assert {weight.device for weight in module.parameters()} == {META}


def test_a_released_stage_leaves_the_device(bridge: ModuleType) -> None:
    stage = nn.Linear(2, 2)
    placed = bridge.HostPlacement().place(stage, CPU)
    with placed.running(0):
        pass
    placed.release()
    assert stage.weight.device == CPU


def test_making_room_unloads_every_model_of_the_host(bridge: ModuleType, management: ModuleType) -> None:
    placed = bridge.HostPlacement().place(nn.Linear(2, 2), CPU)
    with placed.running(0):
        assert management.current_loaded_models
    bridge.HostPlacement().make_room()
    assert management.current_loaded_models == []


def test_there_is_one_manager(bridge: ModuleType) -> None:
    assert bridge.manager() is bridge.manager()
    assert isinstance(bridge.manager().placement, bridge.HostPlacement)


# -- progress -------------------------------------------------------------------------------------------------------


def test_interruption_is_noticed_at_the_very_next_step(bridge: ModuleType, management: ModuleType) -> None:
    """Although the bar itself is throttled, as in 0.9.2 and later."""
    on_step = bridge.progress()
    for done in range(3):
        on_step(done, 1_000)
    management.interrupt_current_processing()
    with pytest.raises(management.InterruptProcessingException):
        on_step(3, 1_000)
    on_step(4, 1_000)  # the flag is gone


def test_the_bar_takes_its_length_from_the_stage(bridge: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.utils

    seen: list[tuple[int, int]] = []

    def hook(value: int, maximum: int) -> None:
        seen.append((value, maximum))

    monkeypatch.setattr(comfy.utils, "_hook", hook)
    monkeypatch.setattr(comfy.utils, "SECONDS_BETWEEN_REPORTS", 0)
    on_step = bridge.progress()
    for done, total in ((0, 7), (3, 7), (4, 9), (9, 9)):
        on_step(done, total)
    assert seen == [(0, 7), (3, 7), (4, 9), (9, 9)]


# -- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "clips", "channels"),
    [((6,), 1, 1), ((2, 6), 1, 2), ((1, 1, 6), 1, 1), ((3, 2, 6), 3, 2)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_sound_of_other_packs_is_taken(
    bridge: ModuleType, shape: tuple[int, ...], clips: int, channels: int, dtype: torch.dtype
) -> None:
    waveform = (torch.arange(int(np.prod(shape))).reshape(shape) / 64).to(dtype).requires_grad_()
    found, rate = bridge.clips_of({"waveform": waveform, "sample_rate": 22_050})
    assert rate == 22_050
    assert [clip.shape for clip in found] == [(channels, 6)] * clips
    assert all(clip.dtype == np.float32 for clip in found)
    assert np.array_equal(np.concatenate([clip.ravel() for clip in found]), waveform.detach().float().numpy().ravel())


@pytest.mark.parametrize("rate", [44_100, 44_100.0, np.int64(44_100)])
def test_sound_that_is_read_when_it_is_asked_for_is_taken(bridge: ModuleType, rate: Any) -> None:
    """VideoHelperSuite gives a Mapping that is no dict."""

    class Lazy(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return {"waveform": torch.zeros(1, 2, 6), "sample_rate": rate}[key]

        def __iter__(self) -> Iterator[str]:
            return iter(("waveform", "sample_rate"))

        def __len__(self) -> int:
            return 2

    clips, found = bridge.clips_of(Lazy())
    assert [clip.shape for clip in clips] == [(2, 6)]
    assert (type(found), found) == (int, 44_100)


@pytest.mark.parametrize("rate", ["24000", 24_000.5, 0, -1, float("nan"), float("inf"), 1j])
def test_an_impossible_sample_rate_is_named(bridge: ModuleType, engine: ModuleType, rate: Any) -> None:
    with pytest.raises(engine.BarkInputError, match=r"sample rate is .*whole number of hertz"):
        bridge.clips_of({"waveform": torch.zeros(1, 1, 4), "sample_rate": rate})


@pytest.mark.parametrize(
    "audio",
    [
        None,
        "sound",
        {},
        {"waveform": torch.zeros(1, 1, 4)},
        {"waveform": np.zeros((1, 1, 4)), "sample_rate": 24_000},
        {"waveform": torch.zeros(1, 1, 1, 4), "sample_rate": 24_000},
        {"waveform": torch.zeros(1, 1, 0), "sample_rate": 24_000},
        {"waveform": torch.zeros(0, 1, 4), "sample_rate": 24_000},
        {"waveform": torch.tensor(0.5), "sample_rate": 24_000},
    ],
)
def test_what_is_no_sound_is_refused(bridge: ModuleType, engine: ModuleType, audio: Any) -> None:
    with pytest.raises(engine.BarkInputError, match="audio input"):
        bridge.clips_of(audio)


@pytest.mark.parametrize("kind", ["int16", "int32", "uint8", "bool", "complex64"])
def test_whole_numbers_are_no_samples(bridge: ModuleType, engine: ModuleType, kind: str) -> None:
    """Cast, they would be far outside of −1 … 1: noise."""
    waveform = torch.ones(1, 1, 4, dtype=getattr(torch, kind))
    with pytest.raises(engine.BarkInputError, match=rf"not {kind}\. Divide whole numbers"):
        bridge.clips_of({"waveform": waveform, "sample_rate": 24_000})


def test_stereo_is_averaged_for_the_codec(bridge: ModuleType) -> None:
    waveform = torch.tensor([[[0.0, 0.5], [1.0, -0.5]]])
    assert bridge.one_voice({"waveform": waveform, "sample_rate": 24_000}).samples.tolist() == [0.5, 0.0]


def test_the_hosts_sound_is_its_own_copy(bridge: ModuleType, engine: ModuleType) -> None:
    """Another pack may write into the tensor it is given; tokens and cached sound must not change with it."""
    audio = engine.Audio(np.zeros(4, np.float32), 24_000)
    given = bridge.to_host_audio(audio)
    given["waveform"] += 1
    assert audio.samples.tolist() == [0, 0, 0, 0]
    assert given["waveform"].shape == (1, 1, 4)
    assert given["waveform"].dtype == torch.float32
    assert given["waveform"].is_contiguous()


# -- folders --------------------------------------------------------------------------------------------------------


def test_the_users_extra_folders_stay_behind_the_hosts_own(
    bridge: ModuleType, standin: StandInHost, tmp_path: Path
) -> None:
    import folder_paths

    own = standin.base / "models" / "bark"
    bridge.model_folders()
    folder_paths.add_model_folder_path("bark", str(tmp_path))
    try:
        assert bridge.model_folders() == [own, tmp_path]
        assert bridge.speaker_folders() == [own / "speakers", tmp_path / "speakers"]
    finally:
        folder_paths.folder_names_and_paths["bark"][0].remove(str(tmp_path))


def test_a_files_mark_changes_with_the_file(bridge: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "voice.npz"
    marks = [bridge.file_mark(None)]
    for content in (b"one", b"three"):
        path.write_bytes(content)
        marks.append(bridge.file_mark(path))
    assert len(set(marks)) == 3
    assert bridge.file_mark(path) == marks[-1]
