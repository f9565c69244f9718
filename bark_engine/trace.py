"""What a stage knew about each token it chose: `Trace`, and the `TraceRecorder` that a stage fills while it runs.

recorder = TraceRecorder()
semantic = bark.text_to_semantic("Hello.", trace=recorder)
recorder.result().end_probability

The numbers are those of the distribution that was sampled, after filters and temperature. A recorder only looks on:
tokens are the same with and without one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .errors import BarkError, BarkInputError
from .sampling import SemanticSampling, most_semantic
from .spec import BarkSpec
from .tokens import KINDS, SemanticTokens

FloatArray = npt.NDArray[np.float32]

END_DRAWN, MIN_EOS_P, MAX_SECONDS, FULL = "end drawn", "min_eos_p", "max_seconds", "full"
"""The rules that can end a speech, as keys of `Trace.stops`."""

_TINY = np.float32(np.finfo(np.float32).tiny)  # stands in for 0 inside the logarithm: 0 · log(tiny) = 0
_ROWS_AT_ONCE = 256  # of a fine window: their entropies are computed in pieces that stay in the processor's cache


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What a stage knew about each token it chose; read-only float32 arrays, shared as freely as tokens.

    kind: "semantic", "coarse" or "fine". probability: that of the chosen id. entropy: of its distribution, in nats.
    Both have the shape of the tokens: semantic `[T]`, coarse `[2, F]`, fine `[8, F]`, NaN in the two rows that were
    given. end_probability: of the semantic end token at each step, `[T]`, or `[T + 1]` where a last step ended the
    speech without a token; None for the other kinds. Without early_stop it is what early_stop would have seen.
    stops: rule → how many tokens the speech would have, had that rule alone stopped it; only rules that were set and
    whose step is known: "end drawn", "min_eos_p", "max_seconds", "full". tail: what Trim Tail found, a mapping with
    "step", "seconds", "reason" and "cut" (`Tail` in tail.py), or None where it was not asked.

    Raises BarkInputError for another kind and for shapes that do not belong together.
    """

    kind: str
    family: str
    probability: FloatArray
    entropy: FloatArray
    end_probability: FloatArray | None = None
    stops: Mapping[str, int] = field(default_factory=dict)
    tail: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BarkInputError(f"The kind of a trace is one of {', '.join(KINDS)}; {self.kind!r} was given.")
        probability, entropy = _own_floats(self.probability), _own_floats(self.entropy)
        if probability.ndim != (1 if self.kind == "semantic" else 2) or probability.shape != entropy.shape:
            raise BarkInputError(
                f"A {self.kind} trace has a probability and an entropy for each token, in the tokens' shape; their "
                f"shapes are {list(probability.shape)} and {list(entropy.shape)}."
            )
        object.__setattr__(self, "probability", probability)
        object.__setattr__(self, "entropy", entropy)
        if self.end_probability is not None:
            object.__setattr__(self, "end_probability", self._checked_end(_own_floats(self.end_probability)))
        object.__setattr__(self, "stops", dict(self.stops))

    def _checked_end(self, end: FloatArray) -> FloatArray:
        steps = self.probability.shape[-1]
        if self.kind != "semantic" or end.shape not in ((steps,), (steps + 1,)):
            raise BarkInputError(
                f"Only a semantic trace has end probabilities, one for each step: {steps} or {steps + 1} for "
                f"{steps} tokens. This {self.kind} trace has {list(end.shape)}."
            )
        return end

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew by pickle and copy.deepcopy, because numpy's own copies can be written to.
        values = (self.kind, self.family, self.probability, self.entropy, self.end_probability, self.stops, self.tail)
        return type(self), values

    @classmethod
    def of_nothing(cls, tokens: SemanticTokens) -> "Trace":
        """A trace of tokens about which nothing is known: all NaN. It can carry a tail."""
        unknown = np.full(tokens.shape, np.nan, dtype=np.float32)
        return cls("semantic", tokens.family, unknown, unknown)

    def with_tail(self, tail: Mapping[str, Any]) -> "Trace":
        """The same trace with what Trim Tail found."""
        return replace(self, tail=dict(tail))


