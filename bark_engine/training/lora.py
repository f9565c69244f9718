"""LoRA: small additions to the weights of a network that otherwise stays as it is.

A matrix W `[out, in]` becomes W + (alpha / rank) · B A, with A `[rank, in]` and B `[out, rank]` (Hu et al. 2021,
arXiv:2106.09685). Only A and B are trained; they are the adapter, a file of a few MB.

While it is trained the sum is formed anew in every pass, by the same function that merges an adapter, so what was
validated is what is merged, bit for bit on one machine. Merging keeps the original weights aside (they are mapped
from their file, so that costs no memory); taking the adapter off again puts those very tensors back.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..atomic import replacing
from ..errors import BarkFileError, BarkInputError
from ..int8 import Int8Linear, PackedInt8Linear
from .objectives import Network
from .state import Keep, Progress

log = logging.getLogger(__name__)

FORMAT = "bark-lora-1"
ADAPTER_FILE = "adapter.safetensors"
TARGETS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj", "lm_head")
"""Matrices that can have an addition: of every layer, and the head (which the fine network does not have)."""
DEFAULT_TARGETS = TARGETS[:-1]
MAX_RANK = 1_024


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """What is added where. alpha / rank scales the addition; targets are names of `TARGETS`.

    Raises BarkInputError for a rank, an alpha or a target that is not possible.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or not 1 <= self.rank <= MAX_RANK:
            raise BarkInputError(f"The rank of a LoRA must be a whole number of 1 … {MAX_RANK:,}, not {self.rank!r}.")
        if not 0 < self.alpha < 1e6:
            raise BarkInputError(f"The alpha of a LoRA must be a number above 0, not {self.alpha!r}.")
        unknown = [target for target in self.targets if target not in TARGETS]
        if unknown or not self.targets:
            raise BarkInputError(
                f"A LoRA adds to {', '.join(TARGETS)}, one or more of them; {', '.join(unknown) or 'none'} was given."
            )

    @property
    def scale(self) -> float:
        """What B A is multiplied with."""
        return self.alpha / self.rank


@dataclass(frozen=True, eq=False)
class Adapter:
    """The additions for one stage. `parts` maps the name of a weight to its A `[rank, in]` and B `[out, rank]`.

    `shape` is that of the network it was made for (the fields of NetworkShape), `base` the fingerprint of its weights.
    `card` tells people what it is: data, steps, losses.
    """

    stage: str
    plan: LoraPlan
    shape: dict[str, Any]
    base: str
    parts: dict[str, tuple[Tensor, Tensor]]
    card: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> Path:
        """Write the adapter as safetensors, complete or not at all, and a card for people beside it (`.md`)."""
        tensors = {}
        for name, (down, up) in self.parts.items():
            tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"] = down.detach().contiguous(), up.detach().contiguous()
        about = {
            "format": FORMAT,
            "stage": self.stage,
            "lora": json.dumps(asdict(self.plan)),
            "shape": json.dumps(self.shape),
            "base": self.base,
            "card": json.dumps(self.card),
        }
        with replacing(path, "The adapter") as temporary:
            try:
                save_file(tensors, temporary, metadata=about)
            except SafetensorError as error:
                raise OSError(str(error)) from None
        with replacing(path.with_suffix(".md"), "The card of the adapter") as temporary:
            temporary.write_text(self.describe(path.name), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> "Adapter":
        """Read an adapter. Raises BarkFileError for a file that is missing, damaged or something else."""
        path = Path(path)
        if not path.is_file():
            raise BarkFileError(f"There is no adapter {path}. Check the name and the folder.")
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise BarkFileError(
                        f"{path} is no adapter of this engine (its format is {about.get('format')!r}, not {FORMAT!r}). "
                        "Choose a file that `train --lora-rank` has made."
                    )
                settings = json.loads(about["lora"])
                plan = LoraPlan(settings["rank"], settings["alpha"], tuple(settings["targets"]))
                names = [name.removesuffix(".lora_a") for name in file.keys() if name.endswith(".lora_a")]  # noqa: SIM118
                parts = {
                    name: (file.get_tensor(f"{name}.lora_a"), file.get_tensor(f"{name}.lora_b"))
                    for name in sorted(names)
                }
            shape, card = json.loads(about["shape"]), json.loads(about["card"])
            return cls(about["stage"], plan, shape, about["base"], parts, card)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, BarkInputError) as error:
            raise BarkFileError(f"{path} cannot be read as an adapter ({error}). Take a fresh copy.") from None

    def describe(self, name: str) -> str:
        """The card, as Markdown."""
        size = sum(part.numel() for pair in self.parts.values() for part in pair)
        lines = [
            f"# {name}",
            "",
            f"A LoRA adapter for the {self.stage} stage of Bark: {size:,} weights, rank {self.plan.rank}, "
            f"alpha {self.plan.alpha:g}, on {', '.join(self.plan.targets)}.",
            "",
            f"- made for weights with the fingerprint `{self.base}`",
            f"- network: {self.shape['n_layer']} layers, {self.shape['n_head']} heads, width {self.shape['n_embd']}",
            *(f"- {key.replace('_', ' ')}: {value}" for key, value in self.card.items()),
            "",
            f"To use it: `python -m bark_engine train merge {name} WEIGHTS OUTPUT`.",
            "",
        ]
        return "\n".join(lines)


