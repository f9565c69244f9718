"""The live strip: tokens reach the browser that queued the prompt, all of them, in order, and not too often."""

import json
import time
import uuid
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bark_engine import BarkSpec, SemanticSampling
from bark_engine.trace import TraceRecorder
from support.graphs import Graph, add_take
from support.host import Host, probe_value, run, start
from support.host_fixtures import REAL
from support.real_host import RealHost
from support.standin.host import StandInHost


def joined(messages: list[dict[str, Any]]) -> list[int]:
    """What a strip shows after these messages."""
    ids: list[int] = []
    for message in messages:
        assert message["first"] <= len(ids)
        ids[message["first"] :] = message["ids"]
    return ids


def test_all_tokens_of_all_stages_arrive(host: Host) -> None:
    graph = Graph()
    take = add_take(graph, text="Live.", seconds=0.0, seed=71)
    probes = [graph.add("ProbeValue", value=node) for node in (take.semantic, take.coarse, take.fine)]
    running = start(host, graph)
    result = running.result()
    assert result.status == "success", result.message
    events = running.events("bark.live")
    for node, probe, kind, rows in zip(
        (take.semantic, take.coarse, take.fine), probes, ("semantic", "coarse", "fine"), (1, 2, 1), strict=True
    ):
        own = [event for event in events if event["node"] == node.key]
        assert {(event["kind"], event["rows"]) for event in own} == {(kind, rows)}
        assert [event["done"] for event in own] == [False] * (len(own) - 1) + [True]
        assert len(joined(own)) == rows * probe_value(result, probe)["shape"][-1] == own[-1]["total"]
        assert own[0]["first"] == 0, "a new strip"
        assert all(0 <= one < 1_024 for one in joined(own)), "without the models' offsets"
    assert len({event["node"] for event in events}) == 3


def test_the_coarse_ids_are_the_tokens(standin: StandInHost) -> None:
    graph = Graph()
    take = add_take(graph, text="Live.", seed=72)
    graph.add("ProbeValue", value=take.coarse)
    running = start(standin, graph)
    assert running.result().status == "success"
    (values,) = standin.executor._cache[take.coarse.key][1][:1]
    own = [event for event in running.events("bark.live") if event["node"] == take.coarse.key]
    assert joined(own) == np.asarray(values[0]).T.reshape(-1).tolist()


def test_nothing_is_sent_where_nobody_listens(standin: StandInHost, monkeypatch: pytest.MonkeyPatch) -> None:
    from server import PromptServer

    sent: list[Any] = []
    monkeypatch.setattr(PromptServer.instance, "client_id", None)
    monkeypatch.setattr(PromptServer.instance, "send_sync", lambda *given: sent.append(given))
    graph = Graph()
    take = add_take(graph, text="Live.", seed=73)
    graph.add("ProbeValue", value=take.fine)
    assert run(standin, graph).status == "success"
    assert sent == []
    assert standin.module("nodes.host").sender() is None, "nor outside of a prompt"


@pytest.mark.skipif(REAL is None, reason="no ComfyUI at $COMFYUI_PATH, above the pack, or ~/comfy/ComfyUI")
@pytest.mark.parametrize("host", ["ComfyUI"], indirect=True)  # the stand-in has one browser
def test_another_browser_hears_nothing(host: RealHost) -> None:
    """Neither a second browser, nor any where a script queued the prompt without naming one."""
    import websocket

    server = host.server
    other = websocket.create_connection(f"ws://{server.address}/ws?clientId={uuid.uuid4().hex}", timeout=5)
    graph = Graph()
    take = add_take(graph, text="Live.", seed=74)
    graph.add("ProbeValue", value=take.fine)
    running = start(host, graph)
    assert running.result().status == "success"
    assert running.events("bark.live")
    name = str(uuid.uuid4())
    silent = graph.changed(take.semantic, seed=75)
    assert server.post_json("/prompt", {"prompt": silent, "prompt_id": name})[0] == 200
    while name not in server.get_json(f"/history/{name}"):
        time.sleep(0.1)
    assert server.get_json(f"/history/{name}")[name]["status"]["status_str"] == "success"
    heard = []
    other.settimeout(0.5)
    try:
        while True:
            message = other.recv()
            heard += [json.loads(message)["type"]] if isinstance(message, str) else []
    except websocket.WebSocketTimeoutException:
        other.close()
    assert "bark.live" not in heard
    assert "status" in heard, "it did listen"


# -- the strip by itself -------------------------------------------------------------------------------------------


class Stage:
    """A text stage as the strip sees it, a message box, and a clock that is set by hand."""

    def __init__(self, module: ModuleType):
        self.trace, self.messages, self.now = TraceRecorder(), [], 0.0
        self.times: list[float] = []
        self.strip = module.LiveStrip(self.trace, self._send, lambda: self.now)
        self.begin()

    def begin(self) -> None:
        self.trace.start_semantic(BarkSpec(), SemanticSampling())

    def _send(self, event: str, data: dict[str, Any]) -> None:
        assert event == "bark.live"
        self.messages.append(json.loads(json.dumps(data)))
        self.times.append(self.now)


@pytest.fixture
def stage(standin: StandInHost) -> Stage:
    return Stage(standin.module("nodes.live"))


def test_at_most_ten_messages_in_any_second(stage: Stage) -> None:
    rng = np.random.default_rng(0)
    for step in range(3_000):
        stage.now += float(rng.exponential(0.004))
        stage.trace.ids.append(step)
        stage.strip.update(finished=False)
    stage.strip.update(finished=True)
    assert joined(stage.messages) == list(range(3_000))
    assert len(stage.times) > 5 * stage.now, "and not too seldom either"
    for first in stage.times:
        assert sum(first <= time < first + 1 for time in stage.times) <= 10


def test_nothing_new_is_not_told_again(stage: Stage) -> None:
    stage.strip.update(finished=False)
    for _ in range(5):
        stage.now += 1
        stage.strip.update(finished=False)
    assert [message["ids"] for message in stage.messages] == [[]]
    assert stage.messages[0]["total"] == 768


def test_a_stage_that_begins_again_begins_a_new_strip(stage: Stage) -> None:
    stage.trace.ids += [1, 2, 3]
    stage.strip.update(finished=False)
    stage.begin()
    stage.now += 1
    stage.trace.ids += [9]
    stage.strip.update(finished=False)
    assert stage.messages[-1]["first"] == 0
    stage.strip.update(finished=True)
    assert stage.messages[-1] == {"first": 1, "ids": [], "kind": "semantic", "rows": 1, "total": 1, "done": True}
    assert joined(stage.messages[1:]) == [9]
