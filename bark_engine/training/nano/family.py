"""nano's numbers and its text vocabulary."""

import string
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ...spec import BarkSpec
from ...text import SPECIAL_TOKENS
from .listed import listed
from .phones import PARTS, PHONES

# Pairs of letters that mostly stand for one sound; they shorten the text and spare the network a step of thought.
_PAIRS = listed("th sh ch ph ck wh qu ee ea oo ou ow ai ay oi ar er or ng ss ll")
_PRINTED = "’‘“”–—…"  # what people paste
_ENDINGS = listed("##ing ##ed ##tion ##ly ##es ##ment ##ness")
# Very common words whose letters seldom begin a word that sounds otherwise: WordPiece takes the longest match.
_WORDS = listed(
    "the and that you with this was for have from your they will just like about what when were which would "
    "people some other than good only after first into know make think could because said most much very where "
    "should here really right work going before never through something every there their been"
)

# One word a line, the commonest first: common words that sound otherwise than they are spelled (by_heart.py).
BY_HEART = Path(__file__).with_name("by_heart.txt")


@cache
def words_by_heart() -> tuple[str, ...]:
    """The words of BY_HEART."""
    return tuple(BY_HEART.read_text(encoding="utf-8").split())


def text_vocabulary(by_heart: Sequence[str] | None = None) -> list[str]:
    """The entries of nano's `vocab.txt`: letters, digits and signs, pairs of letters, endings, words.

    `by_heart` are the words that are not read by letters; without them, those of BY_HEART.
    """
    characters = [*string.ascii_lowercase, *string.digits]
    entries = [*SPECIAL_TOKENS, *string.punctuation, *_PRINTED, *characters, *_PAIRS]
    entries += [*(f"##{piece}" for piece in [*characters, *_PAIRS]), *_ENDINGS, *_WORDS]
    return [*entries, *(words_by_heart() if by_heart is None else by_heart)]


def nano_spec(by_heart: Sequence[str] | None = None) -> BarkSpec:
    """Suno's rates and windows; text and semantic ids of its own. `by_heart` as for `text_vocabulary`."""
    semantic_vocab = PARTS * len(PHONES)
    text_offset = semantic_vocab + 4
    text_pad = text_offset + len(text_vocabulary(by_heart))
    coarse_pad = semantic_vocab + 2 * 1_024
    return BarkSpec(
        family="nano",
        semantic_vocab=semantic_vocab,
        text_offset=text_offset,
        text_pad=text_pad,
        semantic_infer=text_pad + 1,
        text_length=160,
        semantic_history=160,
        max_semantic=620,  # 12.4 s
        lower_case=True,
        coarse_semantic_pad=coarse_pad,
        coarse_infer=coarse_pad + 1,
    )
