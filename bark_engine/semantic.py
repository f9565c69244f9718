"""The text stage: text tokens → semantic tokens, one at a time.

The prompt is 257 positions: text (256, padded) with the speaker prompt's last 256 semantic tokens added on top, then
the "infer" token. Up to 768 tokens follow. Source: `generate_text_semantic` in bark/generation.py, with its cache on.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor

from .errors import BarkError
from .graphs import can_replay, replay_alone
from .one_token import NEVER, DrawRule, Head
from .progress import OnStep, silent
from .sampling import SemanticSampling, draw, generator, is_filtered, most_semantic, probabilities
from .speaker import SpeakerPrompt
from .spec import BarkSpec
from .tokens import SemanticTokens
from .trace import TraceRecorder
from .transformer import CausalTransformer, KeyValueCache, OnLayer

LOOK = 8  # tokens that are made at most before somebody looks whether the speech has ended


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
    trace: TraceRecorder | None = None,
    graphs: bool = False,
) -> SemanticTokens:
    """Model ids of a text `[1 … 256]` (see text.py) → what is said, as tokens `[T ≤ 768]`.

    `on_step(done, total)` is called before every token, and before every layer of the prefill; it may raise to stop.
    `frugal` sets cache memory aside as it is needed instead of at once. `trace` looks on.
    `graphs`: one replay per token where that can be (graphs.py).

    Raises BarkError when the model ends the speech before its first token.
    """
    on_step = on_step or silent
    row = SemanticRow(text_ids, spec, speaker, sampling, seed, trace)
    if graphs and not frugal and can_replay(network, row):
        replay_alone(network, row, lambda: on_step(len(row.tokens), spec.max_semantic))
        on_step(spec.max_semantic, spec.max_semantic)
        return row.result()
    with torch.inference_mode():
        cache = network.new_cache(spec.text_length + 1 if frugal else spec.text_positions)
        hidden = prefill(network, cache, text_ids, spec, speaker, partial(on_step, 0, spec.max_semantic))
        while True:
            on_step(len(row.tokens), spec.max_semantic)
            row.take(network.logits(hidden, *row.candidates(network))[0])
            if row.finished:
                break
            hidden = decode_one(network, cache, row.latest)
        on_step(spec.max_semantic, spec.max_semantic)
    return row.result()


class SemanticRow:
    """One speech on its way: its prompt, the tokens so far, its own random numbers, and when it ends."""

    def __init__(
        self,
        text_ids: npt.NDArray[np.int64],
        spec: BarkSpec,
        speaker: SpeakerPrompt | None,
        sampling: SemanticSampling,
        seed: int,
        trace: TraceRecorder | None = None,
    ):
        self.tokens: list[int] = []
        self.finished = False
        self._text_ids, self._spec, self._speaker, self._sampling = text_ids, spec, speaker, sampling
        self._rng = generator(seed)
        self._most = most_semantic(spec, sampling.max_seconds)
        self._trace = trace
        if trace:
            trace.start_semantic(spec, sampling)

    def prompt(self, network: CausalTransformer) -> Tensor:
        """The embeddings of what is read before the first token, `[1, 257, H]`."""
        return prompt_embeddings(network, self._text_ids, self._spec, self._speaker)

    @property
    def wants_prompt(self) -> bool:
        """Whether the next token comes right after the prompt."""
        return not self.tokens

    @property
    def latest(self) -> int:
        """The last token taken, a model id."""
        return self.tokens[-1]

    def candidates(self, network: CausalTransformer) -> tuple[int, int]:
        """The rows of the head whose logits `take` needs.

        The whole head, cut afterwards, as Suno does: 10,001 rows end in another kernel and the end token's last bits
        would differ.
        """
        return 0, network.shape.output_vocab

    def head(self, network: CausalTransformer) -> Head:
        """What tokens are drawn from where they are drawn for it: `candidates`, up to the end token."""
        end = self._spec.end_token
        return Head(*self.candidates(network), width=end + 1, turns=1, steps=LOOK, end=end)

    @property
    def rule(self) -> DrawRule | None:
        """How the next tokens are drawn; None where only `take` can draw them."""
        sampling, end = self._sampling, self._spec.end_token
        if self._trace or is_filtered(sampling):
            return None
        if not sampling.early_stop:
            return DrawRule(self._rng, sampling.temperature, end)
        ends_at = NEVER if sampling.min_eos_p is None else sampling.min_eos_p
        return DrawRule(self._rng, sampling.temperature, end + 1, ends_at)

    @property
    def ahead(self) -> int:
        """How many tokens can come before it is full."""
        return self._most - len(self.tokens)

    def follow(self, drawn: Sequence[int]) -> None:
        """Go on with tokens that were drawn by `rule`, up to the end token."""
        for token in drawn:
            if token == self._spec.end_token:
                self.finished = True
                return
            self.accept(token)

    def take(self, logits: Tensor) -> None:
        """Draw the next token from the head's logits `[V]`, or end."""
        spec, sampling = self._spec, self._sampling
        last_id = spec.end_token + 1 if sampling.early_stop else spec.semantic_vocab
        distribution = probabilities(logits[:last_id], sampling.temperature, sampling.top_k, sampling.top_p)
        token = draw(distribution, self._rng)
        ends = _ends_here(token, distribution, spec, sampling)
        if self._trace:
            self._trace.see_end(self._end_probability(logits, distribution, token), drawn=token == spec.end_token)
            if not ends:
                self._trace.take(token, distribution)
        if ends:
            self.finished = True
            return
        self.accept(token)

    def _end_probability(self, logits: Tensor, distribution: Tensor, token: int) -> float:
        """The end token's in the distribution that `token` was drawn from, or would be if the end were allowed."""
        end, sampling = self._spec.end_token, self._sampling
        if sampling.early_stop:
            return float(distribution[end])
        if not sampling.temperature or is_filtered(sampling):
            allowed = probabilities(logits[: end + 1], sampling.temperature, sampling.top_k, sampling.top_p)
            return float(allowed[end])
        # One more entry of the same softmax: its odds follow from those of an entry that is there.
        further = (float(logits[end]) - float(logits[token])) / sampling.temperature
        return float(expit(math.log(float(distribution[token])) + further))

    def accept(self, token: int) -> None:
        """Go on with this token, whoever chose it."""
        self.tokens.append(token)
        self.finished = len(self.tokens) == self._most

    def result(self) -> SemanticTokens:
        """The tokens of the finished speech. Raises BarkError where there are none."""
        if not self.tokens:
            raise BarkError(
                "The models ended the speech before it began: no semantic token was made. "
                "Try another seed, a higher min_eos_p, or a longer text."
            )
        return SemanticTokens(self.tokens, family=self._spec.family)  # type: ignore[arg-type]


