"""What nano learns to read: English sentences from Debian's packages, and made-up ones for numbers, names and words.

Sources: example sentences and definitions of WordNet (Debian package wordnet-base), sayings (fortunes, fortunes-min),
first names (miscfiles), and the commonest English words with their frequencies (PyPI package wordfreq). Sentences of
the benchmark are left out.
"""

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import BarkFileError
from .listed import listed

WORDNET = Path("/usr/share/wordnet")
FORTUNES = Path("/usr/share/games/fortunes")
FIRST_NAMES = Path("/usr/share/dict/propernames.gz")
PACKAGES = "wordnet-base fortunes fortunes-min miscfiles"

COMMON_WORDS = 20_000
MIN_WORDS, MAX_WORDS = 2, 30
JOINED = 0.3  # part of the texts that are several sentences one after another, up to MAX_WORDS words: 12 s in one go

# Part of each source in a corpus; the rest of a source that runs dry goes to the others.
SHARES = {"examples": 0.36, "definitions": 0.14, "sayings": 0.10, "words": 0.22, "numbers": 0.10, "names": 0.08}

_PLAIN = re.compile(r"[A-Za-z0-9 ,.'?!;:-]+")
_SAYING_FILES = listed(
    "fortunes wisdom work people kids love food education literature men-women humorists pets sports science politics "
    "miscellaneous medicine news law"
)
_MONTHS = listed("January February March April May June July August September October November December")
_DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")

# f, g, h: first names; l, m: family names and places
_NAME_FRAMES = """\
{f} {l} will be here at noon.
My name is {f}.
Have you met {f} {l}?
{f} and {g} went to {l}.
Mr. {l} called this morning.
Mrs. {l} lives in {m}.
Dear {f}, thank you for your letter.
We saw {f} with Dr. {l} in {m}.
{f} said that {g} was late.
The road from {l} to {m} is closed.
I told {f} about {g}, {h} and the others.
{f} {l}, please come to the desk.
Is {f} at home?
{f}, {g} and {h} are friends.
Ask {f} {l} or {g} {m}.
This is {f} from {l}.
""".splitlines()

# a, b, c: numbers; s: up to 99; w, x, v: words; y, z: years; t: a time of day; mo, d, da: month, day of it, of the week
_NUMBER_FRAMES = """\
There are {a} {w} in the {x}.
It happened in {y}.
The train leaves at {t}.
I paid {a} dollars for the {w}.
On {mo} {d}, {y}, we met again.
She is {s} years old.
Room {a} is on floor {s}.
Count from {s} to {a}.
{a} and {b} make {c}.
Call me at {t} on {da}.
He won {a} to {b}.
Page {a}, line {b}.
The {w} weighs {a} pounds.
About {a} percent of the {w} are {x}.
It is {t} now.
Bus {a} stops here every {s} minutes.
The number is {a} {b} {c}.
We need {a} {w}, {b} {x} and {c} {v}.
In {y} there were only {a} of them.
{da}, {mo} {d}.
He was born in {y} and died in {z}.
My house has {s} windows and {a} steps.
""".splitlines()


def sentences(count: int, seed: int, leave_out: frozenset[str] = frozenset()) -> list[str]:
    """`count` different texts of 2 to 30 words, most of one sentence, in an order that depends on `seed` alone.

    A part of them, JOINED, is made of several of the others. `leave_out` holds sentences, as `plain` writes them, that
    must not appear. Raises BarkFileError where a source is not installed, and when there are fewer sentences than asked
    for.
    """
    rng = random.Random(seed)
    finite = {"examples": _examples(), "definitions": _definitions(), "sayings": _sayings()}
    seen = set(leave_out)
    chosen: list[str] = []
    for source, share in SHARES.items():
        wanted = round(share * count)
        if source in finite:
            pool = sorted(set(finite[source]))
            rng.shuffle(pool)
            candidates: Iterator[str] = iter(pool)
        else:
            candidates = {"words": _word_salads, "numbers": _numbers, "names": _names}[source](rng)
        for sentence in candidates:
            if wanted <= 0:
                break
            key = plain(sentence)
            if key not in seen:
                seen.add(key)
                chosen.append(sentence)
                wanted -= 1
    salads = _word_salads(rng)
    while len(chosen) < count:
        chosen.append(next(salads))
    rng.shuffle(chosen)
    joined = [_join(chosen, start, rng) for start in rng.sample(range(count), round(JOINED * count))]
    kept = chosen[: count - len(joined)] + joined
    rng.shuffle(kept)
    return kept


def _join(chosen: list[str], start: int, rng: random.Random) -> str:
    """Sentence number `start` and those after it, as many as a length drawn for this text allows."""
    limit = rng.randint(12, MAX_WORDS)
    text = chosen[start]
    for sentence in chosen[start + 1 : start + 5]:
        if len(text.split()) + len(sentence.split()) > limit:
            break
        text += ("" if text[-1] in ".?!" else ".") + " " + sentence
    return text


def typeset(text: str, number: int) -> str:
    """Text number `number` as it is learned: one in four with the signs of a printed book, which are read alike."""
    if number % 4:
        return text
    text = text.replace("'", "’").replace("...", "…").replace(" - ", " — ")
    return f"“{text}”" if number % 16 == 0 else text


