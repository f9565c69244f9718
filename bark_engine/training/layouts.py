"""A clip → exactly what inference feeds the network, and the tokens that it should answer.

Pure functions on numpy arrays; each follows its stage (semantic.py, coarse.py, fine.py) and calls that stage's own
functions where it can, so that a change there is a change here. Shape letters as in transformer.py: T positions,
N targets, K codebooks, F frames.

A causal example is one uncached pass over `ids`; the hidden state at position `start + i` answers `targets[i]`. A fine
example is one window and one predicted codebook; the hidden state of frame `start + i` answers `targets[i]`.
"""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ..coarse import trim_history
from ..fine import plan_windows
from ..sampling import CoarseSampling
from ..semantic import pad_ids
from ..speaker import SpeakerPrompt
from ..spec import BarkSpec
from ..tokens import interleave
from .clips import Clip

IntArray = npt.NDArray[np.int64]

DEFAULTS = CoarseSampling()  # history and window of the coarse stage; training follows the defaults of inference


@dataclass(frozen=True, slots=True, eq=False)
class CausalExample:
    """One pass of the text or the coarse network.

    ids `[T]` are the input. history `[text_length]`, of the text stage only, is embedded and added to the first
    positions. targets `[N]` are model ids; the one at `start` belongs to `first_codebook` in the coarse stage, and the
    codebooks alternate from there. `of` is the number of targets that the whole clip has.
    """

    ids: IntArray
    history: IntArray | None
    start: int
    targets: IntArray
    of: int
    first_codebook: int = 0

    @property
    def length(self) -> int:
        """T, the number of positions."""
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class FineExample:
    """One window of the fine network: codes `[F, K]`, the codebook to predict, targets `[N]` from frame `start` on."""

    codes: IntArray
    codebook: int
    start: int
    targets: IntArray
    of: int

    @property
    def length(self) -> int:
        """F, the number of frames in the window."""
        return len(self.codes)


Example = CausalExample | FineExample


def semantic_example(clip: Clip, history: Clip | None, text_ids: IntArray, spec: BarkSpec) -> CausalExample:
    """The prompt of `semantic.prefill`, then the clip's tokens; the end token is the last target.

    A clip of `max_semantic` tokens has no end: inference stops there by itself. `text_ids` are model ids (text.py).
    """
    past = history.semantic[-spec.semantic_history :] if history else clip.semantic[:0]
    tokens = clip.semantic.astype(np.int64)
    complete = len(tokens) < spec.max_semantic
    targets = np.append(tokens, spec.end_token) if complete else tokens
    text = pad_ids(text_ids, spec.text_length, spec.text_pad)
    ids = np.concatenate([text, [spec.semantic_infer], targets[:-1]])
    history_ids = pad_ids(past.astype(np.int64), spec.semantic_history, spec.end_token)
    return CausalExample(ids, history_ids, spec.text_length, targets, of=len(targets))


@dataclass(frozen=True, slots=True)
class CoarsePass:
    """New coarse tokens `first` … `last` − 1 of a clip, made from one slice of the semantic ids.

    The slice starts at `slice_start` of history + clip. `history` flattened tokens before `first` are read: of the
    speaker prompt, of the clip, or both.
    """

    slice_start: int
    history: int
    first: int
    last: int

    @property
    def targets(self) -> int:
        """How many tokens are answered."""
        return self.last - self.first


def plan_coarse(
    semantic_history: int,
    coarse_history: int,
    total: int,
    spec: BarkSpec,
    max_history: int = DEFAULTS.max_history,
    window: int = DEFAULTS.window,
) -> list[CoarsePass]:
    """The windows of `generate_coarse`, those merged that are one causal pass.

    `semantic_history` ids and `coarse_history` flattened tokens come from the speaker prompt (`trim_history`), `total`
    flattened tokens are new. Consecutive windows are one pass while the slice of semantic ids stays where it is and
    nothing of the flattened past is cut off: then each only appends to what the one before it has read.
    """
    ratio = spec.coarse_per_semantic
    past_semantic = math.floor(max_history / ratio)
    passes: list[CoarsePass] = []
    for start in range(0, total, window):
        now = semantic_history + round(start / ratio)
        slice_start = max(0, now - past_semantic)
        end = min(start + window, total)
        before = coarse_history + start
        if passes and passes[-1].slice_start == slice_start and before <= max_history:
            merged = passes.pop()
            passes.append(CoarsePass(slice_start, merged.history, merged.first, end))
        else:
            passes.append(CoarsePass(slice_start, min(before, max_history), start, end))
    return passes


def draw_coarse_example(clip: Clip, history: Clip | None, spec: BarkSpec, rng: np.random.Generator) -> CausalExample:
    """One pass of a clip, drawn with a probability proportional to its number of targets."""
    source = _CoarseSource.of(clip, history, spec)
    return source.example(source.passes[_draw([one.targets for one in source.passes], rng)], spec)


