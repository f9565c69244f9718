"""Cut and swap tokens: pure functions that make new tokens and never change those they are given.

    from bark_engine import editing
    take = editing.join([editing.trim(first, 0, 1.2), editing.trim(second, 0.4, 0)])

They work on all three kinds and give the kind and family that they were given. Times are seconds. All kinds are cut
where a semantic token begins: at token i = round(seconds · 49.9), and coarse and fine tokens at frame
`spec.frames_for(i)`, so that the kinds of one take, cut at one time, stay together. A range goes from `start` to `end`;
an `end` of 0 means the end of the tokens, and so does every time from the end of the last whole frame on. A time past
the end is refused, unless it is by less than one semantic token: the kinds of one take differ by that much.
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from .errors import BarkInputError
from .speaker import SpeakerPrompt, require_speaker, same_stretch
from .spec import numbers_of
from .tokens import CoarseTokens, FineTokens, SemanticTokens, Tokens, require_type

T = TypeVar("T", bound=Tokens)
C = TypeVar("C", bound=CoarseTokens | FineTokens)

LengthRule = Literal["refuse", "shorter", "keep"]
LENGTH_RULES: tuple[str, ...] = get_args(LengthRule)

_NAMES = {SemanticTokens: "semantic tokens", CoarseTokens: "coarse tokens", FineTokens: "fine tokens"}


def trim(tokens: T, start: float, end: float = 0.0) -> T:
    """What lies between two times. Raises BarkInputError for a range with nothing in it or past the end."""
    first, last = _range(tokens, start, end)
    _require_something(first, last, start, end)
    return _made(tokens, np.asarray(tokens)[..., first:last])


def join(parts: Iterable[T]) -> T:
    """Several pieces one after the other. Raises BarkInputError for none, for two kinds or for two families."""
    pieces = list(parts)
    if not pieces:
        raise BarkInputError("There is nothing to join. Give at least one piece.")
    for piece in pieces:
        _require_like(piece, pieces[0])
    return _made(pieces[0], np.concatenate([np.asarray(piece) for piece in pieces], axis=-1))


def replace_range(tokens: T, start: float, end: float, insert: T | None) -> T:
    """Other tokens of any length in place of a range; None takes the range out.

    A range of no length (`start` = `end`) takes nothing out: the others go in between; 0 and 0 are the whole. Raises
    BarkInputError for a range past the end, for tokens of another kind or family, and where nothing would be left.
    """
    first, last = _range(tokens, start, end)
    array = np.asarray(tokens)
    pieces = [array[..., :first], array[..., last:]]
    if insert is not None:
        _require_like(insert, tokens)
        pieces.insert(1, np.asarray(insert))
    elif last - first == len(tokens):
        raise BarkInputError(
            f"Taking out {_span(start, end)} would leave nothing of {_described(tokens)}. "
            "Choose a part of them, or give tokens to put in."
        )
    else:
        _require_something(first, last, start, end)
    return _made(tokens, np.concatenate(pieces, axis=-1))


def repeat_range(tokens: T, start: float, end: float, times: int) -> T:
    """The same tokens with a range heard `times` times in a row; 1 changes nothing.

    Raises BarkInputError for a range with nothing in it or past the end, and for less than once.
    """
    first, last = _range(tokens, start, end)
    _require_something(first, last, start, end)
    if isinstance(times, bool) or not isinstance(times, Integral) or times < 1:
        raise BarkInputError(f"A range is repeated a whole number of times, 1 or more; {times!r} was given.")
    array = np.asarray(tokens)
    return _made(tokens, np.concatenate([array[..., :first], *[array[..., first:last]] * times, array[..., last:]], -1))


def swap_codebooks(
    tokens: C, source: CoarseTokens | FineTokens, rows: Iterable[int], length: LengthRule = "refuse"
) -> C:
    """Coarse or fine tokens with some codebooks (counted from 0) taken from others; frame meets frame from the start.

    length, for two sounds that are not equally long: "refuse"; "shorter" ends both with the shorter one; "keep" is as
    long as `tokens`, and where the source has ended, `tokens` keep their own codes. Raises BarkInputError for
    codebooks that one of the two does not have, another family, or an unknown rule.
    """
    for one in (tokens, source):
        if not isinstance(one, CoarseTokens | FineTokens):
            raise BarkInputError(
                f"Codebooks are swapped between coarse or fine tokens; {_described(one)} were given, which have none."
            )
    _require_family(source, tokens)
    wanted = _checked_rows(rows, min(tokens.shape[0], source.shape[0]))
    if length not in LENGTH_RULES:
        raise BarkInputError(f"The length rule must be one of {', '.join(LENGTH_RULES)}, not {length!r}.")
    shorter = min(tokens.frames, source.frames)
    if length == "refuse" and tokens.frames != source.frames:
        raise BarkInputError(
            f"The two sounds have {tokens.frames:,} and {source.frames:,} frames. Trim them to one length, or choose "
            'the length rule "shorter" (cuts both) or "keep" (keeps the length of the first).'
        )
    codes = np.array(tokens.codes[:, :shorter] if length == "shorter" else tokens.codes)
    codes[wanted, :shorter] = source.codes[wanted, :shorter]
    return _made(tokens, codes)


def coarse_from_fine(fine: FineTokens) -> CoarseTokens:
    """The first two codebooks of fine tokens, to be made fine anew. Raises BarkInputError for another kind."""
    require_type(fine, FineTokens, "Coarse from Fine")
    return fine.coarse


def mix_speaker_prompts(words: SpeakerPrompt, sound: SpeakerPrompt) -> SpeakerPrompt:
    """A voice with the semantic tokens of `words` and the coarse and fine tokens of `sound`.

    Semantic tokens carry how a voice speaks, the others how it sounds. Both are cut to the length of the shorter, at
    the start: the stages read the end. Raises BarkInputError for voices of two families.
    """
    for speaker in (words, sound):
        _require_voice(speaker)
    if words.family != sound.family:
        raise BarkInputError(_two_families(words.family, sound.family, "Mix voices of one set of models."))
    return _ending_together(words.semantic, sound.coarse, sound.fine, f"{words.name} with the sound of {sound.name}")


def crop_speaker_prompt(speaker: SpeakerPrompt, start: float, end: float = 0.0) -> SpeakerPrompt:
    """The part of a voice between two times, all three kinds in the ratio that a voice must have.

    Where the ratio asks for it, a token is left out at the start. Raises BarkInputError for a range past the end or
    shorter than two semantic tokens.
    """
    _require_voice(speaker)
    _range(speaker.coarse, start, end)

    def part(tokens: T) -> T:
        # Voices from elsewhere are not cut to the frame: one kind may end before the others.
        return trim(tokens, min(start, tokens.seconds), min(end, tokens.seconds))

    return _ending_together(part(speaker.semantic), part(speaker.coarse), part(speaker.fine), speaker.name)


def _ending_together(semantic: SemanticTokens, coarse: CoarseTokens, fine: FineTokens, name: str) -> SpeakerPrompt:
    """A voice of the ends of three kinds, as long as all three go and the ratio of a voice allows."""
    spec, room = numbers_of(semantic.family), min(coarse.frames, fine.frames)
    for count in range(len(semantic), 1, -1):
        frames = spec.frames_for(count)
        if 0 < frames <= room and same_stretch(count, frames, spec):
            codes = (_made(coarse, coarse.codes[:, -frames:]), _made(fine, fine.codes[:, -frames:]))
            return SpeakerPrompt(_made(semantic, semantic.ids[-count:]), *codes, name=name)
    raise BarkInputError(
        f"{len(semantic)} semantic tokens and {room} frames are too short for a voice, which needs at least two "
        f"semantic tokens and {spec.frames_for(2)} frames. Choose a longer part; 5 to 10 s make a good voice."
    )


def _range(tokens: Tokens, start: float, end: float) -> tuple[int, int]:
    """The tokens or frames from `start` up to `end`, maybe none. Raises BarkInputError for what is no range."""
    _require_tokens(tokens)
    for name, seconds in (("start", start), ("end", end)):
        number = isinstance(seconds, Real) and not isinstance(seconds, bool)
        if not number or not math.isfinite(seconds) or seconds < 0:
            raise BarkInputError(f"The {name} of a range is a number of seconds, 0 or more; {seconds!r} was given.")
    if 0 < end < start:
        raise BarkInputError(
            f"The range starts at {start:g} s and ends before that, at {end:g} s. "
            "Choose an end after the start, or 0 for the end of the tokens."
        )
    return _cut(tokens, start), _cut(tokens, end) if end else len(tokens)


def _cut(tokens: Tokens, seconds: float) -> int:
    """The token or frame at which a time cuts."""
    spec, semantic = numbers_of(tokens.family), isinstance(tokens, SemanticTokens)
    if (seconds - tokens.seconds) * spec.semantic_rate >= 1:
        raise BarkInputError(
            f"{seconds:g} s lies past the end of {_described(tokens)}. "
            "Choose a time within them, or 0 as the end for all the rest."
        )
    frames = spec.frames_for(len(tokens)) if semantic else len(tokens)
    if seconds >= frames / spec.frame_rate:
        return len(tokens)  # for semantic tokens, too: their frames end up to one frame before they do
    index = round(seconds * spec.semantic_rate)
    return min(index if semantic else spec.frames_for(index), len(tokens))


def _require_something(first: int, last: int, start: float, end: float) -> None:
    if first >= last:
        raise BarkInputError(
            f"There is no token from {_span(start, end)}: the end must come after the start, and a semantic token "
            "lasts about 0.02 s. Choose a longer range, or 0 as the end for all the rest."
        )


def _require_tokens(tokens: Any) -> None:
    if not isinstance(tokens, Tokens):
        raise BarkInputError(
            f"Only semantic, coarse and fine tokens can be cut and joined; {type(tokens).__name__} was given. "
            "Wrap an array, for example as SemanticTokens(array)."
        )


def _require_like(tokens: Tokens, other: Tokens) -> None:
    """Refuse tokens of another kind or family."""
    _require_tokens(other)
    _require_tokens(tokens)
    if type(tokens) is not type(other):
        raise BarkInputError(
            f"Tokens of one kind can be put together; these are {_NAMES[type(other)]} and {_NAMES[type(tokens)]}. "
            "Bring all pieces to the same stage first."
        )
    _require_family(tokens, other)


def _require_family(tokens: Tokens, other: Tokens) -> None:
    if tokens.family != other.family:
        raise BarkInputError(_two_families(other.family, tokens.family, "Take all tokens from one set of models."))


def _require_voice(speaker: Any) -> None:
    require_speaker(speaker)
    if speaker is None:
        raise BarkInputError("There is no speaker prompt to cut or mix. Give a SpeakerPrompt.")


def _two_families(one: str, other: str, advice: str) -> str:
    return (
        f"The model families {one!r} and {other!r} cannot be put together: the same number means another sound in "
        f"each. {advice}"
    )


def _checked_rows(rows: Iterable[int], count: int) -> list[int]:
    """The codebooks as a list; refuses none at all, and those that are not there (BarkInputError)."""
    wanted: list[int] = []
    for row in rows:
        if isinstance(row, bool) or not isinstance(row, Integral) or not 0 <= row < count:
            raise BarkInputError(f"Both sounds have the codebooks 0 … {count - 1}; {row!r} is not among them.")
        wanted.append(int(row))
    if not wanted:
        raise BarkInputError(f"No codebook was chosen. Choose some of those that both sounds have, 0 … {count - 1}.")
    return wanted


def _made(like: T, array: np.ndarray) -> T:
    """New tokens of the same kind and family."""
    return type(like)(array, family=like.family)


def _described(tokens: Any) -> str:
    """ "these fine tokens (2.35 s)", for sentences."""
    _require_tokens(tokens)
    return f"these {_NAMES[type(tokens)]} ({tokens.seconds:.2f} s)"


def _span(start: float, end: float) -> str:
    return f"{start:g} s to {f'{end:g} s' if end else 'the end'}"
