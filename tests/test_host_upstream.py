"""What a graph says about the tokens on a wire: read from the nodes in front, and nothing that is not certain."""

from typing import Any

from bark_engine.keep import About
from support.graphs import Graph, add_take
from support.standin.host import StandInHost


def about(standin: StandInHost, graph: Graph, **given: Any) -> About:
    save = graph.add("BarkSaveTokens", **given)
    return standin.module("nodes.upstream").about_tokens(graph, save.key)


def same(one: Any, other: About) -> bool:
    """The stand-in loads the engine under another name, so its types are others."""
    return one.to_json() == other.to_json()


def test_a_graph_that_says_nothing(standin: StandInHost) -> None:
    upstream = standin.module("nodes.upstream")
    assert same(upstream.about_tokens(None, None), About())
    assert same(upstream.about_tokens({}, "7"), About())
    assert same(about(standin, Graph()), About())
    graph = Graph()
    encoded = graph.add("BarkEncodeAudio", audio=add_take(graph).audio)
    assert same(about(standin, graph, fine=encoded), About())  # a recording has no text


def test_only_the_stages_in_front_of_the_wires_are_told(standin: StandInHost) -> None:
    graph = Graph()
    stages = add_take(graph, "Hi.", seed=1)
    assert about(standin, graph, semantic=stages.semantic).seed == {"semantic": 1}
    assert about(standin, graph, coarse=stages.coarse).seed == {"semantic": 1, "coarse": 1}
    assert about(standin, graph, coarse=stages.coarse).text == "Hi."


def test_nodes_in_between_are_walked_through(standin: StandInHost) -> None:
    graph = Graph()
    stages = add_take(graph, "Hi.", seed=1)
    cut = graph.add("SomethingInBetween", tokens=stages.semantic, start=0.5)
    told = about(standin, graph, semantic=cut)
    assert (told.text, told.seed) == ("Hi.", {"semantic": 1})


def test_two_possible_sources_are_none(standin: StandInHost) -> None:
    graph = Graph()
    one, two = add_take(graph, "One.", seed=1), add_take(graph, "Two.", seed=2)
    joined = graph.add("SomethingThatJoins", first=one.semantic, second=two.semantic)
    assert same(about(standin, graph, semantic=joined), About())


def test_a_stage_made_again_goes_before_the_one_box(standin: StandInHost) -> None:
    graph = Graph()
    speak = graph.add("BarkTextToSpeech", text="Hi.", seed=1, fine_temperature=0.1)
    again = graph.add("BarkCoarseToFine", coarse=speak.out(2), seed=9, temperature=0.9)
    told = about(standin, graph, semantic=speak.out(1), coarse=speak.out(2), fine=again)
    assert told.seed == {"semantic": 1, "coarse": 1, "fine": 9}
    assert told.text == "Hi."
    assert told.sampling["fine"] == {"temperature": 0.9}
    assert told.sampling["semantic"] == {"temperature": 0.7}


def test_what_comes_through_a_wire_is_not_guessed(standin: StandInHost) -> None:
    graph = Graph()
    words, number = graph.add("PrimitiveString", value="Hi."), graph.add("SomeCounter", value=5)
    stage = graph.add("BarkTextToSemantic", text=words, seed=number, temperature=number)
    told = about(standin, graph, semantic=stage)
    assert told.text == "Hi."  # ComfyUI's Primitive nodes hold what they send
    assert told.seed == {}
    assert "temperature" not in told.sampling["semantic"]


def test_a_speaker_made_on_the_way_brings_no_text_of_its_own(standin: StandInHost) -> None:
    graph = Graph()
    old = add_take(graph, "Old.", seed=1)
    voice = graph.add("BarkMakeSpeakerPrompt", semantic=old.semantic, coarse=old.coarse, fine=old.fine, name="me")
    new = graph.add("BarkTextToSemantic", text="New.", seed=2, speaker=voice)
    told = about(standin, graph, semantic=new)
    assert (told.text, told.speaker, told.seed) == ("New.", "me", {"semantic": 2})
    mixed = graph.add("BarkTextToSemantic", text="New.", seed=2, speaker=graph.add("SomeMixer", speaker=voice))
    assert about(standin, graph, semantic=mixed).speaker == ""


def test_a_file_tells_what_no_node_can(standin: StandInHost) -> None:
    """Tokens from a file: its words about the kinds that come from it, and none about those made anew."""
    upstream = standin.module("nodes.upstream")
    own = type(upstream.about_tokens(None, None))
    in_file = own("Kept.", "low", "nano", {"semantic": 1, "coarse": 2}, {"coarse": {"temperature": 0.5}}, "1")
    asked: list[tuple[str, str]] = []

    def of_file(loader: str, name: str) -> Any:
        asked.append((loader, name))
        return in_file

    graph = Graph()
    loader = graph.add("BarkLoadAudio", audio="kept.flac")
    coarse = graph.add("BarkSemanticToCoarse", semantic=loader.out(1), seed=7)
    save = graph.add("BarkSaveTokens", semantic=loader.out(1), coarse=coarse)
    told = upstream.about_tokens(graph, save.key, of_file=of_file)
    assert asked == [("BarkLoadAudio", "kept.flac")]
    assert (told.text, told.seed) == ("Kept.", {"semantic": 1, "coarse": 7})
    assert told.sampling["coarse"]["temperature"] == 0.7  # the node's own, and not the file's
    save = graph.add("BarkSaveTokens", fine=graph.add("BarkLoadTokens", file="take.safetensors").out(2))
    told = upstream.about_tokens(graph, save.key, of_file=of_file)
    assert asked[-1] == ("BarkLoadTokens", "take.safetensors")
    assert (told.text, told.speaker, told.models) == ("Kept.", "low", "nano")
    assert (told.seed, told.sampling) == ({"semantic": 1, "coarse": 2}, {"coarse": {"temperature": 0.5}})


def test_models_of_several_sets_are_named_one_by_one(standin: StandInHost) -> None:
    graph = Graph()
    models = graph.add("BarkLoadModels", models="large", fine_models="small")
    stage = graph.add("BarkTextToSemantic", models=models, text="Hi.", seed=1)
    assert about(standin, graph, semantic=stage).models == "large (fine: small)"


def test_a_graph_with_a_circle_or_wires_to_nowhere(standin: StandInHost) -> None:
    graph = Graph()
    one = graph.add("SomethingInBetween", tokens=["2", 0], other=["99", 0], strange=[["1"], 0])
    two = graph.add("SomethingInBetween", tokens=one)
    assert same(about(standin, graph, semantic=two), About())


def test_values_that_no_file_should_say_are_left_out(standin: StandInHost) -> None:
    graph = Graph()
    stage = graph.add("BarkTextToSemantic", text="a" * 200_000, seed=-1)
    assert same(about(standin, graph, semantic=stage), About())
