"""What a JPEG file says of itself before anything is decoded: its size, and how many scans it has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ImageError

MAX_SCANS = 64  # a progressive file has about ten, and each walks over the whole image

_SOS = re.compile(b"\xff\xda")
_START = b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")  # a marker that is not stuffing, nor a restart between blocks
_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # SOF0 to SOF15
_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, frozenset({0x01, 0xD8})


@dataclass(frozen=True)
class JpegHeader:
    """`hw` is None if the file ends before it says so; `scans` counts to one above MAX_SCANS."""

    hw: tuple[int, int] | None
    scans: int


def read_jpeg_header(encoded: bytes) -> JpegHeader | None:
    """Of the first image in a JPEG file; None for any other file. Never raises."""
    if not encoded.startswith(_START):
        return None
    most = len(
        _SOS.findall(encoded)
    )  # in thumbnails and in what cameras append too, and quicker than the way from scan to scan
    enough = 1 if most <= MAX_SCANS else MAX_SCANS + 1
    hw, scans, position = None, 0, 2
    while scans < enough and (marker := _MARKER.search(encoded, position)) and marker[1][0] != _END:
        kind, position = marker[1][0], marker.end()
        if kind in _WITHOUT_LENGTH:
            continue
        if kind in _SIZES and hw is None:
            height, width = (int.from_bytes(encoded[position + i : position + i + 2], "big") for i in (3, 5))
            hw = (height, width)
        scans += kind == _SCAN
        position += int.from_bytes(encoded[position : position + 2], "big")
    return JpegHeader(hw, scans if enough > 1 else most)


def require_scans(encoded: bytes, name: str) -> None:
    """ImageError for a JPEG file of more scans than any encoder writes: a small file that takes minutes to decode."""
    header = read_jpeg_header(encoded)
    if header is not None and header.scans > MAX_SCANS:
        raise ImageError(f"{name}: a JPEG of more than {MAX_SCANS} scans; save it again with an ordinary encoder")
