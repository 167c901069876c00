"""The OpenVINO session: the same results as ONNX Runtime, from any thread, or a clear refusal."""

from __future__ import annotations

import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, Array
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError, ContractError
from samhq_runtime.installing import install_command
from samhq_runtime.session import open_session
from tests.support.bundles import export

ov = pytest.importorskip("openvino", reason="openvino is not installed")
from samhq_runtime.session import openvino_positions  # noqa: E402
from samhq_runtime.session.openvino_positions import positions_as_bias  # noqa: E402

ATOL_OF_RANGE = 1e-4  # float32 in another order of summation
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def close(got: Array, expected: Array, tolerance: float = ATOL_OF_RANGE) -> bool:
    return bool(np.abs(got.astype(np.float64) - expected).max() <= tolerance * np.ptp(expected))


def capabilities() -> list[str]:
    return ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(params=["tiny_bundle", "demo_bundle", "demo_bundle_fp16"])
def bundle(request: pytest.FixtureRequest) -> Bundle:
    return request.getfixturevalue(request.param)


def predictions(bundle: Bundle, provider: str, **options: object) -> tuple[Array, ...]:
    with Predictor(bundle, providers=(provider,), threads=2, **options) as predictor:  # type: ignore[arg-type]
        predictor.set_image(IMAGE)
        boxes = [[10, 12, 70, 60], [30, 5, 110, 80]]
        one = predictor.predict(box=boxes, multimask_output=False, return_logits=True)
        logits = one[2]
        again = predictor.predict([[40, 40]], [1], mask_input=logits[0], return_logits=True)
        return one[0], one[1], again[0]


def test_same_predictions_as_onnx_runtime(bundle: Bundle) -> None:
    # ONNX Runtime computes float16 graphs partly in float32; so does OpenVINO, in other places.
    tolerance = ATOL_OF_RANGE if bundle.manifest.precision == "fp32" else 0.02
    got, expected = predictions(bundle, "openvino"), predictions(bundle, "cpu")
    assert all(close(g, e, tolerance) for g, e in zip(got, expected, strict=True))


def test_hq_token_has_its_default_and_can_be_replaced(tiny_bundle: Bundle) -> None:
    width = tiny_bundle.manifest.sizes.embed_dim
    token = np.random.default_rng(1).standard_normal((1, width)).astype(np.float32)
    usual = predictions(tiny_bundle, "openvino")[0]
    replaced = predictions(tiny_bundle, "openvino", hq_token=token)[0]
    assert not close(replaced, usual)
    assert close(replaced, predictions(tiny_bundle, "cpu", hq_token=token)[0])


def test_arithmetic_is_float32_unless_asked_otherwise(tiny_bundle: Bundle) -> None:
    with tiny_bundle.open(IMAGE_ENCODER, providers=("openvino",), threads=1) as session:
        model = session._model  # type: ignore[attr-defined]
        assert model.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
        assert model.get_property("INFERENCE_NUM_THREADS") == 1


def test_properties_reach_the_model(tiny_bundle: Bundle) -> None:
    options = {"openvino": {"NUM_STREAMS": "2"}}
    with tiny_bundle.open(IMAGE_ENCODER, providers=("openvino",), provider_options=options) as session:
        assert session._model.get_property("NUM_STREAMS") == 2  # type: ignore[attr-defined]


def test_bf16_where_the_processor_has_it(demo_bundle: Bundle) -> None:
    if "BF16" not in capabilities():
        pytest.skip("this processor has no bf16")
    got, expected = predictions(demo_bundle, "openvino:bf16")[0] > 0, predictions(demo_bundle, "cpu")[0] > 0
    assert (got & expected).sum() / (got | expected).sum() > 0.9


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_precision_the_device_lacks_is_refused(tiny_bundle: Bundle, precision: str) -> None:
    if {"bf16": "BF16", "f16": "FP16"}[precision] in capabilities():
        pytest.skip(f"this processor has {precision}")
    with pytest.raises(BackendUnavailable, match=f"does not compute in {precision}; use f32"):
        tiny_bundle.open(MASK_DECODER, providers=(f"openvino:{precision}",))


@pytest.mark.parametrize(
    ("providers", "error", "complaint"),
    [
        (("openvino", "cpu"), ConfigError, "give it alone"),
        (("cpu", "openvino"), ConfigError, "give it alone"),
        (("openvino:tpu",), ConfigError, r"expected openvino\[:DEVICE\]"),
        (("openvino:f32:cpu",), ConfigError, r"expected openvino\[:DEVICE\]"),
        (("openvino:cpu:f32:x",), ConfigError, r"expected openvino\[:DEVICE\]"),
        (("openvino:cpu:int8",), ConfigError, r"expected openvino\[:DEVICE\]"),
        (("openvino:npu",), BackendUnavailable, "finds no NPU here; it has CPU"),
    ],
)
def test_refused(tiny_bundle: Bundle, providers: tuple[str, ...], error: type[Exception], complaint: str) -> None:
    if providers == ("openvino:npu",) and "NPU" in ov.Core().available_devices:
        pytest.skip("this machine has an NPU")
    with pytest.raises(error, match=complaint):
        tiny_bundle.open(MASK_DECODER, providers=providers)