class _Addition(nn.Module):
    """W → W + scale · B A, as torch's parametrizations want it."""

    def __init__(self, rank: int, weight: Tensor, scale: float, rng: torch.Generator):
        super().__init__()
        out, width = weight.shape
        # A as nn.Linear would begin, B at zero: the first pass is that of the network as it was.
        self.a = nn.Parameter(torch.empty(rank, width).uniform_(-(width**-0.5), width**-0.5, generator=rng))
        self.b = nn.Parameter(torch.zeros(out, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return added(weight, self.a, self.b, self.scale)


def added(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """W `[out, in]` + scale · B A, in the precision of W, formed in float32 also where autocast would round B A."""
    with torch.autocast(weight.device.type, enabled=False):
        return (weight.float() + scale * (up @ down)).to(weight.dtype)


def add_lora(network: Network, plan: LoraPlan, seed: int) -> None:
    """Freeze a network and give its targets additions that can be trained; the same seed gives the same A.

    Raises BarkInputError where the network has none of the targets.
    """
    network.requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    modules = _targets(network, plan.targets)
    if not modules:
        raise BarkInputError(
            f"The network has none of {', '.join(plan.targets)}. The fine stage's head is its embedding tables; "
            f"choose from {', '.join(DEFAULT_TARGETS)}."
        )
    for module in modules.values():
        weight = module.get_parameter("weight")
        parametrize.register_parametrization(module, "weight", _Addition(plan.rank, weight, plan.scale, rng))


def adapter_of(network: Network, stage: str, plan: LoraPlan, base: str, card: dict[str, Any]) -> Adapter:
    """The additions of a network that `add_lora` has prepared, as they are now (copies)."""
    parts = {}
    for name, module in network.named_modules():
        if isinstance(module, _Addition):
            weight_name = name.removesuffix(".parametrizations.weight.0") + ".weight"
            parts[weight_name] = module.a.detach().cpu().clone(), module.b.detach().cpu().clone()
    return Adapter(stage, plan, asdict(network.shape), base, parts, card)


def keep_adapter(network: Network, stage: str, plan: LoraPlan, card: dict[str, Any]) -> Keep:
    """Keep the additions of a network as `adapter.safetensors`, with `card` and the figures of the run in its card."""
    base = fingerprint(network)

    def keep(folder: Path, progress: Progress) -> None:
        figures: dict[str, Any] = {"steps": progress.step}
        if progress.best_loss is not None:
            figures["validation_loss"] = round(progress.best_loss, 4)
        adapter_of(network, stage, plan, base, card | figures).save(folder / ADAPTER_FILE)

    return keep


@dataclass(frozen=True, eq=False)
class Merged:
    """An adapter that is part of a network's weights. `remove` puts the original tensors back, the same bits."""

    network: Network
    originals: dict[str, nn.Parameter]

    def remove(self) -> None:
        """Take the adapter off."""
        for name, original in self.originals.items():
            _set(self.network, name, original)


def merge(network: Network, adapter: Adapter, stage: str, strength: float = 1.0) -> Merged:
    """Add an adapter to the weights of a network of a stage, times `strength`; the result can be taken off again.

    Several adapters can be merged one after another; take them off in the reverse order. Raises BarkInputError for an
    adapter of another stage or another shape of network, and for a network that is loaded as int8. Where only the
    weights are others than those it was trained on, that is said in the log: it may still be what is wanted.
    """
    _require_fit(network, adapter, stage)
    originals: dict[str, nn.Parameter] = {}
    for name, (down, up) in adapter.parts.items():
        weight = network.get_parameter(name)
        originals[name] = weight
        scale = adapter.plan.scale * strength
        with torch.no_grad():
            total = added(weight, down.to(weight.device), up.to(weight.device), scale)
        _set(network, name, nn.Parameter(total, requires_grad=weight.requires_grad))
    return Merged(network, originals)


def fingerprint(network: nn.Module) -> str:
    """16 hex digits that tell trained networks apart, the same for float32 and float16 copies of one.

    It is that of the layer norms and the biases, rounded to float16: they are small, and differ after any training.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(network.named_parameters()):
        if weight.ndim == 1:
            digest.update(name.encode())
            digest.update(weight.detach().cpu().to(torch.float16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _require_fit(network: Network, adapter: Adapter, stage: str) -> None:
    if adapter.stage != stage:
        raise BarkInputError(
            f"The adapter is for the {adapter.stage} stage, but the weights are of the {stage} stage. "
            "Give it the weights of its own stage."
        )
    shape = asdict(network.shape)
    if adapter.shape != shape:
        keys = [key for key in shape if adapter.shape.get(key) != shape[key]]
        differing = [f"{key} {adapter.shape.get(key)!r} ≠ {shape[key]!r}" for key in keys]
        raise BarkInputError(
            f"The adapter was made for another network ({', '.join(differing)}: the adapter's and the network's). "
            "Give it weights of the size and family that it was trained on."
        )
    if any(isinstance(module, (Int8Linear, PackedInt8Linear)) for module in network.modules()):
        raise BarkInputError(
            "The network's weights are int8, to which nothing can be added without rounding most of it away. Load it "
            "as float32; `python -m bark_engine train merge` does so, and writes int8 again."
        )
    names = {f"{name}.weight" for name in _targets(network, TARGETS)}
    for name, (down, up) in adapter.parts.items():
        right = name in names and down.ndim == up.ndim == 2
        size = tuple(network.get_parameter(name).shape) if right else ()
        if not right or (up.shape[0], down.shape[1]) != size or down.shape[0] != up.shape[1]:
            raise BarkInputError(
                f"The adapter is damaged: its part {name} does not fit the network. Take a fresh copy."
            )
    if adapter.base != fingerprint(network):
        log.warning("The adapter was trained on other weights than these; it may not do what it did there.")


def _targets(network: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Module]:
    """The linear layers that are meant, by name."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and any(name == target or name.endswith(f".{target}") for target in targets)
    }


def _set(network: nn.Module, name: str, weight: nn.Parameter) -> None:
    path, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(path), attribute, weight)