def plain(sentence: str) -> str:
    """Lower case, letters and digits only, single spaces: equal for sentences that are read alike."""
    return " ".join(re.sub(r"[^a-z0-9' ]+", " ", sentence.lower()).split())


def _fits(sentence: str) -> bool:
    words = sentence.split()
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and _PLAIN.fullmatch(sentence) is not None
        and not re.search(r"[A-Z]{2}|[A-Z]\.|\d{5}|--|\bco\b|\betc\b", sentence)  # espeak-ng spells or expands these
    )


def _open(path: Path) -> str:
    if not path.is_file():
        raise BarkFileError(f"{path} is missing; it is a source of nano's sentences. apt-get install {PACKAGES}")
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8", "replace")


def _glosses() -> Iterator[str]:
    for part in ("noun", "verb", "adj", "adv"):
        for line in _open(WORDNET / f"data.{part}").splitlines():
            if not line.startswith("  "):  # the licence at the top is indented
                yield line.partition(" | ")[2].strip()


def _examples() -> Iterator[str]:
    """What stands in quotes in WordNet: short everyday sentences and phrases."""
    for gloss in _glosses():
        for quoted in re.findall(r'"([^"]+)"', gloss):
            sentence = quoted.strip(" ;,")
            if _fits(sentence) and not sentence.startswith("-"):
                yield sentence


def _definitions() -> Iterator[str]:
    for gloss in _glosses():
        definition = re.sub(r"\([^)]*\)", "", gloss.partition('"')[0]).split(";")[0]
        sentence = " ".join(definition.split())
        if _fits(sentence) and len(sentence.split()) >= 4:
            yield sentence


def _sayings() -> Iterator[str]:
    for name in _SAYING_FILES:
        for saying in _open(FORTUNES / name).split("\n%\n"):
            prose = saying.partition("\n\t\t--")[0].replace("\n", " ")
            for sentence in re.split(r"(?<=[.?!])\s+", " ".join(prose.split())):
                if _fits(sentence) and len(sentence.split()) >= 4:
                    yield sentence


def common_words() -> dict[str, float]:
    """The commonest English words, commonest first, with how often each is met among all words (0 … 1).

    Raises BarkFileError where wordfreq is not installed.
    """
    try:
        from wordfreq import top_n_list, word_frequency  # pyright: ignore[reportMissingImports]  (only for this step)
    except ImportError:
        raise BarkFileError(
            "The package wordfreq is missing; it lists the common words. pip install wordfreq"
        ) from None
    words = [word for word in top_n_list("en", COMMON_WORDS) if re.fullmatch(r"[a-z]+('[a-z]+)?", word)]
    return {word: word_frequency(word, "en") for word in words}


def _weighted_words() -> tuple[list[str], list[float]]:
    """Common words and the weights they are drawn with: flatter than life, so that rare ones come."""
    frequency = common_words()
    return list(frequency), [often**0.45 for often in frequency.values()]


def _word_salads(rng: random.Random) -> Iterator[str]:
    """Words without sense, so that each of the commonest is met in many neighbourhoods."""
    words, weights = _weighted_words()
    while True:
        picked = rng.choices(words, weights, k=rng.randint(2, 16))
        for position in range(2, len(picked) - 2):
            if rng.random() < 0.08:
                picked[position] += ","
        yield " ".join(picked).capitalize() + rng.choice([".", ".", ".", "?", "!", ""])


def _names(rng: random.Random) -> Iterator[str]:
    words = list(common_words())
    first = [name for name in _open(FIRST_NAMES).split() if name.isalpha()]
    # Rare words stand in for family names and places: what the eye has not met before, in the place of a name.
    last = [word.capitalize() for word in words[3_000:] if len(word) > 3 and word.isalpha()]
    while True:
        chosen = {key: rng.choice(first) for key in "fgh"} | {key: rng.choice(last) for key in "lm"}
        yield rng.choice(_NAME_FRAMES).format(**chosen)


def _number(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return str(rng.randint(0, 20))
    if kind < 0.7:
        return str(rng.randint(21, 99))
    if kind < 0.85:
        return str(rng.randint(100, 999))
    return str(rng.randint(1_000, 9_999))


def _numbers(rng: random.Random) -> Iterator[str]:
    words, weights = _weighted_words()
    while True:
        chosen = {key: _number(rng) for key in "abc"}
        chosen |= dict(zip("wxv", rng.choices(words, weights, k=3), strict=True))
        chosen |= {key: str(rng.randint(1_800, 2_030)) for key in "yz"}
        chosen |= {"s": str(rng.randint(1, 99)), "d": str(rng.randint(1, 31)), "mo": rng.choice(_MONTHS)}
        hour, minute = rng.randint(1, 12), rng.choice(["", ":15", ":30", ":45", ":20", ":10"])
        chosen |= {"t": f"{hour}{minute}" if minute else f"{hour} o'clock", "da": rng.choice(_DAYS)}
        yield rng.choice(_NUMBER_FRAMES).format(**chosen)
