"""Which TensorRT: what is missing, what each version's API has, and what the driver says. No GPU takes part."""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.engine import EngineOptions, build_engines
from samhq_runtime.engine import build as engine
from samhq_runtime.engine.timing_cache import timing_cache_folder
from samhq_runtime.errors import BackendUnavailable, BundleError, ConfigError
from samhq_runtime.installing import install_command
from samhq_runtime.manifest import MANIFEST_NAME
from samhq_runtime.nvidia import flavour, gpu
from samhq_runtime.nvidia.flavour import FLAVOURS, load_tensorrt
from samhq_runtime.nvidia.gpu import Gpu, current_gpu
from tests.support.tensorrt_fakes import SHAPES, Recorder, fake_tensorrt

TENSORRT, RTX = FLAVOURS["tensorrt"], FLAVOURS["rtx"]
A_GPU = Gpu("NVIDIA Test Card", "8.6")


@pytest.fixture(params=SHAPES)
def record(request: pytest.FixtureRequest, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A fake `tensorrt` of each API shape is installed, and a driver that reports a GPU."""
    recorder = Recorder({entry.file: entry.spec for entry in tiny_bundle.manifest.graphs.values()})
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(request.param, recorder))
    monkeypatch.setattr(flavour, "current_gpu", lambda: A_GPU)
    monkeypatch.setattr(engine, "require_checkable", lambda tensorrt, options: False)  # test_session_trt.py runs them
    return recorder


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    for name in (*tiny_bundle.manifest.files, MANIFEST_NAME):
        (tmp_path / "bundle").mkdir(exist_ok=True)
        (tmp_path / "bundle" / name).write_bytes((tiny_bundle.path / name).read_bytes())
    return tmp_path / "bundle"


def test_networks_are_strongly_typed_on_both(record: Recorder, bundle: Path) -> None:
    build_engines(bundle)
    strongly_typed = 1 << 1  # STRONGLY_TYPED of the 10.x shape; 11.x takes no flag and knows no other networks
    version = sys.modules["tensorrt"].__version__
    assert record.network_flags == [strongly_typed if version.startswith("10") else 0] * 2
    assert record.flags == set()
    assert record.cleared == {"TF32"}  # on by default; float32 graphs are float32


def test_every_option_on_both(record: Recorder, bundle: Path) -> None:
    options = EngineOptions(
        workspace=64,
        low_memory=True,
        optimization_level=5,
        version_compatible=True,
        hardware_compatible=True,
        refittable="all",
        tf32=True,
    )
    built = build_engines(bundle, graphs=["mask_decoder"], options=options)
    assert record.flags == {"VERSION_COMPATIBLE", "REFIT"}
    assert record.cleared == set()
    assert record.pools == {"WORKSPACE": 64 << 20}
    attributes = {name: value for name, value in record.attributes.items() if name != "progress_monitor"}
    assert attributes == {"max_aux_streams": 0, "builder_optimization_level": 5, "hardware_compatibility_level": 1}
    assert record.streamed == hasattr(sys.modules["tensorrt"], "IStreamWriter")
    assert (bundle / built[0].entry.file).read_bytes() == b"a plan"
    assert built[0].entry.flags == options.to_json()
    assert (built[0].entry.gpu, built[0].entry.compute_capability) == (A_GPU.name, A_GPU.compute_capability)


def test_hq_token_alone_refittable(record: Recorder, bundle: Path) -> None:
    built = build_engines(bundle, options=EngineOptions(refittable="hq_token"))
    assert record.refittable == ["hq_token"]
    assert record.flags == {"REFIT_INDIVIDUAL"}
    assert [engine.entry.flags for engine in built] == [{}, {"refittable": "hq_token"}]  # the encoder has none


def test_timing_cache_is_kept_and_used_again(record: Recorder, bundle: Path) -> None:
    notices: list[str] = []
    build_engines(bundle, notice=notices.append)
    build_engines(bundle, overwrite=True, notice=notices.append)
    assert record.timing_caches == [b"", b"+", b"++", b"+++"]
    (cache,) = timing_cache_folder(bundle).iterdir()
    assert cache.name == f"tensorrt-{sys.modules['tensorrt'].__version__}-NVIDIA-Test-Card.timing-cache"
    assert notices == []


def test_timing_cache_tensorrt_itself_refuses(record: Recorder, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own header may differ (another driver); the build starts a new one."""
    from samhq_runtime.engine.timing_cache import TimingCache

    monkeypatch.setattr(TimingCache, "load", lambda self, notice: b"of another driver")
    build_engines(bundle, graphs=["image_encoder"])
    assert record.timing_caches == [b"of another driver", b""]


def test_option_this_version_does_not_have(record: Recorder, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["tensorrt"], "HardwareCompatibilityLevel")
    with pytest.raises(ConfigError, match=r"--hardware-compatible: TensorRT 1.* cannot do this"):
        build_engines(bundle, options=EngineOptions(hardware_compatible=True))


def test_compute_capabilities_are_for_ahead_of_time_builds(record: Recorder, bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"--compute-capability: not with TensorRT 1.*--target rtx"):
        build_engines(bundle, options=EngineOptions(compute_capabilities=("8.6",)))


def test_no_gpu(record: Recorder, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavour, "current_gpu", lambda: None)
    with pytest.raises(BackendUnavailable, match=r"no NVIDIA GPU.*--target rtx"):
        build_engines(bundle)


@pytest.mark.parametrize(("row", "extra"), [(TENSORRT, "trt"), (RTX, "rtx")], ids=["tensorrt", "rtx"])
def test_not_installed(row: flavour.Flavour, extra: str) -> None:
    absent = replace(row, module="tensorrt_that_nobody_has")
    install = re.escape(install_command(extra))
    with pytest.raises(BackendUnavailable, match=rf"tensorrt_that_nobody_has is missing; {install}"):
        load_tensorrt(absent)


def test_libraries_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_halfway.py").write_text("raise ImportError('libnvinfer.so.11: cannot open shared object')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BackendUnavailable, match=r"does not load \(libnvinfer.so.11: cannot open"):
        load_tensorrt(replace(TENSORRT, module="tensorrt_halfway"))


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0.post1", "12.0.0", "x"])
def test_versions_nobody_tried(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt")
    module.__version__ = version  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    with pytest.raises(BackendUnavailable, match=r"expected at least 10\.3 and below 12"):
        load_tensorrt(TENSORRT)


def test_target_and_graph_names(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="--target: got 'tpu', expected tensorrt or rtx"):
        build_engines(tiny_bundle, target="tpu")
    with pytest.raises(ConfigError, match="--graph: got 'decoder', this bundle has image_encoder, mask_decoder"):
        build_engines(tiny_bundle, graphs=["decoder"])
    with pytest.raises(BundleError, match="nowhere: not a bundle"):
        build_engines("nowhere")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"workspace": 0}, "--workspace: got 0"),
        ({"optimization_level": 6}, "expected 0 to 5"),
        ({"optimization_level": -1}, "expected 0 to 5"),
        ({"refittable": "some"}, "expected all or hq_token"),
        ({"compute_capabilities": ("86",)}, "expected numbers such as 8.6,8.9"),
        ({"compute_capabilities": ("8.6", "")}, "got ''"),
    ],
)
def test_options_out_of_range(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        EngineOptions(**wrong)  # type: ignore[arg-type]


class FakeDriver:
    """The four driver calls; `fails` names the one that returns an error."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return int(self.fails == "cuInit")

    def cuDeviceGet(self, device: object, ordinal: int) -> int:  # noqa: N802
        return int(self.fails == "cuDeviceGet")

    def cuDeviceGetName(self, name: ctypes.Array[ctypes.c_char], size: int, device: object) -> int:  # noqa: N802
        name.value = b"NVIDIA Test Card"
        return int(self.fails == "cuDeviceGetName")

    def cuDeviceGetAttribute(self, value: object, attribute: int, device: object) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[attribute]  # type: ignore[attr-defined]
        return int(self.fails == "cuDeviceGetAttribute")


def test_gpu_as_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_driver", FakeDriver)
    assert current_gpu() == A_GPU


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_driver_without_a_gpu(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_driver", lambda: FakeDriver(call))
    assert current_gpu() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_DRIVER_LIBRARIES", ("libcuda-that-nobody-has.so",))
    assert current_gpu() is None
