"""A machine with one GPU, CUDA and TensorRT, all of them fakes: the fixture of the tests of the native session."""

from __future__ import annotations

import ctypes
import gc
import importlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle, load_bundle
from samhq_runtime.contract import IMAGE_ENCODER
from samhq_runtime.engine import build_engines
from samhq_runtime.nvidia import flavour
from samhq_runtime.nvidia import gpu as driver

from .cuda_fakes import Gpu, fake_cudart
from .device_arrays import OnDevice
from .tensorrt_fakes import SHAPES, Recorder, fake_tensorrt
from .tensorrt_runtime_fakes import RuntimeRecord, add_runtime

A_GPU = driver.Gpu("NVIDIA Test Card", "8.6")
BOX = [5, 6, 40, 50]
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
RUNTIME_MODULES = ("cuda", "lanes", "trt")  # of `session`; they hold the fakes once imported


@dataclass
class Machine:
    """A machine with one GPU and TensorRT, and a bundle without engines on it."""

    gpu: Gpu
    built: Recorder
    ran: RuntimeRecord
    bundle: Path

    def build(self, **options: object) -> Bundle:
        build_engines(self.bundle, **options)  # type: ignore[arg-type]
        return load_bundle(self.bundle)

    def frame(self, image: np.ndarray) -> OnDevice:
        """The image as another library holds it in the GPU's memory."""
        block = (ctypes.c_char * image.nbytes).from_buffer(bytearray(image.tobytes()))
        self.gpu.device[ctypes.addressof(block)] = block
        return OnDevice(np.frombuffer(block, np.uint8).reshape(image.shape))


NEWEST = list(SHAPES)[-1]
both_apis = pytest.mark.parametrize("machine", SHAPES, indirect=True)


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    record = Recorder({entry.file: entry.spec for entry in tiny_bundle.manifest.graphs.values()})
    gpu, trt = Gpu(), fake_tensorrt(getattr(request, "param", NEWEST), record)
    ran = add_runtime(trt, gpu, record)
    cuda, bindings, runtime = ModuleType("cuda"), ModuleType("cuda.bindings"), fake_cudart(gpu)
    bindings.runtime = runtime  # type: ignore[attr-defined]
    for module in (cuda, bindings, runtime, trt):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(flavour, "current_gpu", lambda index=0: A_GPU)
    forget_runtime(monkeypatch)
    monkeypatch.setattr(importlib.import_module("samhq_runtime.session.trt"), "current_gpu", lambda index=0: A_GPU)
    yield Machine(gpu, record, ran, shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))
    gc.collect()  # finalizers run while the fakes are there


def forget_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Import the runtime's GPU modules anew, and again after the test."""
    session = importlib.import_module("samhq_runtime.session")
    for name in RUNTIME_MODULES:
        monkeypatch.delitem(sys.modules, f"samhq_runtime.session.{name}", raising=False)
        monkeypatch.delattr(session, name, raising=False)


def logits_of(bundle: Bundle, *, providers: tuple[str, ...] = ("engine",), **options: object) -> np.ndarray:
    with Predictor(bundle, providers=providers, **options) as predictor:  # type: ignore[arg-type]
        predictor.set_image(IMAGE)
        return predictor.predict(box=BOX, return_logits=True)[0]


def decoder_feeds(bundle: Bundle, prompts: int = 1, points: int = 2) -> dict[str, np.ndarray]:
    sizes = bundle.manifest.sizes
    return {
        "point_coords": np.full((prompts, points, 2), 20, np.float32),
        "point_labels": np.ones((prompts, points), np.float32),
        "mask_input": np.zeros((1, 1, sizes.low_res_size, sizes.low_res_size), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "image_index": np.zeros(prompts, np.int64),
        "mask_weights": np.eye(sizes.token_masks, dtype=np.float32),
    }


def features_of(bundle: Bundle) -> dict[str, np.ndarray]:
    with bundle.open(IMAGE_ENCODER) as encode:
        return encode({"input_image": np.ones((1, 3, 128, 128), np.float32)})
