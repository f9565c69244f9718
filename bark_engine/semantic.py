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
    row = SemanticRow(text_ids, spec, speaker, sampling, seed)
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
    ):
        self.tokens: list[int] = []
        self.finished = False
        self._text_ids, self._spec, self._speaker, self._sampling = text_ids, spec, speaker, sampling
        self._rng = generator(seed)
        self._seconds = 0.0

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

    def take(self, logits: Tensor) -> None:
        """Draw the next token from the head's logits `[V]`, or end."""
        spec, sampling = self._spec, self._sampling
        last_id = spec.end_token + 1 if sampling.early_stop else spec.semantic_vocab
        distribution = probabilities(logits[:last_id], sampling.temperature, sampling.top_k, sampling.top_p)
        token = draw(distribution, self._rng)
        if _ends_here(token, distribution, spec, sampling):
            self.finished = True
            return
        self.accept(token)

    def accept(self, token: int) -> None:
        """Go on with this token, whoever chose it."""
        spec, sampling = self._spec, self._sampling
        self.tokens.append(token)
        self._seconds += 1 / spec.semantic_rate  # summed like Suno's, so that the same token is the last one
        too_long = sampling.max_seconds is not None and self._seconds > sampling.max_seconds
        self.finished = too_long or len(self.tokens) == spec.max_semantic

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
