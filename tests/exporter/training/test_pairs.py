"""Images and masks in the model's input frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from samhq_exporter.architecture import PIXEL_MEAN, PIXEL_STD
from samhq_exporter.training.data import collate
from samhq_exporter.training.pairs import Pairs, to_frame
from samhq_runtime.contract import ModelFrame
from samhq_runtime.evaluation.open import open_dataset
from samhq_runtime.frames.geometry import preprocess
from tests.support.pairs import draw_pairs


def test_frame_is_that_of_prediction() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((2, 60, 90), bool)
    mask[0, 30:, 45:] = True
    mask[1, 7, 7] = True  # vanishes in any smaller picture, unless it is kept
    sample = to_frame(image, mask, 30)
    expected = torch.from_numpy(preprocess(image, ModelFrame(30), PIXEL_MEAN, PIXEL_STD))
    torch.testing.assert_close(collate([sample]).images, expected, rtol=0, atol=0.5 / min(PIXEL_STD))
    assert sample.masks[0].nonzero().tolist() == [[y, x] for y in range(10, 20) for x in range(15, 30)]
    assert sample.masks[1].nonzero().tolist() == [[2, 2]]


def test_mirrored_now_and_then(tmp_path: Path) -> None:
    dataset = open_dataset(draw_pairs(tmp_path / "pairs", 1, size=32))
    pairs = Pairs(dataset, dataset.names, 32)
    (plain,) = pairs.samples()
    rng = np.random.default_rng(0)
    seen = {bool(torch.equal(pairs.draw(0, rng).image, plain.image)) for _ in range(8)}
    assert seen == {True, False}
    drawn = pairs.draw(0, np.random.default_rng(0))
    turned = torch.equal(drawn.image, plain.image.flip(-1))
    assert torch.equal(drawn.masks, plain.masks.flip(-1) if turned else plain.masks)
