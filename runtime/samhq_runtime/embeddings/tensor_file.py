"""`.safetensors` files of float tensors, with numpy alone.

The format: eight bytes with the length of a header, little endian; the header, JSON that says of each tensor its dtype,
shape and place, and under `__metadata__` texts by name; the tensors, C order, little endian, one behind the other
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np

from ..contract import Array

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_METADATA = "__metadata__"
_ALIGNMENT = 8  # of the tensors, as the package writes it
_MAX_HEADER = 1 << 16


@dataclass(frozen=True)
class Header:
    """What a file says of itself: `metadata`; dtype and shape by name in the order of the file; where data begin."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
    start: int


def write_tensors(file: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """float32 and float16 arrays by name, and texts by name."""
    names = {dtype: name for name, dtype in _DTYPES.items()}
    stored = {name: np.ascontiguousarray(array, array.dtype.newbyteorder("<")) for name, array in tensors.items()}
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    end = 0
    for name, array in sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])):  # aligned without gaps
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [end, end + array.nbytes],
        }
        end += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in list(header)[1:]:
        file.write(stored[name].data)


def read_header(file: BinaryIO) -> Header:
    """The header of such a file, which ends where its tensors do; ValueError says why it is none."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(_MAX_HEADER, size - 8):
        raise ValueError("not a safetensors file")
    try:
        content = json.loads(file.read(length))
        metadata = content.pop(_METADATA, {})
        tensors, end = _places(content)
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError) as e:
        raise ValueError("its header is damaged, or of other tensors than float32 and float16") from e
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes, expected {8 + length + end}: cut off, or written over")
    if not all(isinstance(text, str) for text in (*metadata, *metadata.values())):
        raise ValueError("its metadata are damaged")
    return Header(metadata, tensors, 8 + length)


def _places(content: Mapping[str, Any]) -> tuple[dict[str, tuple[np.dtype[Any], tuple[int, ...]]], int]:
    """Dtype and shape of the tensors in the order of the file, and where the last ends; ValueError for gaps."""
    tensors: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
    end = 0
    for name, entry in sorted(content.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        if not all(type(side) is int and side >= 0 for side in shape):
            raise ValueError(f"shape {shape}")
        start, end = end, end + dtype.itemsize * prod(shape)
        if entry["data_offsets"] != [start, end]:
            raise ValueError(f"{name} is not where it should be")
        tensors[name] = dtype, shape
    return tensors, end


def read_tensors(file: BinaryIO, header: Header) -> dict[str, Array]:
    """The tensors of a file whose header was read, by name."""
    file.seek(header.start)
    arrays = {}
    for name, (dtype, shape) in header.tensors.items():
        arrays[name] = np.frombuffer(file.read(dtype.itemsize * prod(shape)), dtype).reshape(shape)
    return arrays
