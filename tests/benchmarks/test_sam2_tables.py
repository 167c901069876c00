"""Tables of the benchmarks of SAM 2."""

from __future__ import annotations

from benchmarks.measure import sam2_precision


def test_precisions() -> None:
    errors = ("image_embeddings", "high_res_feats_0", "low_res_logits", "iou_predictions", "object_score_logits")
    row = {
        "size": "hiera_tiny",
        "precision": "int8",
        "relative": {name: 10.0**-index for index, name in enumerate(errors, 1)},
        "mask_iou": {"sam_0": 0.95, "sam_1": 0.89, "selected": 0.88},
        "breaches": ["mask sam_1 against pytorch: IoU 0.89000, at least 0.9 required"],
        "measured_islands": 3,
        "quantized_layers": 48,
        "bytes": 61_000_000,
    }
    (cells,) = cells_of(sam2_precision.tables({"rows": [row]})["sam2_precision"])[2:]
    expected = ["hiera_tiny int8", "1.0e-01", "1.0e-03", "1.0e-04", "1.0e-05", "0.8900", "0.8800"]
    assert cells == [*expected, "refused", "3", "48", "61 MB"]


def cells_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
