"""Label Studio's masks: run lengths of RGBA bytes, row by row, packed as thi.ng's rle-pack does.

A head of 53 bits: how many values, 32; bits of a value less one, 5; and four sizes of a run length less one, 4 each.
Then runs: one bit, whether a value is repeated; which size, 2; the length less one; the value, or as many values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..contract import Array

_HEAD = (32, 5, 4, 4, 4, 4)
_WORD = 8  # bits of a value
_LENGTHS = (4, 8, 12, 16)  # bits of a run's length, less one


def pack_brush(mask: NDArray[np.bool_]) -> bytes:
    """(H,W) bool -> its pixels as white and opaque, the others as black and transparent."""
    flat = mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    head = (4 * flat.size, _WORD - 1, *(length - 1 for length in _LENGTHS))
    bits = [f"{value:0{size}b}" for value, size in zip(head, _HEAD, strict=True)]
    for value, pixels in zip(flat[starts], np.diff(starts, append=flat.size), strict=True):
        bits += _runs_of(4 * int(pixels), 255 * int(value))
    text = "".join(bits)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


def _runs_of(count: int, value: int) -> list[str]:
    """`count` times a value, in as many runs as that takes."""
    longest = 1 << _LENGTHS[-1]
    runs = [longest] * (count // longest) + ([count % longest] if count % longest else [])
    kinds = [next(kind for kind, bits in enumerate(_LENGTHS) if run <= 1 << bits) for run in runs]
    return [f"1{kind:02b}{run - 1:0{_LENGTHS[kind]}b}{value:0{_WORD}b}" for run, kind in zip(runs, kinds, strict=True)]


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
