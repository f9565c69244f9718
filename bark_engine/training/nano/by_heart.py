"""Which common words nano gets by heart: those that it misreads when it has only their letters.

English spelling misleads ("iron", "honey", "piano"), and a small network has no room to remember many words through
their letters. As an entry of the vocabulary of its own, a word has a row of the embedding to be remembered in, which
costs no time. Words that are read well from their letters stay with them, so that unknown ones are read the same way.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...errors import BarkInputError
from ...progress import OnStep, silent
from ...spec import BarkSpec
from ...text import Tokenizer, text_to_ids
from ...transformer import CausalTransformer
from ..clips import Clip
from ..layouts import CausalExample, semantic_example
from ..objectives import collate, head_logits
from .family import nano_spec, text_vocabulary
from .phones import PARTS, PHONES, semantic_ids
from .voices import DEFAULT, speak

CARRIER = "Say {} again."  # a word alone is said, and read, other than among words
BATCH = 24  # words in one pass
INFLECTIONS = ("s", "es", "d", "ed", "ing", "ly", "er", "ers")  # after which a word still sounds as it does alone


def misread(
    words: Sequence[str],
    network: CausalTransformer,
    tokenizer: Tokenizer,
    spec: BarkSpec,
    on_step: OnStep | None = None,
) -> list[str]:
    """The words of which at least one phone is not what the network expects after all phones before it.

    Teacher-forced, so that one mistake is not followed by others. Words with foreign phones are left out.
    """
    on_step = on_step or silent
    found: list[str] = []
    for start in range(0, len(words), BATCH):
        on_step(start, len(words))
        some = list(_examples(words[start : start + BATCH], tokenizer, spec))
        if not some:
            continue
        with torch.inference_mode():
            batch = collate([example for _, example in some], spec)
            ((_, logits),) = head_logits(network, batch)
        ends = np.cumsum([len(example.targets) for _, example in some])
        pieces = np.split(torch.softmax(logits, dim=1).numpy(), ends[:-1])
        found += [word for (word, example), odds in zip(some, pieces, strict=True) if _surprised(odds, example.targets)]
    return found


def _examples(words: Iterable[str], tokenizer: Tokenizer, spec: BarkSpec) -> Iterator[tuple[str, CausalExample]]:
    nothing = np.zeros((0, 0), dtype=np.int64)
    for word in words:
        text = CARRIER.format(word)
        try:
            tokens = semantic_ids(speak(text, DEFAULT))
        except BarkInputError:  # a phone of another language
            continue
        clip = Clip(word, text, DEFAULT, "train", tokens, nothing, nothing)
        yield word, semantic_example(clip, None, text_to_ids(text, tokenizer, spec), spec)


def _surprised(odds: np.ndarray, targets: np.ndarray) -> bool:
    """Whether another phone is likelier than the right one, at a place where one begins. `odds [N, ids]`.

    Pauses neither begin nor compete. How long the phone before lasts is not asked: that it goes on is no competitor.
    """
    phones = targets[:-1] // PARTS  # the last target is the end
    by_phone = odds[:, : PARTS * len(PHONES)].reshape(len(odds), len(PHONES), PARTS).sum(axis=2)
    by_phone[:, 0] = 0  # pauses
    for place in range(1, len(phones)):
        before, phone = phones[place - 1], phones[place]
        chances = by_phone[place].copy()
        chances[before] = 0
        if phone not in (0, before) and chances.argmax() != phone:
            return True
    return False


def kept_whole(found: Iterable[str], frequency: Mapping[str, float], vocabulary: Iterable[str]) -> list[str]:
    """Of the words that were found, those that can be an entry without harm to others, the commonest first.

    WordPiece takes the longest match: with "son" in the vocabulary, "song" is "son" and "##g". So a word must be
    commoner than all those of `frequency` together that would begin with it. Its own inflections are not counted.
    """
    known = set(vocabulary)
    words = sorted(frequency)
    chosen: set[str] = set()
    for word in sorted({word for word in found if word.isalpha()} - known, key=len, reverse=True):
        broken = 0.0
        for other in words[bisect_left(words, word) :]:
            if not other.startswith(word):
                break
            rest = other[len(word) :].removeprefix("'")
            longer = any(other[:end] in chosen or other[:end] in known for end in range(len(word) + 1, len(other) + 1))
            if rest and rest not in INFLECTIONS and not longer:
                broken += frequency[other]
        if frequency[word] > broken:
            chosen.add(word)
    return sorted(chosen, key=lambda word: -frequency[word])


def grown(network: CausalTransformer, words: Sequence[str]) -> CausalTransformer:
    """A text network of letters with a row of its embedding for each of `words`, to go on training from.

    A word begins as the mean of the pieces that it was read in. Nothing else changes but the ids of padding and of the
    token that asks for speech, which follow the vocabulary.
    """
    before, now = nano_spec(by_heart=()), nano_spec(by_heart=words)
    tokenizer = Tokenizer(text_vocabulary(by_heart=()), "nano's letters", before.lower_case)
    rows = network.transformer.wte.weight.detach()
    pieces = [torch.tensor(tokenizer.encode(word)) + before.text_offset for word in words]
    table = torch.cat([rows[: before.text_pad], *(rows[ids].mean(dim=0, keepdim=True) for ids in pieces)])
    table = torch.cat([table, rows[[before.text_pad, before.semantic_infer]]])
    assert len(table) == now.semantic_infer + 1
    larger = CausalTransformer(replace(network.shape, input_vocab=len(table)))
    larger.load_state_dict({**network.state_dict(), "transformer.wte.weight": table})
    return larger