def prompt_embeddings(
    network: CausalTransformer, text_ids: npt.NDArray[np.int64], spec: BarkSpec, speaker: SpeakerPrompt | None
) -> Tensor:
    """The whole prompt, `[1, 257, H]`: the text with the past on top, then the "infer" token."""
    text = pad_ids(text_ids, spec.text_length, spec.text_pad)
    past = np.asarray(speaker.semantic)[-spec.semantic_history :] if speaker else np.zeros(0, dtype=np.int64)
    history = pad_ids(past, spec.semantic_history, spec.end_token)
    device = network.lm_head.weight.device
    text_part, history_part = network.embed(torch.tensor(np.stack([text, history]), device=device))  # [2, 256, H]
    infer = network.embed(torch.tensor([spec.semantic_infer], device=device))
    return torch.cat([text_part + history_part, infer])[None]


def prefill(
    network: CausalTransformer,
    cache: KeyValueCache,
    text_ids: npt.NDArray[np.int64],
    spec: BarkSpec,
    speaker: SpeakerPrompt | None,
    on_layer: OnLayer | None = None,
) -> Tensor:
    """Read the whole prompt: fills the first 257 cache positions, returns the hidden state `[1, H]` after it."""
    return network(prompt_embeddings(network, text_ids, spec, speaker), cache, on_layer)


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
