"""How a take was made: `About`, the part of what is kept that is for people, and for making it again.

It is plain JSON in every file, and is never trusted: what comes from a file is checked like what comes from a caller.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BarkFileError, BarkInputError
from ..sampling import MAX_SEED, plain
from ..text import HALF_CHARACTER
from ..tokens import KINDS
from ..version import VERSION

STAGES = tuple(KINDS)  # each makes the kind of tokens that it is named after
MAX_TEXT_CHARACTERS = 100_000
MAX_NAME_CHARACTERS = 1_000
MAX_KNOBS = 100  # of one stage
MAX_JSON_CHARACTERS = 4 * 2**20

Knob = float | int | bool | None


@dataclass(frozen=True, slots=True)
class About:
    """What is known of how tokens were made; all of it may be missing.

    text: what was said. speaker: the name of the voice. models: the name of the set of models. seed: stage → seed.
    sampling: stage → knob → value. The stages are "semantic", "coarse" and "fine". version: of the engine. Numbers of
    numpy become Python's own.

    Raises BarkInputError for anything that is not of that kind.
    """

    text: str = ""
    speaker: str = ""
    models: str = ""
    seed: Mapping[str, int] = field(default_factory=dict)
    sampling: Mapping[str, Mapping[str, Knob]] = field(default_factory=dict)
    version: str = VERSION

    def __post_init__(self) -> None:
        _check_text("text", self.text, MAX_TEXT_CHARACTERS)
        for name in ("speaker", "models", "version"):
            _check_text(name, getattr(self, name), MAX_NAME_CHARACTERS)
        object.__setattr__(self, "seed", _seeds(self.seed))
        object.__setattr__(self, "sampling", _samplings(self.sampling))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what is not known is left out."""
        values = {name: getattr(self, name) for name in FIELDS}
        return {name: value for name, value in values.items() if value}

    @classmethod
    def from_json(cls, values: Any, source: str) -> "About":
        """From JSON values; unknown names are passed over. Raises BarkFileError that calls the file `source`."""
        if not isinstance(values, dict):
            raise BarkFileError(f"{source}: what it says about its tokens is no JSON object. Take a fresh copy.")
        known: dict[str, Any] = {name: values[name] for name in FIELDS if name in values}
        try:
            return cls(**{"version": "", **known})
        except BarkInputError as error:
            raise BarkFileError(f"{source}: {error} The file is damaged or was made by another program.") from None


FIELDS = ("text", "speaker", "models", "seed", "sampling", "version")


def parse_json(text: str, source: str) -> Any:
    """The JSON values in a text that may be hostile. Raises BarkFileError that calls the file `source`."""
    if len(text) > MAX_JSON_CHARACTERS:
        raise BarkFileError(f"{source} describes its tokens in {len(text):,} characters, which no honest file needs.")
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BarkFileError(
            f"{source} does not describe its tokens in valid JSON ({error}). Take a fresh copy."
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_text(name: str, value: Any, longest: int) -> None:
    if not isinstance(value, str) or len(value) > longest:
        given = f"{len(value):,} characters" if isinstance(value, str) else type(value).__name__
        raise BarkInputError(f"About a take, {name} must be a text of at most {longest:,} characters, not {given}.")
    if HALF_CHARACTER.search(value):
        raise BarkInputError(f"About a take, {name} holds half of a character (a lone surrogate). Type it again.")


def _by_stage(name: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping) or not set(values) <= set(STAGES):
        raise BarkInputError(f"About a take, {name} must map some of the stages {', '.join(STAGES)} to values.")
    return {stage: values[stage] for stage in STAGES if stage in values}


def _seeds(values: Any) -> dict[str, int]:
    seeds = {stage: plain(seed) for stage, seed in _by_stage("seed", values).items()}
    for seed in seeds.values():
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
            raise BarkInputError(f"About a take, each seed must be a whole number of 0 … 2⁶⁴ − 1, not {seed!r:.40}.")
    return seeds


def _samplings(values: Any) -> dict[str, dict[str, Knob]]:
    samplings = _by_stage("sampling", values)
    for stage, knobs in samplings.items():
        if not isinstance(knobs, Mapping) or len(knobs) > MAX_KNOBS:
            raise BarkInputError(
                f"About a take, the sampling of a stage must be at most {MAX_KNOBS} knobs with values."
            )
        own = {knob: plain(value) for knob, value in knobs.items()}
        for knob, value in own.items():
            _check_text("the name of a knob", knob, MAX_NAME_CHARACTERS)
            # Compared, because math.isfinite cannot be asked about a whole number beyond all floats.
            if not (value is None or (isinstance(value, (int, float)) and abs(value) <= sys.float_info.max)):
                raise BarkInputError(f"About a take, the knob {knob!r:.40} must be a finite number, not {value!r:.40}.")
        samplings[stage] = own
    return samplings
