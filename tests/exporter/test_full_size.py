"""Official sizes export, segment and build: vit_l here, vit_h in benchmarks; and weights beside their graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_runtime import Predictor
from samhq_runtime.engine import build_engines
from samhq_runtime.nvidia.profiles import parse_ranges
from tests.support.bundles import export
from tests.support.models import seeded_checkpoint
from tests.support.tensorrt_builder import require_rtx


@pytest.mark.released
def test_vit_l(tmp_path: Path) -> None:
    """From checkpoint to engines, in half precision; `preview.png` is drawn."""
    require_rtx()
    checkpoint = seeded_checkpoint("vit_l", tmp_path)
    bundle = export(checkpoint, tmp_path / "bundle", precision="fp16")
    checkpoint.unlink()
    assert bundle.manifest.variant == "vit_l"
    assert not (bundle.path / "image_encoder.onnx.data").exists()  # float16 weights are below the limit
    assert (bundle.path / "preview.png").exists()

    encoder, decoder = build_engines(bundle, target="rtx", ranges={"prompts": parse_ranges("prompts", "1:8:64")})
    assert encoder.bytes > 550e6  # half of its float32 weights, and some kernels
    assert (bundle.path / decoder.entry.file).stat().st_size == decoder.bytes


def test_weights_over_the_limit_go_beside_the_graph(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samhq_exporter.onnx_files._INLINE_LIMIT", 10_000)
    bundle = export(tiny_checkpoint, tmp_path / "bundle")
    assert {"image_encoder.onnx.data", "mask_decoder.onnx.data"} <= bundle.manifest.files.keys()
    with Predictor(bundle) as predictor:
        predictor.set_image(np.zeros((30, 50, 3), np.uint8))
        assert predictor.predict(box=[1, 2, 30, 20])[0].shape == (1, 30, 50)
