"""The nodes' contract with saved workflows and with people: ids, order, bounds, texts, defaults, help pages."""

import inspect
import json
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.comfy_server import PACK
from support.graphs import NODE_IDS, WIDGETS
from support.standin.host import StandInHost

HELP = PACK / "web" / "docs"
# node → the sampling types behind its knobs, and what each knob is called in them
SAMPLING = {
    "BarkTextToSemantic": {"SemanticSampling": {}},
    "BarkSemanticToCoarse": {"CoarseSampling": {}},
    "BarkCoarseToFine": {"FineSampling": {"temperature": "temperature"}},  # `pad` is for scripts
    "BarkTextToSpeech": {
        "SemanticSampling": {"text_temperature": "temperature"},
        "CoarseSampling": {"coarse_temperature": "temperature"},
        "FineSampling": {"fine_temperature": "temperature"},
    },
}
OFF = {"top_k": 0, "top_p": 1.0, "max_seconds": 0.0}  # how a widget says None


@pytest.fixture(params=NODE_IDS)
def node(request: pytest.FixtureRequest, standin: StandInHost) -> Any:
    return standin.pack_nodes[request.param]


def inputs_of(node: Any) -> list[Any]:
    return node.define_schema().inputs


def test_the_ids_are_these_for_ever(standin: StandInHost) -> None:
    assert list(standin.pack_nodes) == NODE_IDS


def test_every_input_says_what_it_does(node: Any) -> None:
    for item in inputs_of(node):
        assert item.display_name, item.id
        assert item.tooltip, item.id
        assert item.tooltip[-1] in ".!", item.tooltip


def test_every_output_has_an_id_of_its_own_a_label_and_a_tooltip(node: Any) -> None:
    schema = node.define_schema()
    for item in schema.outputs:
        assert item.id
        assert item.display_name
        assert item.tooltip
    assert not {item.id for item in schema.outputs} & {item.id for item in schema.inputs}


def test_every_node_says_what_you_get_and_is_found_in_one_menu(node: Any) -> None:
    schema = node.define_schema()
    assert schema.display_name
    assert schema.category == "audio/bark"
    assert schema.description.count(".") >= 2


def test_numbers_have_finite_bounds_around_their_default(node: Any) -> None:
    for item in inputs_of(node):
        if item.io_type not in ("INT", "FLOAT"):
            continue
        low, high = item.own["min"], item.own["max"]
        assert math.isfinite(low), item.id
        assert math.isfinite(high), item.id
        assert low <= item.default <= high, item.id
        assert item.io_type == "INT" or item.own["step"], item.id


def test_widgets_have_a_default_that_is_allowed(node: Any) -> None:
    for item in inputs_of(node):
        if item.io_type == "COMBO":
            assert len(item.own["options"]) == len(set(item.own["options"]))
            assert item.default is None or item.default in item.own["options"], item.id
        elif item.io_type in WIDGETS:
            assert item.default is not None, item.id


def test_text_is_sent_as_it_was_typed(node: Any) -> None:
    """ComfyUI's dynamic prompts would expand {a|b} and drop what looks like a comment."""
    for item in inputs_of(node):
        if item.io_type == "STRING":
            assert not item.own["dynamic_prompts"], item.id


def test_inputs_are_in_reading_order(node: Any) -> None:
    """Models first where there are any, wires before widgets, seed last."""
    items = inputs_of(node)
    ids = [item.id for item in items]
    if any(item.io_type == "BARK_MODELS" for item in items):
        assert ids[0] == "models"
    if "seed" in ids:
        assert ids[-1] == "seed"
        assert items[-1].own["control_after_generate"] is True
        assert items[-1].own["max"] == 2**53 - 1
    assert "speaker" not in ids[:1] or node.define_schema().node_id in (
        "BarkLoadSpeakerPrompt",
        "BarkSaveSpeakerPrompt",
        "BarkCropSpeakerPrompt",
    )


def test_execute_takes_exactly_the_inputs(node: Any) -> None:
    """By name; what may be left out has None as its default."""
    parameters = inspect.signature(node.execute).parameters
    items = {item.id: item for item in inputs_of(node)}
    assert set(parameters) == set(items)
    for name, parameter in parameters.items():
        assert (parameter.default is None) == items[name].optional, name


