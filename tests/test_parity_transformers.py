"""Equal logits and sound to transformers' `BarkModel`, an independent implementation, through its own file format.

`save_pretrained` writes the folder, our checkpoint reader loads it, and each stage is compared number by number with
transformers' modules: at most 1e-4 apart.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bark_engine.audio import Audio
from bark_engine.checkpoint import describe, load_stage
from bark_engine.codec import decode_fine, encode_audio
from bark_engine.semantic import prefill
from bark_engine.spec import SUNO
from bark_engine.tokens import FineTokens
from support.tiny_models import as_speaker, one_thread, prompt_arrays

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = 1e-4
SIZE = {"num_layers": 2, "num_heads": 2, "hidden_size": 128, "block_size": 1_024, "bias": False, "dropout": 0.0}
PARTS = {"text": "semantic", "coarse": "coarse_acoustics", "fine": "fine_acoustics", "codec": "codec_model"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    """transformers' model with random weights, and what we load from the folder that it saves."""
    from transformers import BarkConfig, BarkModel
    from transformers.modeling_utils import no_init_weights

    config = BarkConfig(
        semantic_config=SIZE | {"input_vocab_size": 129_600, "output_vocab_size": 10_048},
        coarse_acoustics_config=SIZE | {"input_vocab_size": 12_096, "output_vocab_size": 12_096},
        fine_acoustics_config=SIZE | {"input_vocab_size": 1_056, "output_vocab_size": 1_056},
        codec_config={"model_type": "encodec", "num_filters": 8, "hidden_size": 32, "codebook_dim": 32},
    )
    with no_init_weights():  # its own initialisation fails on layer norms without bias
        model = BarkModel(config).eval()
    for stage in (model.semantic, model.coarse_acoustics, model.fine_acoustics):
        stage.tie_weights()
    randomise(model)
    folder = tmp_path_factory.mktemp("transformers")
    model.save_pretrained(folder)
    return model, {file.stage: load_stage(file) for file in describe(Path(folder))}


def randomise(model: Any) -> None:
    """Weights with logits of a few units, as trained ones have; norms and codebooks too are not 0 or 1."""
    rng = torch.Generator().manual_seed(5)

    def fill(tensor: torch.Tensor, scale: float, middle: float = 0.0) -> None:
        tensor.copy_(middle + scale * torch.randn(tensor.shape, generator=rng))

    with torch.no_grad():
        for module in model.modules():
            if type(module).__name__.endswith("LayerNorm"):
                fill(module.weight, 0.2, middle=1.0)
                if module.bias is not None:
                    fill(module.bias, 0.2)
            elif isinstance(module, nn.Linear):
                fill(module.weight, 0.15)
            elif isinstance(module, nn.Embedding):
                fill(module.weight, 0.5)
        for name, value in model.codec_model.state_dict(keep_vars=True).items():
            if name.endswith("embed"):
                fill(value, 0.5)
            elif "original0" in name or name.endswith("weight_g"):
                value.copy_(0.5 + torch.rand(value.shape, generator=rng))
            elif value.is_floating_point() and "quantizer" not in name:
                fill(value, 0.1)
            elif name.endswith("inited"):
                value.fill_(1)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 0.3  # large enough that the tolerance means something
    assert float((ours - theirs).abs().max()) <= TOLERANCE


def test_all_four_stages_are_found(both: tuple[Any, dict[str, Any]]) -> None:
    assert sorted(both[1]) == sorted(PARTS)
    assert (both[1]["text"].shape.input_vocab, both[1]["text"].shape.n_layer) == (129_600, 2)
    assert both[1]["codec"].shape.codebooks == 8  # of 32 in the file


