"""Tokens as a line of text, short enough for the tags of a sound file: `to_text`, `from_text`.

    bark1:CHECKSUM:BODY

BODY is base64 of a zlib stream; CHECKSUM is the CRC-32 of that stream as eight hexadecimal digits. The stream holds the
length of a JSON header in four bytes (little-endian), the header, and the ids of each part, bit-packed. The header says
`family`, `about` and `parts`: a list of [kind, shape, bits]. Codes are packed frame by frame. Zero bits mean that the
coarse tokens are the first rows of the fine ones, as they are wherever Bark made both, so nothing is stored twice.
"""

import base64
import binascii
import json
import math
import struct
import zlib
from typing import Any

import numpy as np

from ..errors import BarkFileError, BarkInputError
from ..tokens import IntArray, deinterleave, interleave
from .about import STAGES, About, parse_json
from .bits import MAX_BITS, bits_for, pack, packed_size, unpack
from .take import Take

VERSION_1 = "bark1"
MAX_TEXT = 64 * 2**20  # characters; an hour of all tokens is 4 million
MAX_PAYLOAD = 64 * 2**20  # bytes after unpacking
MAX_HEADER = 2**20
MAX_IDS = 2**23  # of one kind; fine tokens of almost four hours


def to_text(take: Take) -> str:
    """A take as one line of ASCII: about 1 kB per second of speech with fine tokens, 0.1 kB with semantic ones alone.

    Raises BarkInputError for tokens without end, or ids that no model has.
    """
    parts, packed = [], []
    for kind, tokens in take.tokens.items():
        array = np.asarray(tokens)
        derived = kind == "coarse" and take.fine is not None and take.fine.coarse == tokens
        bits = 0 if derived else bits_for(array)
        if bits > MAX_BITS or array.size > MAX_IDS:
            raise BarkInputError(
                f"The {kind} tokens are {array.size:,} ids of {bits} bits; a sound file is given at most "
                f"{MAX_IDS:,} of {MAX_BITS}. Save them in a token file, or in parts."
            )
        parts.append([kind, list(array.shape), bits])
        if bits:
            packed.append(pack(array if array.ndim == 1 else interleave(array), bits))
    header = {"family": take.family, "parts": parts, "about": take.about.to_json()}
    words = json.dumps(header, separators=(",", ":")).encode("ascii")
    body = zlib.compress(struct.pack("<I", len(words)) + words + b"".join(packed), 9)
    return f"{VERSION_1}:{zlib.crc32(body):08x}:{base64.b64encode(body).decode('ascii')}"


def from_text(text: str, source: str) -> Take:
    """The take in a line of `to_text`. Raises BarkFileError that calls the file `source`."""
    version, _, rest = text.strip().partition(":")
    if version != VERSION_1:
        raise BarkFileError(
            f"{source}: its tokens are written in the form {version[:20]!r}, and this version reads {VERSION_1!r}. "
            "Update the pack, or make the tokens again."
        )
    try:
        header, data = _opened(rest, source)
        arrays = _arrays(header.get("parts"), data)
        about = About.from_json(header.get("about", {}), source)
        return Take.wrap(arrays, header.get("family", ""), about)
    except (BarkInputError, _DamagedError) as error:
        raise BarkFileError(
            f"{source}: the tokens in it are damaged ({error}) Take a fresh copy, or make them again."
        ) from None


class _DamagedError(Exception):
    """What is wrong, as a sentence to be quoted."""


def _opened(rest: str, source: str) -> tuple[dict[str, Any], bytes]:
    """Header and packed ids."""
    checksum, _, body = rest.partition(":")
    if len(body) > MAX_TEXT:
        raise _DamagedError("They are far too long.")
    try:
        packed = base64.b64decode("".join(body.split()), validate=True)
        if int(checksum, 16) != zlib.crc32(packed):
            raise _DamagedError("Their checksum is wrong: some of the text was changed or is missing.")
        stream = zlib.decompressobj()
        payload = stream.decompress(packed, MAX_PAYLOAD)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise _DamagedError(f"They cannot be unpacked: {error}.") from None
    if not stream.eof or stream.unused_data:
        raise _DamagedError("They do not end where they should.")
    if len(payload) < 4 or (size := int.from_bytes(payload[:4], "little")) > min(len(payload) - 4, MAX_HEADER):
        raise _DamagedError("Their header is cut short.")
    try:
        words = payload[4 : 4 + size].decode("ascii")
    except UnicodeDecodeError:
        raise _DamagedError("Their header is no text.") from None
    header = parse_json(words, source)
    if not isinstance(header, dict):
        raise _DamagedError("Their header is no JSON object.")
    return header, payload[4 + size :]


def _arrays(parts: Any, data: bytes) -> dict[str, IntArray]:
    """The ids of each kind, cut out of the packed ones one after another."""
    arrays: dict[str, IntArray] = {}
    derived: list[int] | None = None
    position = 0
    for part in _checked(parts):
        kind, shape, bits = part
        if bits == 0:
            derived = shape
            continue
        count = math.prod(shape)
        end = position + packed_size(count, bits)
        if end > len(data):
            raise _DamagedError("The header promises more ids than follow.")
        try:
            ids = unpack(data[position:end], count, bits)
        except BarkFileError as error:
            raise _DamagedError(str(error)) from None
        arrays[kind] = ids if len(shape) == 1 else deinterleave(ids, shape[0])
        position = end
    if position != len(data):
        raise _DamagedError("More ids follow than the header promises.")
    if derived is not None:
        arrays["coarse"] = _first_rows(arrays, derived)
    return arrays


def _first_rows(arrays: dict[str, IntArray], shape: list[int]) -> IntArray:
    """The coarse codes that are the first rows of the fine ones."""
    rows = arrays["fine"][: shape[0]] if "fine" in arrays else None
    if rows is None or list(rows.shape) != shape:
        raise _DamagedError("The coarse tokens should be a part of the fine ones, which do not fit.")
    return rows


def _checked(parts: Any) -> list[tuple[str, list[int], int]]:
    """The list of parts, where it is one."""
    if not isinstance(parts, list) or not 1 <= len(parts) <= len(STAGES):
        raise _DamagedError("Their header lists no parts.")
    for part in parts:
        if not isinstance(part, list) or len(part) != 3 or part[0] not in STAGES:
            raise _DamagedError("Their header lists a part that is unknown.")
        kind, shape, bits = part
        ranks = 1 if kind == "semantic" else 2
        sizes_are_right = (
            isinstance(shape, list)
            and len(shape) == ranks
            and all(type(size) is int and 0 < size <= MAX_IDS for size in shape)
            and math.prod(shape) <= MAX_IDS
        )
        lowest = 0 if kind == "coarse" else 1
        if not sizes_are_right or type(bits) is not int or not lowest <= bits <= MAX_BITS:
            raise _DamagedError(f"Their header gives the {kind} tokens an impossible shape.")
    if len({part[0] for part in parts}) != len(parts):
        raise _DamagedError("Their header lists a part twice.")
    return [(kind, shape, bits) for kind, shape, bits in parts]
