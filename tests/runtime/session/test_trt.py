"""The native TensorRT session, from `samhq engine` to masks, on the fakes of gpu_machine."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine import EngineOptions
from samhq_runtime.errors import ConfigError, DeviceError
from samhq_runtime.nvidia.profiles import parse_ranges
from tests.support import gpu_machine
from tests.support.cuda_fakes import Status
from tests.support.gpu_machine import A_GPU, BOX, IMAGE, Machine, both_apis, decoder_feeds, features_of, logits_of

machine = gpu_machine.machine  # the fixture


def test_free_buffers_make_room_for_another_size(machine: Machine) -> None:
    from samhq_runtime.session.cuda import Device

    device = Device(0)
    first, second = device.allocate(2560), device.allocate(1280)
    del first, second
    machine.gpu.free_memory = 0
    kept = device.allocate(1280)  # of a free one
    assert machine.gpu.calls.count("cudaFree") == 0
    assert device.allocate(2048).size == 2048  # the other one was given back for it
    assert machine.gpu.calls.count("cudaFree") == 1
    with pytest.raises(DeviceError, match=r"cudaMalloc\(1048576\): no memory left"):
        device.allocate(1 << 20)
    assert machine.gpu.calls.count("cudaGetLastError") == 2
    assert kept.address in machine.gpu.device


@both_apis
def test_same_masks_as_the_graphs(machine: Machine) -> None:
    bundle = machine.build()
    expected = logits_of(bundle, providers=("cpu",))
    np.testing.assert_allclose(logits_of(bundle), expected, atol=1e-3)
    np.testing.assert_allclose(logits_of(bundle, providers=("engine:tensorrt",)), expected, atol=1e-3)


def test_checked_after_the_build(machine: Machine) -> None:
    for entry in machine.build().manifest.engines.values():
        assert entry.parity["gpu"] == A_GPU.name
        assert set(entry.parity) == {"gpu", "compute_capability", "pytorch", "onnx"}
        assert min(entry.parity["onnx"]["mask_iou"].values()) > 0.999
        assert set(entry.parity["pytorch"]["relative"]) >= {"hq_features", "low_res_logits", "iou_predictions"}


def test_embeddings_stay_on_the_gpu(machine: Machine) -> None:
    bundle = machine.build()
    with Predictor(bundle, providers=("engine",)) as predictor:
        encoded = predictor.encode(IMAGE)
        predictor.set_encoded(encoded)
        sizes = {tensor.nbytes for tensor in encoded.features.values()}  # type: ignore[union-attr]
        machine.gpu.copied.clear()
        predictor.predict(box=BOX)
        assert {kind for kind, size in machine.gpu.copied if size in sizes} == {"DeviceToDevice"}
        assert {kind for kind, _ in machine.gpu.copied} == {"HostToDevice", "DeviceToHost", "DeviceToDevice"}
        host = {name: np.asarray(tensor) for name, tensor in encoded.features.items()}
        with bundle.open(MASK_DECODER) as onnx, bundle.open(MASK_DECODER, providers=("engine",)) as engine:
            feeds = decoder_feeds(bundle)
            expected = onnx({**host, **feeds})["low_res_logits"]
            # Every mixture: kept by one backend, fed to another.
            for session, features in ((onnx, encoded.features), (engine, host), (engine, encoded.features)):
                np.testing.assert_allclose(session({**features, **feeds})["low_res_logits"], expected, atol=1e-3)


def test_memory_is_used_again(machine: Machine) -> None:
    bundle = machine.build()
    with Predictor(bundle, providers=("engine",)) as predictor:
        for prompts in (3, 1, 2):
            predictor.set_image(IMAGE)
            predictor.predict(box=np.tile(BOX, (prompts, 1)))
        before, pinned = machine.gpu.free_memory, len(machine.gpu.pinned)
        for prompts in (1, 3, 2):
            predictor.set_image(IMAGE)
            predictor.predict(box=np.tile(BOX, (prompts, 1)))
        assert (machine.gpu.free_memory, len(machine.gpu.pinned)) == (before, pinned)


def test_encoder_is_replayed_as_a_cuda_graph(machine: Machine) -> None:
    bundle = machine.build()
    other = IMAGE[::-1].copy()
    with Predictor(bundle, providers=("engine",)) as predictor, Predictor(bundle) as onnx:
        for index, image in enumerate((IMAGE, other, IMAGE, other)):
            launches = machine.gpu.calls.count("cudaGraphLaunch")
            features = predictor.encode(image).features
            assert machine.gpu.calls.count("cudaGraphLaunch") - launches == int(index >= 1)
            for name, expected in onnx.encode(image).features.items():
                np.testing.assert_allclose(np.asarray(features[name]), expected, atol=1e-4)
        assert predictor._encoder.cuda_graph == "recorded"  # type: ignore[attr-defined]
        assert predictor._decoder.cuda_graph == "waiting"  # type: ignore[attr-defined]


def test_one_prompt_is_replayed_as_a_cuda_graph(machine: Machine) -> None:
    """Also for another image, whose features lie elsewhere; they are copied once an image. Two prompts are not."""
    bundle = machine.build()
    other = IMAGE[::-1].copy()
    with Predictor(bundle, providers=("engine",)) as predictor, Predictor(bundle) as onnx:
        encoded = [predictor.encode(image) for image in (IMAGE, other)]
        sizes = {tensor.nbytes for tensor in encoded[0].features.values()}  # type: ignore[union-attr]
        for index, (which, prompts) in enumerate(((0, 1), (0, 1), (1, 1), (1, 1), (0, 2), (0, 2), (1, 1), (0, 1))):
            predictor.set_encoded(encoded[which])
            onnx.set_image((IMAGE, other)[which])
            box = np.tile(np.array(BOX) + index, (prompts, 1))
            launches, machine.gpu.copied[:] = machine.gpu.calls.count("cudaGraphLaunch"), []
            logits = predictor.predict(box=box, return_logits=True)[0]
            np.testing.assert_allclose(logits, onnx.predict(box=box, return_logits=True)[0], atol=1e-3)
            assert machine.gpu.calls.count("cudaGraphLaunch") - launches == int(index in (1, 2, 3, 7))
            copies = [kind for kind, size in machine.gpu.copied if size in sizes]
            assert len(copies) == (2 if index in (0, 2, 7) else 0)
        assert predictor._decoder.cuda_graph == "recorded"  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate", ""])
def test_without_cuda_graphs_where_they_cannot_be_had(machine: Machine, call: str) -> None:
    bundle = machine.build(verify=False)
    if call:
        machine.gpu.fails[call] = Status.cudaErrorStreamCaptureUnsupported
    machine.ran.capturable = bool(call)
    with bundle.open(IMAGE_ENCODER, providers=("engine",)) as engine, bundle.open(IMAGE_ENCODER) as onnx:
        feeds = {"input_image": np.ones((1, 3, 128, 128), np.float32)}
        for _ in range(3):
            np.testing.assert_allclose(engine(feeds)["hq_features"], onnx(feeds)["hq_features"], atol=1e-4)
        assert engine.cuda_graph.startswith("refused: ")  # type: ignore[attr-defined]
    assert "cudaGraphLaunch" not in machine.gpu.calls
    assert not machine.gpu.capturing


def test_cuda_graphs_turned_off(machine: Machine) -> None:
    bundle = machine.build(verify=False)
    options = {"engine": {"cuda_graph": "0"}}
    with bundle.open(IMAGE_ENCODER, providers=("engine",), provider_options=options) as engine:
        for _ in range(3):
            engine({"input_image": np.ones((1, 3, 128, 128), np.float32)})
        assert engine.cuda_graph == "off"  # type: ignore[attr-defined]


def test_threads_share_one_engine(machine: Machine) -> None:
    bundle = machine.build()
    loaded, contexts = machine.ran.loaded, machine.ran.contexts
    expected = logits_of(bundle, providers=("cpu",))
    wrong: list[object] = []

    def work(predictor: Predictor) -> None:
        for _ in range(3):
            predictor.set_image(IMAGE)
            got = predictor.predict(box=BOX, return_logits=True)[0]
            if not np.allclose(got, expected, atol=1e-3):
                wrong.append(got)

    predictors = [Predictor(bundle, providers=("engine",)) for _ in range(5)]
    threads = [threading.Thread(target=work, args=(predictor,)) for predictor in predictors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert machine.ran.loaded - loaded == 2  # encoder and decoder
    assert machine.ran.contexts - contexts <= 2 * 2
    for predictor in predictors:
        predictor.close()


@pytest.mark.parametrize("refittable", ["hq_token", "all"])
def test_another_hq_token_is_refitted(machine: Machine, refittable: str) -> None:
    bundle = machine.build(options=EngineOptions(refittable=refittable))
    tokens = np.random.default_rng(1).standard_normal((2, 1, 64)).astype(np.float32)
    default = logits_of(bundle, providers=("cpu",))
    with Predictor(bundle, providers=("engine",)) as untouched:
        untouched.set_image(IMAGE)
        for token in (*tokens, tokens[0]):
            expected = logits_of(bundle, providers=("cpu",), hq_token=token)
            assert not np.allclose(expected, default, atol=1e-2)
            np.testing.assert_allclose(logits_of(bundle, hq_token=token), expected, atol=1e-3)
            np.testing.assert_allclose(untouched.predict(box=BOX, return_logits=True)[0], default, atol=1e-3)


@both_apis
def test_one_session_with_changing_hq_tokens(machine: Machine) -> None:
    bundle = machine.build(options=EngineOptions(refittable="hq_token"))
    tokens = np.random.default_rng(1).standard_normal((2, 1, 64)).astype(np.float32)
    feeds = {**features_of(bundle), **decoder_feeds(bundle)}
    with bundle.open(MASK_DECODER, providers=("engine",)) as engine, bundle.open(MASK_DECODER) as onnx:
        for extra in ({}, {"hq_token": tokens[0]}, {"hq_token": tokens[1]}, {}, {"hq_token": tokens[1]}):
            expected = onnx({**feeds, **extra})["low_res_logits"]
            np.testing.assert_allclose(engine({**feeds, **extra})["low_res_logits"], expected, atol=1e-3)


def test_hq_token_of_an_engine_that_is_not_refittable(machine: Machine) -> None:
    bundle = machine.build(graphs=[MASK_DECODER])
    feeds = {**features_of(bundle), **decoder_feeds(bundle), "hq_token": np.zeros((1, 64), np.float32)}
    with bundle.open(MASK_DECODER, providers=("engine",)) as engine:
        complaint = r"hq_token: a constant .* samhq engine .* --refittable hq_token --overwrite"
        with pytest.raises(ConfigError, match=complaint):
            engine(feeds)


def test_second_profile_where_the_first_is_too_small(machine: Machine) -> None:
    bundle = machine.build(ranges={"prompts": parse_ranges("prompts", "1,1:8:32")})
    boxes = np.tile(BOX, (4, 1))
    with Predictor(bundle, providers=("engine",)) as predictor, Predictor(bundle) as onnx:
        for one in (predictor, onnx):
            one.set_image(IMAGE)
        for box in (boxes, boxes[:1], boxes):
            got, want = (one.predict(box=box, return_logits=True)[0] for one in (predictor, onnx))
            np.testing.assert_allclose(got, want, atol=1e-3)
