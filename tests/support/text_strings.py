"""Strings of many scripts, and a vocabulary with pieces over all of them, for comparing tokenizers id by id."""

import random
import unicodedata

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def _span(*pairs: tuple[int, int]) -> str:
    return "".join(chr(code) for first, last in pairs for code in range(first, last + 1))


SCRIPTS = {
    "latin": _span((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x17F), (0x1E00, 0x1EFF)),
    "greek": _span((0x391, 0x3C9), (0x1F00, 0x1FFE)),
    "cyrillic": _span((0x400, 0x45F)),
    "hebrew": _span((0x5D0, 0x5EA), (0x5B0, 0x5C2), (0xFB1D, 0xFB4F)),
    "arabic": _span((0x620, 0x652), (0x660, 0x66D)),
    "devanagari": _span((0x900, 0x96F)),
    "thai": _span((0xE01, 0xE3A), (0xE40, 0xE5B)),
    "hangul": _span((0xAC00, 0xACFF), (0xD700, 0xD7A3)),
    "jamo": _span((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2)),
    "kana": _span((0x3041, 0x309F), (0x30A0, 0x30FF), (0xFF61, 0xFF9F)),
    "cjk": _span((0x4E00, 0x4E60), (0x3400, 0x3420), (0x9FF0, 0x9FFF), (0xF900, 0xF920), (0xFA0E, 0xFA29)),
    "cjk_beyond": _span((0x20000, 0x20010), (0x2A6D0, 0x2A6E0), (0x2A700, 0x2A710), (0x2B73F, 0x2B745))
    + _span((0x2B81D, 0x2B825), (0x2CEA0, 0x2CEB5), (0x2F800, 0x2F820), (0x30000, 0x30005)),
    "emoji": _span((0x1F600, 0x1F64F), (0x1F466, 0x1F469), (0x1F3FB, 0x1F3FF)) + "❤\u200d\ufe0f♪♫☎",
    "digits": _span((0x30, 0x39), (0xB2, 0xB3), (0xBC, 0xBE), (0x2160, 0x216B)),
}
COMBINING = _span((0x300, 0x36F), (0x1AB0, 0x1AB8), (0x20D0, 0x20DC), (0x3099, 0x309A))
PUNCTUATION = (
    _span((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027), (0x2030, 0x205E))
    + _span((0x3001, 0x3011), (0xFF01, 0xFF0F), (0x2E30, 0x2E5D), (0x61B, 0x61F), (0x20A0, 0x20BF), (0x2190, 0x2199))
    + "\u037e\u1fef\u2126\u212a\u0964\u0df4\u1804\uab78\U000111c9\U0001144b\U00010f55"
)
ODD = (
    _span((0x00, 0x20), (0x7F, 0xA0), (0x2000, 0x200F), (0x2028, 0x202F), (0x205F, 0x206F), (0xFFF9, 0xFFFF))
    + "\u00ad\u034f\u061c\u070f\u0890\u1680\u180e\u3000\ufeff\U000e0041\U000f0000\U0010ffff"
    + "\u0378\u0530\u05ff\ufdd0\U0001fbff\ud83d\udc00"
)
FIXED = [
    "[MAN]",
    "[laughter]",
    "♪ la la ♪",
    "♪In",
    "word[SEP]word",
    "[UNK][UNK]",
    "x[CLS]",
    "[MASK].",
    "[PAD] a",
    "[[UNK]]",
    "[U\u200bNK]",
    "\u200d[SEP]\x00",
    "[unk]",
    "[ UNK ]",
    "[MASK",
    "e\u200d\u0301",
    "e\u00ad\u0301",
    "👩\u200d👩\u200d👧\u200d👦",
    "❤\ufe0f\u200d🔥",
    "don't",
    "l'Amérique",
]


def _word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.10:
        return rng.choice(FIXED)
    if kind < 0.14:
        length = rng.choice([99, 100, 101, 102, 150])
        script = SCRIPTS[rng.choice(["latin", "cyrillic", "kana", "jamo"])][:26]
        return "".join(rng.choices(script, k=length))
    letters = SCRIPTS[rng.choice(list(SCRIPTS))]
    word = rng.choices(letters, k=rng.randint(1, 7))
    if rng.random() < 0.25:
        word.insert(rng.randint(1, len(word)), "".join(rng.choices(COMBINING, k=rng.randint(1, 2))))
    if rng.random() < 0.15:
        word.insert(rng.randint(0, len(word)), rng.choice(ODD))
    if rng.random() < 0.25:
        word.insert(rng.randint(0, len(word)), rng.choice(PUNCTUATION))
    return "".join(word)


def make_strings(count: int, seed: int = 0) -> list[str]:
    """`count` strings of one to five words; a third in NFD, a third in NFC, the rest as they came."""
    rng = random.Random(seed)
    strings = []
    for index in range(count):
        words = [_word(rng) for _ in range(rng.randint(1, 5))]
        text = "".join(word + rng.choice([" ", " ", " ", "", "\u00a0", "\n", "\t", rng.choice(ODD)]) for word in words)
        form = (None, "NFC", "NFD")[index % 3]
        strings.append(unicodedata.normalize(form, text) if form else text)
    return strings


def make_vocabulary(seed: int = 0) -> list[str]:
    """Single characters of all scripts and their `##` forms, with one in fifty left out, plus longer pieces."""
    rng = random.Random(seed)
    characters = "".join(SCRIPTS.values()) + COMBINING + PUNCTUATION + ODD
    both_forms = characters + unicodedata.normalize("NFC", characters) + unicodedata.normalize("NFD", characters)
    usable = [char for char in dict.fromkeys(both_forms) if not char.isspace() and not "\ud800" <= char <= "\udfff"]
    pieces = [piece for char in usable for piece in (char, "##" + char) if rng.random() > 0.02]
    for letters in SCRIPTS.values():
        for _ in range(200):
            piece = "".join(rng.choices(letters, k=rng.randint(2, 3)))
            pieces += [unicodedata.normalize("NFC", piece), "##" + piece]
    words = ["la", "MAN", "laughter", "word", "don", "Amérique", "é", "##é"]
    return list(dict.fromkeys(SPECIAL + words + pieces))