@pytest.mark.parametrize("history", [None, 10, 256, 400])
def test_semantic_logits(both: tuple[Any, dict[str, Any]], history: int | None) -> None:
    """The prompt with and without a speaker's semantic tokens, then cached steps; transformers recomputes them all."""
    theirs, ours = both[0].semantic, both[1]["text"]
    raw = torch.tensor([[31_178, 11_356, 106, 119_546]])
    past = torch.full((1, 256), 10_000)
    speaker = None
    if history is not None:
        speaker = as_speaker(prompt_arrays(history))
        kept = speaker.semantic.ids[-256:]
        past[0, : len(kept)] = torch.tensor(kept)
    text = torch.full((1, 256), 129_595)
    text[:, :4] = raw + 10_048
    table = theirs.input_embeds_layer
    said = [5, 9_999, 10, 77, 5, 1_234]
    with torch.inference_mode():
        memory = ours.new_cache(300)
        hidden = prefill(ours, memory, text[0, :4].numpy(), SUNO, speaker)
        for step in range(len(said) + 1):
            tail = torch.tensor([[129_599, *said[:step]]])
            embeddings = torch.cat([table(text) + table(past), table(tail)], dim=1)
            close(ours.logits(hidden, 0, 10_048)[0], theirs(input_embeds=embeddings).logits[0, -1])
            if step < len(said):
                hidden = ours(ours.embed(torch.tensor([[said[step]]])), memory)


def test_coarse_logits(both: tuple[Any, dict[str, Any]]) -> None:
    """A whole window: 256 semantic ids, the infer token, 630 coarse ones, then cached steps."""
    theirs, ours = both[0].coarse_acoustics, both[1]["coarse"]
    rng = np.random.default_rng(3)
    flat = 10_000 + rng.integers(0, 1_024, 636) + 1_024 * (np.arange(636) % 2)
    ids = torch.tensor([[*rng.integers(0, 10_000, 200), *[12_048] * 56, 12_050, *flat]])
    with torch.inference_mode():
        memory = ours.new_cache(900)
        hidden = ours(ours.embed(ids[:, :887]), memory)
        for length in range(887, 893):
            reference = theirs(input_ids=ids[:, :length]).logits[0, -1]
            close(ours.logits(hidden, 0, 12_096)[0], reference)
            close(ours.logits(hidden, 11_024, 12_048)[0], reference[11_024:12_048])
            hidden = ours(ours.embed(ids[:, length : length + 1]), memory)


@pytest.mark.parametrize("codebook", range(2, 8))
def test_fine_logits(both: tuple[Any, dict[str, Any]], codebook: int) -> None:
    theirs, ours = both[0].fine_acoustics, both[1]["fine"]
    codes = torch.tensor(np.random.default_rng(codebook).integers(0, 1_025, (1, 1_024, 8)))
    with torch.inference_mode():
        reference = theirs(codebook, codes).logits
        close(ours(codes, codebook, 0, 1_056), reference)
        close(ours(codes, codebook, 600, 1_024), reference[:, 600:, :1_024])


def test_decoded_sound(both: tuple[Any, dict[str, Any]]) -> None:
    codes = torch.tensor(np.random.default_rng(4).integers(0, 1_024, (1, 8, 60)))
    with torch.inference_mode():
        reference = both[0].codec_decode(codes)[0]
        close(both[1]["codec"].decode(codes)[0, 0], reference)
    assert reference.shape == (60 * 320,)
    samples = decode_fine(both[1]["codec"], FineTokens(codes[0]), SUNO).samples  # type: ignore[arg-type]
    np.testing.assert_allclose(samples, reference.clip(-1, 1).numpy(), atol=TOLERANCE, rtol=0)


def test_encoded_sound(both: tuple[Any, dict[str, Any]]) -> None:
    """Codes are whole numbers: equal, at each of the eight codebooks."""
    sound = (0.3 * np.sin(np.arange(9_600) * 0.07)).astype(np.float32)
    with torch.inference_mode():
        reference = both[0].codec_model.encode(torch.tensor(sound)[None, None], bandwidth=6.0).audio_codes[0, 0]
    fine = encode_audio(both[1]["codec"], Audio(sound), SUNO)
    np.testing.assert_array_equal(fine.codes, reference.numpy())
    assert len(np.unique(fine.codes)) > 20