@dataclass(frozen=True, slots=True, eq=False)
class _CoarseSource:
    """A clip and its history as the coarse stage counts them: one line of semantic ids, one of flattened tokens."""

    semantic: IntArray
    flat: IntArray
    coarse_history: int
    passes: list[CoarsePass]

    @classmethod
    def of(cls, clip: Clip, history: Clip | None, spec: BarkSpec) -> "_CoarseSource":
        past_semantic = math.floor(DEFAULTS.max_history / spec.coarse_per_semantic)
        # A clip has the two arrays of a speaker prompt that are read here, under the same names.
        semantic_past, flat_past = trim_history(cast("SpeakerPrompt | None", history), spec, past_semantic)
        frames = min(clip.coarse.shape[1], spec.frames_for(len(clip.semantic)))
        offsets = spec.semantic_vocab + spec.codebook_size * np.arange(spec.coarse_codebooks)[:, None]
        flat = interleave(clip.coarse[:, :frames] + offsets)
        return cls(
            np.concatenate([np.array(semantic_past, dtype=np.int64), clip.semantic.astype(np.int64)]),
            np.concatenate([np.array(flat_past, dtype=np.int64), flat]),
            len(flat_past),
            plan_coarse(len(semantic_past), len(flat_past), len(flat), spec),
        )

    def example(self, one: CoarsePass, spec: BarkSpec) -> CausalExample:
        ahead = self.semantic[one.slice_start :][: spec.coarse_semantic_window]
        new = self.coarse_history + one.first
        targets = self.flat[new : new + one.targets]
        ids = np.concatenate(
            [
                pad_ids(ahead, spec.coarse_semantic_window, spec.coarse_semantic_pad),
                [spec.coarse_infer],
                self.flat[new - one.history : new],
                targets[:-1],
            ]
        )
        start = spec.coarse_semantic_window + one.history
        of = len(self.flat) - self.coarse_history
        return CausalExample(ids, None, start, targets, of, first_codebook=one.first % spec.coarse_codebooks)


def draw_fine_example(clip: Clip, history: Clip | None, spec: BarkSpec, rng: np.random.Generator) -> FineExample:
    """One window of a clip, drawn with a probability proportional to its number of targets, and any codebook of it."""
    start = 0 if history is None else min(history.fine.shape[1], spec.fine_hop)
    end = start + clip.fine.shape[1]
    windows = _fine_windows(clip, history, spec)
    sizes = [min(at + spec.fine_window, end) - (at + first_new) for at, first_new in windows]
    codebook = int(rng.integers(spec.coarse_codebooks, spec.fine_codebooks))
    return fine_example(clip, history, spec, _draw(sizes, rng), codebook, rng)


def fine_example(
    clip: Clip, history: Clip | None, spec: BarkSpec, window: int, codebook: int, rng: np.random.Generator
) -> FineExample:
    """Window number `window` of a clip, as it is when `codebook` is about to be predicted.

    What is known at that moment: the history; both coarse codebooks; of this window's frames the codebooks below
    `codebook`; of frames that the window before has predicted, all codebooks, as that window's guess. All the rest is
    `fine_pad`. Frames that are predicted again count again: inference takes the later answer.

    Frames after the end of the clip never count. Inference fills their codebooks with whatever it samples there, for
    which no reference exists; they are drawn evenly from all codes, so that the network learns not to read them.
    """
    past = history.fine[:, -spec.fine_hop :] if history else clip.fine[:, :0]
    before, frames = past.shape[1], clip.fine.shape[1]
    windows = _fine_windows(clip, history, spec)
    start, first_new = windows[window]
    length = max(before + frames, spec.fine_window)
    codes = np.full((spec.fine_codebooks, length), spec.fine_pad, dtype=np.int64)
    codes[:, :before] = past
    codes[: spec.coarse_codebooks, before : before + frames] = clip.fine[: spec.coarse_codebooks]
    # Filled up to here, in all codebooks by the windows before and in the lower ones by this window.
    guessed = windows[window - 1][0] + spec.fine_window if window else before
    for row in range(spec.coarse_codebooks, spec.fine_codebooks):
        filled = start + spec.fine_window if row < codebook else guessed
        reference = clip.fine[row, : max(0, filled - before)]
        codes[row, before : before + len(reference)] = reference
        spare = filled - (before + frames)
        if spare > 0:
            codes[row, before + frames : filled] = rng.integers(spec.codebook_size, size=spare)
    end = min(start + spec.fine_window, before + frames)
    targets = clip.fine[codebook, start + first_new - before : end - before].astype(np.int64)
    of = sum(min(at + spec.fine_window, before + frames) - (at + first) for at, first in windows)
    return FineExample(codes[:, start : start + spec.fine_window].T, codebook, first_new, targets, of)


def _fine_windows(clip: Clip, history: Clip | None, spec: BarkSpec) -> list[tuple[int, int]]:
    before = min(history.fine.shape[1], spec.fine_hop) if history else 0
    return plan_windows(before, clip.fine.shape[1], spec)


def _draw(sizes: list[int], rng: np.random.Generator) -> int:
    """A place in `sizes`, drawn in proportion to what stands there."""
    point = int(rng.integers(sum(sizes)))
    return int(np.searchsorted(np.cumsum(sizes), point, side="right"))
