"""Whole numbers in as few bits as they need: `pack` and `unpack`."""

import numpy as np

from ..errors import BarkFileError
from ..tokens import IntArray

MAX_BITS = 31  # every number of a BarkSpec is smaller than 2^31


def bits_for(values: IntArray) -> int:
    """How many bits the largest of the values takes; at least one."""
    return max(1, int(values.max()).bit_length())


def packed_size(count: int, bits: int) -> int:
    """Bytes that so many values take."""
    return -(-count * bits // 8)


def pack(values: IntArray, bits: int) -> bytes:
    """Values `[n]` in 0 … 2^bits − 1 → `packed_size(n, bits)` bytes, the highest bit first, zeros at the very end."""
    flat = np.empty((len(values), bits), np.uint8)
    for place in range(bits):
        flat[:, place] = (values >> (bits - 1 - place)) & 1
    return np.packbits(flat.reshape(-1)).tobytes()


def unpack(data: bytes, count: int, bits: int) -> IntArray:
    """Inverse of `pack`. Raises BarkFileError where the bytes are not those of `count` values."""
    if len(data) != packed_size(count, bits):
        raise BarkFileError(f"{count:,} ids of {bits} bits take {packed_size(count, bits):,} bytes, not {len(data):,}.")
    flat = np.unpackbits(np.frombuffer(data, np.uint8))
    if flat[count * bits :].any():
        raise BarkFileError("The last byte of the ids holds more than ids.")
    values = np.zeros(count, np.int64)
    for place in flat[: count * bits].reshape(count, bits).T:
        values = (values << 1) | place
    return values
