"""What is built on `Predictor` and on the contract works on bundles of SAM 2 as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.bench.cases import DECODER, ENCODER, END_TO_END, Case
from samhq_runtime.bench.sample_image import sample_image
from samhq_runtime.bench.workloads import WORKLOADS
from samhq_runtime.evaluation import evaluate
from samhq_runtime.frames.image_files import write_png
from tests.support.eval_datasets import SCENES, small_dataset
from tests.support.serving import BOX, IMAGE, POINTS, infer_grpc, infer_http, running


def test_a_server_gives_the_predictors_masks(hq_sam2_bundle: Bundle) -> None:
    side = hq_sam2_bundle.manifest.sizes.low_res_size
    mask = np.random.default_rng(1).normal(0, 6, (1, 1, side, side)).astype(np.float32)
    requests: list[tuple[Any, dict[str, Any], bool]] = [
        (infer_http, {"box": BOX}, True),
        (infer_grpc, POINTS, True),
        (infer_http, {"box": BOX, **POINTS}, False),
        (infer_grpc, {"mask_input": mask}, False),
    ]
    with Predictor(hq_sam2_bundle, threads=1) as predictor, running(hq_sam2_bundle) as server:
        predictor.set_image(IMAGE)
        for infer, prompts, multimask in requests:
            expected = predictor.predict_batch(**prompts, multimask_output=multimask)
            got = infer(server, {"image": IMAGE, **prompts}, multimask_output=multimask)
            assert got["masks"].shape[:2] == (1, 3 if multimask else 1)
            np.testing.assert_array_equal(got["masks"], expected[0])
            np.testing.assert_array_equal(got["iou_predictions"], expected[1])


def test_quality_is_measured(hq_sam2_bundle: Bundle, tmp_path: Path) -> None:
    report = evaluate([hq_sam2_bundle], small_dataset(tmp_path / "data"), providers=[("cpu",)])
    scores = report.bundles[0].scores
    assert (scores.objects, scores.images, scores.non_finite) == (2 * SCENES, SCENES, 0)
    assert 0 < scores.mean_iou < 1


@pytest.mark.parametrize("measure", [ENCODER, DECODER, END_TO_END])
def test_time_is_measured(sam2_bundle: Bundle, tmp_path: Path, measure: str) -> None:
    write_png(tmp_path / "picture.png", sample_image((90, 120)))
    case = Case(bundle=str(sam2_bundle.path), provider="cpu", measure=measure, prompts=2, images=2)
    assert WORKLOADS[measure](case, tmp_path / "picture.png", 1)() is not None
