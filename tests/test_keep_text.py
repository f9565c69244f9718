"""Tokens as a line of text: the same tokens come back, it is short, and whatever else it is, it is refused."""

import base64
import json
import math
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bark_engine import BarkFileError, BarkInputError, CoarseTokens, FineTokens, SemanticTokens, Speech
from bark_engine.keep import About, Take
from bark_engine.keep.bits import MAX_BITS, bits_for, pack, packed_size, unpack
from bark_engine.keep.text_form import from_text, to_text
from bark_engine.version import VERSION
from support.comfy_server import PACK
from support.takes import ABOUT, codes, random_take
from support.tiny_models import prompt_folder

# -- bits ----------------------------------------------------------------------------------------------------------


def slow_pack(values: list[int], bits: int) -> bytes:
    """Every bit written down, then cut into eights."""
    written = "".join(f"{value:0{bits}b}" for value in values)
    written += "0" * (-len(written) % 8)
    return bytes(int(written[start : start + 8], 2) for start in range(0, len(written), 8))


@given(st.integers(1, MAX_BITS).flatmap(lambda bits: st.tuples(st.just(bits), st.lists(st.integers(0, 2**bits - 1)))))
def test_packing_is_that_of_the_slow_twin_and_comes_back(case: tuple[int, list[int]]) -> None:
    bits, values = case
    array = np.array(values, np.int64)
    packed = pack(array, bits)
    assert packed == slow_pack(values, bits)
    assert len(packed) == packed_size(len(values), bits) == math.ceil(len(values) * bits / 8)
    assert unpack(packed, len(values), bits).tolist() == values


@given(st.integers(0, 2**MAX_BITS - 1))
def test_bits_are_as_few_as_can_be(largest: int) -> None:
    bits = bits_for(np.array([0, largest]))
    assert largest < 2**bits
    assert bits == 1 or largest >= 2 ** (bits - 1)


def test_bytes_of_another_number_of_values_are_refused() -> None:
    with pytest.raises(BarkFileError, match="take 2 bytes, not 3"):
        unpack(b"abc", 3, 5)
    with pytest.raises(BarkFileError, match="more than ids"):
        unpack(b"\xff\xff", 3, 5)


# -- there and back ------------------------------------------------------------------------------------------------

TAKES = st.tuples(
    st.lists(st.integers(0, 9_999), min_size=1, max_size=60) | st.none(),
    st.integers(0, 60),
    st.integers(0, 60),
    st.booleans(),
    st.integers(0, 2**32),
).filter(lambda parts: parts[0] is not None or parts[1] > 0 or parts[2] > 0)


@settings(max_examples=200, deadline=None)
@given(TAKES)
def test_any_take_comes_back(parts: tuple[list[int] | None, int, int, bool, int]) -> None:
    ids, coarse_frames, fine_frames, same, seed = parts
    fine = FineTokens(codes(8, fine_frames, seed)) if fine_frames else None
    coarse = CoarseTokens(codes(2, coarse_frames, seed + 1)) if coarse_frames else None
    if same and fine is not None:
        coarse = fine.coarse
    take = Take(None if ids is None else SemanticTokens(ids), coarse, fine, ABOUT)
    again = from_text(to_text(take), "x")
    assert again == take
    assert again.about == ABOUT


@pytest.mark.parametrize("kinds", ["s", "c", "f", "sc", "sf", "cf", "scf"])
@pytest.mark.parametrize("family", ["suno", "nobody_knows_it"])
def test_every_choice_of_kinds_and_a_family_that_is_not_known_here(kinds: str, family: str) -> None:
    known = random_take(kinds)
    take = Take.wrap({kind: np.asarray(tokens) for kind, tokens in known.tokens.items()}, family, About())
    again = from_text(to_text(take), "x")
    assert again == take
    assert again.family == family
    assert list(again.tokens) == list(take.tokens)


def test_one_line_of_plain_text_that_survives_wrapping() -> None:
    text = to_text(random_take())
    assert text.isascii()
    assert text.isprintable()
    assert from_text("\n".join(text[n : n + 76] for n in range(0, len(text), 76)) + "\n", "x") == random_take()


def test_equal_takes_give_equal_text() -> None:
    assert to_text(random_take()) == to_text(random_take())


# -- size ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "most"),
    # bits a second / 6 of base64, and a little for what is about them
    [("s", 14 * 49.9 / 6), ("c", 2 * 10 * 75 / 6), ("f", 8 * 10 * 75 / 6), ("cf", 8 * 10 * 75 / 6)],
)
def test_the_worst_tokens_take_only_their_bits(kinds: str, most: float) -> None:
    """Random ids cannot be compressed; a minute of them."""
    take = random_take(kinds, frames=75 * 60)
    size = len(to_text(take)) - len(to_text(random_take(kinds, frames=1)))
    assert size / take.seconds <= most * 1.02
    assert size / take.seconds < (200 if kinds == "s" else 12_000)


