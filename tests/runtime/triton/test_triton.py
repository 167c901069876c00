"""The Triton model repository: its schema, its files, and a real server that loads and answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from samhq_runtime.errors import BundleError, ConfigError
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.options import ServeOptions
from samhq_runtime.serve.signature import model_inputs, model_outputs
from samhq_runtime.serve.tensors import tensor_from_raw
from samhq_runtime.triton.config import TritonOptions, limits_of
from samhq_runtime.triton.repository import write_repository
from tests.support.bundles import export
from tests.support.required import missing, required
from tests.support.serving import grpc_call, grpc_request, http_body, send
from tests.support.triton_backend import triton_backend
from tests.support.triton_server import tritonserver

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOX = np.array([[5, 6, 40, 50], [1, 2, 30, 20]], np.float32)


def configs(folder: Path) -> dict[str, Any]:
    """Every config.pbtxt, parsed with the official schema."""
    schema: Any = required("tritonclient.grpc.model_config_pb2", install="samhq-export[triton]")
    from google.protobuf import text_format

    files = folder.glob("*/config.pbtxt")
    return {file.parent.name: text_format.Parse(file.read_text(), schema.ModelConfig()) for file in files}


def test_command(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = tmp_path / "models"
    assert main(["triton", str(tiny_bundle.path), str(repository)]) == 0
    models = capsys.readouterr().out.splitlines()
    assert models == [str(repository / name) for name in ("samhq_image_encoder", "samhq_mask_decoder", "samhq")]
    files = sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file())
    assert files == [
        "samhq/1/manifest.json",
        "samhq/1/model.py",
        "samhq/config.pbtxt",
        "samhq_image_encoder/1/image_encoder.onnx.data",
        "samhq_image_encoder/1/model.onnx",
        "samhq_image_encoder/config.pbtxt",
        "samhq_mask_decoder/1/mask_decoder.onnx.data",
        "samhq_mask_decoder/1/model.onnx",
        "samhq_mask_decoder/config.pbtxt",
    ]
    assert main(["triton", str(tiny_bundle.path), str(repository)]) == 1
    assert "has samhq_image_encoder, samhq_mask_decoder, samhq; choose another --name" in capsys.readouterr().err
    (repository / "samhq" / "stale").touch()
    assert main(["triton", str(tiny_bundle.path), str(repository), "--overwrite"]) == 0
    assert not (repository / "samhq" / "stale").exists()
    assert sorted(path.name for path in repository.iterdir()) == sorted(Path(model).name for model in models)


@pytest.mark.parametrize(
    "options", [TritonOptions(), TritonOptions(name="a", device="gpu", instances=3, max_images=8, response_cache=True)]
)
def test_configurations_are_of_the_official_schema(tiny_bundle: Bundle, tmp_path: Path, options: TritonOptions) -> None:
    write_repository(tiny_bundle, tmp_path, options)
    parsed = configs(tmp_path)
    encoder, decoder = (parsed[f"{options.name}_{graph}"] for graph in ("image_encoder", "mask_decoder"))
    assert (encoder.backend, encoder.max_batch_size, decoder.max_batch_size) == ("onnxruntime", options.max_images, 0)
    assert encoder.dynamic_batching.max_queue_delay_microseconds == options.queue_delay_us
    assert encoder.response_cache.enable is options.response_cache
    assert encoder.instance_group[0].count == options.instances
    specs = tiny_bundle.manifest.graphs
    for config, graph, skip in ((encoder, "image_encoder", 1), (decoder, "mask_decoder", 0)):
        required = [spec for spec in specs[graph].spec.inputs if not spec.optional]
        assert [i.name for i in config.input] == [spec.name for spec in required]
        for got, spec in zip([*config.input, *config.output], [*required, *specs[graph].spec.outputs], strict=True):
            assert list(got.dims) == [-1 if isinstance(d, str) else d for d in spec.shape[skip:]]
        assert set(config.model_warmup[0].inputs) == {spec.name for spec in required}
    pipeline, sizes = parsed[options.name], tiny_bundle.manifest.sizes
    assert [(i.name, list(i.dims)) for i in pipeline.input] == [(i.name, list(i.shape)) for i in model_inputs(sizes)]
    assert [o.name for o in pipeline.output] == [o.name for o in model_outputs(sizes)]
    assert all(i.optional for i in pipeline.input)


def test_limits_reach_the_pipeline(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line through the configuration, as Triton hands it over, to a refusal."""
    command = ["triton", str(tiny_bundle.path), str(tmp_path), "--max-prompts", "1", "--max-image-side", "70"]
    assert main([*command, "--white-point", "4095"]) == 0
    parsed = configs(tmp_path)["samhq"].parameters
    parameters = {name: {"string_value": value.string_value} for name, value in parsed.items()}
    backend = triton_backend(monkeypatch)
    from samhq_runtime.triton.pipeline import TritonPythonModel

    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({"parameters": parameters}),
            "model_repository": str(tmp_path / "samhq"),
            "model_version": "1",
        }
    )
    for inputs, complaint in (
        ({"image": IMAGE, "box": BOX}, "got 2 prompts, expected at most 1"),
        ({"image": IMAGE, "box": BOX[:1]}, "expected a longer side of at most 70 pixels"),
    ):
        (response,) = model.execute([backend.request(inputs)])
        assert complaint in response.error.message
        assert response.error.code == "INVALID_ARG"
    assert model._limits.white_point == 4095
    assert model._limits.max_points == ServeOptions().max_points


@pytest.mark.parametrize("text", ["many", "-1", "0"])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"max.prompts"):
        limits_of({"max_prompts": {"string_value": text}})


