"""What the trainer feeds a network is what inference feeds it: logits are compared, draw by draw."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from bark_engine import CoarseSampling, FineSampling, SemanticSampling, coarse, fine, semantic
from bark_engine.speaker import SpeakerPrompt
from bark_engine.spec import SUNO, BarkSpec
from bark_engine.tokens import CoarseTokens, SemanticTokens
from bark_engine.training.clips import Clip
from bark_engine.training.layouts import (
    CausalExample,
    Example,
    FineExample,
    _CoarseSource,
    _fine_windows,
    draw_coarse_example,
    draw_fine_example,
    fine_example,
    plan_coarse,
    semantic_example,
)
from bark_engine.training.networks import network_shape, new_network
from bark_engine.training.objectives import collate, head_logits, losses
from support.clips import HEADS, LAYERS, TOY, WIDTH, make_clip


def network_for(stage: str, spec: BarkSpec = TOY):
    network = new_network(stage, network_shape(stage, spec, LAYERS, HEADS, WIDTH), spec, seed=3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4.0)  # so that attention and logits are far from even, as in a trained network
        network.transformer.wpe.weight.mul_(0.5**0.5)  # half of its variance is the clock
    return network.requires_grad_(False)


def speaker_of(clip: Clip | None, spec: BarkSpec) -> SpeakerPrompt | None:
    if clip is None:
        return None
    return SpeakerPrompt(*(np.asarray(a) for a in (clip.semantic, clip.coarse, clip.fine)), family=spec.family)  # type: ignore[arg-type]


def coarse_examples(clip: Clip, history: Clip | None, spec: BarkSpec) -> list[CausalExample]:
    """All passes of a clip, which together have each of its coarse tokens as a target once."""
    source = _CoarseSource.of(clip, history, spec)
    return [source.example(one, spec) for one in source.passes]


def fine_examples(clip: Clip, history: Clip | None, spec: BarkSpec, rng: np.random.Generator) -> list[FineExample]:
    """All windows of a clip with all predicted codebooks, in the order of `generate_fine`."""
    return [
        fine_example(clip, history, spec, window, codebook, rng)
        for window in range(len(_fine_windows(clip, history, spec)))
        for codebook in range(spec.coarse_codebooks, spec.fine_codebooks)
    ]


@contextmanager
def forced(module, tokens: list[int]) -> Iterator[list[Tensor]]:
    """Make a causal stage draw these tokens; yields the logits that each was drawn from."""
    seen: list[Tensor] = []
    answers = iter(tokens)

    def keep(logits: Tensor, *_: object) -> Tensor:
        seen.append(logits.clone())
        return torch.zeros_like(logits)

    with patch.object(module, "probabilities", keep), patch.object(module, "draw", lambda *_: next(answers)):
        yield seen
    assert next(answers, None) is None, "the stage drew fewer tokens than the clip has"


def trainer_logits(stage: str, network, examples: list[Example], spec: BarkSpec) -> list[Tensor]:
    """The logits of every target of the examples, one example after another, in the order of the targets."""
    ordered = []
    for example in examples:
        batch = collate([example], spec)
        rows: dict[int, Tensor] = {}
        for head, logits in head_logits(network, batch):
            rows |= dict(zip(head.index.tolist(), logits, strict=True))
        ordered += [rows[index] for index in sorted(rows)]
    return ordered


def nll(examples: list[Example], network, spec: BarkSpec) -> float:
    """Sum of −log p over all targets of the examples, by the trainer's loss, without the weights of drawing."""
    total = 0.0
    for example in examples:
        batch = collate([example], spec)
        total += losses(network, batch).item() * len(example.targets) / example.of
    return total


def nll_of(logits: list[Tensor], tokens: list[int]) -> float:
    return -sum(row.log_softmax(-1)[token].item() for row, token in zip(logits, tokens, strict=True))


def assert_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-5
    spread = torch.stack([row[0] for row in theirs]).std()
    assert spread > 1e-3, "logits that hardly differ would prove nothing"


