"""The protocol's two encodings of tensors."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_runtime.serve.errors import RequestError
from samhq_runtime.serve.tensors import DATATYPES, Tensor, bytes_array, raw_of, tensor_from_raw, tensor_from_values


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_round_trip(datatype: str) -> None:
    data = np.array([[1, 0, 1], [0, 1, 1]], DATATYPES[datatype])
    tensor = Tensor("x", data)
    assert tensor.datatype == datatype
    again = tensor_from_raw("x", datatype, [2, 3], raw_of(tensor))
    assert again.data.dtype == data.dtype
    np.testing.assert_array_equal(again.data, data)


def test_bytes_keep_trailing_zeros() -> None:
    items = [b"", b"ab\0\0", bytes(range(256))]
    raw = raw_of(Tensor("x", bytes_array(items)))
    assert raw[:8] == b"\0\0\0\0\4\0\0\0"
    assert tensor_from_raw("x", "BYTES", [3], raw).data.tolist() == items


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "complaint"),
    [
        ("FP33", [1], b"1234", "unknown datatype 'FP33'"),
        ("FP32", [2], b"1234", "got 4 bytes, expected 8 for FP32"),
        ("FP32", [-1], b"", "expected sizes of 0 to"),
        ("FP32", [1 << 62, 1 << 62], b"1234", "expected sizes of 0 to"),
        ("BYTES", [1], b"\5\0\0\0abcd", "ends inside an element"),
        ("BYTES", [1], b"\1\0", "ends inside an element"),
        ("BYTES", [2], b"\1\0\0\0a", "got 1 elements, expected 2"),
    ],
)
def test_malformed_bytes(datatype: str, shape: list[int], raw: bytes, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        tensor_from_raw("x", datatype, shape, raw)


@pytest.mark.parametrize("values", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_values_flat_or_nested(values: list[object]) -> None:
    tensor = tensor_from_values("x", "FP32", [2, 2], values)
    assert tensor.data.dtype == np.float32
    assert tensor.data.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("datatype", "shape", "values", "complaint"),
    [
        ("UINT8", [1], [256], "beyond the range of UINT8"),
        ("UINT8", [1], [-1], "beyond the range of UINT8"),
        ("INT32", [1], [1.5], "kind float64, expected INT32"),
        ("INT64", [1], [1 << 70], "expected INT64|beyond the range"),
        ("FP32", [1], ["one"], "kind <U3, expected FP32"),
        ("BOOL", [1], [1], "expected BOOL"),
        ("FP32", [2], [[1], [2, 3]], "not a tensor of FP32"),
        ("FP32", [3], [1, 2], "got 2 elements, expected 3"),
        ("FP32", [1], [None], "expected FP32"),
    ],
)
def test_malformed_values(datatype: str, shape: list[int], values: list[object], complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint):
        tensor_from_values("x", datatype, shape, values)
