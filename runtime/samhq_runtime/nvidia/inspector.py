"""The kernels of a loaded engine as TensorRT's own EngineInspector lists them, where a plan holds no text.

Detailed only for engines built with detailed verbosity, as `samhq engine` builds them. It states no arithmetic, so
`Kernel.flop` is 0. Written from the documentation's example of its JSON; it needs a GPU, and has not met one yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BundleError
from .plan import ATTENTION, CONVOLUTION, PRODUCT, Kernel, PlanTensor, Program, kind_of_generated

_TYPES = {
    "Float": ("float32", 4), "FP32": ("float32", 4), "Half": ("float16", 2), "FP16": ("float16", 2),
    "BFloat16": ("bfloat16", 2), "BF16": ("bfloat16", 2), "Int8": ("int8", 1), "FP8": ("float8", 1),
    "Int32": ("int32", 4), "Int64": ("int64", 8), "Bool": ("bool", 1),
}  # fmt: skip
_KINDS = (("mha", ATTENTION), ("gemm", PRODUCT), ("gemv", PRODUCT), ("matrix", PRODUCT), ("conv", CONVOLUTION))


def inspect(text: str, name: str, capability: str) -> Program:
    """What `get_engine_information(JSON)` says.

    Raises:
        BundleError: it lists names only.
    """
    layers = json.loads(text).get("Layers", [])
    if not layers or not all(isinstance(layer, dict) for layer in layers):
        raise BundleError(
            f"{name}: TensorRT's EngineInspector lists names of layers only; build the engine again with `samhq engine`"
        )
    return Program((capability,), tuple(_kernel(layer) for layer in layers))


def _kernel(layer: Mapping[str, Any]) -> Kernel:
    name = str(layer.get("Name", ""))
    reads, writes = _tensors(layer.get("Inputs", [])), _tensors(layer.get("Outputs", []))
    words = f"{layer.get('LayerType', '')} {name} {layer.get('TacticName', '')}".lower()
    kind = next((kind for word, kind in _KINDS if word in words), None) or kind_of_generated(name)
    side = reads if kind in (ATTENTION, PRODUCT, CONVOLUTION) else writes
    dtype = next(iter(side.values())).dtype if side else ""
    return Kernel(kind=kind, name=name, layers=(), reads=reads, writes=writes, dtype=dtype, flop=0)


def _tensors(found: Sequence[Mapping[str, Any]]) -> dict[str, PlanTensor]:
    tensors = {}
    for tensor in found:
        words = str(tensor.get("Format/Datatype", "")).split()
        dtype, itemsize = next((_TYPES[word] for word in reversed(words) if word in _TYPES), ("?", 0))
        dims = tuple(size if size >= 0 else "?" for size in tensor.get("Dimensions", []))
        tensors[str(tensor.get("Name"))] = PlanTensor(dims, dtype, itemsize)
    return tensors
