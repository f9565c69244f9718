"""Stand-in for `comfy_api.latest.io`: the part of 0.3.64 that the pack uses, with its rules, and what object_info says.

An argument that 0.3.64 does not know is refused here as it is there.
"""

import enum
from dataclasses import dataclass, field
from typing import Any


def _given(**values: Any) -> dict[str, Any]:
    """Without the values that are None, as the real API leaves them out."""
    return {name: value for name, value in values.items() if value is not None}


class Input:
    """An input of a node; `io_type` comes from the type it belongs to."""

    io_type = "*"

    def __init__(
        self,
        id: str,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
    ):
        self.id = id
        self.display_name = display_name
        self.optional = optional
        self.tooltip = tooltip
        self.lazy = lazy

    def options_of_v1(self) -> dict[str, Any]:
        """What the browser is told beside the type."""
        return _given(display_name=self.display_name, tooltip=self.tooltip, lazy=self.lazy)


class _Widget(Input):
    extra: tuple[str, ...] = ()
    renamed: dict[str, str] = {}  # noqa: RUF012 (read only)

    def __init__(self, id: str, *, default: Any = None, socketless: bool | None = None, **given: Any):
        own = {name: given.pop(name, None) for name in self.extra}
        super().__init__(id, **given)
        self.default = default
        self.socketless = socketless
        self.own = own

    def options_of_v1(self) -> dict[str, Any]:
        own = {self.renamed.get(name, name): value for name, value in self.own.items()}
        return super().options_of_v1() | _given(default=self.default, socketless=self.socketless, **own)


class Output:
    """An output of a node."""

    io_type = "*"

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ):
        self.id = id
        self.display_name = display_name
        self.tooltip = tooltip
        self.is_output_list = is_output_list


def Custom(io_type: str) -> Any:
    """A socket type."""
    inputs = type("Input", (Input,), {"io_type": io_type})
    outputs = type("Output", (Output,), {"io_type": io_type})
    return type(io_type, (), {"io_type": io_type, "Input": inputs, "Output": outputs})


class _Numbers:
    extra = ("min", "max", "step", "control_after_generate", "round", "display_mode")
    renamed = {"display_mode": "display"}  # noqa: RUF012


class Audio(Custom("AUDIO")):
    pass


class Image(Custom("IMAGE")):
    pass


class AnyType(Custom("*")):
    pass


class Boolean(Custom("BOOLEAN")):
    class Input(_Widget):
        io_type = "BOOLEAN"
        extra = ("label_on", "label_off")


class Int(Custom("INT")):
    class Input(_Numbers, _Widget):
        io_type = "INT"


class Float(Custom("FLOAT")):
    class Input(_Numbers, _Widget):
        io_type = "FLOAT"


class String(Custom("STRING")):
    class Input(_Widget):
        io_type = "STRING"
        extra = ("multiline", "placeholder", "dynamic_prompts")
        renamed = {"dynamic_prompts": "dynamicPrompts"}  # noqa: RUF012

        def __init__(self, id: str, *, multiline: bool = False, **given: Any):
            super().__init__(id, multiline=multiline, **given)


class UploadType(str, enum.Enum):
    """What a list lets the browser upload."""

    image = "image_upload"
    audio = "audio_upload"
    video = "video_upload"
    model = "file_upload"


class Combo(Custom("COMBO")):
    class Input(_Widget):
        io_type = "COMBO"
        extra = ("multiselect", "options", "control_after_generate")

        def __init__(self, id: str, options: list[str], upload: UploadType | None = None, **given: Any):
            super().__init__(id, options=list(options), multiselect=False, **given)
            self.upload = upload

        def options_of_v1(self) -> dict[str, Any]:
            return super().options_of_v1() | ({self.upload.value: True} if self.upload else {})


class Hidden(str, enum.Enum):
    """What a node may ask for without a socket."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass
class Schema:
    """What a node is: the fields of 0.3.64, and no others."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False

    def __post_init__(self) -> None:
        ids = [item.id for item in (*self.inputs, *self.outputs)]
        if len(set(ids)) != len(ids):
            raise ValueError(f"Ids must be unique among inputs and outputs of {self.node_id}: {ids}")
        if self.is_output_node:
            self.hidden = list(dict.fromkeys([*self.hidden, Hidden.prompt, Hidden.extra_pnginfo]))


class NodeOutput:
    """What `execute` returns."""

    def __init__(self, *args: Any, ui: dict[str, Any] | None = None):
        self.args = args
        self.ui = ui


class HiddenHolder:
    """`cls.hidden`: what the node asked for, None for the rest."""

    def __init__(self, **values: Any):
        self.unique_id = values.get("unique_id")
        self.prompt = values.get("prompt")
        self.extra_pnginfo = values.get("extra_pnginfo")


class _Locked(type):
    """A class whose attributes cannot be set: what `execute` gets as `cls`."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"Cannot set attribute {name!r} on an immutable node class")


class ComfyNode:
    """The base of all nodes."""

    hidden = HiddenHolder()

    @classmethod
    def define_schema(cls) -> Schema:
        raise NotImplementedError

    @classmethod
    def clone_for_run(cls, hidden: HiddenHolder) -> Any:
        """A locked class for one call."""
        return _Locked(cls.__name__, (cls,), {"hidden": hidden})

    @classmethod
    def object_info(cls, python_module: str) -> dict[str, Any]:
        """This node's entry in /object_info."""
        schema = cls.define_schema()
        inputs: dict[str, dict[str, Any]] = {"required": {}}
        for item in schema.inputs:
            part = inputs.setdefault("optional" if item.optional else "required", {})
            part[item.id] = [item.io_type, item.options_of_v1()]
        if schema.hidden:
            inputs["hidden"] = {item.name: [item.value] for item in schema.hidden}
        return {
            "input": inputs,
            "input_order": {part: list(names) for part, names in inputs.items()},
            "output": [item.io_type for item in schema.outputs],
            "output_is_list": [item.is_output_list for item in schema.outputs],
            "output_name": [item.display_name or item.io_type for item in schema.outputs],
            "output_tooltips": [item.tooltip for item in schema.outputs],
            "name": schema.node_id,
            "display_name": schema.display_name,
            "description": schema.description,
            "python_module": python_module,
            "category": schema.category,
            "output_node": schema.is_output_node,
            "deprecated": schema.is_deprecated,
            "experimental": schema.is_experimental,
            "api_node": schema.is_api_node,
        }
