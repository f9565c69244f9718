"""What flows between the stages: `SemanticTokens`, `CoarseTokens`, `FineTokens`.

Each container checks itself once, when it is made, and never changes afterwards: its array is a read-only integer
numpy array of its own, so one object can be shared by any number of nodes and threads. Nobody checks again; the
stages only ask whether the tokens belong to their family (`require_family`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BarkInputError
from .spec import SUNO, BarkSpec, known_family, numbers_of

IntArray = npt.NDArray[np.int64]


def _own_integers(values: Any, what: str) -> IntArray:
    """A read-only int64 copy of any array-like of whole numbers (lists, numpy, torch on the CPU)."""
    try:
        array = np.asarray(values.detach().cpu().numpy() if hasattr(values, "detach") else values)
    except (ValueError, TypeError) as error:  # TypeError: a kind of tensor that numpy does not know, such as bfloat16
        raise BarkInputError(f"{what} must be an array of whole numbers ({error}).") from None
    if array.size and array.dtype.kind not in "iu":
        raise BarkInputError(
            f"{what} must be whole numbers, not {array.dtype}. Token ids are integers; convert them before."
        )
    own = np.array(array, dtype=np.int64, order="C")
    own.setflags(write=False)
    return own


def _spec_of(family: Any) -> BarkSpec | None:
    """The numbers of a family, None where it is not known here yet; refuses what is no name (BarkInputError)."""
    if not isinstance(family, str) or not family:
        raise BarkInputError(f"The model family must be a name such as {SUNO.family!r}, not {family!r}.")
    return known_family(family)


def _check_range(array: IntArray, size: int | None, what: str) -> None:
    low, high = int(array.min()), int(array.max())
    if low < 0 or (size is not None and high >= size):
        allowed = f"0 … {size - 1:,}" if size is not None else "0 and above"
        raise BarkInputError(
            f"{what} must lie in {allowed}; these run from {low:,} to {high:,}. "
            "They may come from another model family, or still carry an offset."
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    """What the three containers share: value equality, `len`, `np.asarray(tokens)`."""

    def _array(self) -> IntArray:
        raise NotImplementedError

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array inside."""
        return self._array().shape

    def __len__(self) -> int:
        return self.shape[-1]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array(), dtype=dtype) if copy or dtype else self._array()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Tokens) or type(self) is not type(other):
            return NotImplemented
        return self.family == other.family and np.array_equal(self._array(), other._array())  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.shape, self._array().tobytes()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew by pickle and copy.deepcopy, because numpy's own copies can be written to.
        return type(self), (self._array(), self.family)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True, eq=False)
class SemanticTokens(_Tokens):
    """What is said and how: `ids [T]`, 49.9 per second in Suno's family, each 0 … 9,999.

    Raises BarkInputError for anything else. `np.asarray(tokens)` gives the ids.
    """

    ids: IntArray
    family: str = SUNO.family

    def __post_init__(self) -> None:
        ids = _own_integers(self.ids, "Semantic tokens")
        if ids.ndim != 1 or ids.size == 0:
            raise BarkInputError(f"Semantic tokens must have shape [T] with T ≥ 1; these have shape {list(ids.shape)}.")
        spec = _spec_of(self.family)
        _check_range(ids, spec.semantic_vocab if spec else None, "Semantic token ids")
        object.__setattr__(self, "ids", ids)

    def _array(self) -> IntArray:
        return self.ids

    @property
    def seconds(self) -> float:
        """Length as speech, in seconds."""
        return len(self.ids) / numbers_of(self.family).semantic_rate


@dataclass(frozen=True, slots=True, eq=False)
class _CodeTokens(_Tokens):
    """What coarse and fine tokens share: `codes [K, F]` at 75 frames per second."""

    codes: IntArray
    family: str = SUNO.family

    def __post_init__(self) -> None:
        spec = _spec_of(self.family) or SUNO
        rows, what = self._rows(spec)
        codes = _own_integers(self.codes, what)
        if codes.ndim != 2 or codes.shape[0] != rows or codes.shape[1] == 0:
            raise BarkInputError(
                f"{what} must have shape [{rows}, F] with F ≥ 1 frames; these have shape {list(codes.shape)}."
            )
        _check_range(codes, spec.codebook_size, f"{what[:-1]} codes")
        object.__setattr__(self, "codes", codes)

    @staticmethod
    def _rows(spec: BarkSpec) -> tuple[int, str]:
        raise NotImplementedError

    def _array(self) -> IntArray:
        return self.codes

    @property
    def frames(self) -> int:
        """F, the number of EnCodec frames."""
        return self.codes.shape[1]

    @property
    def seconds(self) -> float:
        """Length as sound, in seconds."""
        return self.frames / numbers_of(self.family).frame_rate


@dataclass(frozen=True, slots=True, eq=False)
class CoarseTokens(_CodeTokens):
    """The rough sound: the first two EnCodec codebooks, `codes [2, F]`, 75 frames per second, each 0 … 1,023.

    Raises BarkInputError for anything else.
    """

    @staticmethod
    def _rows(spec: BarkSpec) -> tuple[int, str]:
        return spec.coarse_codebooks, "Coarse tokens"


@dataclass(frozen=True, slots=True, eq=False)
class FineTokens(_CodeTokens):
    """The whole sound: eight EnCodec codebooks, `codes [8, F]`, 75 frames per second, each 0 … 1,023.

    Raises BarkInputError for anything else.
    """

    @staticmethod
    def _rows(spec: BarkSpec) -> tuple[int, str]:
        return spec.fine_codebooks, "Fine tokens"

    @property
    def coarse(self) -> CoarseTokens:
        """The first two codebooks, which are the coarse tokens of the same sound."""
        rows = numbers_of(self.family).coarse_codebooks
        return CoarseTokens(self.codes[:rows], family=self.family)


Tokens = SemanticTokens | CoarseTokens | FineTokens

KINDS: dict[str, type[SemanticTokens | CoarseTokens | FineTokens]] = {
    "semantic": SemanticTokens,
    "coarse": CoarseTokens,
    "fine": FineTokens,
}
"""The three kinds by name, in the order in which the stages make them."""


def require_type(tokens: Any, wanted: type[_Tokens], what: str) -> None:
    """Refuse anything but the container that a stage reads (BarkInputError)."""
    if not isinstance(tokens, wanted):
        raise BarkInputError(
            f"{what} needs {wanted.__name__}, but was given {type(tokens).__name__}. "
            f"Wrap an array as {wanted.__name__}(array), or connect the stage before this one."
        )


def require_family(tokens: Tokens, spec: BarkSpec, what: str) -> None:
    """Refuse tokens that models of another family made (BarkInputError)."""
    if tokens.family != spec.family:
        raise BarkInputError(
            f"{what} were made by models of the family {tokens.family!r}, but these models are {spec.family!r}: "
            "the same number means another sound there. Use tokens and models of one family."
        )
    array = np.asarray(tokens)
    _check_range(array, spec.semantic_vocab if isinstance(tokens, SemanticTokens) else spec.codebook_size, what)


def interleave(codes: IntArray) -> IntArray:
    """Codes `[K, F]` → flat `[K·F]`, frame by frame: codebook 0, 1, 0, 1, …, as the coarse stage reads."""
    return codes.T.reshape(-1)


def deinterleave(flat: IntArray | Sequence[int], codebooks: int) -> IntArray:
    """Inverse of `interleave`: flat `[K·F]` → codes `[K, F]`."""
    return np.asarray(flat, dtype=np.int64).reshape(-1, codebooks).T