def test_sunos_own_voices_are_far_below_the_goals() -> None:
    """Real tokens of Suno's models, several seconds each, all that is told about them included."""
    for file in sorted(prompt_folder().rglob("*.npz"))[::20]:
        with np.load(file) as arrays:
            semantic = Take(SemanticTokens(arrays["semantic_prompt"]))
            whole = Take(semantic.semantic, CoarseTokens(arrays["coarse_prompt"]), FineTokens(arrays["fine_prompt"]))
        assert len(to_text(semantic)) / semantic.seconds < 170, file
        assert len(to_text(whole)) / whole.seconds < 1_500, file


def test_ids_without_end_and_ids_that_no_model_has_are_refused() -> None:
    with pytest.raises(BarkInputError, match="8,388,609 ids"):
        to_text(Take(SemanticTokens(np.zeros(2**23 + 1, np.int64))))
    with pytest.raises(BarkInputError, match="of 32 bits"):
        to_text(Take(SemanticTokens([2**31], family="nobody_knows_it")))


# -- refused -------------------------------------------------------------------------------------------------------


def disguise(header: Any, data: bytes = b"", *, level: int = 9) -> str:
    """A text with a right checksum around any content."""
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = zlib.compress(struct.pack("<I", len(words)) + words + data, level)
    return f"bark1:{zlib.crc32(body):08x}:{base64.b64encode(body).decode()}"


def part(kind: Any = "semantic", shape: Any = (2,), bits: Any = 8) -> dict[str, Any]:
    return {"family": "suno", "parts": [[kind, shape, bits]], "about": {}}


HOSTILE: dict[str, tuple[str, str]] = {
    "nothing": ("", "form ''"),
    "other text": ("hello", "form 'hello'"),
    "a newer form": ("bark2:x:y", "form 'bark2'.*Update"),
    "no body": ("bark1:", "cannot be unpacked"),
    "no base64": ("bark1:00000000:ä", "cannot be unpacked"),
    "wrong checksum": ("bark1:00000000:AAAA", "checksum"),
    "no zlib": (f"bark1:{zlib.crc32(b'abc'):08x}:YWJj", "cannot be unpacked"),
    "empty": (disguise(b""), "valid JSON"),
    "no JSON": (disguise(b"{"), "valid JSON"),
    "NaN": (disguise(b'{"family": NaN}'), "NaN is no JSON"),
    "a nested bomb": (disguise(b"[" * 100_000), "valid JSON"),
    "a nested bomb of objects": (disguise(b'{"a":' * 100_000), "valid JSON"),
    "endless digits": (disguise(b"1" * 900_000), "JSON"),
    "not ASCII": (disguise("{ä}".encode()), "no text"),
    "a list": (disguise([]), "no JSON object"),
    "no parts": (disguise({"family": "suno"}), "lists no parts"),
    "four parts": (disguise({"family": "suno", "parts": [["semantic", [1], 8]] * 4}), "lists no parts"),
    "twice the same": (disguise({"family": "suno", "parts": [["semantic", [1], 8]] * 2}, b"ab"), "twice"),
    "an unknown part": (disguise(part("medium")), "unknown"),
    "an unhashable part": (disguise(part(["semantic"])), "unknown"),
    "no family": (disguise({"parts": [["semantic", [2], 8]]}, b"ab"), "family must be a name"),
    "a family that is no text": (disguise({**part(), "family": 7}, b"ab"), "family must be a name"),
    "about is no object": (disguise({**part(), "about": [1]}, b"ab"), "no JSON object"),
    "a text that is none": (disguise({**part(), "about": {"text": 7}}, b"ab"), "text must be a text"),
    "half a character": (disguise({**part(), "about": {"text": "\ud800"}}, b"ab"), "lone surrogate"),
    "an endless text": (disguise({**part(), "about": {"text": "a" * 100_001}}, b"ab"), "100,000 characters"),
    "a seed that is none": (disguise({**part(), "about": {"seed": {"fine": -1}}}, b"ab"), "seed must be"),
    "a seed of no stage": (disguise({**part(), "about": {"seed": {"codec": 1}}}, b"ab"), "map some of the stages"),
    "a knob that is a list": (disguise({**part(), "about": {"sampling": {"fine": {"t": []}}}}, b"ab"), "finite number"),
    "fewer ids than promised": (disguise(part(shape=[3]), b"ab"), "more ids than follow"),
    "more ids than promised": (disguise(part(shape=[1]), b"ab"), "follow than the header"),
    "endless ids": (disguise(part(shape=[10**12])), "impossible shape"),
    "endless frames": (disguise(part("fine", [8, 2**23])), "impossible shape"),
    "no ids": (disguise(part(shape=[0])), "impossible shape"),
    "negative ids": (disguise(part(shape=[-2])), "impossible shape"),
    "a shape that is none": (disguise(part(shape="ab")), "impossible shape"),
    "true is no size": (disguise(part(shape=[True])), "impossible shape"),
    "a rank too many": (disguise(part(shape=[1, 2])), "impossible shape"),
    "no bits": (disguise(part(bits=0)), "impossible shape"),
    "too many bits": (disguise(part(bits=64)), "impossible shape"),
    "coarse of nothing": (disguise(part("coarse", [2, 3], 0)), "part of the fine ones"),
    "coarse of others": (
        disguise({"family": "suno", "parts": [["coarse", [2, 3], 0], ["fine", [8, 1], 8]]}, bytes(8)),
        "do not fit",
    ),
    "seven rows": (disguise(part("fine", [7, 1], 8), bytes(7)), r"shape \[8, F\]"),
    "an id too large": (disguise(part(shape=[1], bits=16), b"\xff\xff"), "0 … 9,999"),
}


