"""Everything on a graphics card, which is pretended: nothing mixes places, and the tokens are the processor's.

What a real card would add, its kernels and their rounding, is not here (support/pretend_card.py).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bark_engine import (
    Bark,
    CoarseSampling,
    FineSampling,
    ModelManager,
    Request,
    SemanticSampling,
    Speech,
    TraceRecorder,
)
from bark_engine import graphs as graphs_module
from bark_engine.graphs import Step, let_go
from bark_engine.placement import LocalPlacement
from bark_engine.precision import DTYPES
from support.pretend_card import is_there, pretended_card
from support.standin.host import StandInHost
from support.tiny_models import one_thread  # noqa: F401

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:PyTorch was compiled without cuDNN"),  # which asks for it on the card
]

STAGES = ("text", "coarse", "fine", "codec")
SHORT = SemanticSampling(max_seconds=0.5)
REQUESTS = [
    Request("One.", seed=1, semantic=SHORT),
    Request("Two.", seed=2, semantic=SemanticSampling(top_k=40, max_seconds=0.7)),
    Request("Three.", seed=3, semantic=SHORT, coarse=CoarseSampling(temperature=None)),
    Request("Four.", seed=4, semantic=SHORT, fine=FineSampling(pad=False)),
]


@pytest.fixture(params=["cuda", "mps"])
def card(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of card that is there."""
    with pretended_card(request.param):
        yield request.param
    let_go()


@pytest.fixture
def cuda() -> Iterator[None]:
    with pretended_card():
        yield
    let_go()


def load(device: str = "cpu", dtype: str = "float32", **options: Any) -> Bark:
    return Bark.load("random", device=device, dtype=dtype, manager=ModelManager(), **options)


class Caller:
    """A recorder whose replay is the step itself."""

    def warm_up(self, step: Step) -> None:
        step()

    def record(self, step: Step) -> Step:
        return step


def weights_of(bark: Bark, stage: str) -> list[Tensor]:
    return bark.run_stage(stage, lambda network, frugal: list(network.parameters()))


def same(one: Any, other: Any) -> bool:
    assert isinstance(one, Speech)
    assert isinstance(other, Speech)
    tokens = (one.semantic, one.coarse, one.fine) == (other.semantic, other.coarse, other.fine)
    return tokens and np.array_equal(one.audio.samples, other.audio.samples)


# -- the pretended card itself -------------------------------------------------------------------------------------


def test_the_card_refuses_what_a_real_one_refuses(cuda: None) -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    assert is_there(there * 2 + torch.tensor(1.0))
    assert there.device == torch.device("cuda", 0)
    assert not is_there(there.cpu())
    assert is_there(there[torch.tensor([0, 1])])
    for mixed in (
        lambda: here + there,
        lambda: torch.cat((here, there)),
        lambda: nn.functional.linear(there, torch.ones(2, 3)),
        lambda: nn.functional.embedding(torch.tensor([0]), torch.ones(2, 3, device="cuda")),
        lambda: here[torch.zeros(1, dtype=torch.int64, device="cuda")],
    ):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    for read in (lambda: np.asarray(there), there.numpy):
        with pytest.raises(TypeError, match="to numpy"):
            read()


# -- the engine ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_text_is_spoken_there(card: str, dtype: str) -> None:
    bark = load(card, dtype)
    speech = bark.say("Hello.", seed=3, semantic=SHORT)
    for stage in STAGES:
        away = stage == "codec" and card == "mps"  # whose convolutions end at 65,536 samples on older systems
        assert {is_there(weight) for weight in weights_of(bark, stage)} == {not away}
    assert len(speech.audio.samples) == 320 * speech.fine.frames
    if dtype == "float32":
        assert same(speech, load().say("Hello.", seed=3, semantic=SHORT))


