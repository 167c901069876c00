"""The recorded results: of the weights that are shipped, and written where their markers are."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.measure.ablation import plain_sam
from benchmarks.measure.input_size import known_rows
from benchmarks.pages import require_markers, write_between_markers
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_runtime.files import sha256_of

ROOT = Path(__file__).parents[2]


def results(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


@pytest.fixture
def parity() -> ModuleType:
    pytest.importorskip("transformers")
    from benchmarks.measure import checkpoint_parity

    return checkpoint_parity


@pytest.mark.parametrize("name", ["eval_demo", "input_size"])
def test_figures_are_of_the_shipped_weights(name: str) -> None:
    assert results(name)["checkpoint_sha256"] == sha256_of(DEMO_CHECKPOINT)


def test_trained_row_is_of_the_shipped_weights() -> None:
    (trained,) = [row for row in results("checkpoint_parity")["rows"] if "trained" in row["source"]]
    assert trained["checkpoint_sha256"] == sha256_of(DEMO_CHECKPOINT)


def test_ablation_is_of_the_shipped_sam() -> None:
    """The HQ part is trained anew there."""
    plain = plain_sam(load_checkpoint(DEMO_CHECKPOINT).sam_hq)
    assert results("ablation")["setting"]["sam_sha256"] == checkpoint_of_model(plain).sha256


def test_table_between_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- t: begin -->\nold\n<!-- t: end -->\nbelow\n")
    write_between_markers(page, "t", "| new |")
    assert page.read_text() == "above\n<!-- t: begin -->\n| new |\n<!-- t: end -->\nbelow\n"
    for text in ("", "<!-- t: begin -->\n", "<!-- t: end -->\n<!-- t: begin -->\n"):
        page.write_text(text)
        with pytest.raises(SystemExit, match="expected <!-- t: begin -->"):
            require_markers(page, "t")


def test_input_sizes_of_other_weights_are_measured_again(tmp_path: Path) -> None:
    setting = {"checkpoint_sha256": "a", "scenes": 4, "scene_size": 512}
    (tmp_path / "r.json").write_text(json.dumps({**setting, "sizes": {"128": {"objects": 1}}}))
    assert known_rows(tmp_path / "r.json", setting) == {128: {"objects": 1}}
    assert not known_rows(tmp_path / "r.json", {**setting, "checkpoint_sha256": "b"})
    assert not known_rows(tmp_path / "absent.json", setting)


def test_parity_rows_of_other_libraries_are_measured_again(parity: ModuleType, tmp_path: Path) -> None:
    case = parity.Case("demo", parity.TRAINED, "hadamard")
    figures = {"logits": 1e-6, "iou_predictions": 1e-6, "mask_iou": 1.0, "exact_mask_iou": 1.0, "predictions": 1}
    row = {**vars(case), **figures, "checkpoint_sha256": sha256_of(DEMO_CHECKPOINT), "versions": parity.versions()}
    for changes, kept in (({}, [case]), ({"versions": {}}, []), ({"checkpoint_sha256": "other"}, [])):
        (tmp_path / "r.json").write_text(json.dumps({"rows": [{**row, **changes}]}))
        assert list(parity.read_rows(tmp_path / "r.json")) == kept


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
    row = {"logits": 1e-6, "iou_predictions": 1e-6, "exact_mask_iou": 1.0, **changes}
    assert len(parity.breaches({parity.CASES[0]: row})) == broken


def test_recorded_parity_is_within_the_tolerances(parity: ModuleType) -> None:
    rows = results("checkpoint_parity")["rows"]
    known = {parity.Case(row["variant"], row["source"], row["fusion"]): row for row in rows}
    assert not parity.breaches(known)
    assert parity.report(known) in (ROOT / "docs" / "checkpoints.md").read_text()
