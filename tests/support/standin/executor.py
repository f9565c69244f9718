"""What the stand-in does with a prompt: validation, execution in a thread, caching, progress, interruption, freeing.

Answers have ComfyUI's shapes (`error`, `node_errors`), so that the same tests read both. An output is a list of values
in the cache, as there: a node runs once for each, unless it takes lists. Not here: lazy inputs, expansion, V1 nodes;
the pack uses none of them.
"""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Hashable
from typing import Any

import torch

Prompt = dict[str, dict[str, Any]]
Send = Callable[[str, dict[str, Any]], None]

_CONVERT: dict[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def is_link(value: Any) -> bool:
    """Whether an input's value is [node id, slot]."""
    return isinstance(value, list)


class Executor:
    """The nodes, the cache of the last graph, and one prompt at a time.

    With `remembers` outputs of earlier graphs come back, as with 0.26's default of --cache-ram; without, as with
    --cache-classic.
    """

    def __init__(self, nodes: dict[str, Any]):
        self.nodes = nodes
        self.remembers = False
        self._schemas: dict[str, Any] = {}
        self._cache: dict[str, tuple[Hashable, list[list[Any]], dict[str, Any] | None]] = {}
        self._earlier: dict[Hashable, tuple[Hashable, list[list[Any]], dict[str, Any] | None]] = {}
        self._lock = threading.Lock()

    # -- validation ----------------------------------------------------------------------------------------------

    def validate(self, prompt: Prompt) -> dict[str, Any] | None:
        """None when the prompt can run, otherwise the body of the 400."""
        self._schemas = {}
        for key, node in prompt.items():
            if node.get("class_type") not in self.nodes:
                text = f"Cannot execute because node {node.get('class_type')} does not exist."
                return _refusal("invalid_prompt", text, f"Node ID '#{key}'")
        if not any(self._schema(node).is_output_node for node in prompt.values()):
            return _refusal("prompt_no_outputs", "Prompt has no outputs", "")
        node_errors = {key: errors for key in prompt if (errors := self._errors_of(prompt, key))}
        if not node_errors:
            return None
        body = {key: {"errors": errors, "class_type": prompt[key]["class_type"]} for key, errors in node_errors.items()}
        return _refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation", "") | {
            "node_errors": body
        }

    def _schema(self, node: dict[str, Any]) -> Any:
        kind = node["class_type"]
        if kind not in self._schemas:
            self._schemas[kind] = self.nodes[kind].define_schema()
        return self._schemas[kind]

    def _errors_of(self, prompt: Prompt, key: str) -> list[dict[str, Any]]:
        node = prompt[key]
        cls = self.nodes[node["class_type"]]
        named = _parameters(cls, "validate_inputs")
        errors = []
        for item in self._schema(node).inputs:
            if item.id not in node["inputs"]:
                if not item.optional:
                    errors.append(_error("required_input_missing", "Required input is missing", item.id))
                continue
            errors += self._errors_of_value(prompt, node, item, check=item.id not in named)
        if named:
            given = {name: node["inputs"][name] for name in named if name in node["inputs"]}
            known = {name: None if is_link(value) else value for name, value in given.items()}
            if self._schema(node).is_input_list:
                known = {name: [value] for name, value in known.items()}
            try:
                answer = cls.validate_inputs(**known)
            except Exception as error:  # noqa: BLE001 (the host answers with any failure)
                return [*errors, _error("exception_during_validation", "Exception when validating node", str(error))]
            if answer is not True:
                text = "Custom validation failed for node"
                errors += [_error("custom_validation_failed", text, f"{name} - {answer}") for name in given]
        return errors

    def _errors_of_value(self, prompt: Prompt, node: dict[str, Any], item: Any, check: bool) -> list[dict[str, Any]]:
        value = node["inputs"][item.id]
        if is_link(value):
            if len(value) != 2 or value[0] not in prompt:
                return [_error("bad_linked_input", "Bad linked input, must be [node_id, slot_index]", item.id)]
            sent = self._schema(prompt[value[0]]).outputs[value[1]].io_type
            if "*" in (sent, item.io_type) or set(sent.split(",")) & set(item.io_type.split(",")):
                return []  # a socket may be a union, "A,B"; one type in common is enough
            details = f"{item.id}, received_type({sent}) mismatch input_type({item.io_type})"
            return [_error("return_type_mismatch", "Return type mismatch between linked nodes", details)]
        try:
            value = node["inputs"][item.id] = _CONVERT.get(item.io_type, lambda given: given)(value)
        except (TypeError, ValueError) as error:
            text = f"Failed to convert an input value to a {item.io_type} value"
            return [_error("invalid_input_type", text, f"{item.id}, {value}, {error}")]
        limits = item.options_of_v1() if check else {}
        if "min" in limits and value < limits["min"]:
            text = f"Value {value} smaller than min of {limits['min']}"
            return [_error("value_smaller_than_min", text, item.id)]
        if "max" in limits and value > limits["max"]:
            text = f"Value {value} bigger than max of {limits['max']}"
            return [_error("value_bigger_than_max", text, item.id)]
        if "options" in limits and value not in limits["options"]:
            return [_error("value_not_in_list", "Value not in list", f"{item.id}: {value!r} not in the list")]
        return []

    # -- running -------------------------------------------------------------------------------------------------

    def run(self, prompt: Prompt, extra_pnginfo: dict[str, Any] | None, send: Send) -> dict[str, Any]:
        """Run a valid prompt; tells `send` what the host's websocket would, returns the outputs of nodes with ui."""
        with self._lock, torch.inference_mode():
            return self._run(prompt, extra_pnginfo, send)

    def _run(self, prompt: Prompt, extra_pnginfo: dict[str, Any] | None, send: Send) -> dict[str, Any]:
        from comfy import model_management, utils
        from comfy_execution.utils import executing
        from server import PromptServer

        model_management.interrupt_current_processing(False)
        signatures: dict[str, Hashable] = {}
        for key in prompt:
            self._sign(prompt, key, signatures)
        known = {entry[0]: entry for entry in self._cache.values()}
        self._earlier = {**self._earlier, **known} if self.remembers else known
        self._cache = {
            key: self._earlier[signature]
            for key, signature in signatures.items()
            if signature in self._earlier and (self.remembers or key in self._cache)
        }
        send("execution_cached", {"nodes": list(self._cache)})
        current = ""
        try:
            for current in self._order(prompt):
                if current in self._cache:
                    continue
                send("executing", {"node": current})

                def report(value: int, maximum: int, node: str = current) -> None:
                    model_management.throw_exception_if_processing_interrupted()
                    send("progress", {"node": node, "value": value, "max": maximum})

                utils.set_progress_bar_global_hook(report)
                PromptServer.instance.hook = send
                with executing("", current):
                    values, ui = self._execute(prompt, current, extra_pnginfo, send)
                self._cache[current] = (signatures[current], values, ui)
        except model_management.InterruptProcessingException:
            send("execution_interrupted", {"node_id": current})
        except Exception as error:  # noqa: BLE001 (the host turns any failure of a node into a message)
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            failure = {"node_id": current, "exception_message": str(error), "exception_type": name}
            send("execution_error", failure)
        else:
            send("execution_success", {})
        finally:
            utils.set_progress_bar_global_hook(None)
            PromptServer.instance.hook = None
        return {key: entry[2] for key, entry in self._cache.items() if entry[2] is not None}

    def _order(self, prompt: Prompt) -> list[str]:
        """What the output nodes need, needed ones first."""
        order: list[str] = []

        def add(key: str) -> None:
            for value in prompt[key]["inputs"].values():
                if is_link(value):
                    add(value[0])
            if key not in order:
                order.append(key)

        for key, node in prompt.items():
            if self._schema(node).is_output_node:
                add(key)
        return order

    def _execute(
        self, prompt: Prompt, key: str, extra_pnginfo: dict[str, Any] | None, send: Send
    ) -> tuple[list[list[Any]], dict[str, Any] | None]:
        from comfy_api.latest import io

        node = prompt[key]
        schema = self._schema(node)
        known = {item.id for item in schema.inputs}
        given = {
            name: self._cache[value[0]][1][value[1]] if is_link(value) else [value]
            for name, value in node["inputs"].items()
            if name in known
        }
        hidden = {"unique_id": key, "prompt": prompt, "extra_pnginfo": extra_pnginfo}
        asked = {item.name: hidden[item.name] for item in schema.hidden}
        cls = self.nodes[node["class_type"]]
        outputs: list[list[Any]] = [[] for _ in schema.outputs]
        uis = []
        for inputs in [given] if schema.is_input_list else _mapped(given):
            if block := _block_in(inputs):
                if block.message is not None:
                    told = f"Execution Blocked: {block.message}"
                    failure = {"node_id": key, "exception_message": told, "exception_type": "ExecutionBlocked"}
                    send("execution_error", failure)
                for values in outputs:
                    values.append(type(block)(None))
                continue
            output = cls.clone_for_run(io.HiddenHolder(**asked)).execute(**inputs)
            if not isinstance(output, io.NodeOutput) or len(output.args) != len(schema.outputs):
                raise TypeError(f"{node['class_type']} returned {output!r}")
            for values, value, item in zip(outputs, output.args, schema.outputs, strict=True):
                values.extend(value if item.is_output_list else [value])
            if output.ui is not None:
                uis.append(json.loads(json.dumps(output.ui)))
        return outputs, {name: [one for ui in uis for one in ui[name]] for name in uis[0]} if uis else None

    # -- caching -------------------------------------------------------------------------------------------------

    def clear_cache(self) -> None:
        """What /free with free_memory does."""
        with self._lock:
            self._cache, self._earlier = {}, {}

    def _sign(self, prompt: Prompt, key: str, signatures: dict[str, Hashable]) -> Hashable:
        """The node's class, its fingerprint and its inputs, links replaced by the other end's signature."""
        if key not in signatures:
            node = prompt[key]
            parts: list[Hashable] = [node["class_type"], self._fingerprint(node)]
            for name, value in sorted(node["inputs"].items()):
                parts.append((name, (self._sign(prompt, value[0], signatures), value[1]) if is_link(value) else value))
            signatures[key] = tuple(parts)
        return signatures[key]

    def _fingerprint(self, node: dict[str, Any]) -> Hashable:
        cls = self.nodes[node["class_type"]]
        if not hasattr(cls, "fingerprint_inputs"):
            return None
        inputs = {name: None if is_link(value) else value for name, value in node["inputs"].items()}
        try:
            return cls.fingerprint_inputs(**inputs)
        except Exception:  # noqa: BLE001 (as in the host: always changed)
            return object()


def load_nodes(extension: Any) -> dict[str, Any]:
    """Node id → class, from an extension."""
    return {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}


def _mapped(given: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """The inputs of each run of a node that takes no lists; a shorter list repeats its last value."""
    runs = max((len(values) for values in given.values()), default=1)
    return [{name: values[n if len(values) > n else -1] for name, values in given.items()} for n in range(runs)]


def _block_in(inputs: dict[str, Any]) -> Any:
    """What stops a node, if one of its inputs, or of the values in a list, says so."""
    from comfy_execution.graph_utils import ExecutionBlocker

    values = [one for value in inputs.values() for one in (value if isinstance(value, list) else [value])]
    return next((value for value in values if isinstance(value, ExecutionBlocker)), None)


def _parameters(cls: Any, name: str) -> list[str]:
    function = getattr(cls, name, None)
    return [] if function is None else list(inspect.signature(function).parameters)


def _error(kind: str, message: str, details: str) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details}


def _refusal(kind: str, message: str, details: str) -> dict[str, Any]:
    return {"error": _error(kind, message, details), "node_errors": {}}
