"""Official sizes export, load and segment: vit_l here, vit_h in benchmarks; and weights beside their graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_runtime import Predictor
from tests.support.bundles import export
from tests.support.models import seeded_checkpoint


@pytest.mark.slow
def test_vit_l(tmp_path: Path) -> None:
    checkpoint = seeded_checkpoint("vit_l", tmp_path)
    bundle = export(checkpoint, tmp_path / "bundle", precision="fp16")
    checkpoint.unlink()
    assert bundle.manifest.variant == "vit_l"
    assert not (tmp_path / "bundle" / "image_encoder.onnx.data").exists()  # float16 weights are below the limit
    with Predictor(bundle) as predictor:
        predictor.set_image(np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8))
        masks, _, _ = predictor.predict(box=[10, 20, 300, 200])
    assert masks.shape == (1, 300, 500)
    assert 0 < masks.mean() < 1


def test_weights_over_the_limit_go_beside_the_graph(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samhq_exporter.onnx_files._INLINE_LIMIT", 10_000)
    bundle = export(tiny_checkpoint, tmp_path / "bundle")
    assert {"image_encoder.onnx.data", "mask_decoder.onnx.data"} <= bundle.manifest.files.keys()
    with Predictor(bundle) as predictor:
        predictor.set_image(np.zeros((30, 50, 3), np.uint8))
        assert predictor.predict(box=[1, 2, 30, 20])[0].shape == (1, 30, 50)
