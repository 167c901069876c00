"""ONNX graphs by hand whose one tensor is stored in `far.bin`: said plainly, or so that a reader may not see it."""

from __future__ import annotations


def varint(number: int, *, padding: int = 0) -> bytes:
    digits = [number & 127]
    while number := number >> 7:
        digits.append(number & 127)
    digits += [0] * padding
    return bytes([digit | 128 for digit in digits[:-1]] + digits[-1:])


def field(number: int, content: bytes, *, bits_above: int = 0, padding: tuple[int, int] = (0, 0)) -> bytes:
    tag = number << 3 | 2 | bits_above << 32
    return varint(tag, padding=padding[0]) + varint(len(content), padding=padding[1]) + content


def entry(key: bytes, value: bytes) -> bytes:
    return field(13, field(1, key) + field(2, value))


LOCATION = entry(b"location", b"far.bin")
NAMED = field(8, b"w") + b"\x70\x01"  # data_location = EXTERNAL
TENSOR = NAMED + LOCATION
IN_MODEL: dict[str, bytes] = {
    "plain": field(7, field(5, TENSOR)),
    "bits above 32 in a field number": field(7, field(5, TENSOR, bits_above=1)),
    "the same further up": field(7, field(5, TENSOR), bits_above=4),
    "the same further down": field(7, field(5, NAMED + LOCATION.replace(b"\x6a", varint(0x6A | 1 << 32), 1))),
    "a field number that is longer than it need be": field(7, field(5, TENSOR, padding=(2, 0))),
    "a length that is longer than it need be": field(7, field(5, TENSOR, padding=(0, 3))),
    "a graph in two parts": field(7, b"") + field(7, field(5, TENSOR)),
    "a location given twice": field(7, field(5, TENSOR + entry(b"location", b"near.bin"))),
    "an entry whose last value holds": field(7, field(5, NAMED + field(13, LOCATION[2:] + field(2, b"far.bin")))),
    "an entry whose last key holds": field(7, field(5, NAMED + field(13, field(1, b"key") + LOCATION[2:]))),
    "a value before its key": field(7, field(5, NAMED + field(13, field(2, b"far.bin") + field(1, b"location")))),
    "fields of another wire type before it": b"\x38\x01" + b"\x3d1234" + b"\x3912345678" + field(7, field(5, TENSOR)),
    "a group around it": b"\x3b" + field(5, TENSOR) + b"\x3c",
    "after field number 0": b"\x02\x00" + field(7, field(5, TENSOR)),
    "an attribute's default in a function": field(25, field(11, field(5, TENSOR))),
    "an attribute in a function": field(25, field(7, field(5, field(5, TENSOR)))),
    "a subgraph of a node": field(7, field(1, field(5, field(6, field(5, TENSOR))))),
    "subgraphs of a node": field(7, field(1, field(5, field(11, field(5, TENSOR))))),
    "the values of a sparse tensor": field(7, field(15, field(1, TENSOR))),
    "the indices of a sparse tensor": field(7, field(1, field(5, field(23, field(2, TENSOR))))),
    "training": field(20, field(2, field(5, TENSOR))),
}
