"""Manifests with one field that is not as it must be, and what is said of it in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WEIGHTS = "image_encoder.onnx.data"
ENGINE: dict[str, Any] = {
    "graph": "mask_decoder", "file": "mask_decoder.engine", "graph_sha256": "0" * 64, "flavour": "tensorrt",
    "version": "10.3.0", "gpu": "NVIDIA A", "compute_capability": "8.9", "fixed_inputs": ["hq_token"],
    "flags": {"refittable": "hq_token", "compute_capabilities": ["8.9"]}, "platform": "linux-x86_64",
    "profiles": [{"point_coords": {"min": [1, 1, 2], "opt": [1, 2, 2], "max": [8, 16, 2]}}], "parity": {"gpu": "A"},
}  # fmt: skip


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], object]:
    def change(content: dict[str, Any]) -> None:
        *way, last = path
        holder: Any = content
        for key in way:
            holder = holder[key]
        holder[last] = value

    return change


_ENGINE_KEY = ("engines", "e")
FIELDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "escapes in a tool": (_set("tools", "torch", value="\x1b[31mred"), r"'\\x1b\[31mred', expected printable"),
    "escapes in a key": (_set("tools", "\x1b[2J", value="1"), r"expected printable"),
    "C1 escapes": (_set("variant", value="\x9b31m"), "expected printable"),
    "a schema of escapes": (_set("schema_version", value="\x1b[2J"), "expected printable"),
    "NUL in a name": (_set("files", "a\0b", value={"sha256": "0" * 64, "bytes": 1}), "expected printable"),
    "half a pair": (_set("checkpoint", "file", value="\ud800"), "expected printable"),
    "a line separator": (_set("checkpoint", "file", value="a\u2028b"), "expected printable"),
    "a long text": (_set("variant", value="x" * 5000), "at most 4096"),
    "10^400": (_set("opset", value=10**400), "expected a number, finite"),
    "10^400 pixels": (_set("pixel_mean", 0, value=10**400), "expected a number, finite"),
    "infinity that nothing reads": (_set("parity", "ties", value=float("inf")), "expected a number, finite"),
    "a deviation that float32 has as 0": (_set("pixel_std", 0, value=1e-320), "expected at least"),
    "bytes are negative": (_set("files", WEIGHTS, "bytes", value=-1), "bytes: got -1"),
    "bytes are true": (_set("files", WEIGHTS, "bytes", value=True), "bytes: got True, expected int"),
    "bytes are a float": (_set("files", WEIGHTS, "bytes", value=1.0), "bytes: got 1.0, expected int"),
    "a short hash": (_set("files", WEIGHTS, "sha256", value="abc"), "expected a SHA-256"),
    "a file without a name": (_set("files", "", value={"sha256": "0" * 64, "bytes": 1}), "expected a path"),
    "a name of Windows": (_set("files", "..\\x", value={"sha256": "0" * 64, "bytes": 1}), "expected a path"),
    "a graph's file is a number": (_set("graphs", "mask_decoder", "file", value=3), "file: got 3, expected str"),
    "a second form is null": (_set("graphs", "mask_decoder", "cpu_file", value=None), "cpu_file: got None"),
    "sizes are floats": (_set("sizes", "image_size", value=128.0), "image_size: got 128.0, expected int"),
    "a size of 0": (_set("sizes", "embed_dim", value=0), "embed_dim: got 0, expected 1 to"),
    "optional is 1": (_set("graphs", "mask_decoder", "inputs", 8, "optional", value=1), "expected true or false"),
    "a dimension is a float": (_set("graphs", "mask_decoder", "inputs", 0, "shape", 1, value=64.0), "expected int"),
    "islands are text": (_set("precision_policy", "mask_decoder", "fp32_islands", value="all"), "expected a list"),
    "islands are numbers": (_set("precision_policy", "mask_decoder", "fp32_islands", value=[1]), "expected str"),
    "IoU is text": (_set("parity", "mask_iou", "hq", value="1.0"), "expected a number"),
    "errors are a list": (_set("parity", "tensors", value=[]), "tensors: got .*, expected dict"),
    "an error without its size": (_set("parity", "tensors", "hq_features", value={}), "missing .*relative"),
    "an engine is text": (_set(*_ENGINE_KEY, value="x"), "expected dict"),
    "an engine of another graph": (_set(*_ENGINE_KEY, "graph", value="x"), "engine .*of 'x'"),
    "an engine of another library": (_set(*_ENGINE_KEY, "flavour", value="cudnn"), "tensorrt or rtx"),
    "a capability is a word": (_set(*_ENGINE_KEY, "compute_capability", value="new"), "such as 8.9"),
    "profiles are a dictionary": (_set(*_ENGINE_KEY, "profiles", value={}), "expected a list"),
    "a profile of another rank": (_set(*_ENGINE_KEY, "profiles", 0, "point_coords", "min", value=[1]), "shapes of an"),
    "a profile upside down": (
        _set(*_ENGINE_KEY, "profiles", 0, "point_coords", "min", value=[9, 1, 2]),
        "shapes of an",
    ),
    "a profile of nothing": (_set(*_ENGINE_KEY, "profiles", 0, value={"x": {}}), "missing"),
    "a flag is a dictionary": (_set(*_ENGINE_KEY, "flags", "x", value={}), "expected true, false"),
    "fixed inputs are text": (_set(*_ENGINE_KEY, "fixed_inputs", value="hq_token"), "expected a list"),
}
