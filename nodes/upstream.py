"""What a graph says about the tokens on a wire: text, voice, models, seeds and knobs, read from the nodes in front.

Only what is certain is told. Two nodes that could both be the source, a value that comes through a wire (but from one
of ComfyUI's Primitive nodes), and everything about a speaker made in between are left out. Tokens from a file are what
the file says of them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from ..bark_engine.errors import BarkInputError
from ..bark_engine.keep import About
from ..bark_engine.keep.about import STAGES

Prompt = Mapping[str, Any]
OfFile = Callable[[str, str], About]  # class of a node that loads, name of its file → what the file says

STAGE_NODES = {"BarkTextToSemantic": "semantic", "BarkSemanticToCoarse": "coarse", "BarkCoarseToFine": "fine"}
ONE_BOX = "BarkTextToSpeech"
LOADERS = {"BarkLoadTokens": ("file", 0), "BarkLoadAudio": ("audio", 1)}  # where the name is; slot of semantic tokens
_KNOBS = {"text_temperature": "semantic", "coarse_temperature": "coarse", "fine_temperature": "fine"}
_NO_KNOBS = ("text", "seed", "models", "speaker")
_ASIDE = ("models", "speaker", "audio", "trace")  # wires that bring no tokens
_SPEAKER_NAMES = {"BarkLoadSpeakerPrompt": "speaker", "BarkMakeSpeakerPrompt": "name"}


def about_tokens(
    prompt: Prompt | None,
    node: str | None,
    inputs: Sequence[str] = STAGES,
    of_file: OfFile = lambda loader, name: About(),
) -> About:
    """What the prompt (API format) says about the tokens that reach these inputs of a node; nothing is invented.

    `of_file` is asked about files that tokens come from, once for each.
    """
    of_file = cache(of_file)  # a file may have made all three kinds
    makers: dict[str, set[str]] = {stage: set() for stage in STAGES}
    graph = prompt or {}
    given = _inputs(graph, str(node))
    for name in inputs:
        _follow(graph, given.get(name), makers, set())
    told: dict[str, dict[str, Any]] = {}  # by stage
    for stage, found in makers.items():
        if len(found) == 1:
            (maker,) = found
            loaded = _file_of(graph, maker)
            told[stage] = of_file(*loaded).to_json() if loaded else _widgets(graph, maker, stage)
    try:
        return About(
            text=told.get("semantic", {}).get("text", ""),
            speaker=_one(source.get("speaker", "") for source in told.values()),
            models=_one(source.get("models", "") for source in told.values()),
            seed=_by_stage(told, "seed"),
            sampling=_by_stage(told, "sampling"),
        )
    except BarkInputError:  # a widget with a value that no file should say; the node in front has refused it, too
        return About()


def _by_stage(told: Mapping[str, Mapping[str, Any]], field: str) -> dict[str, Any]:
    """What each stage's own source says about that stage."""
    return {stage: source[field][stage] for stage, source in told.items() if stage in source.get(field, {})}


def _widgets(graph: Prompt, maker: str, stage: str) -> dict[str, Any]:
    """What a stage node says about its tokens, in the form of `About.to_json`."""
    inputs = _inputs(graph, maker)
    text, seed = (_constant(graph, inputs.get(name)) for name in ("text", "seed"))
    knobs = _knobs(graph, maker, stage)
    return {
        "text": text if isinstance(text, str) else "",
        "speaker": _speaker(graph, maker),
        "models": _models(graph, maker),
        "seed": {stage: seed} if isinstance(seed, int) else {},
        "sampling": {stage: knobs} if knobs else {},
    }


def _file_of(graph: Prompt, maker: str) -> tuple[str, str] | None:
    """Class of the node and name of its file, for a node that loads one."""
    kind = _class_of(graph, maker)
    if kind not in LOADERS:
        return None
    return kind, str(_constant(graph, _inputs(graph, maker).get(LOADERS[kind][0])))


def _follow(graph: Prompt, value: Any, makers: dict[str, set[str]], seen: set[tuple[str, int]]) -> None:
    """Note which nodes made the tokens behind a link, stage by stage, and go on to what they were made from."""
    end = _other_end(graph, value)
    if end is None or end in seen:
        return
    seen.add(end)
    node, slot = end
    kind = _class_of(graph, node)
    if kind == ONE_BOX:
        for stage in STAGES[:slot]:  # its outputs are the sound, then the stages in their order
            makers[stage].add(node)
        return
    if kind in LOADERS:
        which = slot - LOADERS[kind][1]
        for stage in STAGES[: which + 1] if 0 <= which < len(STAGES) else ():
            makers[stage].add(node)
        return
    if kind in STAGE_NODES:
        makers[STAGE_NODES[kind]].add(node)
    for name, given in _inputs(graph, node).items():
        if name not in _ASIDE:
            _follow(graph, given, makers, seen)


def _inputs(graph: Prompt, node: str) -> Mapping[str, Any]:
    return graph.get(node, {}).get("inputs", {})


def _class_of(graph: Prompt, node: str) -> str:
    return str(graph[node].get("class_type", ""))


def _other_end(graph: Prompt, value: Any) -> tuple[str, int] | None:
    """Node and slot that a wire comes from; None for what is no wire, or leads out of the graph."""
    is_link = isinstance(value, list) and [type(part) for part in value] == [str, int]
    return (value[0], value[1]) if is_link and value[0] in graph else None


def _constant(graph: Prompt, value: Any) -> Any:
    """A widget's value, also that of a Primitive node at the other end; None for what is only known while running."""
    if end := _other_end(graph, value):
        value = _inputs(graph, end[0]).get("value") if _class_of(graph, end[0]).startswith("Primitive") else None
    return None if isinstance(value, (list, dict)) else value


def _one(names: Any) -> str:
    """The one name among those given, or nothing."""
    found = {name for name in names if name}
    return found.pop() if len(found) == 1 else ""


def _speaker(graph: Prompt, maker: str) -> str:
    """The name of the voice that a stage node was given."""
    end = _other_end(graph, _inputs(graph, maker).get("speaker"))
    if end is None:
        return ""
    name = _constant(graph, _inputs(graph, end[0]).get(_SPEAKER_NAMES.get(_class_of(graph, end[0]), "")))
    return name if isinstance(name, str) else ""


def _models(graph: Prompt, maker: str) -> str:
    """The name of the set of models, with the stages that were taken from others."""
    end = _other_end(graph, _inputs(graph, maker).get("models"))
    if end is None or _class_of(graph, end[0]) != "BarkLoadModels":
        return ""
    widgets = _inputs(graph, end[0])
    name = _constant(graph, widgets.get("models"))
    others = {stage: _constant(graph, widgets.get(f"{stage}_models")) for stage in ("text", "coarse", "fine")}
    listed = ", ".join(f"{stage}: {other}" for stage, other in others.items() if other not in (None, "same"))
    return f"{name} ({listed})" if listed and name else name or ""


def _knobs(graph: Prompt, maker: str, stage: str) -> dict[str, float | int | bool]:
    """The knobs of a stage as its widgets have them."""
    knobs = {}
    for name, given in _inputs(graph, maker).items():
        value = _constant(graph, given)
        if name in _NO_KNOBS or not isinstance(value, (int, float)) or _KNOBS.get(name, stage) != stage:
            continue
        knobs["temperature" if name in _KNOBS else name] = value
    return knobs
