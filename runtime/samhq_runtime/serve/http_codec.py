"""Requests and answers over HTTP: JSON, with tensors as JSON lists or, in the binary extension, as bytes after it.

JSON has no bytes: elements of BYTES tensors in JSON lists are base64, but for `masks_rle`, which is text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from .errors import Reason, RequestError
from .signature import DEFAULT_OUTPUTS, InferRequest, infer_request, require_few
from .tensors import BYTES, Tensor, buffer_of, tensor_from_raw, tensor_from_values

HEADER_LENGTH = "inference-header-content-length"
_TEXT_OUTPUTS = ("masks_rle",)
_MAX_DIGITS = 19
_PIECE = 1 << 16
_STANDARD = str.maketrans("-_", "+/")  # the alphabet of base64 that is safe in URLs
_BINARY_DEFAULT = "binary_data_output"


@dataclass(frozen=True)
class HttpRequest:
    """A parsed request, and which of its outputs go back as bytes."""

    infer: InferRequest
    id: str
    binary_default: bool
    binary: Mapping[str, bool]


def read_request(body: bytes, header_length: str | None, *, max_values: int) -> HttpRequest:
    """Parse the body of an inference request.

    Raises:
        RequestError: not JSON, more than `max_values` numbers in it, not of the protocol, or tensors that do not fit
            their shapes.
    """
    split = _header_length(header_length, len(body))
    head = _json_object(body[:split], max_values=max_values)
    inputs = _inputs(_objects(head, "inputs"), memoryview(body)[split:])
    parameters = _parameters(head)
    binary_default = bool(parameters.pop(_BINARY_DEFAULT, False))
    outputs = _objects(head, "outputs") if "outputs" in head else []
    wanted = {_text(item, "name"): bool(_parameters(item).get("binary_data", binary_default)) for item in outputs}
    names = [_text(item, "name") for item in outputs]
    as_json = [name for name in names or DEFAULT_OUTPUTS if not wanted.get(name, binary_default)]
    infer = infer_request(inputs, names, parameters, as_json)
    return HttpRequest(infer, str(head.get("id", "")), binary_default, wanted)


def _inputs(items: Sequence[Mapping[str, Any]], binary: memoryview) -> list[Tensor]:
    inputs, used = [], 0
    for item in items:
        tensor, taken = _input(item, binary[used:])
        inputs.append(tensor)
        used += taken
    if used != len(binary):
        raise RequestError(f"body: {len(binary)} bytes after the JSON, but the inputs' binary_data_size sum to {used}")
    return inputs


def write_response(
    request: HttpRequest, tensors: Sequence[Tensor], *, model: str, version: str
) -> tuple[list[memoryview], int]:
    """The pieces of the body, and how many bytes of it are JSON, which is the first piece."""
    about = {"model_name": model, "model_version": version, **({"id": request.id} if request.id else {})}
    blobs: list[memoryview] = []
    text = [json.dumps(about).encode()[:-1], b', "outputs": [']
    for index, tensor in enumerate(tensors):
        output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.data.shape)}
        binary = request.binary.get(tensor.name, request.binary_default)
        if binary:
            blobs.append(buffer_of(tensor))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        text += [b", " if index else b"", json.dumps(output).encode()]
        if not binary:
            text += [text.pop()[:-1], b', "data": [', *_values(tensor), b"]}"]
    text.append(b"]}")
    head = b"".join(text)
    return [memoryview(head), *blobs], len(head)


def _header_length(text: str | None, body_length: int) -> int:
    if text is None:
        return body_length
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS or int(text) > body_length:
        raise RequestError(
            f"Inference-Header-Content-Length: got {text[:_MAX_DIGITS]!r}, expected the length of the JSON in the body"
        )
    return int(text)


def _json_object(text: bytes, *, max_values: int) -> dict[str, Any]:
    if text.count(b",") > max_values:  # parsing holds up everything else in the process
        raise RequestError(
            f"body: more than {max_values} numbers as JSON; send binary tensors, or use gRPC", reason=Reason.TOO_LARGE
        )
    try:
        head = json.loads(text, strict=False)  # base64 wraps its lines, which strict JSON has no room for
    except (ValueError, RecursionError) as e:
        raise RequestError(f"body: not JSON ({e})") from e
    if not isinstance(head, dict):
        raise RequestError(f"body: got a JSON {type(head).__name__}, expected an object with `inputs`")
    return head


def _objects(head: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    items = head.get(key)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RequestError(f"{key}: expected a list of objects")
    require_few(key, len(items))
    return items


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str):
        raise RequestError(f"{key}: got {value!r}, expected text in every input and output")
    return value


def _parameters(item: Mapping[str, Any]) -> dict[str, Any]:
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError(f"parameters: got {type(parameters).__name__}, expected an object")
    require_few("parameters", len(parameters))
    return dict(parameters)


def _input(item: Mapping[str, Any], binary: memoryview) -> tuple[Tensor, int]:
    """The tensor, and how many of the binary bytes it took."""
    name, datatype, shape = _text(item, "name"), _text(item, "datatype"), item.get("shape")
    if not isinstance(shape, list) or not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise RequestError(f"{name}: got shape {shape!r}, expected a list of integers")
    size = _parameters(item).get("binary_data_size")
    if size is None:
        return tensor_from_values(name, datatype, shape, _given_values(name, datatype, item)), 0
    if not isinstance(size, int) or not 0 <= size <= len(binary):
        raise RequestError(f"{name}: binary_data_size {size!r}, but {len(binary)} bytes are left in the body")
    return tensor_from_raw(name, datatype, shape, binary[:size]), size


def _given_values(name: str, datatype: str, item: Mapping[str, Any]) -> list[Any]:
    values = item.get("data")
    if not isinstance(values, list):
        raise RequestError(f"{name}: expected `data`, a list, or the parameter binary_data_size")
    if datatype != BYTES:
        return values
    try:
        return [_from_base64(value) for value in values]
    except (AttributeError, TypeError, ValueError) as e:  # binascii.Error is a ValueError
        raise RequestError(f"{name}: expected base64 text in JSON ({e}); or send it as binary data") from e


def _from_base64(text: str) -> bytes:
    """Both alphabets, with or without line breaks, padding, and the head of a `data:` URI; nothing else is skipped."""
    if text[:5].lower() == "data:":
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise ValueError("a data: URI that is not ;base64")
        text = unquote(text) if "%" in text else text
    if not text.isalnum():
        text = "".join(text.split()).translate(_STANDARD)
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def _values(tensor: Tensor) -> Iterator[bytes]:
    """The elements as JSON with commas between them, in pieces: one at a time leaves room for other threads."""
    flat = tensor.data.ravel()
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        if tensor.datatype == BYTES:
            text = tensor.name in _TEXT_OUTPUTS
            items = [item.decode() if text else base64.b64encode(item).decode() for item in piece]
        else:
            items = piece.tolist()
        yield (b", " if start else b"") + json.dumps(items, allow_nan=False).encode()[1:-1]
