"""The pipeline model: `Predictor`, with both graphs run by Triton's other two models. Imported by Triton alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from ..bundle import Bundle
from ..closing import Closing
from ..contract import Array, GraphSpec
from ..errors import BackendUnavailable, SamHqError
from ..manifest import read_manifest
from ..predictor import Predictor
from ..serve.errors import Reason, reason_of
from ..serve.images import fitted
from ..serve.requests import read_infer, require_room
from ..serve.signature import InferRequest, Segmentation, answer, infer_request
from ..serve.tensors import Tensor
from .config import limits_of

_CLIENTS_FAULT = (Reason.INVALID, Reason.TOO_LARGE)


class TritonPythonModel:
    """What Triton's Python backend looks for: `initialize`, then `execute` for every group of requests."""

    def initialize(self, args: Mapping[str, str]) -> None:
        config = json.loads(args["model_config"])
        prefix = config["parameters"]["models_prefix"]["string_value"]
        self._limits = limits_of(config["parameters"])
        manifest = read_manifest(Path(args["model_repository"]) / args["model_version"])
        self._predictor = Predictor(TritonBundle(Path(prefix), manifest))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        self._predictor.close()

    def _answer(self, request: Any) -> Any:
        try:
            parsed = _parse(request)
            tensors = answer(self._segment(parsed), parsed.outputs)
        except SamHqError as e:
            code = pb_utils.TritonError.INVALID_ARG if reason_of(e) in _CLIENTS_FAULT else pb_utils.TritonError.INTERNAL
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(e), code))
        return pb_utils.InferenceResponse([pb_utils.Tensor(tensor.name, tensor.data) for tensor in tensors])

    def _segment(self, request: InferRequest) -> Segmentation:
        sizes = self._predictor.bundle.manifest.sizes
        prompts, source = read_infer(request, sizes, self._limits)
        image = fitted(source.content, sizes.frame, self._limits)
        require_room(request, prompts, image.original_hw, sizes, self._limits)
        encoded = self._predictor.encode_fitted(image.pixels, image.original_hw)
        arguments: dict[str, Any] = dict(prompts.arrays)
        return Segmentation(*self._predictor.predict_batch(**arguments, **prompts.options, image=encoded))


class TritonBundle(Bundle):
    """A bundle whose graphs are models of the same Triton server, named `<path>_<graph>`."""

    def _open(self, graph: str, way: object, provider_options: object) -> TritonSession:
        """Triton's configuration says where it runs."""
        return TritonSession(f"{self.path}_{graph}", self.manifest.graphs[graph].spec)


class TritonSession(Closing):
    """One model of this server. What the encoder leaves behind is handed to the decoder where it lies."""

    def __init__(self, model: str, spec: GraphSpec) -> None:
        self.spec = spec
        self._model = model

    def __call__(self, feeds: Mapping[str, Any]) -> dict[str, Array]:
        return {name: tensor.as_numpy() for name, tensor in self._run(feeds, **_host_memory()).items()}

    def keep(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs as Triton's own tensors, on the device that made them."""
        return self._run(feeds)

    def _run(self, feeds: Mapping[str, Any], **placed: Any) -> dict[str, Any]:
        inputs = [f if isinstance(f, pb_utils.Tensor) else pb_utils.Tensor(name, f) for name, f in feeds.items()]
        names = [output.name for output in self.spec.outputs]
        request = pb_utils.InferenceRequest(
            model_name=self._model, requested_output_names=names, inputs=inputs, **placed
        )
        response = request.exec()
        if response.has_error():
            raise BackendUnavailable(f"{self._model}: {response.error().message()}")
        return {tensor.name(): tensor for tensor in response.output_tensors()}

    def close(self) -> None:
        """Triton owns the model."""


def _host_memory() -> dict[str, Any]:
    """The argument that asks for outputs on the host; servers built without GPUs have no other place, nor the class."""
    if not hasattr(pb_utils, "PreferredMemory"):
        return {}
    return {"preferred_memory": pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU)}


def _parse(request: Any) -> InferRequest:
    inputs = [Tensor(tensor.name(), tensor.as_numpy()) for tensor in request.inputs()]
    return infer_request(inputs, sorted(request.requested_output_names()), json.loads(request.parameters() or "{}"))
