"""Tensors of the Open Inference Protocol, and their two encodings: raw bytes and lists of values."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..contract import Array
from .errors import RequestError

BYTES = "BYTES"
DATATYPES: dict[str, str] = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_DATATYPE_OF = {numpy_name: datatype for datatype, numpy_name in DATATYPES.items()}
_MAX_RANK = 8
_MAX_SIZE = 2**31 - 1
_MAX_ELEMENTS = 4096  # of BYTES: an image, or compressed masks
_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # kinds of values that a kind of datatype accepts


@dataclass(frozen=True)
class Tensor:
    """One named tensor; `data` has the tensor's shape, with dtype object and `bytes` elements for BYTES."""

    name: str
    data: Array

    @property
    def datatype(self) -> str:
        return BYTES if self.data.dtype == object else _DATATYPE_OF[self.data.dtype.name]

    @property
    def nbytes(self) -> int:
        """Of the values, without the lengths that go before elements of BYTES."""
        return sum(map(len, self.data.ravel())) if self.data.dtype == object else self.data.nbytes


def bytes_array(items: Sequence[bytes]) -> Array:
    """(n,) array of dtype object; numpy alone would make fixed-width strings and strip trailing zeros."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def tensor_from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """Decode little-endian row-major bytes; for BYTES each element follows its length as 4 bytes.

    Raises:
        RequestError: unknown datatype, bad shape, or not as many bytes as these make.
    """
    count = _count(name, datatype, shape)
    if datatype == BYTES:
        elements = list(islice(_split(name, memoryview(raw)), count + 1))  # one more shows that there are too many
        return Tensor(name, _reshape(name, bytes_array(elements), shape))
    dtype = np.dtype(DATATYPES[datatype]).newbyteorder("<")
    if len(raw) != count * dtype.itemsize:
        raise RequestError(
            f"{name}: got {len(raw)} bytes, expected {count * dtype.itemsize} for {datatype} {list(shape)}"
        )
    return Tensor(name, np.frombuffer(raw, dtype).astype(DATATYPES[datatype], copy=False).reshape(shape))


def tensor_from_values(name: str, datatype: str, shape: Sequence[int], values: Iterable[Any]) -> Tensor:
    """Check a (possibly nested) list of values and give it `shape`; elements of BYTES are `bytes`.

    Raises:
        RequestError: values of another kind than the datatype, out of its range, or not as many as the shape says.
    """
    _count(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, _reshape(name, bytes_array(list(values)), shape))
    wanted = np.dtype(DATATYPES[datatype])
    try:
        given = np.asarray(values)
        if given.size and given.dtype.kind not in _KINDS[wanted.kind]:
            raise RequestError(f"{name}: got values of kind {given.dtype}, expected {datatype}")
        with np.errstate(over="ignore", invalid="ignore"):
            data = given.astype(wanted)
    except (ValueError, TypeError, OverflowError) as e:
        raise RequestError(f"{name}: not a tensor of {datatype} ({e})") from e
    if wanted.kind in "iu" and not np.array_equal(data, given):
        raise RequestError(f"{name}: values beyond the range of {datatype}")
    return Tensor(name, _reshape(name, data, shape))


def raw_of(tensor: Tensor) -> bytes:
    """The bytes `tensor_from_raw` reads."""
    if tensor.data.dtype == object:
        return b"".join(struct.pack("<I", len(item)) + item for item in tensor.data.ravel())
    return buffer_of(tensor).tobytes()


def buffer_of(tensor: Tensor) -> memoryview:
    """`raw_of`, without a copy where there is none to make."""
    if tensor.data.dtype == object:
        return memoryview(raw_of(tensor))
    data = np.ascontiguousarray(tensor.data, tensor.data.dtype.newbyteorder("<"))
    return data.reshape(-1).view(np.uint8).data


def _count(name: str, datatype: str, shape: Sequence[int]) -> int:
    if datatype != BYTES and datatype not in DATATYPES:
        raise RequestError(f"{name}: unknown datatype {datatype!r}; expected one of {BYTES}, {', '.join(DATATYPES)}")
    if len(shape) > _MAX_RANK:
        raise RequestError(f"{name}: got {len(shape)} dimensions, expected at most {_MAX_RANK}")
    if any(not 0 <= size <= _MAX_SIZE for size in shape):
        raise RequestError(f"{name}: got shape {list(shape)}, expected sizes of 0 to {_MAX_SIZE}")
    count = math.prod(shape)
    if datatype == BYTES and count > _MAX_ELEMENTS:
        raise RequestError(f"{name}: got {count} elements of BYTES, expected at most {_MAX_ELEMENTS}")
    return count


def _split(name: str, raw: memoryview) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        end = position + 4
        if end <= len(raw):
            end += int.from_bytes(raw[position:end], "little")
        if end > len(raw):
            raise RequestError(
                f"{name}: BYTES tensor ends inside an element; each is a 4-byte length and that many bytes"
            )
        yield bytes(raw[position + 4 : end])
        position = end


def _reshape(name: str, data: Array, shape: Sequence[int]) -> Array:
    if data.size != math.prod(shape):
        raise RequestError(f"{name}: got {data.size} elements, expected {math.prod(shape)} for shape {list(shape)}")
    return data.reshape(shape)