@pytest.mark.parametrize("function", ["validate_inputs", "fingerprint_inputs"])
def test_checks_take_inputs_by_name_and_do_without(node: Any, function: str) -> None:
    """A host leaves out what is missing, and gives None for what is wired."""
    if not hasattr(node, function):
        return
    parameters = inspect.signature(getattr(node, function)).parameters
    named = {name for name, one in parameters.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
    assert named <= {item.id for item in inputs_of(node)}
    if function == "validate_inputs":
        assert node.validate_inputs() is True
        assert node.validate_inputs(**dict.fromkeys(named)) is True
    else:
        mark = node.fingerprint_inputs(**dict.fromkeys(item.id for item in inputs_of(node)))
        assert isinstance(mark, str), "what a wired file name will be is told by the wire's source"


@pytest.mark.parametrize("node_id", ["BarkTextToSemantic", "BarkTextToSpeech"])
def test_the_text_tells_what_suno_and_nano_read_in_one_go(standin: StandInHost, node_id: str) -> None:
    nano = json.loads((PACK / "bark_engine" / "assets" / "nano" / "spec.json").read_text(encoding="utf-8"))
    suno = standin.module("bark_engine.spec").SUNO
    text = next(item for item in inputs_of(standin.pack_nodes[node_id]) if item.id == "text")
    page = (HELP / f"{node_id}.md").read_text(encoding="utf-8")
    assert f"at most {suno.text_length} text tokens" in text.tooltip
    assert f"at most {suno.text_length} text tokens" in page
    assert f"nano {nano['text_length']} " in text.tooltip
    assert f"`nano`: {nano['text_length']}," in page


@pytest.mark.parametrize(("node_id", "more"), [("BarkSaveAudio", True), ("BarkSaveTokens", False)])
def test_a_prefix_tells_the_tokens_that_are_replaced(standin: StandInHost, node_id: str, more: bool) -> None:
    """All of them, and none that is refused or written as it stands."""
    host = standin.module("nodes.host")
    known = [*host.TIME_TOKENS, *([host.BATCH_TOKEN] if more else [])]
    prefix = next(item for item in inputs_of(standin.pack_nodes[node_id]) if item.id == "filename_prefix")
    assert re.findall(r"%[^%, ]+%", prefix.tooltip) == known
    row = next(line for line in (HELP / f"{node_id}.md").read_text(encoding="utf-8").splitlines() if prefix.id in line)
    assert re.findall(r"`(%[^%]+%)`", row.partition("other tokens")[0]) == known


@pytest.mark.parametrize("node_id", SAMPLING)
def test_knobs_start_at_the_engines_defaults(standin: StandInHost, node_id: str) -> None:
    """And no knob of the engine is missing on a stage node, but those that SAMPLING leaves out by name."""
    engine: ModuleType = standin.module("bark_engine")
    items = inputs_of(standin.pack_nodes[node_id])
    widgets = {item.id: item.default for item in items if item.io_type in WIDGETS}
    for name, renamed in SAMPLING[node_id].items():
        defaults = {field: getattr(getattr(engine, name)(), field) for field in getattr(engine, name).__match_args__}
        knobs = renamed or {field: field for field in defaults}
        for widget, field in knobs.items():
            wanted = defaults[field]
            assert widgets[widget] == (OFF[field] if wanted is None else wanted), widget


def test_there_is_a_help_page_that_names_every_input_and_output(node: Any) -> None:
    schema = node.define_schema()
    path: Path = HELP / f"{schema.node_id}.md"
    page = path.read_text(encoding="utf-8")
    for item in schema.inputs:
        assert f"**{item.display_name}**" in page, item.id
        assert f"`{item.id}`" in page, item.id
    for item in schema.outputs:
        assert f"**{item.display_name}**" in page, item.id


def test_no_help_page_is_left_over() -> None:
    assert {path.stem for path in HELP.glob("*.md")} == set(NODE_IDS)


def test_newer_fields_are_left_out_where_they_are_unknown(standin: StandInHost) -> None:
    """`search_aliases` came after 0.3.64; a schema of ours must not break there, and must use it where it is."""
    import dataclasses

    from comfy_api.latest import io

    host = standin.module("nodes.host")
    assert not hasattr(host.schema(node_id="X", search_aliases=["x"]), "search_aliases")
    newer = dataclasses.make_dataclass(
        "Schema", [("search_aliases", list, dataclasses.field(default_factory=list))], bases=(io.Schema,)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "Schema", newer)
        assert host.schema(node_id="X", search_aliases=["x"]).search_aliases == ["x"]
