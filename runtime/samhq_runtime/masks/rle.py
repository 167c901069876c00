"""COCO run-length encodings of masks, the compressed form that pycocotools reads and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import Array


def encode_rle(mask: Array) -> bytes:
    """(H,W) bool -> JSON `{"size": [H, W], "counts": "..."}`, runs in column order, the first of them background."""
    return json.dumps({"size": list(mask.shape), "counts": encode_counts(_runs(mask))}).encode()


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """`{"size": [H, W], "counts": ...}`, counts as text or as a list of numbers -> (H,W) bool.

    Raises:
        ValueError: no such encoding, or runs that do not fill the mask.
    """
    height, width = rle["size"]
    runs = _checked_runs(rle)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def area_of(rle: Mapping[str, Any]) -> int:
    """Pixels of the object, without the mask being made; takes and raises what `decode_rle` does."""
    return sum(_checked_runs(rle)[1::2])


def decode_runs(counts: str) -> list[int] | None:
    """The run lengths that `encode_rle` writes as `counts`, as plain integers; None if the text is no such encoding."""
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            return None
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:  # sign bit of the last group
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift else runs


def encode_counts(runs: Array) -> str:
    """COCO's text: from the fourth on, the difference to the run two before; then 5 bits a character, lowest first."""
    values = runs.astype(np.int64)
    values[3:] -= runs[1:-2]
    rest, digits, unfinished = values, [], np.ones(len(values), bool)
    used = []
    while unfinished.any():
        digit, rest = rest & 31, rest >> 5
        more = np.where(digit & 16, rest != -1, rest != 0)  # the fifth bit carries the sign where a number ends
        digits.append(digit | (more << 5))
        used.append(unfinished)
        unfinished = unfinished & more
    return (np.stack(digits, 1)[np.stack(used, 1)] + 48).astype(np.uint8).tobytes().decode("ascii")


def _checked_runs(rle: Mapping[str, Any]) -> Sequence[int]:
    height, width = rle["size"]
    counts = rle["counts"]
    runs: Sequence[int] | None = decode_runs(counts) if isinstance(counts, str) else counts
    if runs is None or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"counts of a mask of {height} x {width}: not a run-length encoding of it")
    return runs


def _runs(mask: Array) -> Array:
    """Lengths of alternating runs of 0 and 1 down the columns; the first may be 0."""
    flat = np.ascontiguousarray(mask.T).ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], changes] if not flat[0] else [[0, 0], changes])
    return np.diff(starts, append=flat.size)
