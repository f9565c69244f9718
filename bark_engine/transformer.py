"""Bark's two networks: a causal one (text and coarse stages) and a non-causal one (fine stage), and the cache.

Only networks: no files, no sampling, no token rules. Parameters carry Suno's own names
(`transformer.h.0.attn.c_attn.weight`), so a Suno state dict loads without a table of renames.

Shape letters: B batch, T positions, H width, N heads, D width of a head (H / N), K codebooks, V vocabulary.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import Linear, cache_dtype, linear

OnLayer = Callable[[], None]  # called before every layer of a long pass; may raise to stop it

LAYER_NORM_EPS = 1e-5  # bark/model.py, LayerNorm; also the default of nn.LayerNorm in model_fine.py


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Everything needed to build a network before its weights are read (`model_args` of a Suno checkpoint).

    `codebooks` is 0 for the causal networks and 8 for the fine one, which embeds each codebook by itself.
    """

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    input_vocab: int
    output_vocab: int
    bias: bool = False
    codebooks: int = 0

    @property
    def head_dim(self) -> int:
        """D = H / N; 64 in all of Suno's models."""
        return self.n_embd // self.n_head


def cache_bytes(shape: NetworkShape, positions: int, dtype: torch.dtype) -> int:
    """What the keys and values of one sequence take, with room for so many positions."""
    return 2 * shape.n_layer * positions * shape.n_embd * dtype.itemsize


