"""nano's numbers and its text vocabulary."""

import string

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


def text_vocabulary() -> list[str]:
    """The entries of nano's `vocab.txt`: letters, digits and signs, pairs of letters, endings, common words."""
    characters = [*string.ascii_lowercase, *string.digits]
    entries = [*SPECIAL_TOKENS, *string.punctuation, *_PRINTED, *characters, *_PAIRS]
    return [*entries, *(f"##{piece}" for piece in [*characters, *_PAIRS]), *_ENDINGS, *_WORDS]


def nano_spec() -> BarkSpec:
    """Suno's rates and windows; text and semantic ids of its own."""
    semantic_vocab = PARTS * len(PHONES)
    text_offset = semantic_vocab + 4
    text_pad = text_offset + len(text_vocabulary())
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
