"""Frames in, and masks out, in device memory, through `Predictor`: here on a device that is the host in disguise."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import ConfigError, DeviceError, ImageError
from samhq_runtime.frames import arrays
from samhq_runtime.session import ort_providers
from samhq_runtime.session.ort import OrtSession, OrtTensor
from samhq_runtime.session.ort_providers import PROVIDERS
from tests.support import gpu_machine
from tests.support.device_arrays import CUDA_KIND, CudaInterface, OnDevice
from tests.support.gpu_machine import Machine

machine = gpu_machine.machine  # the fixture

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5, 6, 40, 50], [20, 3, 79, 59]])


@pytest.fixture
def predictor(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[Predictor]:
    """The CPU provider keeps its outputs as GPU providers do, and arrays of "CUDA" are in its memory."""
    monkeypatch.setitem(ort_providers.PROVIDERS, "cpu", replace(PROVIDERS["cpu"], memory="cpu"))
    monkeypatch.setitem(arrays.DEVICES, CUDA_KIND, "cpu")
    with Predictor(tiny_bundle, threads=1) as predictor:
        yield predictor


@pytest.fixture(scope="module")
def on_host(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        yield predictor


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_frames_are_resized_where_they_are(predictor: Predictor, on_host: Predictor, image_format: str) -> None:
    expected = on_host.encode(IMAGE, image_format)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("samhq_runtime.predictor.fit_image", None)  # no way through the host
        patch.setattr(OrtTensor, "numpy", None)
        encoded = predictor.encode(OnDevice(IMAGE), image_format)
    assert encoded.original_hw == (60, 80)
    for name, features in encoded.features.items():
        assert isinstance(features, OrtTensor)
        np.testing.assert_array_equal(features, expected.features[name])


def test_a_frame_is_not_needed_after_the_call(predictor: Predictor, on_host: Predictor) -> None:
    frame = IMAGE.copy()
    predictor.set_image(OnDevice(frame))
    frame[:] = 0  # the camera's next picture
    on_host.set_image(IMAGE)
    for ours, expected in zip(predictor.predict(box=BOXES), on_host.predict(box=BOXES), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_cameras_have_one_size(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices go to the device once, not with every frame; graphs are opened once."""
    sent: list[tuple[int, ...]] = []
    put, beside = OrtSession.put, OrtSession.beside
    monkeypatch.setattr(OrtSession, "put", lambda self, array: sent.append(array.shape) or put(self, array))
    opened: list[str] = []
    monkeypatch.setattr(
        OrtSession, "beside", lambda self, path, spec: opened.append(spec.name) or beside(self, path, spec)
    )
    for _ in range(3):
        predictor.set_image(OnDevice(IMAGE))
    assert (len(sent), opened) == (5, ["fit_rounded"])
    predictor.set_image(OnDevice(IMAGE[:50]))
    assert (len(sent), opened) == (10, ["fit_rounded"])


def test_masks_stay_on_the_device(predictor: Predictor, on_host: Predictor) -> None:
    predictor.set_image(OnDevice(IMAGE))
    on_host.set_image(IMAGE)
    masks, iou, logits = predictor.predict_on_device(box=BOXES)
    expected = on_host.predict_batch(box=BOXES)
    assert isinstance(masks, OrtTensor)
    assert (masks.shape, masks.dtype, iou.shape) == ((2, 1, 60, 80), np.bool_, (2, 1))
    assert (np.asarray(masks) != expected[0]).mean() < 1e-4
    np.testing.assert_array_equal(iou, expected[1])
    np.testing.assert_array_equal(logits, expected[2])
    taken = torch.from_dlpack(masks)
    assert taken.dtype in (torch.uint8, torch.bool)
    assert taken.data_ptr() == masks.value.data_ptr()
    np.testing.assert_array_equal(taken.bool().numpy(), masks)
    with pytest.raises(AttributeError, match="not in the memory of a CUDA device"):
        masks.__cuda_array_interface__  # noqa: B018


def test_cuda_array_interface_of_masks(predictor: Predictor) -> None:
    predictor.set_image(OnDevice(IMAGE))
    masks, _, _ = predictor.predict_on_device(box=BOXES)
    assert isinstance(masks, OrtTensor)
    interface = OrtTensor(masks.value, masks.dtype, ("cuda", 0)).__cuda_array_interface__
    assert interface == {
        "shape": (2, 1, 60, 80),
        "typestr": "|b1",
        "data": (masks.value.data_ptr(), False),
        "strides": None,
        "version": 3,
    }


