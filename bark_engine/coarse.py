"""The coarse stage: semantic tokens → the first two EnCodec codebooks, in windows that slide along.

    semantic  ──────────[····· past ·····|·· ahead ··]────────      256 ids, the window's place ≈ its time
    coarse    ────────────[··· up to 630 ···]→→→→→→→→               then 60 new ones, codebook 0, 1, 0, 1, …

Every window is prefilled anew: 256 semantic ids, the "infer" token, the last 630 flattened coarse tokens. Source:
`generate_coarse` in bark/generation.py, with its cache on.
"""

import math
from functools import partial

import numpy as np
import torch

from .progress import OnStep, silent
from .sampling import CoarseSampling, draw, generator, probabilities
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import CoarseTokens, SemanticTokens, deinterleave, interleave
from .transformer import CausalTransformer


def generate_coarse(
    network: CausalTransformer,
    semantic: SemanticTokens,
    spec: BarkSpec,
    *,
    speaker: SpeakerPrompt | None,
    sampling: CoarseSampling,
    seed: int,
    on_step: OnStep | None = None,
    frugal: bool = False,
) -> CoarseTokens:
    """Semantic tokens `[T]` → coarse tokens `[2, floor(T · 75 / 49.9)]`.

    `on_step(done, total)` is called before every token, and before every layer of a prefill; it may raise to stop.
    `frugal` sets cache memory aside as it is needed instead of at once.
    """
    on_step = on_step or silent
    rng = generator(seed)
    ratio = spec.coarse_per_semantic
    past_semantic = math.floor(sampling.max_history / ratio)
    semantic_history, coarse_history = trim_history(speaker, spec, past_semantic)
    all_semantic = [*semantic_history, *np.asarray(semantic).tolist()]
    flat = list(coarse_history)
    total = spec.coarse_codebooks * spec.frames_for(len(semantic))
    prompt_length = spec.coarse_semantic_window + 1 + sampling.max_history
    with torch.inference_mode():
        cache = network.new_cache(spec.coarse_semantic_window + 1 if frugal else prompt_length + sampling.window)
        for window_start in range(0, total, sampling.window):
            now = len(semantic_history) + round(window_start / ratio)  # half to even, as numpy and Python do
            ahead = all_semantic[max(0, now - past_semantic) :][: spec.coarse_semantic_window]
            padding = [spec.coarse_semantic_pad] * (spec.coarse_semantic_window - len(ahead))
            ids = [*ahead, *padding, spec.coarse_infer, *flat[-sampling.max_history :]]
            cache.length = 0
            for step in range(window_start, min(window_start + sampling.window, total)):
                on_step(step, total)
                report = partial(on_step, step, total) if len(ids) > 1 else None  # the prefill of a window is long
                hidden = network(network.embed(torch.tensor([ids], device=cache.keys.device)), cache, report)
                codebook = step % spec.coarse_codebooks
                first = spec.semantic_vocab + codebook * spec.codebook_size
                logits = network.logits(hidden, first, first + spec.codebook_size)[0]
                token = first + draw(probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p), rng)
                flat.append(token)
                ids = [token]  # after the prefill, one token at a time
        on_step(total, total)
    codes = deinterleave(flat[len(coarse_history) :], spec.coarse_codebooks)
    return CoarseTokens(codes - _offsets(spec), family=spec.family)


def trim_history(speaker: SpeakerPrompt | None, spec: BarkSpec, past_semantic: int) -> tuple[list[int], list[int]]:
    """The end of the speaker prompt as semantic ids and flattened coarse ids that cover the same time.

    Kept from Suno, because tokens depend on it: an even number of semantic tokens, and the last frame dropped ("sounds
    better"). With a short prompt the flattened part can be odd and start on codebook 1.
    """
    if speaker is None:
        return [], []
    semantic = np.asarray(speaker.semantic)
    flat = interleave(np.asarray(speaker.coarse) + _offsets(spec))
    kept = min(past_semantic, len(semantic) - len(semantic) % 2, math.floor(len(flat) / spec.coarse_per_semantic))
    kept_flat = round(kept * spec.coarse_per_semantic)
    return semantic[-kept:].tolist(), flat[-kept_flat:][: -spec.coarse_codebooks].tolist()


def _offsets(spec: BarkSpec) -> np.ndarray:
    """What is added to the codes of each codebook, `[2, 1]`: its place after the semantic ids."""
    return spec.semantic_vocab + spec.codebook_size * np.arange(spec.coarse_codebooks, dtype=np.int64)[:, None]