def test_int8_graphs(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Quantised by Q/DQ pairs in the graph, so there is nothing to ask OpenVINO for."""
    bundle = export(tiny_checkpoint, tmp_path / "bundle", precision="int8")
    image = np.random.default_rng(0).standard_normal((1, 3, 128, 128), dtype=np.float32)
    with bundle.open(IMAGE_ENCODER) as expected, bundle.open(IMAGE_ENCODER, providers=("openvino",)) as session:
        feeds = {"input_image": image}
        assert close(session(feeds)["image_embeddings"], expected(feeds)["image_embeddings"], 0.05)


def test_positions_become_a_bias_in_every_attention_of_the_encoder(bundle: Bundle) -> None:
    graph = bundle.path / bundle.manifest.graphs[IMAGE_ENCODER].file
    model = ov.Core().read_model(graph)
    softmaxes = [op for op in model.get_ops() if op.get_type_name() == "Softmax"]
    assert positions_as_bias(model) == len(softmaxes) > 0
    assert positions_as_bias(model) == 0


@pytest.mark.parametrize("block_bytes", [1, 2**24])
def test_attention_in_blocks(demo_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    """The demo's 256 tokens in chunks of 64 queries, of one head at a time or of all."""
    whole = predictions(demo_bundle, "openvino")
    monkeypatch.setattr(openvino_positions, "_BLOCK_QUERIES", 64)
    monkeypatch.setattr(openvino_positions, "_BLOCK_BYTES", block_bytes)
    model = ov.Core().read_model(demo_bundle.path / demo_bundle.manifest.graphs[IMAGE_ENCODER].file)
    attentions = positions_as_bias(model)
    assert sum(op.get_type_name() == "Softmax" for op in model.get_ops()) >= attentions + 3
    cut = predictions(demo_bundle, "openvino")
    assert all(close(c, w) for c, w in zip(cut, whole, strict=True))


def test_keys_that_are_not_one_hot_are_left_alone(tiny_bundle: Bundle) -> None:
    model = ov.Core().read_model(tiny_bundle.path / tiny_bundle.manifest.graphs[IMAGE_ENCODER].file)
    broadcasts = [op.input(0) for op in model.get_ops() if op.get_type_name() == "Broadcast"]
    onehots = [port for port in broadcasts if len(port.get_partial_shape()) == 4]
    assert onehots
    for port in onehots:
        swapped = port.get_source_output().get_node().data[..., ::-1].copy()
        port.replace_source_output(ov.op.Constant(swapped).output(0))
    assert positions_as_bias(model) == 0


def test_several_images_are_encoded_in_turn(demo_bundle: Bundle) -> None:
    side = demo_bundle.manifest.sizes.image_size
    images = np.random.default_rng(0).standard_normal((3, 3, side, side), dtype=np.float32)
    with demo_bundle.open(IMAGE_ENCODER) as expected, demo_bundle.open(IMAGE_ENCODER, providers=("openvino",)) as got:
        feeds = {"input_image": images}
        for name, value in expected(feeds).items():
            assert close(got(feeds)[name], value)


def test_damaged_or_other_graph(tiny_bundle: Bundle, tmp_path: Path) -> None:
    spec = tiny_bundle.manifest.graphs[MASK_DECODER].spec
    encoder = tiny_bundle.path / tiny_bundle.manifest.graphs[IMAGE_ENCODER].file
    with pytest.raises(ContractError, match="inputs are"):
        open_session(encoder, spec, providers=("openvino",))
    cut = Path(shutil.copy(encoder, tmp_path / "cut.onnx"))
    cut.write_bytes(cut.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"cut\.onnx: OpenVINO cannot load it"):
        open_session(cut, spec, providers=("openvino",))


def test_calls_from_several_threads_do_not_mix(tiny_bundle: Bundle) -> None:
    side = tiny_bundle.manifest.sizes.image_size
    generator = np.random.default_rng(0)
    images = [generator.standard_normal((1, 3, side, side), dtype=np.float32) for _ in range(6)]
    with tiny_bundle.open(IMAGE_ENCODER, providers=("openvino",)) as session:
        expected = [session({"input_image": image})["image_embeddings"] for image in images]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda i: session({"input_image": images[i % 6]})["image_embeddings"], range(48)))
    assert all(close(result, expected[i % 6], 1e-6) for i, result in enumerate(results))


def test_missing_package_says_what_to_install(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "samhq_runtime.session.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match=re.escape(install_command("openvino"))):
        tiny_bundle.open(MASK_DECODER, providers=("openvino",))
