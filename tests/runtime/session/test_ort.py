"""Execution providers of ONNX Runtime: what is set, what is refused, and outputs that stay where they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import BackendUnavailable, ConfigError
from samhq_runtime.session import ort, ort_providers
from samhq_runtime.session.ort import OrtTensor
from samhq_runtime.session.ort_providers import PROVIDERS, options_of


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU provider keeps its outputs as GPU providers do: bound OrtValues, here in host memory."""
    monkeypatch.setitem(ort_providers.PROVIDERS, "cpu", replace(PROVIDERS["cpu"], memory="cpu"))


def encoder_feeds(bundle: Bundle) -> dict[str, np.ndarray]:
    side = bundle.manifest.sizes.image_size
    return {"input_image": np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)}


def decoder_feeds(bundle: Bundle) -> dict[str, np.ndarray]:
    sizes = bundle.manifest.sizes
    return {
        "point_coords": np.full((2, 2, 2), 20, np.float32),
        "point_labels": np.ones((2, 2), np.float32),
        "mask_input": np.zeros((1, 1, sizes.low_res_size, sizes.low_res_size), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "image_index": np.zeros(2, np.int64),
        "mask_weights": np.eye(sizes.token_masks, dtype=np.float32),
    }


def test_cpu_keeps_plain_arrays(tiny_bundle: Bundle) -> None:
    with tiny_bundle.open(IMAGE_ENCODER) as encode:
        kept = encode.keep(encoder_feeds(tiny_bundle))
    assert all(type(tensor) is np.ndarray for tensor in kept.values())


def test_kept_outputs_are_fed_without_a_copy(tiny_bundle: Bundle, bound: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiny_bundle.open(IMAGE_ENCODER) as encode, tiny_bundle.open(MASK_DECODER) as decode:
        feeds = decoder_feeds(tiny_bundle)
        plain = encode(encoder_feeds(tiny_bundle))
        expected = decode({**plain, **feeds})
        kept = encode.keep(encoder_feeds(tiny_bundle))
        for name, tensor in kept.items():
            assert isinstance(tensor, OrtTensor)
            assert (tensor.shape, tensor.dtype, tensor.ndim) == (plain[name].shape, plain[name].dtype, 4)
            np.testing.assert_array_equal(np.asarray(tensor), plain[name])
        monkeypatch.setattr(OrtTensor, "numpy", None)  # no way back to the host
        outputs = decode({**kept, **feeds})
    for name, array in expected.items():
        np.testing.assert_array_equal(outputs[name], array)


def test_kept_outputs_outlive_their_session_and_fit_any_other(tiny_bundle: Bundle, bound: None) -> None:
    with tiny_bundle.open(IMAGE_ENCODER) as encode:
        kept = encode.keep(encoder_feeds(tiny_bundle))
        plain = encode(encoder_feeds(tiny_bundle))
    with tiny_bundle.open(MASK_DECODER) as decode:
        feeds = decoder_feeds(tiny_bundle)
        for name, tensor in kept.items():
            elsewhere = OrtTensor(tensor.value, tensor.dtype, ("cuda", 1))  # type: ignore[union-attr]
            outputs = decode({**plain, name: elsewhere, **feeds})
            assert np.isfinite(outputs["low_res_logits"]).all()


def test_kept_tensors_are_checked_like_arrays(tiny_bundle: Bundle, bound: None) -> None:
    with tiny_bundle.open(IMAGE_ENCODER) as encode, tiny_bundle.open(MASK_DECODER) as decode:
        kept = encode.keep(encoder_feeds(tiny_bundle))
        swapped = {"image_embeddings": kept["hq_features"], "hq_features": kept["image_embeddings"]}
        with pytest.raises(Exception, match="image_embeddings: got float32"):
            decode({**swapped, **decoder_feeds(tiny_bundle)})


def test_profiles_of_tensorrt_providers_are_those_of_our_engines(tiny_bundle: Bundle) -> None:
    spec = tiny_bundle.manifest.graphs[MASK_DECODER].spec
    for name, prefix in (("tensorrt", "trt"), ("rtx", "nv")):
        options = options_of(name, spec, {})
        smallest, largest = (options[f"{prefix}_profile_{kind}_shapes"] for kind in ("min", "max"))
        assert "point_coords:1x1x2" in smallest.split(",")
        assert {"point_coords:64x16x2", "mask_weights:5x5", "mask_input:64x1x32x32"} <= set(largest.split(","))
        mine = {f"{prefix}_profile_min_shapes": "point_coords:1x1x2"}
        assert options_of(name, spec, mine) == mine  # never half of ours


def test_float32_stays_float32_on_cuda(tiny_bundle: Bundle) -> None:
    spec = tiny_bundle.manifest.graphs[IMAGE_ENCODER].spec
    assert options_of("cuda", spec, {}) == {"use_tf32": "0"}
    assert options_of("cuda", spec, {"use_tf32": "1", "device_id": "1"}) == {"use_tf32": "1", "device_id": "1"}


@pytest.mark.parametrize(
    ("providers", "options", "complaint"),
    [
        (("tensorrt",), {"tensorrt": {"trt_fp16_enable": "1"}}, "trt_fp16_enable: refused; precision is the graph's"),
        (("cuda",), {"cuda": {"enable_cuda_graph": "1"}}, "enable_cuda_graph: refused; .*samhq engine"),
        (("cuda",), {"cuda": {"device_id": "first"}}, "device_id: got 'first'"),
        (("cpu",), {"cuda": {"device_id": "0"}}, "provider option of 'cuda': expected one of the providers cpu"),
        (("rtx", "cpu"), {}, "provider rtx: stands alone"),
        (("tpu",), {}, "unknown provider tpu"),
        ((), {}, "unknown provider"),
    ],
)
def test_refused(tiny_bundle: Bundle, providers: tuple[str, ...], options: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        tiny_bundle.open(MASK_DECODER, providers=providers, provider_options=options)


def test_provider_that_is_not_there(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailable, match=r"provider cuda is not in this onnxruntime .*samhq-export\[gpu\]"):
        tiny_bundle.open(MASK_DECODER, providers=("cuda",))
    absent = replace(PROVIDERS["rtx"], plugin="plugin_that_nobody_has")
    monkeypatch.setitem(ort_providers.PROVIDERS, "rtx", absent)
    with pytest.raises(
        BackendUnavailable, match=r"provider rtx is not in this onnxruntime .*pip install onnxruntime-ep"
    ):
        tiny_bundle.open(MASK_DECODER, providers=("rtx",))


def test_plugin_that_does_not_load(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("def get_library_path():\n    return '/nowhere/libplugin.so'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(ort_providers.PROVIDERS, "rtx", replace(PROVIDERS["rtx"], plugin="broken_plugin"))
    with pytest.raises(BackendUnavailable, match=r"provider rtx does not load .*samhq doctor --provider rtx"):
        tiny_bundle.open(MASK_DECODER, providers=("rtx",))


def test_plugin_that_loads(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered once, its devices and options handed to the session; its kernels are the CPU's here."""
    (tmp_path / "good_plugin.py").write_text("def get_library_path():\n    return '/opt/libplugin.so'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = replace(PROVIDERS["rtx"], plugin="good_plugin", memory=None)
    monkeypatch.setitem(ort_providers.PROVIDERS, "rtx", row)
    registered: dict[str, str] = {}
    added: list[tuple[list[str], dict[str, str]]] = []

    class Options(ort.ort.SessionOptions):  # type: ignore[misc]
        def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
            added.append(([device.ep_name for device in devices], options))

    class Session(ort.ort.InferenceSession):  # type: ignore[misc]
        def get_providers(self) -> list[str]:
            return [row.execution_provider]

    def devices() -> list[Any]:
        return [SimpleNamespace(ep_name=name) for name in ("CPUExecutionProvider", *registered)]

    monkeypatch.setattr(ort.ort, "SessionOptions", Options)
    monkeypatch.setattr(ort.ort, "InferenceSession", Session)
    monkeypatch.setattr(ort.ort, "get_ep_devices", devices)
    monkeypatch.setattr(ort.ort, "register_execution_provider_library", registered.__setitem__)
    mine = {"rtx": {"nv_runtime_cache_path": "cache"}}
    for _ in range(2):
        with tiny_bundle.open(IMAGE_ENCODER, providers=("rtx",), provider_options=mine) as encode:
            assert np.isfinite(encode(encoder_feeds(tiny_bundle))["hq_features"]).all()
    assert registered == {row.execution_provider: "/opt/libplugin.so"}
    assert [names for names, _ in added] == [[row.execution_provider]] * 2
    assert added[0][1]["nv_runtime_cache_path"] == "cache"
    assert added[0][1]["nv_profile_max_shapes"].startswith("input_image:")
