"""The stop button: every stage ends at its next step, and the host is as good as before."""

import pytest

from support.graphs import Graph, add_take
from support.host import Host, run, start

STAGES = ("semantic", "coarse", "fine")


def long_take(seed: int) -> tuple[Graph, dict[str, str]]:
    """A take as long as the models can make it, so that there is time to stop it."""
    graph = Graph()
    take = add_take(graph, seconds=0.0, seed=seed)
    graph[take.semantic.key]["inputs"]["early_stop"] = False
    graph.add("ProbeValue", value=take.audio)
    return graph, {"semantic": take.semantic.key, "coarse": take.coarse.key, "fine": take.fine.key}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_stops_at_its_next_step(host: Host, stage: str) -> None:
    """Stopped after its first report of progress, it never reaches its last; a run after that is good."""
    graph, keys = long_take(seed=20 + STAGES.index(stage))
    running = start(host, graph)
    running.wait_for_progress(keys[stage])
    host.interrupt()
    result = running.result()
    assert (result.status, result.failed) == ("interrupted", keys[stage])
    done, total = running.progress_of(keys[stage])[-1]
    assert done < total
    again = Graph()
    probe = again.add("ProbeValue", value=add_take(again, seed=30).audio)
    good = run(host, again)
    assert good.status == "success", good.message
    assert probe.key in good.ui


def test_the_one_box_stops(host: Host) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    box = graph.add("BarkTextToSpeech", models=loader, text="Stop me.", seed=31)
    graph.add("ProbeValue", value=box)
    running = start(host, graph)
    running.wait_for_progress(box.key)
    host.interrupt()
    assert running.result().status == "interrupted"
    assert run(host, graph).status == "success"


def test_a_list_of_texts_stops(host: Host) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    lines = graph.add("BarkTextLines", text="Stop me.\nAnd me.\nAnd all of us.")
    box = graph.add("BarkTextToSpeech", models=loader, text=lines, seed=32)
    graph.add("ProbeValue", value=box)
    running = start(host, graph)
    running.wait_for_progress(box.key)
    host.interrupt()
    result = running.result()
    assert (result.status, result.failed) == ("interrupted", box.key)
    done, total = running.progress_of(box.key)[-1]
    assert done < total
    assert run(host, graph).status == "success"


def test_what_was_done_before_the_stop_is_kept(host: Host) -> None:
    graph, keys = long_take(seed=40)
    running = start(host, graph)
    running.wait_for_progress(keys["coarse"])
    host.interrupt()
    assert running.result().status == "interrupted"
    running = start(host, graph)
    running.wait_for_progress(keys["coarse"])
    host.interrupt()
    result = running.result()
    assert keys["semantic"] in result.cached
    assert result.ran == [keys["coarse"]]
