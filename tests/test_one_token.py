"""One token as fixed tensor operations: drawn on the device as the processor draws it, and depending on no value."""

import numpy as np
import pytest
import torch

from bark_engine import CoarseSampling, SemanticSampling, SemanticTokens
from bark_engine.coarse import CoarseRow
from bark_engine.one_token import BROKEN, Buffers, DrawRule, Head, Noise, draw_on_device, one_token
from bark_engine.sampling import draw, generator, probabilities
from bark_engine.semantic import SemanticRow
from bark_engine.spec import SUNO
from bark_engine.transformer import CausalTransformer
from support.tiny_models import causal_pair, one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def text_head(network: CausalTransformer) -> Head:
    """What the text stage draws from, whatever is said."""
    return SemanticRow(np.array([SUNO.text_offset]), SUNO, None, SemanticSampling(), 0).head(network)


def coarse_head(network: CausalTransformer) -> Head:
    """The same of the coarse stage."""
    return CoarseRow(SemanticTokens(np.arange(9)), SUNO, None, CoarseSampling(), 0).head(network)


@pytest.mark.parametrize("candidates", [2, 127, 1_024, 10_000, 10_001])
@pytest.mark.parametrize("sharpness", [0.0, 3.0, 60.0])
def test_multinomial_is_the_largest_quotient(candidates: int, sharpness: float) -> None:
    """Bit for bit: the token, and where the generator is afterwards. A new torch that draws otherwise is seen here."""
    for seed in range(40):
        ordinary, ours = generator(seed), generator(seed)
        for _ in range(3):
            p = torch.softmax(torch.randn(candidates, generator=generator(seed + 99)) * sharpness, dim=-1)
            q = torch.empty(candidates).exponential_(1, generator=ours)
            assert int((p / q).argmax()) == draw(p, ordinary)
        assert torch.equal(ordinary.get_state(), ours.get_state())


def test_noise_is_the_same_however_it_is_fetched() -> None:
    wanted = [torch.empty(30).exponential_(1, generator=rng) for rng in [generator(7)] for _ in range(20)]
    noise, target = Noise(DrawRule(generator(7), 1.0, 30), width=32, pinned=False), torch.zeros(20, 32)
    first = 0
    for ahead, steps in ((0, 3), (8, 1), (2, 8), (0, 0), (8, 8)):
        noise.draw(ahead)
        noise.pour(target[first : first + steps])
        first += steps
    assert torch.equal(target[:, :30], torch.stack(wanted))
    assert (target[:, 30:] == 1).all()


@pytest.mark.parametrize("temperature", [None, 0.2, 0.7, 5.0])
def test_the_device_draws_what_the_processor_draws(temperature: float | None) -> None:
    """Against sampling.py, row by row: the token, and whether it ends the speech."""
    network, rows = causal_pair("text").engine, 16
    head = text_head(network)
    with torch.inference_mode():
        buffers = Buffers(network, head, rows)
        logits = torch.randn(rows, head.width, generator=generator(1)) * 3
        logits[::3, SUNO.end_token] += 60
        logits[1, 5] = logits[1, 6] = 100.0  # the first of equals
        noise = [Noise(DrawRule(generator(seed), temperature, head.width), head.width, False) for seed in range(rows)]
        for place in range(rows):
            buffers.set_rule(place, DrawRule(generator(place), temperature, head.width, ends_at=0.2))
            noise[place].pour(buffers.noise[place, :1])
        tokens, ids = draw_on_device(buffers, logits)
    ended = 0
    for place in range(rows):
        distribution = probabilities(logits[place], temperature, None, None)
        token = draw(distribution, generator(place))
        ends = token == SUNO.end_token or bool(distribution[SUNO.end_token] >= 0.2)
        assert int(tokens[place]) == (SUNO.end_token if ends else token)
        assert int(ids[place]) == (0 if ends else token)
        assert bool(buffers.cache.moving[place]) is not ends
        ended += ends
    assert 0 < ended < rows


def test_broken_logits_break_their_row_alone_and_only_while_it_moves() -> None:
    network = causal_pair("coarse").engine
    head = coarse_head(network)
    with torch.inference_mode():
        buffers = Buffers(network, head, 4)
        for place in (0, 1):
            buffers.set_rule(place, DrawRule(generator(place), 1.0, head.width))
        logits = torch.zeros(4, head.width)
        logits[0, 3], logits[2, 3] = torch.nan, torch.inf
        tokens, ids = draw_on_device(buffers, logits)
        assert int(tokens[0]) == BROKEN
        assert BROKEN not in tokens[1:].tolist()
        assert buffers.cache.moving.tolist() == [False, True, False, False]
        assert ((ids >= head.first) & (ids < head.last)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stage", ["text", "coarse"])
def test_a_token_depends_on_no_value(stage: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's meta device, where there are no values: whatever asks for one raises."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # which knows no meta device
    shape = causal_pair(stage).engine.shape
    with torch.device("meta"), torch.inference_mode():
        network = CausalTransformer(shape)
        network.get_submodule("transformer.h").to(dtype)
        head = text_head(network) if stage == "text" else coarse_head(network)
        buffers = Buffers(network, head, 4)
        for _ in range(3):
            one_token(network, buffers, 4, 512)
        with pytest.raises(RuntimeError, match="meta"):
            buffers.tokens[0, 0].item()