@pytest.mark.parametrize("why", HOSTILE)
def test_refused_by_name_with_the_reason(why: str) -> None:
    text, reason = HOSTILE[why]
    with pytest.raises(BarkFileError, match=rf"(?s)^take\.flac\W.*{reason}"):
        from_text(text, "take.flac")


def test_a_bomb_is_not_unpacked() -> None:
    """A gigabyte of zeros in a megabyte."""
    stream = zlib.compressobj(9)
    body = b"".join(stream.compress(bytes(2**20)) for _ in range(1024)) + stream.flush()
    text = f"bark1:{zlib.crc32(body):08x}:{base64.b64encode(body).decode()}"
    with pytest.raises(BarkFileError, match="do not end where they should"):
        from_text(text, "x")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**6), st.characters(max_codepoint=0x2FF), st.booleans())
def test_one_changed_character_or_a_cut_is_noticed(place: int, character: str, cut: bool) -> None:
    text = to_text(random_take(frames=9))
    place %= len(text)
    changed = text[:place] if cut else text[:place] + character + text[place + 1 :]
    if "".join(changed.split()) == text or changed.upper() == text.upper():
        return  # the case of a hexadecimal digit, or a space at the end
    with pytest.raises(BarkFileError):
        from_text(changed, "x")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_header_and_any_ids_are_tokens_or_an_error(header: bytes, data: bytes) -> None:
    with pytest.raises(BarkFileError):
        from_text(disguise(header, data), "x")


# -- takes ---------------------------------------------------------------------------------------------------------


def test_a_take_checks_itself() -> None:
    with pytest.raises(BarkInputError, match="holds no tokens"):
        Take()
    with pytest.raises(BarkInputError, match="must be FineTokens, not CoarseTokens"):
        Take(fine=CoarseTokens(codes(2, 3)))  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match="semantic: suno, fine: other"):
        Take(SemanticTokens([1]), fine=FineTokens(codes(8, 3), family="other"))


def test_what_is_known_about_a_take_does_not_count() -> None:
    assert random_take(about=ABOUT) == random_take(about=About())
    assert random_take("s") != random_take("sf")


def test_a_take_of_a_speech_tells_its_seed() -> None:
    take = random_take()
    speech = Speech(None, take.semantic, take.coarse, take.fine, 7)  # type: ignore[arg-type]
    assert Take.of(speech) == take
    assert Take.of(speech).about.seed == {"semantic": 7, "coarse": 7, "fine": 7}
    assert Take.of(speech, ABOUT).about == ABOUT


def test_about_is_plain_json_and_its_own() -> None:
    knobs = {"temperature": 0.5}
    about = About(sampling={"fine": knobs})
    knobs["temperature"] = 9.0
    assert about.sampling == {"fine": {"temperature": 0.5}}
    assert About.from_json(json.loads(json.dumps(ABOUT.to_json())), "x") == ABOUT
    assert About.from_json({"unknown": 1}, "x") == About(version="")


def test_numbers_of_numpy_are_kept_as_plain_ones() -> None:
    knobs = {"temperature": np.float32(0.5), "max_history": np.uint16(60), "early_stop": np.bool_(True), "top_k": None}
    about = About(seed={"fine": np.uint64(2**64 - 1)}, sampling={"coarse": knobs})  # type: ignore[arg-type, dict-item]
    assert {stage: type(seed) for stage, seed in about.seed.items()} == {"fine": int}
    kept = about.sampling["coarse"]
    assert [type(value) for value in kept.values()] == [float, int, bool, type(None)]
    assert About.from_json(json.loads(json.dumps(about.to_json())), "x") == about
    for wrong in (
        {"seed": {"fine": np.float64(1)}},
        {"seed": {"fine": np.True_}},
        {"sampling": {"fine": {"a": np.nan}}},
    ):
        with pytest.raises(BarkInputError, match="About a take"):
            About(**wrong)  # type: ignore[arg-type]


def test_the_version_is_the_packages() -> None:
    assert f'\nversion = "{VERSION}"\n' in (PACK / "pyproject.toml").read_text(encoding="utf-8")
