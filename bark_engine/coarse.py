"""The coarse stage: semantic tokens → the first two EnCodec codebooks, in windows that slide along.

    semantic  ──────────[····· past ·····|·· ahead ··]────────      256 ids, the window's place ≈ its time
    coarse    ────────────[··· up to 630 ···]→→→→→→→→               then 60 new ones, codebook 0, 1, 0, 1, …

Every window is prefilled anew: 256 semantic ids, the "infer" token, the last 630 flattened coarse tokens. Source:
`generate_coarse` in bark/generation.py, with its cache on. As long as a window begins like the one before it and only
goes on further, the cache holds all that already, and nothing is read; but in float32 it is, because the last bits of a
prefill are others than those of single steps.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .graphs import can_replay, replay_alone
from .one_token import DrawRule, Head
from .progress import OnStep, silent
from .sampling import CoarseSampling, draw, generator, is_filtered, probabilities
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import CoarseTokens, SemanticTokens, deinterleave, interleave
from .trace import TraceRecorder
from .transformer import CausalTransformer

LOOK = 64  # tokens that are made at most before they are fetched; a window of the default length in one go


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
    trace: TraceRecorder | None = None,
    graphs: bool = False,
) -> CoarseTokens:
    """Semantic tokens `[T]` → coarse tokens `[2, floor(T · 75 / 49.9)]`.

    `on_step(done, total)` is called before every token, and before every layer of a prefill; it may raise to stop.
    `frugal` sets cache memory aside as it is needed instead of at once. `trace` looks on.
    `graphs`: one replay per token where that can be (graphs.py).
    """
    on_step = on_step or silent
    row = CoarseRow(semantic, spec, speaker, sampling, seed, continues=not network.exact, trace=trace)
    if graphs and not frugal and can_replay(network, row):
        replay_alone(network, row, lambda: on_step(row.step, row.total))
        on_step(row.total, row.total)
        return row.result()
    with torch.inference_mode():
        cache = network.new_cache(spec.coarse_semantic_window + 1 if frugal else row.positions)
        while not row.finished:
            on_step(row.step, row.total)
            if row.wants_prompt:
                cache.length = 0
                hidden = network(row.prompt(network), cache, partial(on_step, row.step, row.total))
            else:
                hidden = network(network.embed(torch.tensor([[row.latest]], device=cache.keys.device)), cache)
            row.take(network.logits(hidden, *row.candidates(network))[0])
        on_step(row.total, row.total)
    return row.result()


class CoarseRow:
    """One sound on its way: `step` of its `total` flattened tokens are there, made window by window."""

    def __init__(
        self,
        semantic: SemanticTokens,
        spec: BarkSpec,
        speaker: SpeakerPrompt | None,
        sampling: CoarseSampling,
        seed: int,
        continues: bool = False,
        trace: TraceRecorder | None = None,
    ):
        """`continues`: whether a window that begins like the one before it is not read anew."""
        self.step = 0
        self.total = spec.coarse_codebooks * spec.frames_for(len(semantic))
        self.positions = spec.coarse_semantic_window + 1 + sampling.max_history + sampling.window
        """How many a cache needs."""
        self._spec, self._sampling = spec, sampling
        self._rng = generator(seed)
        self._continues = continues
        self._past_semantic = math.floor(sampling.max_history / spec.coarse_per_semantic)
        semantic_history, self._history = trim_history(speaker, spec, self._past_semantic)
        self._semantic_history = len(semantic_history)
        self._semantic = [*semantic_history, *np.asarray(semantic).tolist()]
        self._flat = list(self._history)
        self._trace = trace
        if trace:
            trace.start_coarse(spec, self.total)

    @property
    def finished(self) -> bool:
        """Whether all tokens are there."""
        return self.step == self.total

    @property
    def wants_prompt(self) -> bool:
        """Whether the next token begins a window, for which everything is read anew."""
        if self.step % self._sampling.window:
            return False
        return not (self._continues and self.step and self._begins_as_before)

    @property
    def _begins_as_before(self) -> bool:
        """Whether nothing has left the window yet: neither semantic ids at its start nor coarse tokens."""
        return self._now <= self._past_semantic and len(self._flat) <= self._sampling.max_history

    @property
    def _now(self) -> int:
        """The semantic token that sounds at the next step."""
        return self._semantic_history + round(self.step / self._spec.coarse_per_semantic)  # half to even, as numpy does

    @property
    def latest(self) -> int:
        """The last token taken, a model id."""
        return self._flat[-1]

    def prompt(self, network: CausalTransformer) -> Tensor:
        """The embeddings of what is read at the start of a window, `[1, T ≤ 257 + max_history, H]`."""
        spec = self._spec
        ahead = self._semantic[max(0, self._now - self._past_semantic) :][: spec.coarse_semantic_window]
        padding = [spec.coarse_semantic_pad] * (spec.coarse_semantic_window - len(ahead))
        ids = [*ahead, *padding, spec.coarse_infer, *self._flat[-self._sampling.max_history :]]
        return network.embed(torch.tensor([ids], device=network.lm_head.weight.device))

    def candidates(self, network: CausalTransformer) -> tuple[int, int]:
        """The rows of the head whose logits `take` needs: those of the codebook that comes next."""
        return self._first_id, self._first_id + self._spec.codebook_size

    def head(self, network: CausalTransformer) -> Head:
        """What tokens are drawn from where they are drawn for it: both codebooks, one after the other."""
        first, width, turns = self._spec.semantic_vocab, self._spec.codebook_size, self._spec.coarse_codebooks
        return Head(first, first + turns * width, width, turns, steps=LOOK)

    @property
    def rule(self) -> DrawRule | None:
        """How the next tokens are drawn; None where only `take` can draw them."""
        sampling, codebook = self._sampling, self.step % self._spec.coarse_codebooks
        if self._trace or is_filtered(sampling):
            return None
        return DrawRule(self._rng, sampling.temperature, self._spec.codebook_size, turn=codebook)

    @property
    def ahead(self) -> int:
        """How many tokens come before the next window or the end."""
        return min(self._sampling.window - self.step % self._sampling.window, self.total - self.step)

    def follow(self, drawn: Sequence[int]) -> None:
        """Go on with codes that were drawn by `rule`."""
        for code in drawn:
            self.accept(code)

    def take(self, logits: Tensor) -> None:
        """Draw the next token from the logits `[1024]` of its codebook."""
        sampling = self._sampling
        distribution = probabilities(logits, sampling.temperature, sampling.top_k, sampling.top_p)
        code = draw(distribution, self._rng)
        if self._trace:
            self._trace.take(code, distribution)
        self.accept(code)

    def accept(self, code: int) -> None:
        """Go on with this code of the codebook that comes next, whoever chose it."""
        self._flat.append(self._first_id + code)
        self.step += 1

    @property
    def _first_id(self) -> int:
        """The model id of code 0 of the codebook that comes next."""
        return self._spec.semantic_vocab + self.step % self._spec.coarse_codebooks * self._spec.codebook_size

    def result(self) -> CoarseTokens:
        """The tokens of the finished sound."""
        codes = deinterleave(self._flat[len(self._history) :], self._spec.coarse_codebooks)
        return CoarseTokens(codes - _offsets(self._spec), family=self._spec.family)


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
