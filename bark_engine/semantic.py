"""The text stage: text tokens → semantic tokens, one at a time.

The prompt is 257 positions: text (256, padded) with the speaker prompt's last 256 semantic tokens added on top, then
the "infer" token. Up to 768 tokens follow. Source: `generate_text_semantic` in bark/generation.py, with its cache on.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .errors import BarkError
from .progress import OnStep, silent
from .sampling import SemanticSampling, draw, generator, probabilities
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import SemanticTokens
from .transformer import CausalTransformer, KeyValueCache, OnLayer


def generate_semantic(
    network: CausalTransformer,
    text_ids: npt.NDArray[np.int64],
    spec: BarkSpec,
    *,
    speaker: SpeakerPrompt | None,
    sampling: SemanticSampling,
    seed: int,
    on_step: OnStep | None = None,
    frugal: bool = False,
) -> SemanticTokens:
    """Model ids of a text `[1 … 256]` (see text.py) → what is said, as tokens `[T ≤ 768]`.

    `on_step(done, total)` is called before every token, and before every layer of the prefill; it may raise to stop.
    `frugal` sets cache memory aside as it is needed instead of at once.

    Raises BarkError when the model ends the speech before its first token.
    """
    on_step = on_step or silent
    rng = generator(seed)
    with torch.inference_mode():
        cache = network.new_cache(spec.text_length + 1 + (0 if frugal else spec.max_semantic))
        hidden = prefill(network, cache, text_ids, spec, speaker, partial(on_step, 0, spec.max_semantic))
        last_id = spec.end_token + 1 if sampling.early_stop else spec.semantic_vocab
        tokens: list[int] = []
        seconds = 0.0
        while True:
            on_step(len(tokens), spec.max_semantic)
            # The whole head, cut afterwards, as Suno does: 10,001 rows end in another kernel and the end token's last
            # bits would differ.
            logits = network.logits(hidden, 0, network.shape.output_vocab)[0, :last_id]
            distribution = probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p)
            token = draw(distribution, rng)
            if _ends_here(token, distribution, spec, sampling):
                break
            tokens.append(token)
            seconds += 1 / spec.semantic_rate  # summed like Suno's, so that the same token is the last one
            too_long = sampling.max_seconds is not None and seconds > sampling.max_seconds
            if too_long or len(tokens) == spec.max_semantic:
                break
            hidden = decode_one(network, cache, token)
        on_step(spec.max_semantic, spec.max_semantic)
    if not tokens:
        raise BarkError(
            "The models ended the speech before it began: no semantic token was made. "
            "Try another seed, a higher min_eos_p, or a longer text."
        )
    return SemanticTokens(tokens, family=spec.family)  # type: ignore[arg-type]


def prefill(
    network: CausalTransformer,
    cache: KeyValueCache,
    text_ids: npt.NDArray[np.int64],
    spec: BarkSpec,
    speaker: SpeakerPrompt | None,
    on_layer: OnLayer | None = None,
) -> Tensor:
    """Read the whole prompt: fills the first 257 cache positions, returns the hidden state `[1, H]` after it."""
    text = pad_ids(text_ids, spec.text_length, spec.text_pad)
    past = np.asarray(speaker.semantic)[-spec.semantic_history :] if speaker else np.zeros(0, dtype=np.int64)
    history = pad_ids(past, spec.semantic_history, spec.end_token)
    ids = torch.tensor(np.stack([text, history]), device=cache.keys.device)  # [2, 256]
    text_part, history_part = network.embed(ids)
    infer = network.embed(torch.tensor([spec.semantic_infer], device=cache.keys.device))
    prompt = torch.cat([text_part + history_part, infer])  # [257, H]
    return network(prompt[None], cache, on_layer)


def decode_one(network: CausalTransformer, cache: KeyValueCache, token: int) -> Tensor:
    """One more token: extends the cache by a position, returns the hidden state `[1, H]` after it."""
    return network(network.embed(torch.tensor([[token]], device=cache.keys.device)), cache)


def _ends_here(token: int, distribution: Tensor, spec: BarkSpec, sampling: SemanticSampling) -> bool:
    """Whether the speech ends instead of taking `token`. The draw has happened either way, as in Suno's loop."""
    if not sampling.early_stop:
        return False
    return token == spec.end_token or (
        sampling.min_eos_p is not None and bool(distribution[spec.end_token] >= sampling.min_eos_p)  # in float32
    )


def pad_ids(ids: npt.NDArray[np.int64], length: int, pad: int) -> npt.NDArray[np.int64]:
    """Ids `[T]` with `pad` behind them, `[length]`; T ≤ `length`."""
    return np.pad(ids, (0, length - len(ids)), constant_values=pad)