def test_decoders_on_the_host_leave_arrays(on_host: Predictor) -> None:
    on_host.set_image(torch.from_numpy(IMAGE.copy()))  # a tensor on the CPU
    masks, iou, logits = on_host.predict_on_device(box=BOXES)
    for ours, expected in zip((masks, iou, logits), on_host.predict_batch(box=BOXES), strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_devices_that_the_encoder_cannot_read(predictor: Predictor, on_host: Predictor) -> None:
    with pytest.raises(
        ImageError, match=r"in the memory of cpu:1, which the encoder cannot read; expected it on cpu:0"
    ):
        predictor.set_image(OnDevice(IMAGE, number=1))
    with pytest.raises(ImageError, match=r"in the memory of rocm:0, which the encoder cannot read"):
        predictor.set_image(OnDevice(IMAGE, kind=10))
    with pytest.raises(ImageError, match=r"in the memory of cuda, which .* expected it on the host"):
        on_host.set_image(CudaInterface(IMAGE))
    with pytest.raises(ImageError, match="image_format: got 'RGBA', expected RGB or BGR"):
        on_host.set_image(IMAGE, "RGBA")


def test_a_predictor_that_nobody_has_is_gone_at_once(predictor: Predictor, tiny_bundle: Bundle) -> None:
    """Without waiting for the collector of cycles: what it holds is a GPU's memory."""
    with Predictor(tiny_bundle, threads=1) as ours:
        ours.set_image(OnDevice(IMAGE))
        ours.predict_on_device(box=BOXES)
    sessions = [weakref.ref(ours._encoder), weakref.ref(ours._decoder)]
    gc.disable()
    try:
        del ours
        assert [session() for session in sessions] == [None, None]
    finally:
        gc.enable()


def test_a_device_that_is_full(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr("onnxruntime.OrtValue.ortvalue_from_numpy", full)
    with pytest.raises(DeviceError, match="Failed to allocate memory"):
        predictor.set_image(OnDevice(IMAGE))


def test_a_closed_predictor_opens_nothing(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor.close()
    monkeypatch.setattr("samhq_runtime.session.ort._load", lambda *args, **options: pytest.fail("opened"))
    with pytest.raises(ConfigError, match="closed"):
        predictor.set_image(OnDevice(IMAGE))


def test_closed(predictor: Predictor) -> None:
    predictor.set_image(OnDevice(IMAGE))
    predictor.predict_on_device(box=BOXES)
    predictor.close()
    with pytest.raises(ConfigError, match="closed"):
        predictor.set_image(OnDevice(IMAGE))


def test_squashed_frames(sam2_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with Predictor(sam2_bundle, threads=1) as on_host:
        expected = on_host.encode(IMAGE)
    monkeypatch.setitem(ort_providers.PROVIDERS, "cpu", replace(PROVIDERS["cpu"], memory="cpu"))
    monkeypatch.setitem(arrays.DEVICES, CUDA_KIND, "cpu")
    with Predictor(sam2_bundle, threads=1) as predictor:
        encoded = predictor.encode(OnDevice(IMAGE))
        for name, features in encoded.features.items():
            np.testing.assert_allclose(features, expected.features[name], atol=1e-3)


def test_engines_read_frames_through_the_host(machine: Machine) -> None:
    """Once all work on the GPU is done; the same masks as of the frame on the host."""
    bundle = machine.build()
    with Predictor(bundle, providers=("engine",)) as predictor:
        predictor.set_image(gpu_machine.IMAGE)
        expected = predictor.predict(box=gpu_machine.BOX)
        frame = machine.frame(gpu_machine.IMAGE)
        predictor.set_image(frame)
        assert "cudaDeviceSynchronize" in machine.gpu.calls
        for ours, same in zip(predictor.predict(box=gpu_machine.BOX), expected, strict=True):
            np.testing.assert_array_equal(ours, same)
        with pytest.raises(ConfigError, match="predict_on_device: TensorRT engines give masks on the host"):
            predictor.predict_on_device(box=gpu_machine.BOX)
