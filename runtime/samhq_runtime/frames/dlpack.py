"""What a DLPack capsule says of a tensor, without consuming it: the capsule frees the tensor when it goes itself.

The structures are those of https://dmlc.github.io/dlpack/latest/c_api.html, as producers hand them out that are not
asked for a `max_version`.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_NAME = b"dltensor"
_CODES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("number", ctypes.c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


@dataclass(frozen=True)
class Described:
    """`strides` are in elements, None where there are no gaps; `dtype` is a name such as `bfloat16`."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    dtype: str


def describe(capsule: object) -> Described:
    """Of what `__dlpack__` returned; it is valid as long as the capsule is kept.

    Raises:
        ValueError: no capsule of this kind, or one that was consumed.
    """
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _Tensor.from_address(pointer(capsule, _NAME))
    dtype = tensor.dtype
    lanes = f"x{dtype.lanes}" if dtype.lanes > 1 else ""
    return Described(
        (tensor.data or 0) + tensor.byte_offset,
        tuple(tensor.shape[: tensor.ndim]),
        tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None,
        f"{_CODES.get(dtype.code, f'type {dtype.code} of ')}{dtype.bits}{lanes}",
    )
