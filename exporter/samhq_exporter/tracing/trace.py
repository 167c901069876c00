"""Module + contract -> ONNX graph with the contract's names and dynamic dimensions.

TorchScript-based tracing was chosen by measurement over `dynamo=True`: it names nodes by module path
(`/image_encoder/blocks.0/attn/MatMul`), traces the demo encoder in 2 s instead of 17 s, and accepts dimensions that
broadcast (`mask_inputs`). Weights never pass through the tracer: they are attached afterwards, by name, so a 2.5 GB
model needs neither a temporary file nor a second copy.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from samhq_runtime.contract import TensorSpec

from .modules import Graph

OPSET = 20  # the first with Gelu as one operator; TensorRT 10.3 and ONNX Runtime 1.17 read it
_SAMPLE_SIZES = {"images": 1, "prompts": 3, "points": 4, "mask_inputs": 1, "combinations": 2}


def trace(graph: Graph) -> ir.Model:
    """Trace `graph` in float32; its `defaults` become overridable initializers."""
    spec = graph.spec
    samples = tuple(_sample(tensor, graph.defaults) for tensor in spec.inputs)
    dynamic = {
        t.name: {axis: d for axis, d in enumerate(t.shape) if isinstance(d, str)} for t in (*spec.inputs, *spec.outputs)
    }
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's deprecation and Python-value notes; verify.py judges the result
        torch.onnx.export(
            graph.module.eval(),
            samples,
            buffer,  # type: ignore[arg-type]  # any file object, as the exporter's documentation says
            dynamo=False,
            export_params=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=[t.name for t in spec.inputs],
            output_names=[t.name for t in spec.outputs],
            dynamic_axes={name: axes for name, axes in dynamic.items() if axes},
        )
    model = ir.from_proto(onnx.load_model_from_string(buffer.getvalue()))
    _attach_weights(model.graph, graph)
    model.graph.name = spec.name
    return model


def _sample(tensor: TensorSpec, defaults: Mapping[str, Tensor]) -> Tensor:
    """A value to trace with; only its shape and dtype enter the graph."""
    if tensor.name in defaults:
        return defaults[tensor.name]
    shape = [_SAMPLE_SIZES[d] if isinstance(d, str) else d for d in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def _attach_weights(onnx_graph: ir.Graph, graph: Graph) -> None:
    """Turn the inputs that stand for parameters and buffers into initializers that share the module's memory."""
    weights = {**dict(graph.module.named_parameters()), **dict(graph.module.named_buffers())}
    arguments = {t.name for t in graph.spec.inputs}
    for value in list(onnx_graph.inputs):
        assert value.name is not None
        tensor = graph.defaults.get(value.name) if value.name in arguments else weights[value.name]
        if tensor is not None:
            value.const_value = ir.tensor(tensor.detach().contiguous().numpy(), name=value.name)
            onnx_graph.register_initializer(value)
        if value.name not in arguments:
            onnx_graph.inputs.remove(value)
