"""A batch of examples → the loss: the negative log-probability of what the network should answer.

Logits are computed where something is answered and over the ids that inference can sample there, and nowhere else.
Padding on the right comes after everything that counts, so causal attention never sees it, and it is no target. Fine
windows are all of one size.

Each target weighs (targets of its clip) / (targets of its example): a clip's passes are drawn in proportion to their
targets, and with this weight every token of the data counts the same in expectation. Where an example is the whole
clip (semantic), the weight is 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..spec import BarkSpec
from ..transformer import CausalTransformer, FineTransformer
from .layouts import CausalExample, Example, FineExample, IntArray

Network = CausalTransformer | FineTransformer


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Where one set of candidates is chosen from: at `index [N]` of the B · T positions, `targets [N]`, `weights [N]`.

    Causal: rows `first` … `last` − 1 of the head. Fine: the table of codebook `first`; `rows` are the first of
    the batch's examples that predict it, and one past the last.
    """

    first: int
    last: int
    index: Tensor
    targets: Tensor
    weights: Tensor
    rows: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Examples of one stage as tensors: ids `[B, T]` (fine `[B, T, K]`), history `[B, text_length]` or None.

    `weight` is the sum of all weights; `targets` counts what is answered, `positions` what is computed.
    """

    ids: Tensor
    history: Tensor | None
    heads: tuple[Head, ...]
    weight: float
    targets: int
    positions: int


def collate(examples: Sequence[Example], spec: BarkSpec, device: torch.device | str = "cpu") -> Batch:
    """Put examples of one stage together, padded on the right to the longest."""
    if isinstance(examples[0], FineExample):
        return _collate_fine(cast("Sequence[FineExample]", examples), spec, device)
    return _collate_causal(cast("Sequence[CausalExample]", examples), spec, device)


def losses(network: Network, batch: Batch) -> Tensor:
    """Weighted sum of the negative log-probabilities of all targets, in nats; divide by `batch.weight` for the mean."""
    total: Tensor | None = None
    for head, logits in head_logits(network, batch):
        each = F.cross_entropy(logits, head.targets, reduction="none")
        part = (each * head.weights).sum()
        total = part if total is None else total + part
    assert total is not None
    return total


def head_logits(network: Network, batch: Batch) -> Iterator[tuple[Head, Tensor]]:
    """Each head of the batch with its float32 logits `[N, candidates]`; one pass of the network for all."""
    if isinstance(network, FineTransformer):
        # Each example sums the codebooks up to its own; those that predict the same one stand together.
        parts = [network.embed(batch.ids[slice(*head.rows)], head.first) for head in batch.heads]
        hidden = network.hidden_states(torch.cat(parts)).flatten(0, 1)
        for head in batch.heads:
            yield head, network.logits(hidden[head.index], head.first, head.last)
        return
    embeddings = network.embed(batch.ids)
    if batch.history is not None:
        length = batch.history.shape[1]
        prompt = embeddings[:, :length] + network.embed(batch.history)
        embeddings = torch.cat([prompt, embeddings[:, length:]], dim=1)
    hidden = network.hidden_states(embeddings).flatten(0, 1)
    for head in batch.heads:
        yield head, network.logits(hidden[head.index], head.first, head.last)


def _collate_causal(examples: Sequence[CausalExample], spec: BarkSpec, device: torch.device | str) -> Batch:
    length = max(example.length for example in examples)
    ids = np.zeros((len(examples), length), dtype=np.int64)
    histories = [example.history for example in examples if example.history is not None]
    index, targets, weights, books = [], [], [], []
    for row, example in enumerate(examples):
        ids[row, : example.length] = example.ids
        count = len(example.targets)
        index.append(row * length + example.start + np.arange(count))
        targets.append(example.targets)
        weights.append(np.full(count, example.of / count, dtype=np.float32))
        books.append((example.first_codebook + np.arange(count)) % spec.coarse_codebooks)
    all_index, all_targets = np.concatenate(index), np.concatenate(targets)
    all_weights, all_books = np.concatenate(weights), np.concatenate(books)
    if histories:
        ranges = [(0, spec.end_token + 1, slice(None))]
    else:
        firsts = [spec.semantic_vocab + book * spec.codebook_size for book in range(spec.coarse_codebooks)]
        ranges = [(first, first + spec.codebook_size, all_books == book) for book, first in enumerate(firsts)]
    heads = tuple(
        _head(first, last, all_index[of], all_targets[of] - first, all_weights[of], device)
        for first, last, of in ranges
        if all_index[of].size
    )
    history = torch.from_numpy(np.stack(histories)).to(device) if histories else None
    weight = float(sum(example.of for example in examples))
    return Batch(torch.from_numpy(ids).to(device), history, heads, weight, len(all_index), ids.size)


def _collate_fine(examples: Sequence[FineExample], spec: BarkSpec, device: torch.device | str) -> Batch:
    ordered = sorted(examples, key=lambda example: example.codebook)
    codes = np.stack([example.codes for example in ordered])
    frames = codes.shape[1]
    heads = []
    for codebook in dict.fromkeys(example.codebook for example in ordered):
        rows = [row for row, example in enumerate(ordered) if example.codebook == codebook]
        counts = [len(ordered[row].targets) for row in rows]
        index = [row * frames + ordered[row].start + np.arange(count) for row, count in zip(rows, counts, strict=True)]
        weights = [
            np.full(count, ordered[row].of / count, dtype=np.float32) for row, count in zip(rows, counts, strict=True)
        ]
        targets = np.concatenate([ordered[row].targets for row in rows])
        heads.append(
            _head(
                codebook,
                spec.codebook_size,
                np.concatenate(index),
                targets,
                np.concatenate(weights),
                device,
                (rows[0], rows[-1] + 1),
            )
        )
    ids = torch.from_numpy(codes).to(device)
    weight = float(sum(example.of for example in ordered))
    return Batch(ids, None, tuple(heads), weight, sum(len(head.targets) for head in heads), codes[..., 0].size)


def _head(
    first: int,
    last: int,
    index: IntArray,
    targets: IntArray,
    weights: np.ndarray,
    device: torch.device | str,
    rows: tuple[int, int] = (0, 0),
) -> Head:
    where, what, how = (torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in (index, targets, weights))
    return Head(first, last, where, what, how, rows)
