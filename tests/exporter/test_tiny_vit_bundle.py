"""Light HQ-SAM as a bundle: `Predictor` against the official predictor, in both precisions and at another size."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from samhq_runtime import Predictor
from samhq_runtime.evaluation.metrics import iou
from tests.support.bundles import export
from tests.support.official import import_official
from tests.support.parity import MASK_IOU, randomise
from tests.support.reference import ALL_PROMPTS, official_predictions, photographs, prompts_for, tiny_vit_of

# Error of logits, of their range, and of predicted IoU; mask IoU.
TOLERANCES = {"fp32": (1e-3, 1e-4, MASK_IOU), "fp16": (3e-2, 5e-3, 0.97)}


@pytest.fixture(scope="module")
def official() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sam = import_official().sam_model_registry["vit_tiny"]()
    randomise(sam, seed=31)
    return sam.eval().requires_grad_(False)


class AtGrid(nn.Module):
    """The official TinyViT for an input size that its own `forward_features` cannot take: it reshapes to 64 x 64."""

    def __init__(self, trained: nn.Module, image_size: int) -> None:
        super().__init__()
        self.encoder = tiny_vit_of(image_size)
        self.encoder.load_state_dict(trained.state_dict(), strict=True)
        self.encoder.eval()
        self.img_size, self.grid = image_size, image_size // 16

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        first, second, *others = self.encoder.layers
        x = early = second(first(self.encoder.patch_embed(x)))
        for layer in others:
            x = layer(x)
        grid = (len(x), self.grid, self.grid, -1)
        return self.encoder.neck(x.reshape(grid).permute(0, 3, 1, 2)), [early.reshape(grid)]


def assert_same(bundle_path: Any, reference: Any, precision: str) -> None:
    relative, quality, least_iou = TOLERANCES[precision]
    image = photographs()["landscape 400 x 600"]
    with Predictor(bundle_path) as predictor:
        predictor.set_image(image)
        reference.set_image(image)
        for kind, (multimask, hq_only) in itertools.product(ALL_PROMPTS, ((False, True), (True, False))):
            prompts = prompts_for(image, kind, predictor.bundle.manifest.sizes.low_res_size)
            options = {"multimask_output": multimask, "hq_token_only": hq_only}
            expected = official_predictions(reference, prompts, **options)
            got = predictor.predict(**prompts, return_logits=True, **options)
            for ours, theirs in zip(got, expected, strict=True):
                assert ours.shape == theirs.shape
            for index in (0, 2):  # logits at the image's size, and as the decoder gives them
                assert np.abs(got[index] - expected[index]).max() <= relative * np.ptp(expected[index]), (kind, options)
            assert np.abs(got[1] - expected[1]).max() <= quality, (kind, options)
            assert iou(got[0] > 0, expected[0] > 0) >= least_iou, (kind, options)


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
def test_vit_tiny_equals_segment_anything_hq(official: nn.Module, tmp_path: Path, precision: str) -> None:
    torch.save(official.state_dict(), tmp_path / "sam_hq_vit_tiny.pth")
    bundle = export(tmp_path / "sam_hq_vit_tiny.pth", tmp_path / "bundle", precision=precision)
    assert (bundle.manifest.variant, bundle.manifest.token_fusion) == ("vit_tiny", "independent")
    assert_same(bundle, import_official().SamPredictor(official), precision)


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
def test_vit_tiny_at_512(official: nn.Module, tmp_path: Path, precision: str) -> None:
    torch.save(official.state_dict(), tmp_path / "sam_hq_vit_tiny.pth")
    bundle = export(tmp_path / "sam_hq_vit_tiny.pth", tmp_path / "bundle", precision=precision, image_size=512)
    assert bundle.manifest.sizes.image_size == 512
    assert_same(bundle, official_at_512(official), precision)


def official_at_512(trained: Any) -> Any:
    package = import_official()
    prompt_encoder = package.modeling.PromptEncoder(
        embed_dim=256, image_embedding_size=(32, 32), input_image_size=(512, 512), mask_in_chans=16
    )
    prompt_encoder.load_state_dict(trained.prompt_encoder.state_dict(), strict=True)
    encoder = AtGrid(trained.image_encoder, 512)
    sam = package.modeling.Sam(image_encoder=encoder, prompt_encoder=prompt_encoder, mask_decoder=trained.mask_decoder)
    return package.SamPredictor(sam.eval().requires_grad_(False))