@pytest.mark.parametrize("past", [None, 6, 40])
@pytest.mark.parametrize("length", [1, 30, 48])
def test_semantic_logits_are_those_of_inference(past: int | None, length: int):
    rng = np.random.default_rng(length)
    clip = make_clip(TOY, length, rng)
    history = None if past is None else make_clip(TOY, past, rng)
    text_ids = TOY.text_offset + rng.integers(50, size=7)
    network = network_for("semantic")
    complete = length < TOY.max_semantic
    tokens = [*clip.semantic.tolist(), *([TOY.end_token] if complete else [])]
    with forced(semantic, tokens) as theirs:
        made = semantic.generate_semantic(
            network, text_ids, TOY, speaker=speaker_of(history, TOY), sampling=SemanticSampling(min_eos_p=None), seed=0
        )
    assert np.array_equal(made.ids, clip.semantic)
    example = semantic_example(clip, history, text_ids, TOY)
    assert example.targets.tolist() == tokens
    assert_equal(trainer_logits("semantic", network, [example], TOY), theirs)
    assert nll([example], network, TOY) == pytest.approx(nll_of(theirs, tokens), rel=1e-5)


@pytest.mark.parametrize(("length", "past"), [(20, None), (240, None), (262, None), (60, 8), (90, 130), (100, 400)])
def test_coarse_logits_are_those_of_inference(length: int, past: int | None):
    rng = np.random.default_rng(length)
    clip = make_clip(TOY, length, rng)
    history = None if past is None else make_clip(TOY, past, rng)
    network = network_for("coarse")
    offsets = TOY.semantic_vocab + TOY.codebook_size * np.arange(2)
    drawn = clip.coarse.T.reshape(-1).tolist()
    with forced(coarse, drawn) as theirs:
        made = coarse.generate_coarse(
            network,
            SemanticTokens(clip.semantic, "toy"),
            TOY,
            speaker=speaker_of(history, TOY),
            sampling=CoarseSampling(),
            seed=0,
        )
    assert np.array_equal(made.codes, clip.coarse)
    examples = coarse_examples(clip, history, TOY)
    targets = np.concatenate([example.targets for example in examples])
    assert targets.tolist() == (clip.coarse.T + offsets).reshape(-1).tolist()  # each token once, in order
    assert_equal(trainer_logits("coarse", network, examples, TOY), theirs)
    assert nll(examples, network, TOY) == pytest.approx(nll_of(theirs, drawn), rel=1e-5)


def test_coarse_windows_are_merged_only_while_nothing_moves():
    alone = plan_coarse(0, 0, 1_000, SUNO)
    assert [(one.first, one.last) for one in alone[:2]] == [(0, 660), (660, 720)]
    long_past = plan_coarse(209, 626, 200, SUNO)
    assert [one.targets for one in long_past] == [60, 60, 60, 20]
    assert [one.history for one in long_past] == [626, 630, 630, 630]


@pytest.mark.parametrize(
    ("frames", "past"),
    [(10, None), (64, None), (100, None), (30, 12), (50, 40), (62, 32), (97, 20), (150, 64)],
)
def test_fine_logits_are_those_of_inference(frames: int, past: int | None):
    rng = np.random.default_rng(frames)
    clip = _clip_of(TOY, frames, rng)
    history = None if past is None else _clip_of(TOY, past, rng)
    _compare_fine(TOY, clip, history)


def test_fine_logits_of_more_than_one_window_at_full_size():
    rng = np.random.default_rng(0)
    _compare_fine(SUNO, _clip_of(SUNO, 1_100, rng), _clip_of(SUNO, 300, rng))


def _clip_of(spec: BarkSpec, frames: int, rng: np.random.Generator) -> Clip:
    clip = make_clip(spec, round(frames / spec.frames_per_semantic), rng)
    codes = rng.integers(spec.codebook_size, size=(8, frames), dtype=np.int16)
    return Clip("clip", "", "", "train", clip.semantic, codes[:2], codes)


