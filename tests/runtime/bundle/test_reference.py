"""The recording of PyTorch's results that engines are held against."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.bundle.reference import REFERENCE_NAME, load_reference, sample, save_reference
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.engine.parity import against_onnx, against_pytorch, require_close, run_reference
from samhq_runtime.errors import BundleError, ParityError


def test_recorded_by_the_export(tiny_bundle: Bundle) -> None:
    """The float32 graphs are within a rounding of it."""
    reference = load_reference(tiny_bundle.path)
    assert reference is not None
    assert REFERENCE_NAME in tiny_bundle.manifest.files  # hashed
    with tiny_bundle.open(IMAGE_ENCODER) as encode, tiny_bundle.open(MASK_DECODER) as decode:
        outputs = run_reference(tiny_bundle, reference, encode, decode)
    found = against_pytorch(reference, outputs)
    assert set(found.relative) == {"image_embeddings", "hq_features", "low_res_logits", "iou_predictions"}
    assert max(found.relative.values()) < 1e-5
    assert set(found.mask_iou) == {"sam_0", "sam_1", "sam_2", "sam_3", "hq"}
    figures = require_close(tiny_bundle, [found, against_onnx(outputs, outputs)], "advice")
    assert figures["onnx"]["mask_iou"]["hq"] == 1
    outputs["iou_predictions"][1] = outputs["iou_predictions"][1] + 1
    with pytest.raises(ParityError, match=r"iou_predictions against pytorch: relative error .*; what to do"):
        require_close(tiny_bundle, [against_pytorch(reference, outputs)], "what to do")


def test_same_file_for_the_same_content(tiny_bundle: Bundle, tmp_path: Path) -> None:
    reference = load_reference(tiny_bundle.path)
    assert reference is not None
    save_reference(tmp_path / "a.npz", reference)
    time.sleep(2.1)  # zip files keep times, in steps of two seconds
    save_reference(tmp_path / "b.npz", reference)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert (tmp_path / "a.npz").stat().st_size < 1.5e6


def test_missing_or_damaged(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert load_reference(tmp_path) is None
    content = (tiny_bundle.path / REFERENCE_NAME).read_bytes()
    for damaged in (b"", b"PK", content[: len(content) // 2]):
        (tmp_path / REFERENCE_NAME).write_bytes(damaged)
        with pytest.raises(BundleError, match=r"reference\.npz: cannot be read"):
            load_reference(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("low_res_logits", (2, 5, 256, 256), (2, 5, 64, 64)),
        ("low_res_logits", (2, 5, 32, 32), (2, 5, 32, 32)),
        ("iou_predictions", (2, 4), (2, 4)),
        ("image_embeddings", (1, 256, 64, 64), (4096,)),
        ("hq_features", (1, 8, 8, 8), (512,)),
    ],
)
def test_samples(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert sample(name, np.zeros(shape, np.float32)).shape == expected
