"""All that only a GPU can show: engines that run, CUDA graphs, refitting, threads, ONNX Runtime's GPU providers.

`pytest -m gpu` runs them. Which backends there are is asked from the machine; those that are not installed skip.
"""

from __future__ import annotations

import shutil
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_runtime import Predictor
from samhq_runtime.bundle import NOT_ON_CPU, Bundle, load_bundle
from samhq_runtime.doctor import examine
from samhq_runtime.engine import FLAVOURS, EngineOptions, build_engines
from samhq_runtime.engine.timing_cache import timing_cache_folder
from samhq_runtime.errors import BackendUnavailable, ParityError
from samhq_runtime.nvidia.flavour import load_tensorrt
from samhq_runtime.nvidia.gpu import current_gpu
from samhq_runtime.parity import ENGINE_TOLERANCES, Tolerance, mask_overlap
from tests.support.shared import shared_bundle

pytestmark = pytest.mark.gpu
BOXES = np.array([[40, 60, 200, 210], [100, 30, 240, 120], [10, 10, 250, 250]])
SMALLEST_IOU = {precision: tolerance.iou for precision, tolerance in ENGINE_TOLERANCES.items()}
PRECISIONS = tuple(SMALLEST_IOU)
REPEATS = 20


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The demo model in each precision."""
    return lambda precision: shared_bundle(tmp_path_factory, DEMO_CHECKPOINT, precision=precision)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    from samhq_exporter.scenes.sample import default_scene

    return default_scene()[0][::2, ::2].copy()


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    row = FLAVOURS[request.param]
    try:
        tensorrt = load_tensorrt(row)
    except BackendUnavailable as e:
        pytest.skip(str(e))
    if tensorrt.gpu is not None and not row.serves(tensorrt.gpu.compute_capability, ()):
        served = ", ".join(row.default_capabilities)
        pytest.skip(f"{row.product} builds for {served}; {tensorrt.gpu.name} has {tensorrt.gpu.compute_capability}")
    return request.param


def with_engines(bundle: Bundle, folder: Path, flavour: str, **options: object) -> Bundle:
    path = shutil.copytree(bundle.path, folder / "bundle")
    build_engines(path, target=flavour, **options)  # type: ignore[arg-type]
    return load_bundle(path)


def logits_of(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    predictor.set_image(image)
    return predictor.predict_batch(box=BOXES, return_logits=True)[0]


def expected_logits(
    bundles: Callable[[str], Bundle], precision: str, image: np.ndarray, **options: object
) -> np.ndarray:
    """The same precision on the CPU, float32 where the CPU lacks the kernels."""
    with Predictor(bundles("fp32" if precision in NOT_ON_CPU else precision), **options) as predictor:  # type: ignore[arg-type]
        return logits_of(predictor, image)


def iou_of(got: np.ndarray, expected: np.ndarray) -> float:
    both, either = (counts.sum() for counts in mask_overlap(got, expected))
    return float(both / max(either, 1))


def milliseconds(work: Callable[[], object]) -> float:
    """Median; every call waits for its results."""
    for _ in range(REPEATS):
        work()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def measure(predictor: Predictor, image: np.ndarray) -> tuple[float, float]:
    encode = milliseconds(lambda: predictor.encode(image))
    predictor.set_image(image)
    return encode, milliseconds(lambda: predictor.predict_batch(box=BOXES[0]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_engines(
    bundles: Callable[[str], Bundle], precision: str, flavour: str, image: np.ndarray, tmp_path: Path, row: Callable
) -> None:
    """Built, checked by the gate, recorded as checked, run by the Predictor; encoder and decoder as CUDA graphs."""
    gpu = current_gpu()
    if precision == "fp8" and gpu is not None and float(gpu.compute_capability) < 8.9:
        pytest.skip(f"{gpu.name} has no float8")
    bundle = with_engines(bundles(precision), tmp_path, flavour)
    assert all(entry.parity["gpu"] for entry in bundle.manifest.engines.values())
    with Predictor(bundle, providers=("engine",)) as predictor:
        iou = iou_of(logits_of(predictor, image), expected_logits(bundles, precision, image))
        assert iou >= SMALLEST_IOU[precision]
        encode_ms, decode_ms = measure(predictor, image)
        graph = predictor._encoder.cuda_graph  # type: ignore[attr-defined]
        replayed = iou_of(logits_of(predictor, image), expected_logits(bundles, precision, image))
        assert replayed == pytest.approx(iou, abs=1e-3)
        if flavour == "tensorrt":
            assert graph == predictor._decoder.cuda_graph == "recorded"  # type: ignore[attr-defined]
    row(f"{flavour} engine, {precision}, CUDA graph {graph.partition(':')[0]}", iou, encode_ms, decode_ms)


def test_without_cuda_graph(
    bundles: Callable[[str], Bundle], flavour: str, image: np.ndarray, tmp_path: Path, row: Callable
) -> None:
    bundle = with_engines(bundles("fp16"), tmp_path, flavour)
    options = {"engine": {"cuda_graph": "0"}}
    with Predictor(bundle, providers=("engine",), provider_options=options) as predictor:
        iou = iou_of(logits_of(predictor, image), expected_logits(bundles, "fp16", image))
        assert iou >= SMALLEST_IOU["fp16"]
        row(f"{flavour} engine, fp16, no CUDA graph", iou, *measure(predictor, image))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_one_prompt_as_among_several(
    bundles: Callable[[str], Bundle], precision: str, flavour: str, image: np.ndarray, tmp_path: Path
) -> None:
    """Some TensorRT versions were wrong at batch 1 alone (NVIDIA/TensorRT 3969, TensorRT-Edge-LLM 151)."""
    bundle = with_engines(bundles(precision), tmp_path, flavour)
    with Predictor(bundle, providers=("engine",)) as predictor:
        together = logits_of(predictor, image)
        alone = np.concatenate([predictor.predict_batch(box=box[None], return_logits=True)[0] for box in BOXES])
    assert iou_of(alone, together) >= SMALLEST_IOU[precision]


def test_hq_token_is_refitted(
    bundles: Callable[[str], Bundle], flavour: str, image: np.ndarray, tmp_path: Path
) -> None:
    bundle = with_engines(bundles("fp32"), tmp_path, flavour, options=EngineOptions(refittable="hq_token"))
    dim = bundle.manifest.sizes.embed_dim
    token = np.random.default_rng(0).standard_normal((1, dim)).astype(np.float32)
    default = expected_logits(bundles, "fp32", image)
    expected = expected_logits(bundles, "fp32", image, hq_token=token)
    with (
        Predictor(bundle, providers=("engine",)) as plain,
        Predictor(bundle, providers=("engine",), hq_token=token) as tuned,
    ):
        assert iou_of(logits_of(tuned, image), expected) >= 0.999
        assert iou_of(logits_of(plain, image), default) >= 0.999


def test_threads(bundles: Callable[[str], Bundle], flavour: str, image: np.ndarray, tmp_path: Path) -> None:
    bundle = with_engines(bundles("fp32"), tmp_path, flavour)
    expected = expected_logits(bundles, "fp32", image)
    found: list[float] = []

    def work() -> None:
        with Predictor(bundle, providers=("engine",)) as predictor:
            found.extend(iou_of(logits_of(predictor, image), expected) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert min(found) >= 0.999


def test_engine_outside_tolerance_is_refused(
    bundles: Callable[[str], Bundle], flavour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(bundles("fp16").path, tmp_path / "bundle")
    monkeypatch.setitem(ENGINE_TOLERANCES, "fp16", Tolerance(relative=0.0, iou=1.0))  # nothing half is that close
    with pytest.raises(ParityError, match="not added to the bundle"):
        build_engines(path, target=flavour)
    assert load_bundle(path).manifest.engines == {}


@pytest.mark.parametrize("option", ["version_compatible", "hardware_compatible"])
def test_compatible_engines(
    bundles: Callable[[str], Bundle], option: str, image: np.ndarray, tmp_path: Path, row: Callable
) -> None:
    try:
        load_tensorrt(FLAVOURS["tensorrt"])
    except BackendUnavailable as e:
        pytest.skip(str(e))
    bundle = with_engines(bundles("fp16"), tmp_path, "tensorrt", options=EngineOptions(**{option: True}))  # type: ignore[arg-type]
    with Predictor(bundle, providers=("engine",)) as predictor:
        iou = iou_of(logits_of(predictor, image), expected_logits(bundles, "fp16", image))
        assert iou >= SMALLEST_IOU["fp16"]
        row(f"tensorrt engine, fp16, {option}", iou, *measure(predictor, image))


def test_timing_cache_is_used_again(bundles: Callable[[str], Bundle], tmp_path: Path) -> None:
    try:
        load_tensorrt(FLAVOURS["tensorrt"])
    except BackendUnavailable as e:
        pytest.skip(str(e))
    path = shutil.copytree(bundles("fp16").path, tmp_path / "bundle")
    first = build_engines(path, verify=False)
    second = build_engines(path, verify=False, overwrite=True)
    assert any(timing_cache_folder(path).iterdir())
    assert sum(engine.seconds for engine in second) < sum(engine.seconds for engine in first)


def test_plan_is_refused_when_cut_short(bundles: Callable[[str], Bundle], flavour: str, tmp_path: Path) -> None:
    from tests.support.bundles import rehash

    bundle = with_engines(bundles("fp32"), tmp_path, flavour, graphs=["image_encoder"])
    (entry,) = bundle.manifest.engines.values()
    path = bundle.path / entry.file
    path.write_bytes(path.read_bytes()[:-1000])
    rehash(bundle.path)
    with pytest.raises(Exception, match="cannot load it"):
        load_bundle(bundle.path).open("image_encoder", providers=("engine",))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "rtx"])
def test_onnxruntime(
    bundles: Callable[[str], Bundle], provider: str, precision: str, image: np.ndarray, row: Callable
) -> None:
    """Embeddings stay on the GPU between the two graphs."""
    try:
        predictor = Predictor(bundles(precision), providers=(provider,))
    except BackendUnavailable as e:
        pytest.skip(str(e))
    with predictor:
        assert not any(isinstance(tensor, np.ndarray) for tensor in predictor.encode(image).features.values())
        iou = iou_of(logits_of(predictor, image), expected_logits(bundles, precision, image))
        assert iou >= SMALLEST_IOU[precision]
        row(f"onnxruntime {provider}, {precision}", iou, *measure(predictor, image))


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_on_device(bundles: Callable[[str], Bundle], provider: str, image: np.ndarray, row: Callable) -> None:
    """A frame in the GPU's memory is resized there as Pillow does it, and its masks stay there."""
    try:
        predictor = Predictor(bundles("fp32"), providers=(provider,))
    except BackendUnavailable as e:
        pytest.skip(str(e))
    with predictor:
        frame = predictor._encoder.put(image)  # type: ignore[attr-defined]
        expected, encoded = predictor.encode(image), predictor.encode(frame)
        for name, features in encoded.features.items():
            np.testing.assert_allclose(features, expected.features[name], atol=1e-4)
        boxed = {"box": BOXES, "image": encoded}
        masks, _, _ = predictor.predict_on_device(**boxed)
        assert masks.__cuda_array_interface__["typestr"] == "|b1"  # type: ignore[union-attr]
        logits = predictor.predict_batch(**boxed, return_logits=True)[0]
        iou = iou_of(np.asarray(masks, np.float32), logits)
        assert iou > 0.9999
        times = (lambda: predictor.encode(frame)), (lambda: predictor.predict_on_device(**boxed))
        row(f"{provider}, frames and masks on the device", iou, *map(milliseconds, times))


def test_doctor_sees_the_gpu() -> None:
    report = examine()
    assert report.facts.gpus
    assert not report.facts.driver.get("error")