def test_a_voice_a_trace_and_encoding(card: str) -> None:
    spoken = []
    for bark in (load(card), load()):
        voice = bark.say("A voice.", seed=1, semantic=SHORT).as_speaker()
        trace = TraceRecorder()
        semantic = bark.text_to_semantic("Hello.", voice, SHORT, trace=trace)
        coarse = bark.semantic_to_coarse(semantic, voice, trace=trace)
        fine = bark.coarse_to_fine(coarse, voice, trace=trace)
        spoken.append((semantic, coarse, fine, bark.encode(bark.decode(fine))))
    assert spoken[0] == spoken[1]


@pytest.mark.parametrize("graphs", [False, True])
def test_many_texts_there_are_those_of_the_processor(cuda: None, graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs_module, "recorder_for", lambda device: Caller())
    got = dict(load("cuda", graphs=graphs).say_many(REQUESTS, batch_size=2))
    wanted = dict(load().say_many(REQUESTS, batch_size=2))
    assert [same(got[number], wanted[number]) for number in range(4)] == [True] * 4


def test_the_speed_is_measured_there(card: str) -> None:
    bark = load(card)
    bark.measure_speed()
    assert bark.estimate(REQUESTS).seconds is not None


def test_a_stage_that_made_room_is_whole_when_it_comes_back(cuda: None) -> None:
    """Each stage has to leave before the next one fits."""
    manager = ModelManager(LocalPlacement(free=lambda device: 0))
    bark = Bark.load("random", device="cuda", dtype="float32", manager=manager)
    first = bark.say("Hello.", seed=3, semantic=SHORT)
    placed = manager.placement._stages  # type: ignore[attr-defined]
    assert [all(map(is_there, stage.module.parameters())) for stage in placed] == [False, False, False, True]
    assert same(bark.say("Hello.", seed=3, semantic=SHORT), first)


def test_a_stage_that_did_not_fit_leaves_nothing_behind(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that runs out in the middle of a move must not be held by what had arrived."""
    stage = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    move, arrived = stage[1]._apply, []

    def no_room_at_first(*given: Any) -> nn.Module:
        arrived.append(is_there(stage[0].weight))
        if len(arrived) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(*given)

    monkeypatch.setattr(stage[1], "_apply", no_room_at_first)
    placed = LocalPlacement().place(stage, torch.device("cuda", 0))
    with pytest.raises(torch.OutOfMemoryError), placed.running(0):
        pass
    assert arrived[0]
    assert not any(map(is_there, stage.parameters()))
    with placed.running(0):
        assert all(map(is_there, stage.parameters()))


def test_room_counts_what_would_leave(cuda: None) -> None:
    placement = LocalPlacement(free=lambda device: 100)
    device = torch.device("cuda", 0)
    idle, busy = (placement.place(nn.Linear(5, 5, bias=False), device) for _ in range(2))
    with idle.running(0):
        pass
    with busy.running(0):
        assert placement.room(device) == 200
    assert placement.room(device) == 300
    assert LocalPlacement(free=lambda device: None).room(device) is None


# -- through ComfyUI's placement -----------------------------------------------------------------------------------


def test_a_stage_runs_on_the_card_that_the_host_chose(
    card: str, standin: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI says "mps" without a number, and weights that are there say "mps:0"."""
    import comfy.model_management

    chosen = torch.device(card) if card == "mps" else torch.device(card, 0)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: chosen)
    engine, host = standin.module("bark_engine"), standin.module("nodes.host")
    bark = engine.Bark.load("random", dtype="float32", manager=engine.ModelManager(host.HostPlacement()))
    assert bark.device == chosen
    text = bark.run_stage("text", lambda network, frugal: list(network.parameters()))
    assert all(map(is_there, text))
    codec = bark.run_stage("codec", lambda network, frugal: list(network.parameters()))
    assert all(map(is_there, codec)) == (card == "cuda")
    host.HostPlacement().make_room()
    assert not any(map(is_there, bark._stage("text")._placed._patcher.model.parameters()))
