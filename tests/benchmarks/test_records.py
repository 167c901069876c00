"""The recorded figures are of the weights that are shipped, and within their tolerances."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from benchmarks.measure.ablation import plain_sam
from benchmarks.recording import read_record
from benchmarks.registry import BENCHMARKS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_runtime.files import sha256_of


def recorded(name: str) -> dict[str, Any]:
    return read_record(BENCHMARKS[name].record)


@pytest.fixture
def parity() -> ModuleType:
    pytest.importorskip("transformers")
    from benchmarks.measure import checkpoint_parity

    return checkpoint_parity


@pytest.mark.parametrize("name", ["eval_demo", "input_size"])
def test_figures_are_of_the_shipped_weights(name: str) -> None:
    assert recorded(name)["setting"]["checkpoint_sha256"] == sha256_of(DEMO_CHECKPOINT)


def test_trained_row_is_of_the_shipped_weights() -> None:
    (trained,) = [row for row in recorded("checkpoint_parity")["rows"] if "trained" in row["source"]]
    assert trained["checkpoint_sha256"] == sha256_of(DEMO_CHECKPOINT)


def test_ablation_is_of_the_shipped_sam() -> None:
    """The HQ part is trained anew there."""
    plain = plain_sam(load_checkpoint(DEMO_CHECKPOINT).sam_hq)
    assert recorded("ablation")["setting"]["sam_sha256"] == checkpoint_of_model(plain).sha256


ROW = {"logits": 1e-6, "iou_predictions": 1e-6, "mask_iou": 1.0, "exact_mask_iou": 1.0, "predictions": 1}


@pytest.mark.parametrize(("changes", "kept"), [({}, 1), ({"versions": {}}, 0), ({"checkpoint_sha256": "other"}, 0)])
def test_parity_rows_of_other_libraries_are_measured_again(
    parity: ModuleType, changes: dict[str, Any], kept: int
) -> None:
    case = {"variant": "demo", "source": parity.TRAINED, "fusion": "hadamard"}
    row = {
        **case,
        **ROW,
        "checkpoint_sha256": sha256_of(DEMO_CHECKPOINT),
        "versions": parity.versions("demo"),
        **changes,
    }
    assert len(parity.valid_rows({"rows": [row]})) == kept


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, 0),
        ({"mask_iou": 0.9998}, 0),
        ({"exact_mask_iou": 0.99971, "exact_differing_pixels": 2}, 1),
        ({"exact_mask_iou": 0.9998, "exact_differing_pixels": 1}, 0),
        ({"logits": 2e-3}, 1),
        ({"iou_predictions": float("nan")}, 1),
    ],
)
def test_parity_beyond_the_tolerances(parity: ModuleType, changes: dict[str, float], broken: int) -> None:
    case = {"variant": "demo", "source": ".pth", "fusion": "sum"}
    assert len(parity.breaches({"rows": [{**case, **ROW, **changes}]})) == broken


@pytest.mark.parametrize("name", ["checkpoint_parity", "fleet", "serve_load"])
def test_recorded_figures_are_within_the_tolerances(name: str) -> None:
    assert not BENCHMARKS[name].breaches(recorded(name))
