"""The Python interface of Triton as far as the pipeline uses it to read requests and refuse them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pytest


@dataclass
class _Tensor:
    given_name: str
    array: np.ndarray

    def name(self) -> str:
        return self.given_name

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class _Error:
    message: str
    code: str
    INVALID_ARG = "INVALID_ARG"
    INTERNAL = "INTERNAL"


@dataclass
class _Response:
    output_tensors: Any = None
    error: Any = None


@dataclass
class _Request:
    tensors: list[_Tensor]

    def inputs(self) -> list[_Tensor]:
        return self.tensors

    def requested_output_names(self) -> list[str]:
        return []

    def parameters(self) -> str:
        return ""


class _Backend(ModuleType):
    Tensor, TritonError, InferenceResponse = _Tensor, _Error, _Response

    def request(self, inputs: Mapping[str, np.ndarray]) -> _Request:
        return _Request([_Tensor(name, array) for name, array in inputs.items()])


def triton_backend(monkeypatch: pytest.MonkeyPatch) -> _Backend:
    """In the place of the module that Triton has for its Python models."""
    backend = _Backend("triton_python_backend_utils")
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.delitem(sys.modules, "samhq_runtime.triton.pipeline", raising=False)
    return backend
