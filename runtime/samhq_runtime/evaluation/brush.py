"""Painted masks in Label Studio's JSON: run lengths of RGBA bytes, packed as thi.ng's rle-pack does.

A head of 53 bits: how many values, 32; bits of a value less one, 5; and four sizes of a run length less one, 4 each.
Then runs: one bit, whether a value is repeated; which size, 2; the length less one; the value, or as many values.
"""

from __future__ import annotations

import numpy as np

from ..contract import Array

_HEAD = (32, 5, 4, 4, 4, 4)


def unpack_brush(packed: bytes, count: int) -> Array:
    """(count,) values; ValueError if there are not so many, or the runs end before."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    place = 0

    def read(size: int) -> int:
        nonlocal place
        place += size
        if place > len(bits):
            raise ValueError("the runs end too early")
        return int(bits[place - size : place] @ (1 << np.arange(size - 1, -1, -1)))

    stated, *sizes = (read(size) for size in _HEAD)
    word, *lengths = (size + 1 for size in sizes)
    if stated != count:
        raise ValueError(f"got runs of {stated} values, expected {count}, four for each pixel")
    values, done = np.zeros(count, np.int64), 0
    weights = 1 << np.arange(word - 1, -1, -1)
    while done < count:
        repeated, size = read(1), lengths[read(2)]
        end = min(count, done + read(size) + 1)
        if repeated:
            values[done:end] = read(word)
        else:
            size = (end - done) * word
            place += size
            if place > len(bits):
                raise ValueError("the runs end too early")
            values[done:end] = bits[place - size : place].reshape(-1, word) @ weights
        done = end
    return values
