"""Which files an ONNX graph takes weights from, read from its protobuf without the onnx package.

Only the fields on the way to a tensor's `external_data` are looked at; a tensor's own bytes are passed over. Parsers of
protobuf disagree on what no writer writes (they drop the upper bits of a long field number, say), so a file that one of
them could read as something else than we do is refused: numbers that are longer than they need be, field numbers out of
range, groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

# onnx.proto: for every kind of message, which fields lead on, by number.
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2  # of an entry
_OP_TYPE = 4  # of a node
_COMPILED = b"EPContext"  # a node that stands for a compiled model, in a file of its own
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TAG_BITS, _NUMBER_BITS = 32, 64
_MOST_DEPTH = 64


def external_files(graph: Path) -> set[str]:
    """The `location` of every tensor that is stored outside the file.

    Raises:
        ValueError: no protobuf, one that parsers may read differently, or a graph compiled for one device.
    """
    if not graph.stat().st_size:
        raise ValueError("an empty file")
    return set(_locations(np.memmap(graph, np.uint8, "r").data, "model", 0))


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise ValueError("graphs inside graphs without end")
    for number, content in _fields(message):
        inner = FIELDS[kind].get(number)
        if inner == "entry":
            entry = dict(_fields(content))
            if bytes(entry.get(_KEY, b"")) == b"location":
                yield bytes(entry.get(_VALUE, b"")).decode("utf-8")
        elif inner:
            yield from _locations(content, inner, depth + 1)
        elif kind == "node" and number == _OP_TYPE and content == _COMPILED:
            raise ValueError("a node of type EPContext")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field that has bytes; the others are passed over."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position, _TAG_BITS)
        number, wire = tag >> 3, tag & 7
        if not number:
            raise ValueError("field number 0")
        if wire == _VARINT:
            _, position = _varint(message, position, _NUMBER_BITS)
            continue
        if wire == _BYTES:
            size, position = _varint(message, position, _TAG_BITS)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > len(message):
            raise ValueError("a field is cut off")
        if wire == _BYTES:
            yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int, bits: int) -> tuple[int, int]:
    """A number of at most so many bits, and where the next one begins."""
    value = 0
    for shift in range(0, bits, 7):
        if position >= len(message):
            raise ValueError("a number is cut off")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> bits or (shift and not byte):
                raise ValueError("a number out of range, or longer than it need be")
            return value, position
    raise ValueError("a number without end")