def _compare_fine(spec: BarkSpec, clip: Clip, history: Clip | None) -> None:
    network = network_for("fine", spec)
    examples = fine_examples(clip, history, spec, np.random.default_rng(9))
    theirs: list[Tensor] = []
    seen_codes: list[np.ndarray] = []
    remaining = list(examples)
    forward = type(network).forward

    def spy(self, codes: Tensor, codebook: int, *rest: object, **named: object) -> Tensor:
        seen_codes.append(codes[0].numpy().copy())
        return forward(self, codes, codebook, *rest, **named)  # type: ignore[arg-type]

    def answer(logits: Tensor, *_: object) -> tuple[Tensor, None]:
        """What the trainer takes for drawn: the reference, and after its end what it chose there."""
        example = remaining.pop(0)
        theirs.extend(logits[: len(example.targets)].clone())
        later = next((e for e in remaining if e.codebook > example.codebook and _same_window(e, example)), None)
        drawn = torch.zeros(logits.shape[0], dtype=torch.int64)
        if later is not None:
            drawn[:] = torch.from_numpy(later.codes[example.start :, example.codebook].copy())
        drawn[: len(example.targets)] = torch.from_numpy(example.targets)
        return drawn, None

    # The rows that are drawn after the end of the clip must agree between the six passes of a window.
    examples[:] = _with_equal_spare(examples)
    remaining[:] = examples
    with patch.object(fine, "draw_rows", answer), patch.object(type(network), "forward", spy):
        made = fine.generate_fine(
            network,
            CoarseTokens(clip.coarse, spec.family),
            spec,
            speaker=speaker_of(history, spec),
            sampling=FineSampling(),
            seed=0,
        )
    assert not remaining
    assert np.array_equal(made.codes, clip.fine)
    for example, codes in zip(examples, seen_codes, strict=True):
        used = example.codebook + 1  # rows above are irrelevant: the network does not read them in this pass
        assert np.array_equal(example.codes[:, :used], codes[:, :used])
    assert_equal(trainer_logits("fine", network, examples, spec), theirs)
    drawn = [token for example in examples for token in example.targets.tolist()]
    assert nll(examples, network, spec) == pytest.approx(nll_of(theirs, drawn), rel=1e-5)


def _same_window(one, other) -> bool:
    return one.start == other.start and np.array_equal(one.codes[:, :2], other.codes[:, :2])


def _with_equal_spare(examples):
    """The examples of a window with what the last of them holds below each codebook, after the end of the clip."""
    for place, example in enumerate(examples):
        last = [other for other in examples[place:] if _same_window(other, example)][-1]
        spare = example.start + len(example.targets)
        example.codes[spare:, : example.codebook] = last.codes[spare:, : example.codebook]
    return examples


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_padding_and_neighbours_change_nothing(stage: str):
    """The loss of examples of different lengths in one batch is the sum of their losses alone."""
    rng = np.random.default_rng(1)
    clips = [make_clip(TOY, length, rng) for length in (9, 40, 25, 31)]
    text_ids = TOY.text_offset + np.arange(5)
    examples: list[Example] = []
    for number, clip in enumerate(clips):
        history = clips[0] if number % 2 else None
        if stage == "semantic":
            examples.append(semantic_example(clip, history, text_ids, TOY))
        elif stage == "coarse":
            examples.append(draw_coarse_example(clip, history, TOY, rng))
        else:
            examples.append(draw_fine_example(clip, history, TOY, rng))
    network = network_for(stage)
    together = losses(network, collate(examples, TOY))
    alone = sum(losses(network, collate([example], TOY)) for example in examples)
    assert together.item() == pytest.approx(float(alone), rel=1e-5)
    assert collate(examples, TOY).targets == sum(len(example.targets) for example in examples)


def test_every_coarse_token_counts_alike():
    """Drawing in proportion to the targets and weighing by the inverse gives every token the same expectation."""
    clip = make_clip(SUNO, 300, np.random.default_rng(0))
    passes = coarse_examples(clip, None, SUNO)
    total = sum(len(one.targets) for one in passes)
    for one in passes:
        probability, weight = len(one.targets) / total, one.of / len(one.targets)
        assert probability * weight == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    lengths = [len(draw_coarse_example(clip, None, SUNO, rng).targets) for _ in range(400)]
    assert np.mean(np.array(lengths) == 660) == pytest.approx(660 / total, abs=0.08)