class TraceRecorder:
    """Looks on while a stage runs; pass it as `trace` to one of the three stage methods of `Bark`.

    A stage that starts, also for the second time because memory ran out, forgets what was recorded before. `kind` is
    the stage's, None before one ran. `ids` are the tokens so far, without the models' offsets, flattened step by step:
    `rows` to a step (semantic 1, coarse 2, fine 1, which is codebook 0 of the frames that are finished). `total` is
    how many ids there will be; for semantic tokens, the most there can be.
    """

    def __init__(self) -> None:
        self._start(None, "", rows=1, total=0)

    def _start(self, kind: str | None, family: str, rows: int, total: int) -> None:
        self.kind, self._family = kind, family
        self.ids: list[int] = []
        self.rows, self.total = rows, total
        self._probability: list[float] = []
        self._entropy: list[float] = []
        self._end: list[float] = []
        self._drawn_at: int | None = None
        self._rules: tuple[BarkSpec, SemanticSampling] | None = None
        self._filled = np.zeros((2, 0, 0), dtype=np.float32)

    def result(self) -> Trace:
        """What was recorded so far. Raises BarkError where no stage has run."""
        if self.kind is None:
            raise BarkError("Nothing was recorded. Pass the recorder to a stage, as trace=recorder, and run it first.")
        if self.kind == "fine":
            return Trace(self.kind, self._family, self._filled[0], self._filled[1])
        whole = len(self._probability) // self.rows * self.rows
        probability, entropies = (np.array(part[:whole], np.float32) for part in (self._probability, self._entropy))
        if self.kind == "coarse":
            by_codebook = probability.reshape(-1, self.rows).T, entropies.reshape(-1, self.rows).T
            return Trace(self.kind, self._family, *by_codebook)
        end = np.array(self._end, dtype=np.float32)
        return Trace(self.kind, self._family, probability, entropies, end, self._stops(end))

    # -- for the stages --------------------------------------------------------------------------------------------

    def start_semantic(self, spec: BarkSpec, sampling: SemanticSampling) -> None:
        """A text stage begins."""
        self._start("semantic", spec.family, rows=1, total=most_semantic(spec, sampling.max_seconds))
        self._rules = spec, sampling

    def start_coarse(self, spec: BarkSpec, total: int) -> None:
        """A coarse stage begins, which will make so many flattened tokens."""
        self._start("coarse", spec.family, rows=spec.coarse_codebooks, total=total)

    def start_fine(self, spec: BarkSpec, frames: int) -> None:
        """A fine stage begins."""
        self._start("fine", spec.family, rows=1, total=frames)
        self._filled = np.full((2, spec.fine_codebooks, frames), np.nan, dtype=np.float32)

    def take(self, chosen: int, distribution: Tensor) -> None:
        """The next token, an index into the distribution `[V]` that it was drawn from."""
        values = distribution.numpy()
        self.ids.append(chosen)
        self._probability.append(float(values[chosen]))
        self._entropy.append(float(entropy(values)))

    def see_end(self, probability: float, drawn: bool) -> None:
        """How likely the end token was at this step, and whether it was drawn."""
        if drawn:
            self._drawn_at = len(self._end)
        self._end.append(probability)

    def fill(self, codebook: int, first: int, chosen: Tensor, distributions: Tensor) -> None:
        """Codes of a codebook, `[F]` from frame `first` on, and their distributions `[F, V]`; later calls overwrite."""
        values, frames = distributions.numpy(), slice(first, first + len(chosen))
        self._filled[0, codebook, frames] = np.take_along_axis(values, chosen.numpy()[:, None], axis=1)[:, 0]
        for start in range(0, len(values), _ROWS_AT_ONCE):
            part = entropy(values[start : start + _ROWS_AT_ONCE])
            self._filled[1, codebook, first + start : first + start + len(part)] = part

    def finish(self, codes: npt.NDArray[np.int64]) -> None:
        """Codebook 0 of all frames that are finished, `[F]`."""
        self.ids += codes[len(self.ids) :].tolist()

    def _stops(self, end: FloatArray) -> dict[str, int]:
        """Each rule that was set, and how many tokens it would have left; see `Trace`."""
        assert self._rules is not None
        spec, sampling = self._rules
        stops = {FULL: spec.max_semantic}
        if self._drawn_at is not None:
            stops[END_DRAWN] = self._drawn_at
        if sampling.min_eos_p is not None and (likely := end >= sampling.min_eos_p).any():  # in float32, as the stage
            stops[MIN_EOS_P] = int(likely.argmax())
        most = most_semantic(spec, sampling.max_seconds)
        if most < spec.max_semantic:
            stops[MAX_SECONDS] = most
        return stops


def entropy(distribution: FloatArray) -> FloatArray:
    """Distributions `[…, V]` → their entropies `[…]` in nats."""
    return -np.einsum("...v,...v->...", distribution, np.log(np.maximum(distribution, _TINY)))


def _own_floats(values: Any) -> FloatArray:
    """A read-only float32 copy."""
    own = np.array(values, dtype=np.float32, order="C")
    own.setflags(write=False)
    return own