class KeyValueCache:
    """Keys and values of all positions seen so far, in memory set aside once for `positions` of them.

    Keys and values are `[layers, B, N, positions, D]`; `length` positions are filled. When `positions` run out, room
    for `GROWTH` more is made by copying, which a run that is short of memory uses on purpose.
    """

    GROWTH = 128
    mask: Tensor | None = None  # all that is filled may be seen

    def __init__(self, shape: NetworkShape, batch: int, positions: int, device: torch.device, dtype: torch.dtype):
        size = (shape.n_layer, batch, shape.n_head, positions, shape.head_dim)
        self.keys = torch.empty(size, device=device, dtype=dtype)
        self.values = torch.empty(size, device=device, dtype=dtype)
        self.length = 0

    def reserve(self, positions: int) -> None:
        """Make sure that `positions` fit in all."""
        missing = positions - self.keys.shape[3]
        if missing > 0:
            room = (0, 0, 0, max(missing, self.GROWTH))
            self.keys, self.values = F.pad(self.keys, room), F.pad(self.values, room)

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[B, N, T, D]` after the filled positions and return all of them, `[B, N, length + T, D]`."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class RowCache:
    """Keys and values of several sequences that are at different places: the first `rows` of `batch` rows are in use.

    Keys and values are `[layers, B, N, positions, D]`; of row r the first `lengths[r]` positions are filled. What lies
    behind them is masked, so a row sees what it would see alone. In bfloat16 on the CPU memory grows by `GROWTH`
    positions as the longest row does, and all of them are looked at: the matrix product for it is twenty times slower
    on a part of the positions, which does not lie in memory without gaps.
    """

    GROWTH = 128

    def __init__(self, shape: NetworkShape, batch: int, positions: int, device: torch.device, dtype: torch.dtype):
        self._whole = device.type == "cpu" and dtype == torch.bfloat16
        self._most = positions
        size = (shape.n_layer, batch, shape.n_head, 0 if self._whole else positions, shape.head_dim)
        self.keys = torch.zeros(size, device=device, dtype=dtype)  # zeros: a masked NaN would still be one
        self.values = torch.zeros(size, device=device, dtype=dtype)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.rows = 0
        self.mask: Tensor | None = None
        self._shape = shape
        self._numbers = torch.arange(batch, device=device)
        self._places = torch.arange(positions, device=device)

    def row(self, number: int, positions: int) -> KeyValueCache:
        """One row as an empty cache of its own, on the same memory, with room for so many positions.

        Set `lengths[number]` when it is filled.
        """
        self._reserve(positions)
        alone = KeyValueCache(self._shape, 1, 0, self.keys.device, self.keys.dtype)
        alone.keys, alone.values = self.keys[:, number : number + 1], self.values[:, number : number + 1]
        return alone

    def move(self, source: int, target: int) -> None:
        """Copy one row over another."""
        length = self.lengths[target] = self.lengths[source]
        self.keys[:, target, :, :length] = self.keys[:, source, :, :length]
        self.values[:, target, :, :length] = self.values[:, source, :, :length]

    def clear(self, number: int) -> None:
        """Forget what a row with broken numbers left behind: zero times NaN is NaN, also where it is masked."""
        self.keys[:, number] = 0
        self.values[:, number] = 0

    def begin_step(self) -> Tensor:
        """Get ready for one more position in each row in use; returns those positions, `[rows]`."""
        positions = self.lengths[: self.rows]
        self._end = int(positions.max()) + 1
        self._reserve(self._end)
        if self._whole:
            self._end = self.keys.shape[3]
        self.mask = (self._places[: self._end] <= positions[:, None])[:, None, None]  # [rows, 1, 1, end]
        return positions

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store `[rows, N, 1, D]` at each row's place and return all up to the farthest, `[rows, N, end, D]`."""
        rows, positions = self._numbers[: self.rows], self.lengths[: self.rows]
        self.keys[layer, rows, :, positions] = key[:, :, 0].to(self.keys.dtype)
        self.values[layer, rows, :, positions] = value[:, :, 0].to(self.values.dtype)
        return self.keys[layer, : self.rows, :, : self._end], self.values[layer, : self.rows, :, : self._end]

    def end_step(self) -> None:
        """Count the new position of each row in use."""
        self.lengths[: self.rows] += 1

    def _reserve(self, positions: int) -> None:
        missing = positions - self.keys.shape[3]
        if missing > 0:
            more = min(-(-missing // self.GROWTH) * self.GROWTH, self._most - self.keys.shape[3])
            self.keys, self.values = F.pad(self.keys, (0, 0, 0, more)), F.pad(self.values, (0, 0, 0, more))


Cache = KeyValueCache | RowCache


class LayerNorm(nn.Module):
    """Layer norm whose bias may be absent, as in Suno's causal networks."""

    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, LAYER_NORM_EPS)


class Embedding(nn.Embedding):
    """torch's own, but without values on the meta device: to draw them there torch imports its compiler (1.3 s)."""

    def reset_parameters(self) -> None:
        if not self.weight.is_meta:
            super().reset_parameters()


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values, in that order."""

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.c_attn = Linear(shape.n_embd, 3 * shape.n_embd, bias=shape.bias)
        self.c_proj = Linear(shape.n_embd, shape.n_embd, bias=shape.bias)
        self.n_head = shape.n_head

    def forward(self, x: Tensor, causal: bool, cache: Cache | None = None, layer: int = 0) -> Tensor:
        batch, steps, width = x.shape
        query, key, value = (
            part.view(batch, steps, self.n_head, width // self.n_head).transpose(1, 2)  # [B, N, T, D]
            for part in self.c_attn(x).split(width, dim=2)
        )
        mask = None
        if cache is not None:
            key, value = cache.update(layer, key, value)
            query, mask = query.to(key.dtype), cache.mask
        if steps == 1 and query.device.type == "cpu" and query.dtype == torch.bfloat16:
            mixed = attend_to_one(query, key, value, mask)
        else:
            # A single new token may see every cached one; a causal mask would hide all but the first from it.
            mixed = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal and steps > 1)
        return self.c_proj(mixed.transpose(1, 2).reshape(batch, steps, width))


def attend_to_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of one query in each row: `[B, N, 1, D]` over `[B, N, T, D]` → `[B, N, 1, D]`, softmax in float32.

    What `scaled_dot_product_attention` computes; its kernel for the CPU takes three times as long for one query in
    bfloat16.
    """
    scores = (query / math.sqrt(query.shape[-1]) @ key.transpose(-1, -2)).float()  # [B, N, 1, T]
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1).to(value.dtype) @ value


class MLP(nn.Module):
    """Two linear layers, four times as wide in the middle, with the exact (erf) GELU."""

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.c_fc = Linear(shape.n_embd, 4 * shape.n_embd, bias=shape.bias)
        self.c_proj = Linear(4 * shape.n_embd, shape.n_embd, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, shape: NetworkShape, norm_bias: bool):
        super().__init__()
        self.ln_1 = LayerNorm(shape.n_embd, norm_bias)
        self.attn = Attention(shape)
        self.ln_2 = LayerNorm(shape.n_embd, norm_bias)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, causal: bool, cache: Cache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal, cache, layer)
        return x + self.mlp(self.ln_2(x))


class Body(nn.Module):
    """Positions, layers and the last norm: what both networks hold under the name `transformer`."""

    def __init__(self, shape: NetworkShape, norm_bias: bool):
        super().__init__()
        self.wpe = Embedding(shape.block_size, shape.n_embd)
        self.h = nn.ModuleList(Block(shape, norm_bias) for _ in range(shape.n_layer))
        self.ln_f = LayerNorm(shape.n_embd, norm_bias)

    @property
    def precision(self) -> torch.dtype:
        """What the weights of attention and MLP are kept in; every layer is like the first."""
        return cast(Linear, self.get_submodule("h.0.attn.c_attn")).precision  # or what int8.py put in its place


class CausalBody(Body):
    """A body with one embedding table."""

    def __init__(self, shape: NetworkShape):
        super().__init__(shape, norm_bias=shape.bias)
        self.wte = Embedding(shape.input_vocab, shape.n_embd)


class FineBody(Body):
    """A body with one embedding table per codebook; its norms have a bias whatever the linear layers have."""

    def __init__(self, shape: NetworkShape):
        super().__init__(shape, norm_bias=True)
        self.wtes = nn.ModuleList(Embedding(shape.input_vocab, shape.n_embd) for _ in range(shape.codebooks))


class CausalTransformer(nn.Module):
    """The network of the text and coarse stages (Suno's `GPT`)."""

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.shape = shape
        self.transformer = CausalBody(shape)
        self.lm_head = nn.Linear(shape.n_embd, shape.output_vocab, bias=False)

    def embed(self, ids: Tensor) -> Tensor:
        """Ids `[B, T]` → token embeddings `[B, T, H]`, without positions."""
        return self.transformer.wte(ids)

    def new_cache(self, positions: int, batch: int = 1) -> KeyValueCache:
        """An empty cache for this network, on its device, with room for `positions`."""
        return KeyValueCache(self.shape, batch, positions, self.lm_head.weight.device, self.cache_dtype(batch))

    @property
    def exact(self) -> bool:
        """Whether it computes in float32 throughout, where shortcuts that move the last bits are not taken."""
        return self.transformer.precision == torch.float32

    def cache_dtype(self, rows: int) -> torch.dtype:
        """The precision of keys and values of so many sequences."""
        return cache_dtype(self.transformer.precision, self.lm_head.weight.device, rows)

    def forward(self, embeddings: Tensor, cache: KeyValueCache, on_layer: OnLayer | None = None) -> Tensor:
        """Token embeddings `[B, T, H]` of the next T positions → normalised last position `[B, H]`.

        T may exceed 1 only while the cache is empty (the prefill), which takes seconds on a slow processor.
        """
        steps = embeddings.shape[1]
        cache.reserve(cache.length + steps)
        positions = torch.arange(cache.length, cache.length + steps, device=embeddings.device)
        x = embeddings + self.transformer.wpe(positions)
        for layer, block in enumerate(self.transformer.h):
            if on_layer:
                on_layer()
            x = block(x, causal=True, cache=cache, layer=layer)
        cache.length += steps
        return self.transformer.ln_f(x[:, -1])

    def new_rows(self, batch: int, positions: int) -> RowCache:
        """An empty cache for sequences at different places, with room for `positions` in each of `batch` rows."""
        return RowCache(self.shape, batch, positions, self.lm_head.weight.device, self.cache_dtype(batch))

    def step_rows(self, embeddings: Tensor, cache: RowCache) -> Tensor:
        """Token embeddings `[rows, 1, H]`, one more for each row in use → normalised hidden states `[rows, H]`.

        A row that has used all positions gets a state that means nothing; it is over, or reads a prompt next.
        """
        positions = cache.begin_step().clamp(max=self.shape.block_size - 1)
        x = embeddings + self.transformer.wpe(positions)[:, None]
        for layer, block in enumerate(self.transformer.h):
            x = block(x, causal=True, cache=cache, layer=layer)
        cache.end_step()
        return self.transformer.ln_f(x[:, -1])

    def hidden_states(self, embeddings: Tensor) -> Tensor:
        """Token embeddings `[B, T, H]` of whole sequences → the normalised hidden state of every position, `[B, T, H]`.

        For training: one pass without a cache, with gradients. Padding on the right changes nothing before it.
        """
        x = embeddings + self.transformer.wpe.weight[: embeddings.shape[1]]
        for block in self.transformer.h:
            x = block(x, causal=True)
        return self.transformer.ln_f(x)

    def logits(self, hidden: Tensor, first: int, last: int) -> Tensor:
        """Hidden `[B, H]` → float32 logits `[B, last − first]` of the ids that can be sampled, and no others."""
        return linear(hidden, self.lm_head.weight[first:last]).float()


class FineTransformer(nn.Module):
    """The network of the fine stage (Suno's `FineGPT`): sees the whole window at once, predicts one codebook a pass.

    The head of codebook p is the embedding table of codebook p (Suno ties `lm_heads[p − 1]` to `wtes[p]`), so the
    tables exist once here and there are no separate heads. Its layer norms have a bias although its linear layers
    have none (`nn.LayerNorm` in bark/model_fine.py).
    """

    def __init__(self, shape: NetworkShape):
        super().__init__()
        self.shape = shape
        self.transformer = FineBody(shape)

    def forward(
        self, codes: Tensor, codebook: int, first_frame: int, candidates: int, on_layer: OnLayer | None = None
    ) -> Tensor:
        """Codes `[B, T, K]` → float32 logits `[B, T − first_frame, candidates]` for one codebook."""
        hidden = self.hidden_states(self.embed(codes, codebook), first_frame, on_layer)
        return self.logits(hidden, codebook, candidates)

    def embed(self, codes: Tensor, codebook: int) -> Tensor:
        """Codes `[B, T, K]` → embeddings `[B, T, H]`, without positions, of the pass that predicts `codebook`.

        The input of each frame is the sum of its codebooks 0 … `codebook` **inclusive**: the predicted one is there
        too, as padding or as the guess of an earlier window.
        """
        tables = [self.transformer.wtes.get_submodule(str(row)) for row in range(codebook + 1)]
        parts = [table(codes[:, :, row]) for row, table in enumerate(tables)]
        return torch.stack(parts, dim=-1).sum(dim=-1)

    def hidden_states(self, embeddings: Tensor, first_frame: int = 0, on_layer: OnLayer | None = None) -> Tensor:
        """Embeddings `[B, T, H]` → normalised hidden states `[B, T − first_frame, H]`; every frame sees every other."""
        x = embeddings + self.transformer.wpe(torch.arange(embeddings.shape[1], device=embeddings.device))
        for block in self.transformer.h:
            if on_layer:
                on_layer()
            x = block(x, causal=False)
        return self.transformer.ln_f(x[:, first_frame:])

    def logits(self, hidden: Tensor, codebook: int, candidates: int) -> Tensor:
        """Hidden `[…, H]` → float32 logits `[…, candidates]` for one codebook; its head is its embedding table."""
        table = self.transformer.wtes.get_submodule(str(codebook)).get_parameter("weight")
        return F.linear(hidden, table[:candidates]).float()
