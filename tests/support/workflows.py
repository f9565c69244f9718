"""Saved workflows (UI format): what is wrong with one, and the prompt (API format) that the browser would make of it.

For the nodes that tests and examples use: no subgraphs, no bypassed nodes, no virtual nodes but notes.
"""

from typing import Any

from .graphs import WIDGETS

NOTES = ("Note", "MarkdownNote")
Info = dict[str, Any]


def widgets_of(info: Info) -> list[tuple[str | None, Any]]:
    """What `widgets_values` holds for a node, slot by slot: (input id, its entry); id None for a control slot."""
    slots: list[tuple[str | None, Any]] = []
    for part in ("required", "optional"):
        for name, entry in info["input"].get(part, {}).items():
            kind, options = entry[0], entry[1] if len(entry) > 1 else {}
            if options.get("forceInput") or not (isinstance(kind, list) or kind in WIDGETS):
                continue
            slots.append((name, entry))
            if options.get("control_after_generate") or (kind == "INT" and name in ("seed", "noise_seed")):
                slots.append((None, entry))
    return slots


def problems(workflow: dict[str, Any], object_info: Info) -> list[str]:
    """Everything that keeps a workflow from loading and running, in sentences."""
    found: list[str] = []
    nodes = {node["id"]: node for node in workflow["nodes"]}
    if len(nodes) != len(workflow["nodes"]):
        found.append("two nodes have one id")
    if nodes and workflow["last_node_id"] < max(nodes):
        found.append("last_node_id is smaller than an id")
    for node in nodes.values():
        if node["type"] in NOTES:
            continue
        if node["type"] not in object_info:
            found.append(f"there is no node {node['type']}")
        else:
            found += _node_problems(node, object_info[node["type"]])
    for link in workflow["links"]:
        found += _link_problems(link, nodes, object_info)
    return found


def to_prompt(workflow: dict[str, Any], object_info: Info) -> dict[str, dict[str, Any]]:
    """The prompt that queues this workflow."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        slots = widgets_of(object_info[node["type"]])
        values = node.get("widgets_values") or []
        inputs = {name: value for (name, _), value in zip(slots, values, strict=False) if name is not None}
        wires = {item["name"]: sources[item["link"]] for item in node.get("inputs", []) if item.get("link") is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": {**inputs, **wires}}
    return prompt


def _node_problems(node: dict[str, Any], info: Info) -> list[str]:
    found = []
    name = f"{node['type']} #{node['id']}"
    known = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    linked = {item["name"] for item in node.get("inputs", []) if item.get("link") is not None}
    found += [
        f"{name} has an input {item['name']} that does not exist"
        for item in node.get("inputs", [])
        if item["name"] not in known
    ]
    if node.get("mode", 0) != 0:
        found.append(f"{name} is muted or bypassed")
    slots, values = widgets_of(info), node.get("widgets_values") or []
    ours = node["type"].startswith("Bark")
    if len(values) != len(slots) if ours else len(values) < len(slots):
        found.append(f"{name} has {len(values)} widget values for {len(slots)} widgets")
    for (widget, entry), value in zip(slots, values, strict=False):
        if widget is None:
            if value not in ("fixed", "increment", "decrement", "randomize"):
                found.append(f"{name} has {value!r} as the control of its seed")
        elif widget not in linked:
            found += [f"{name}.{widget}: {fault}" for fault in _value_faults(entry, value)]
    found += [
        f"{name} lacks a wire at {item}"
        for item, entry in info["input"].get("required", {}).items()
        if item not in linked and item not in [slot for slot, _ in slots] and entry[0] != "AUDIO_UI"
    ]
    labels = [output["name"] for output in node.get("outputs", [])]
    if ours and labels != info["output_name"]:
        found.append(f"{name} has outputs {labels}, not {info['output_name']}")
    return found


def _value_faults(entry: Any, value: Any) -> list[str]:
    kind, options = entry[0], entry[1] if len(entry) > 1 else {}
    allowed = kind if isinstance(kind, list) else options.get("options")
    if allowed is not None:
        return [] if value in allowed else [f"{value!r} is no option"]
    python = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}[kind]
    if not isinstance(value, python) or (kind != "BOOLEAN" and isinstance(value, bool)):
        return [f"{value!r} is no {kind}"]
    low, high = options.get("min"), options.get("max")
    outside = (low is not None and value < low) or (high is not None and value > high)
    return [f"{value!r} is not in {low} … {high}"] if outside else []


def _link_problems(link: list[Any], nodes: dict[int, Any], object_info: Info) -> list[str]:
    number, source, slot, target, entry, kind = link
    if source not in nodes or target not in nodes:
        return [f"link {number} ends nowhere"]
    given, wanted = nodes[source], nodes[target]
    if given["type"] not in object_info or wanted["type"] not in object_info:
        return []  # said already
    outputs = object_info[given["type"]]["output"]
    if slot >= len(outputs) or entry >= len(wanted["inputs"]):
        return [f"link {number} uses a slot that does not exist"]
    item = wanted["inputs"][entry]
    parts = object_info[wanted["type"]]["input"]
    types = {name: spec[0] for part in ("required", "optional") for name, spec in parts.get(part, {}).items()}
    expected = types.get(item["name"])
    found = []
    if expected != "*" and not _common(outputs[slot], kind, expected):
        found.append(f"link {number} joins {outputs[slot]} and {expected} as {kind}")
    if item.get("link") != number or number not in (given["outputs"][slot].get("links") or []):
        found.append(f"link {number} is not known at both of its ends")
    return found


def _common(*types: Any) -> set[str]:
    """What socket types share; one may be a union, "A,B"."""
    return set.intersection(*(set(str(one).split(",")) for one in types))
