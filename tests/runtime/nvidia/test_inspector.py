"""What TensorRT's EngineInspector says, as its documentation shows it, becomes kernels."""

from __future__ import annotations

import json

import pytest

from samhq_runtime.errors import BundleError
from samhq_runtime.nvidia.inspector import inspect
from samhq_runtime.nvidia.plan import ATTENTION, MOVE, PRODUCT, SOFTMAX


def layer(name: str, layer_type: str, dims: list[int], dtype: str = "Half") -> dict[str, object]:
    tensor = {"Name": f"{name}/out", "Dimensions": dims, "Format/Datatype": dtype}
    return {"Name": name, "LayerType": layer_type, "Inputs": [{**tensor, "Name": "x"}], "Outputs": [tensor]}


def test_kernels() -> None:
    layers = [
        layer("_gemm_mha_v2", "kgen", [12, 4096, 64]),
        layer("qkv", "gemm", [4096, 768], "Row major linear BFloat16"),
        layer("__myl_MaxrSubExpSumDiv", "kgen", [-1, 64]),
        layer("__myl_Tran", "kgen", [4, 4], "FP8"),
    ]
    program = inspect(json.dumps({"Layers": layers, "Bindings": []}), "x.engine", "8.6")
    assert [kernel.kind for kernel in program.kernels] == [ATTENTION, PRODUCT, SOFTMAX, MOVE]
    assert [kernel.dtype for kernel in program.kernels] == ["float16", "bfloat16", "float16", "float8"]
    assert [kernel.open for kernel in program.kernels] == [False, False, True, False]
    assert program.kernels[0].nbytes == 2 * 2 * 12 * 4096 * 64
    assert program.capabilities == ("8.6",)


@pytest.mark.parametrize("layers", [[], ["conv1", "conv2"]])
def test_names_only(layers: list[str]) -> None:
    with pytest.raises(BundleError, match=r"x\.engine: .* names of layers only; build the engine again"):
        inspect(json.dumps({"Layers": layers}), "x.engine", "8.6")
