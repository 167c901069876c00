"""The second form of a float32 graph, for ONNX Runtime's CPU provider: its two passes, and its place in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from samhq_exporter.bundle.graph_files import save_forms
from samhq_exporter.passes.fold_channel_norm import fold_channel_norm
from samhq_exporter.passes.fuse_attention import fuse_attention
from samhq_runtime import Bundle, Predictor, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.errors import BundleError, ParityError
from samhq_runtime.session import open_session
from tests.support.bundles import export, rehash

HEADS, WIDTH, VALUE_WIDTH = 2, 5, 3


def attention(
    *, softmax_axis: int = -1, key_order: tuple[int, ...] = (0, 2, 3, 1), heads: int | str = HEADS
) -> ir.Model:
    """softmax(Q K^T) V from (B, tokens, heads, width) and back."""
    text = f"""
        <ir_version: 9, opset_import: ["" : 20]>
        graph (float[b,7,{heads},{WIDTH}] q, float[b,7,{heads},{WIDTH}] k, float[b,7,{heads},{VALUE_WIDTH}] v)
            => (float[b,7,{heads},{VALUE_WIDTH}] out) {{
            q1 = Transpose <perm=[0,2,1,3]> (q)
            k1 = Transpose <perm={list(key_order)}> (k)
            v1 = Transpose <perm=[0,2,1,3]> (v)
            scores = MatMul (q1, k1)
            weights = Softmax <axis={softmax_axis}> (scores)
            pooled = MatMul (weights, v1)
            out = Transpose <perm=[0,2,1,3]> (pooled)
        }}"""
    return ir.from_onnx_text(text)


def test_the_operator_computes_the_same(tmp_path: Path) -> None:
    model = attention()
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.normal(size=(2, 7, HEADS, width)).astype(np.float32)
        for name, width in (("q", WIDTH), ("k", WIDTH), ("v", VALUE_WIDTH))
    }
    expected = run(model, feeds, tmp_path)
    assert fuse_attention(model) == 1
    assert [node.op_type for node in model.graph if node.op_type in ("Softmax", "Transpose", "MatMul")] == []
    np.testing.assert_allclose(run(model, feeds, tmp_path), expected, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        attention(softmax_axis=1),  # not over keys
        attention(key_order=(0, 2, 1, 3)),  # not Q K^T (nor a valid product, but the pass does not know)
        attention(heads="h"),  # the operator needs their number
    ],
)
def test_what_is_no_attention_stays(other: ir.Model) -> None:
    before = [node.op_type for node in other.graph]
    assert fuse_attention(other) == 0
    assert [node.op_type for node in other.graph] == before


def convolved(*, act: str = "Gelu", epsilon: float = 1e-6) -> ir.Model:
    """A convolution, LayerNorm over its 6 channels, an activation, and the pixels as columns."""
    text = f"""
        <ir_version: 9, opset_import: ["" : 20]>
        graph (float[b,4,5,8] x, float[6,4,3,3] weight, float[6] bias, float[6] scale, float[6] shift)
            => (float[b,6,40] out) {{
            y = Conv <pads=[1,1,1,1]> (x, weight, bias)
            last = Transpose <perm=[0,2,3,1]> (y)
            normed = LayerNormalization <axis=-1, epsilon={epsilon}> (last, scale, shift)
            active = {act} (normed)
            shape = Constant <value_ints=[-1,40,6]> ()
            pixels = Reshape (active, shape)
            out = Transpose <perm=[0,2,1]> (pixels)
        }}"""
    model = ir.from_onnx_text(text)
    rng = np.random.default_rng(1)
    for value in list(model.graph.inputs)[1:]:
        assert value.shape is not None
        value.const_value = ir.tensor(rng.normal(size=value.shape.numpy()).astype(np.float32), name=value.name)
        model.graph.register_initializer(value)
        model.graph.inputs.remove(value)
    return model


@pytest.mark.parametrize("epsilon", [1e-6, 0.5])
def test_the_convolution_takes_the_mean_and_nothing_is_turned_round(epsilon: float, tmp_path: Path) -> None:
    model = convolved(epsilon=epsilon)
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, 5, 8)).astype(np.float32)}
    expected = run(model, feeds, tmp_path)
    assert fold_channel_norm(model) == 1
    assert not {"Transpose", "LayerNormalization"} & {node.op_type for node in model.graph}
    np.testing.assert_allclose(run(model, feeds, tmp_path), expected, atol=2e-6)


def test_other_activations_stay() -> None:
    assert fold_channel_norm(convolved(act="Relu")) == 0


def run(model: ir.Model, feeds: dict[str, np.ndarray], folder: Path) -> np.ndarray:
    ir.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_both_forms_share_weights_and_agree(tiny_bundle: Bundle) -> None:
    for name, entry in tiny_bundle.manifest.graphs.items():
        assert entry.cpu_file == f"{name}.cpu.onnx"
        assert {entry.file, entry.cpu_file, f"{entry.file}.data"} <= tiny_bundle.manifest.files.keys()
    entry = tiny_bundle.manifest.graphs[IMAGE_ENCODER]
    assert entry.cpu_file is not None
    forms = [ir.load(tiny_bundle.path / file) for file in (entry.file, entry.cpu_file)]
    assert [sum(node.domain == "com.microsoft" for node in form.graph) for form in forms] == [0, 4]
    pixels = np.random.default_rng(0).normal(size=(2, 3, 128, 128)).astype(np.float32)
    with (
        open_session(tiny_bundle.path / entry.file, entry.spec) as portable,
        tiny_bundle.open(IMAGE_ENCODER) as cpu,
    ):
        expected, got = portable({"input_image": pixels}), cpu({"input_image": pixels})
    for name, array in expected.items():
        assert np.abs(got[name] - array).max() <= 1e-5 * np.ptp(array)
        assert not np.array_equal(got[name], array)  # so it was the other file


def test_int8_is_float16_for_gpus_and_float32_for_cpus(demo_bundle_int8: Bundle) -> None:
    """The same integers, stored once; attention as each side fuses it."""
    entry = demo_bundle_int8.manifest.graphs[IMAGE_ENCODER]
    assert entry.cpu_file is not None
    portable, cpu = (ir.load(demo_bundle_int8.path / file) for file in (entry.file, entry.cpu_file))
    for form, dtype in ((portable, ir.DataType.FLOAT16), (cpu, ir.DataType.FLOAT)):
        products = [node for node in form.graph if node.op_type in ("MatMul", "Gemm")]
        assert {node.outputs[0].dtype for node in products} == {dtype}
    assert [sum(node.domain == "com.microsoft" for node in form.graph) for form in (portable, cpu)] == [0, 5]
    assert sum(node.op_type == "Softmax" for node in portable.graph) == 5
    integers = [
        {name: value for name, value in form.graph.initializers.items() if value.dtype == ir.DataType.INT8}
        for form in (portable, cpu)
    ]
    for name, value in integers[1].items():
        if value.shape is not None and len(value.shape) == 2:
            assert value.const_value.location == integers[0][name].const_value.location == f"{entry.file}.data"


def test_a_weight_of_the_same_name_with_other_values_is_not_shared(tmp_path: Path) -> None:
    forms = [convolved(), convolved()]
    changed = forms[1].graph.initializers["weight"].const_value.numpy() + 1
    forms[1].graph.initializers["weight"].const_value = ir.tensor(changed, name="weight")
    path = save_forms(*forms, tmp_path / "graph.onnx")
    saved = ir.load(path).graph.initializers
    np.testing.assert_array_equal(saved["weight"].const_value.numpy(), changed)


def test_half_precision_has_one_form(demo_bundle_fp16: Bundle) -> None:
    assert {entry.cpu_file for entry in demo_bundle_fp16.manifest.graphs.values()} == {None}
    assert "cpu_file" not in (demo_bundle_fp16.path / "manifest.json").read_text()


def test_a_wrong_second_form_fails_the_export(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fuse_wrongly(model: ir.Model) -> int:
        count = fuse_attention(model)
        for node in model.graph:
            if node.domain == "com.microsoft":
                node.attributes["scale"] = ir.AttrFloat32("scale", 0.5)
        return count

    monkeypatch.setattr("samhq_exporter.precision.forms.fuse_attention", fuse_wrongly)
    with pytest.raises(ParityError, match="image_embeddings"):
        export(tiny_checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_the_second_form_is_hashed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    bundle = export(tiny_checkpoint, tmp_path / "bundle").path
    content = (bundle / "image_encoder.cpu.onnx").read_bytes()
    (bundle / "image_encoder.cpu.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"image_encoder\.cpu\.onnx: damaged"):
        load_bundle(bundle)
    (bundle / "image_encoder.cpu.onnx").write_bytes(b"\x08\x08")  # an ir_version, and nothing else
    rehash(bundle)
    with pytest.raises(BundleError, match=r"image_encoder\.cpu\.onnx: ONNX Runtime cannot load it"):
        Predictor(bundle)
