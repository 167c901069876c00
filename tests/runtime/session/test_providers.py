"""The names of providers, derived from the tables that say what each is."""

from __future__ import annotations

import pytest

from samhq_runtime.commands.options import PROVIDER_NAMES
from samhq_runtime.doctor.children import ON_GPU, PROBES
from samhq_runtime.session.providers import ENGINE_PROVIDERS, run_engines


def test_names() -> None:
    assert ENGINE_PROVIDERS == {"engine": None, "engine:tensorrt": "tensorrt", "engine:rtx": "rtx"}
    assert PROVIDER_NAMES == ["cpu", "cuda", "tensorrt", "rtx", "openvino", "engine"]
    assert PROBES == {
        "cpu": "onnxruntime",
        "cuda": "onnxruntime",
        "tensorrt": "onnxruntime",
        "rtx": "onnxruntime",
        "openvino": "openvino",
        "engine:tensorrt": "tensorrt",
        "engine:rtx": "tensorrt_rtx",
    }
    assert ON_GPU == ("cuda", "tensorrt", "rtx", "engine:tensorrt", "engine:rtx")


@pytest.mark.parametrize(
    ("providers", "engines"),
    [(("cpu",), False), (("tensorrt", "cuda"), False), (("engine",), True), (("engine:rtx",), True), ((), False)],
)
def test_which_run_engines(providers: tuple[str, ...], engines: bool) -> None:
    assert run_engines(providers) is engines