def test_half_precision_embeddings_keep_their_type(demo_bundle_fp16: Bundle, tmp_path: Path) -> None:
    write_repository(demo_bundle_fp16, tmp_path, TritonOptions())
    spec = demo_bundle_fp16.manifest.graphs["image_encoder"].spec
    wanted = ["TYPE_FP16" if output.dtype == "float16" else "TYPE_FP32" for output in spec.outputs]
    outputs = configs(tmp_path)["samhq_image_encoder"].output
    types = outputs[0].DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    assert [types[output.data_type].name for output in outputs] == wanted


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "a/b"}, "--name: got 'a/b'"),
        ({"instances": 0}, "expected at least 1"),
        ({"backend": "tensorrt", "device": "cpu"}, "runs on GPUs alone"),
    ],
)
def test_impossible_options(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        TritonOptions(**options)


def test_engines_become_plans(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that stand for engines, through the official schema."""
    bundle = Bundle(Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle")), tiny_bundle.manifest)
    for graph in ("image_encoder", "mask_decoder"):
        (bundle.path / f"{graph}.engine").write_text(graph)
    monkeypatch.setattr(Bundle, "engine", lambda self, graph, providers: SimpleNamespace(file=f"{graph}.engine"))
    write_repository(bundle, tmp_path / "models", TritonOptions(backend="tensorrt", device="gpu"))
    parsed = configs(tmp_path / "models")
    for graph in ("image_encoder", "mask_decoder"):
        config = parsed[f"samhq_{graph}"]
        assert (config.platform, config.backend) == ("tensorrt_plan", "")
        assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU
        assert (tmp_path / "models" / f"samhq_{graph}" / "1" / "model.plan").read_text() == graph


def test_the_exporter_writes_the_same_models(tiny_bundle: Bundle, tiny_checkpoint: Path, tmp_path: Path) -> None:
    write_repository(tiny_bundle, tmp_path / "models", TritonOptions())
    export(tiny_checkpoint, tmp_path / "bundle", triton=tmp_path / "exported")
    files = [path.relative_to(tmp_path / "models") for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert len(files) >= 7, files
    for file in files:
        if file.name == "manifest.json":  # its figures of parity may differ in their last bits between runs
            assert (tmp_path / "exported" / file).is_file()
            continue
        assert (tmp_path / "exported" / file).read_bytes() == (tmp_path / "models" / file).read_bytes(), file
    with pytest.raises(ConfigError, match="has samhq_image_encoder"):
        export(tiny_checkpoint, tmp_path / "second", triton=tmp_path / "exported")
    assert not (tmp_path / "second").exists()


def test_tensorrt_needs_engines(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no engine of image_encoder; build it: samhq engine"):
        write_repository(tiny_bundle, tmp_path / "models", TritonOptions(backend="tensorrt"))
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def triton(
    tiny_bundle: Bundle, hq_sam2_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int]]:
    python = os.environ.get("SAMHQ_PYTRITON")
    if not python:
        missing("SAMHQ_PYTRITON names no environment with nvidia-pytriton; see tests/support/triton_server.py")
    folder = tmp_path_factory.mktemp("triton")
    write_repository(tiny_bundle, folder / "models", TritonOptions(device="cpu", response_cache=True))
    write_repository(hq_sam2_bundle, folder / "models", TritonOptions(name="sam2", device="cpu"))
    with tritonserver(Path(python), folder / "models", folder) as ports:
        yield ports


POINTS = {"point_coords": BOX[:, None, :2], "point_labels": np.ones((2, 1), np.float32)}


@pytest.mark.parametrize(
    ("model", "prompts", "options"),
    [
        ("samhq", {"box": BOX}, {}),
        ("samhq", POINTS, {"hq_token_only": True}),
        ("samhq", {"box": BOX[:1], "mask_input": np.ones((1, 1, 32, 32), np.float32)}, {"multimask_output": False}),
        ("sam2", {"box": BOX}, {"multimask_output": False}),
        ("sam2", POINTS, {}),
    ],
)
def test_a_real_server_gives_the_predictors_masks(
    triton: tuple[int, int],
    tiny_bundle: Bundle,
    hq_sam2_bundle: Bundle,
    model: str,
    prompts: dict[str, Any],
    options: dict[str, bool],
) -> None:
    with Predictor({"samhq": tiny_bundle, "sam2": hq_sam2_bundle}[model], threads=1) as predictor:
        predictor.set_image(IMAGE)
        results = predictor.predict_batch(**prompts, **options)
    expected = dict(zip(("masks", "iou_predictions", "low_res_logits"), results, strict=True))
    request = grpc_request({"image": IMAGE, **prompts}, list(expected), **options)
    request.model_name = model
    response = grpc_call(triton[1], "ModelInfer", request)
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    got = {o.name: tensor_from_raw(o.name, o.datatype, o.shape, raw).data for o, raw in pairs}
    assert got.keys() == expected.keys()
    np.testing.assert_array_equal(got["masks"], expected["masks"])
    for name in ("iou_predictions", "low_res_logits"):
        np.testing.assert_allclose(got[name], expected[name], atol=1e-5 * max(1.0, np.ptp(expected[name])))


def test_a_real_server_refuses_bad_requests_and_goes_on(triton: tuple[int, int], tiny_bundle: Bundle) -> None:
    body, length = http_body({"image": IMAGE, "box": BOX[:, ::-1]})
    headers = {"Inference-Header-Content-Length": str(length)}
    status, _, answer = send(triton[0], "POST", "/v2/models/samhq/infer", body, headers)
    assert status in (400, 500)
    assert "corners are swapped" in json.loads(answer)["error"]
    assert grpc_call(triton[1], "ModelReady", MESSAGES["ModelReadyRequest"](name="samhq")).ready
