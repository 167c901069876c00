"""Providers in every form, encoder and decoder on different ones, and the rule behind `auto`."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.auto import rule as rules
from samhq_runtime.auto import ways_of
from samhq_runtime.cli import main
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import ConfigError
from samhq_runtime.session.providers import Providers, names_by_graph, text_of
from tests.support import gpu_machine
from tests.support.gpu_machine import A_GPU, Machine, logits_of

machine = gpu_machine.machine  # the fixture


@pytest.mark.parametrize(
    ("given", "encoder", "decoder", "text"),
    [
        ("cpu", ("cpu",), ("cpu",), "cpu"),
        (("cuda", "cpu"), ("cuda", "cpu"), ("cuda", "cpu"), "cuda,cpu"),
        ("cuda,cpu", ("cuda", "cpu"), ("cuda", "cpu"), "cuda,cpu"),
        ("openvino:bf16/cpu", ("openvino:bf16",), ("cpu",), "openvino:bf16/cpu"),
        (("cuda", "cpu/cpu"), ("cuda", "cpu"), ("cpu",), "cuda,cpu/cpu"),
        ({"mask_decoder": "cpu", "image_encoder": ("cuda", "cpu")}, ("cuda", "cpu"), ("cpu",), "cuda,cpu/cpu"),
        ("auto", ("auto",), ("auto",), "auto"),
        ("auto/cpu", ("auto",), ("cpu",), "auto/cpu"),
        ((), (), (), ""),
    ],
)
def test_forms(given: Providers, encoder: tuple[str, ...], decoder: tuple[str, ...], text: str) -> None:
    names = names_by_graph(given)
    assert names == {IMAGE_ENCODER: encoder, MASK_DECODER: decoder}
    assert text_of(names) == text
    assert names_by_graph(text) == names


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("cpu/cpu/cpu", "cpu/cpu/cpu: expected at most two parts, ENCODER/DECODER"),
        ({"image_encoder": "cpu"}, "got those of image_encoder, expected of image_encoder and mask_decoder"),
        ("cuda,auto", "cuda,auto: auto stands alone"),
        ("cpu/auto,cpu", "auto,cpu: auto stands alone"),
    ],
)
def test_no_such_form(tiny_bundle: Bundle, given: Providers, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Predictor(tiny_bundle, providers=given)


def test_the_two_graphs_on_different_backends(tiny_bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    expected = logits_of(tiny_bundle, providers=("cpu",))
    for providers in ("openvino/cpu", {IMAGE_ENCODER: "cpu", MASK_DECODER: ("openvino:cpu:f32",)}):
        got = logits_of(tiny_bundle, providers=providers)  # type: ignore[arg-type]
        assert np.abs(got - expected).max() <= 1e-4 * np.ptp(expected)


def test_options_go_to_the_graph_of_their_provider(tiny_bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    options = {"openvino": {"NUM_STREAMS": "1"}}
    with Predictor(tiny_bundle, providers="openvino/cpu", provider_options=options) as predictor:
        assert predictor.providers == {IMAGE_ENCODER: ("openvino",), MASK_DECODER: ("cpu",)}
        assert pickle.loads(pickle.dumps(predictor)).providers == predictor.providers
    with pytest.raises(ConfigError, match="option of 'cuda': expected one of the providers openvino, cpu"):
        Predictor(tiny_bundle, providers="openvino/cpu", provider_options={"cuda": {"device_id": "1"}})


@pytest.mark.parametrize(
    ("installed", "precision", "gpu", "expected"),
    [
        (["onnxruntime"], "fp32", False, "cpu"),
        (["onnxruntime", "openvino"], "fp32", False, "openvino:cpu:f32/cpu"),  # never OpenVINO's own choice
        (["onnxruntime", "openvino"], "int8", False, "openvino:cpu:f32/cpu"),
        (["onnxruntime", "openvino"], "bf16", False, "openvino:cpu:f32"),  # the CPU provider has no kernels
        (["openvino"], "fp32", False, "openvino:cpu:f32"),
        (["onnxruntime", "openvino"], "fp32", True, "cuda"),
        (["openvino"], "fp32", True, "openvino:cpu:f32"),
        ([], "fp32", True, "cpu"),  # which says what to install
    ],
)
def test_rule(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    installed: Sequence[str],
    precision: str,
    gpu: bool,
    expected: str,
) -> None:
    onnxruntime = ModuleType("onnxruntime")
    onnxruntime.get_available_providers = lambda: ["CUDAExecutionProvider"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime)
    monkeypatch.setattr(rules, "_installed", lambda module: module in installed)
    monkeypatch.setattr(rules, "current_gpu", lambda: A_GPU if gpu else None)
    manifest = dataclasses.replace(tiny_bundle.manifest, precision=precision)
    assert str(ways_of(tiny_bundle.path, manifest, "auto")) == expected


def test_engines_that_fit_come_first(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = machine.build()
    with Predictor(bundle, providers="auto") as predictor:
        assert predictor.providers == dict.fromkeys((IMAGE_ENCODER, MASK_DECODER), ("engine:tensorrt",))
    elsewhere = {key: dataclasses.replace(e, gpu="Another Card") for key, e in bundle.manifest.engines.items()}
    manifest = dataclasses.replace(bundle.manifest, engines=elsewhere)
    assert "engine" not in str(ways_of(bundle.path, manifest, "auto"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "engine" not in str(bundle.ways("auto"))


def test_an_engine_beside_a_graph(machine: Machine) -> None:
    bundle = machine.build(verify=False)  # so that the first use checks the one engine
    expected = logits_of(bundle, providers=("cpu",))
    for providers in ("engine/cpu", "cpu/engine"):
        got = logits_of(bundle, providers=providers)  # type: ignore[arg-type]
        np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("providers", ["auto", "cpu/cpu", "cpu/auto"])
def test_predict_command(
    tiny_bundle: Bundle, providers: str, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    image, mask = f"{tmp_path}/image.png", f"{tmp_path}/mask.png"
    Image.fromarray(gpu_machine.IMAGE).save(image)
    command = ["predict", str(tiny_bundle.path), image, "--box", "5,6,40,50", "--output", mask]
    assert main([*command, "--providers", providers]) == 0
    assert "predicted IoU" in capsys.readouterr().out
