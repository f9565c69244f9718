"""The two networks, their cache, and how the three stages treat seeds, progress and interruption."""

import copy
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine.coarse import generate_coarse
from bark_engine.errors import BarkError
from bark_engine.fine import generate_fine
from bark_engine.sampling import CoarseSampling, FineSampling, SemanticSampling
from bark_engine.semantic import generate_semantic, prefill
from bark_engine.spec import SUNO
from bark_engine.tokens import CoarseTokens, SemanticTokens
from bark_engine.transformer import CausalTransformer, KeyValueCache, NetworkShape
from support.tiny_models import Pair, as_speaker, causal_pair, fine_pair, one_thread, prompt_arrays

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

IDS = np.array([31_178, 11_356]) + SUNO.text_offset
SEMANTIC = SemanticTokens(np.random.default_rng(1).integers(0, 10_000, 50))
COARSE = CoarseTokens(np.random.default_rng(2).integers(0, 1_024, (2, 1_030)))


@cache
def text_pair() -> Pair:
    return causal_pair("text")


@cache
def coarse_pair() -> Pair:
    return causal_pair("coarse")


@cache
def any_fine_pair() -> Pair:
    return fine_pair()


# -- networks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "heads"), [(64, 2), (768, 12), (1_024, 16)])
@pytest.mark.parametrize("threads", [1, 2])
def test_causal_logits_are_sunos_bit_for_bit(width: int, heads: int, threads: int) -> None:
    """At the widths of the small and the large model, prefill and cached steps, for both codebooks."""
    torch.set_num_threads(threads)
    pair = causal_pair("coarse", width=width, heads=heads, layers=1)
    ids = torch.randint(0, 12_096, (1, 300), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs, past = pair.suno(ids, use_cache=True)
        memory = pair.engine.new_cache(320)
        hidden = pair.engine(pair.engine.embed(ids), memory)
        for step in range(12):
            first = 10_000 + 1_024 * (step % 2)
            ours = pair.engine.logits(hidden, first, first + 1_024)
            assert torch.equal(ours, theirs[:, 0, first : first + 1_024])
            token = torch.tensor([[first + 7 * step]])
            theirs, past = pair.suno(token, use_cache=True, past_kv=past)
            hidden = pair.engine(pair.engine.embed(token), memory)
        assert memory.length == 312


@pytest.mark.parametrize("with_voice", [False, True])
def test_semantic_logits_are_sunos_bit_for_bit(with_voice: bool) -> None:
    """Also the end token's: a head cut at 10,001 rows would give it other last bits."""
    pair = text_pair()
    speaker = as_speaker(prompt_arrays(300)) if with_voice else None
    past_ids = prompt_arrays(300)["semantic_prompt"][-256:].tolist() if with_voice else [10_000] * 256
    ids = torch.tensor([[*IDS.tolist(), *[129_595] * 254, *past_ids, 129_599]])
    with torch.inference_mode():
        memory = pair.engine.new_cache(300)
        hidden = prefill(pair.engine, memory, IDS, SUNO, speaker)
        theirs, past = pair.suno(ids, merge_context=True, use_cache=True)
        for step in range(30):
            assert torch.equal(pair.engine.logits(hidden, 0, 10_048), theirs[:, 0])
            theirs, past = pair.suno(torch.tensor([[step]]), use_cache=True, past_kv=past)
            hidden = pair.engine(pair.engine.embed(torch.tensor([[step]])), memory)


def test_the_semantic_stage_samples_those_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stage hands to the sampler equals Suno's row, the end token's last bits included."""
    pair, seen = text_pair(), []
    import bark_engine.semantic as stage

    original = stage.probabilities

    def recording(logits: torch.Tensor, *args: Any) -> torch.Tensor:
        seen.append(logits.clone())
        return original(logits, *args)

    monkeypatch.setattr(stage, "probabilities", recording)
    tokens = generate_semantic(
        pair.engine, IDS, SUNO, speaker=None, sampling=SemanticSampling(max_seconds=0.8), seed=0
    ).ids.tolist()
    ids = torch.tensor([[*IDS.tolist(), *[129_595] * 254, *[10_000] * 256, 129_599]])
    with torch.inference_mode():
        theirs, past = pair.suno(ids, merge_context=True, use_cache=True)
        for token, ours in zip(tokens, seen, strict=True):
            assert torch.equal(ours, theirs[0, 0, :10_001])
            theirs, past = pair.suno(torch.tensor([[token]]), use_cache=True, past_kv=past)


@pytest.mark.parametrize(("width", "heads"), [(64, 2), (768, 12)])
@pytest.mark.parametrize("first_frame", [0, 382, 511, 512])
def test_fine_logits_are_sunos_bit_for_bit(width: int, heads: int, first_frame: int) -> None:
    pair = fine_pair(width=width, heads=heads, layers=1)
    codes = torch.randint(0, 1_025, (1, 1_024, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for codebook in (2, 7) if width > 64 else range(2, 8):
            ours = pair.engine(codes, codebook, first_frame, 1_024)
            assert torch.equal(ours, pair.suno(codebook, codes)[:, first_frame:, :1_024])


def test_the_predicted_codebook_is_part_of_the_input() -> None:
    """Codebooks 0 … p are summed, p included; the ones above p are not read."""
    network = any_fine_pair().engine
    codes = torch.randint(0, 1_024, (1, 50, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(codes, 4, 0, 1_024)
        above, itself = codes.clone(), codes.clone()
        above[..., 5:] = 0
        itself[..., 4] = 0
        assert torch.equal(network(above, 4, 0, 1_024), before)
        assert not torch.allclose(network(itself, 4, 0, 1_024), before, atol=1e-2)


def test_the_fine_network_sees_the_future_and_the_causal_one_does_not() -> None:
    codes = torch.randint(0, 1_024, (1, 50, 8), generator=torch.Generator().manual_seed(0))
    changed = codes.clone()
    changed[:, -1] = 5
    causal = coarse_pair().engine
    with torch.inference_mode():
        network = any_fine_pair().engine
        assert not torch.allclose(network(changed, 4, 0, 9)[:, 0], network(codes, 4, 0, 9)[:, 0], atol=1e-4)
        memory, other = causal.new_cache(50), causal.new_cache(50)
        causal(causal.embed(codes[..., 0]), memory)
        causal(causal.embed(changed[..., 0]), other)
        assert torch.equal(memory.keys[:, :, :, :49], other.keys[:, :, :, :49])
        assert not torch.equal(memory.keys[:, :, :, 49], other.keys[:, :, :, 49])


def test_a_cache_that_grows_gives_the_same() -> None:
    shape = NetworkShape(2, 2, 64, 1_024, 10, 10)
    memory = KeyValueCache(shape, 1, 3, torch.device("cpu"), torch.float32)
    memory.reserve(3)
    assert memory.keys.shape == (2, 1, 2, 3, 32)
    memory.reserve(4)
    assert memory.keys.shape[3] == memory.values.shape[3] == 3 + KeyValueCache.GROWTH
    memory.reserve(1_000)
    assert memory.keys.shape[3] >= 1_000
    roomy, tight = coarse_pair().engine.new_cache(200), coarse_pair().engine.new_cache(1)
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        for part in (ids, torch.tensor([[3]]), torch.tensor([[4]])):
            outputs = [coarse_pair().engine(coarse_pair().engine.embed(part), memory) for memory in (roomy, tight)]
            assert torch.equal(*outputs)


def test_a_batch_row_is_that_row_alone() -> None:
    network = coarse_pair().engine
    ids = torch.randint(0, 12_096, (3, 40), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = network(network.embed(ids), network.new_cache(40, batch=3))
        for row in range(3):
            alone = network(network.embed(ids[row : row + 1]), network.new_cache(40))
            torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_a_network_with_bias_has_bias_everywhere() -> None:
    network = CausalTransformer(NetworkShape(1, 2, 64, 16, 10, 10, bias=True))
    names = {name for name, _ in network.named_parameters()}
    assert {"transformer.ln_f.bias", "transformer.h.0.attn.c_attn.bias", "transformer.h.0.mlp.c_proj.bias"} <= names
    plain = CausalTransformer(NetworkShape(1, 2, 64, 16, 10, 10))
    assert not [name for name, _ in plain.named_parameters() if name.endswith("bias")]


# -- what all stages share -----------------------------------------------------------------------------------------

Stage = Callable[..., Any]


def say(seed: int = 0, on_step: Any = None, **more: Any) -> Any:
    sampling = SemanticSampling(max_seconds=0.5)
    return generate_semantic(
        text_pair().engine, IDS, SUNO, speaker=None, sampling=sampling, seed=seed, on_step=on_step, **more
    )


def sketch(seed: int = 0, on_step: Any = None, **more: Any) -> Any:
    sampling = CoarseSampling(window=33)
    return generate_coarse(
        coarse_pair().engine, SEMANTIC, SUNO, speaker=None, sampling=sampling, seed=seed, on_step=on_step, **more
    )


def fill(seed: int = 0, on_step: Any = None, **more: Any) -> Any:
    return generate_fine(
        any_fine_pair().engine,
        COARSE,
        SUNO,
        speaker=None,
        sampling=FineSampling(),
        seed=seed,
        on_step=on_step,
        **more,
    )


STAGES = [say, sketch, fill]
STEPS = {say: (25, 768), sketch: (150, 150), fill: (12, 12)}  # tokens or passes made here, total announced


@pytest.mark.parametrize("stage", STAGES)
def test_the_seed_decides_and_nothing_else(stage: Stage) -> None:
    first = stage(seed=1)
    torch.manual_seed(1234)
    torch.rand(10)
    np.random.seed(5)
    before = torch.get_rng_state()
    assert stage(seed=1) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert stage(seed=2) != first


@pytest.mark.parametrize("stage", STAGES)
def test_progress(stage: Stage) -> None:
    """Before each token or pass how many are done, more often where a step is long, and once more at the end."""
    seen: list[tuple[int, int]] = []
    stage(on_step=lambda done, total: seen.append((done, total)))
    made, total = STEPS[stage]
    assert list(dict.fromkeys(seen[:-1])) == [(done, total) for done in range(made)]
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert seen.count((0, total)) >= 2  # once per layer of the first, long pass: the networks here have two


class Stopped(Exception):  # noqa: N818 -- not an error
    pass


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("when", [1, 2, 3, 4, 20])
def test_stopping_and_starting_again(stage: Stage, when: int) -> None:
    """What `on_step` raises comes out as it is, at once, and the next call is as good as the first."""
    expected = stage(seed=4)
    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == when:
            raise Stopped

    with pytest.raises(Stopped):
        stage(seed=4, on_step=stop)
    assert len(calls) == when
    assert not torch.is_inference_mode_enabled()
    assert stage(seed=4) == expected


@pytest.mark.parametrize("stage", [say, sketch])
def test_frugal_memory_gives_the_same_tokens(stage: Stage) -> None:
    assert stage(frugal=True) == stage()


def test_no_gradients_and_no_change_of_the_weights() -> None:
    before = copy.deepcopy(text_pair().engine.state_dict())
    say()
    assert all(torch.equal(value, before[name]) for name, value in text_pair().engine.state_dict().items())
    assert all(weight.grad is None for weight in text_pair().engine.parameters())
    assert torch.is_grad_enabled()


def test_a_speech_that_ends_before_it_begins() -> None:
    ended = causal_pair("text", end_boost=1.0)
    ended.engine.lm_head.weight.data[SUNO.end_token] *= 0
    ended.engine.lm_head.weight.data[: SUNO.end_token] *= 0
    with pytest.raises(BarkError, match=r"ended the speech before it began.*another seed"):
        generate_semantic(ended.engine, IDS, SUNO, speaker=None, sampling=SemanticSampling(min_eos_p=1e-9), seed=0)


def test_the_stages_have_one_signature() -> None:
    """Network, what to read, spec; then by name: speaker, sampling, seed, on_step."""
    for stage in (generate_semantic, generate_coarse, generate_fine):
        names = list(inspect.signature(stage).parameters)
        assert names[0] == "network"
        assert names[2] == "spec"
        assert names[3:7] == ["speaker", "sampling", "seed", "on_step"]
