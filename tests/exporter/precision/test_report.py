"""`--precision-report`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samhq_exporter.precision.policy import PrecisionPolicy
from samhq_exporter.precision.report import decisions, format_report
from tests.support.small_graphs import largest_magnitudes, scaled


def test_report(tmp_path: Path) -> None:
    model = scaled(gain=1e5)
    policy = PrecisionPolicy(
        compute="float16", fp32_islands=("/linear/",), keep_fp32=("*down*",), measured_islands={"/up/Mul": 1e5}
    )
    rows = list(decisions(model, largest_magnitudes(model, tmp_path, np.ones((1, 4))), policy))
    assert [(r.node, r.precision, r.reason) for r in rows] == [
        ("/up/Mul", "float32", "measured"),
        ("/linear/MatMul", "float32", "stated /linear/"),
        ("/down/Mul", "float32", "--keep-fp32 *down*"),
    ]
    text = format_report(rows)
    assert "1e+05" in text
    assert "0.655x" in text
