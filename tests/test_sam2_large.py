"""HQ-SAM 2 of the released size inside: its modules and its graphs against what the official code computed.

`test_sam2.py` holds the masks that `Predictor` makes of them to the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from samhq_exporter.model import Sam2
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, Array
from samhq_runtime.frames.geometry import preprocess
from samhq_runtime.frames.prompts import encode_prompts
from samhq_runtime.masks.choice import every_token_mask
from tests.support.sam2_golden import FEATURES, Golden, cases, disc, golden_checkpoint, images
from tests.support.shared import shared_bundle

pytestmark = pytest.mark.released

MODEL = "hq_sam2_large"
RELATIVE, ABSOLUTE = 1e-5, {"iou_predictions": 1e-5, "object_score_logits": 5e-5}  # of a tensor's range; or as it is
OUTPUTS = {
    "low_res_logits": "token_logits",
    "iou_predictions": "iou_tokens",
    "object_score_logits": "object_score_logits",
}
Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden_checkpoint(tmp_path_factory, MODEL)


@pytest.fixture(scope="module")
def sam(checkpoint: Path) -> Sam2:
    loaded = load_checkpoint(checkpoint).sam
    assert isinstance(loaded, Sam2)
    return loaded


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return shared_bundle(tmp_path_factory, checkpoint)


def of_torch(function: Callable[..., tuple[torch.Tensor, ...]], names: Mapping[str, str]) -> Run:
    @torch.inference_mode()
    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        return {name: tensor.numpy() for name, tensor in zip(names, function(**tensors), strict=True)}

    return run


@pytest.fixture(scope="module", params=["modules", "graphs"])
def both(request: pytest.FixtureRequest, sam: Sam2, bundle: Bundle) -> tuple[Run, Run]:
    """Encoder and decoder."""
    if request.param == "modules":
        return of_torch(sam.encode_image, FEATURES), of_torch(sam.decode_masks, OUTPUTS)
    return bundle.open(IMAGE_ENCODER), bundle.open(MASK_DECODER)


@pytest.mark.parametrize("name", list(images()))
def test_every_tensor(both: tuple[Run, Run], bundle: Bundle, name: str) -> None:
    """What leaves the encoder, and every token's mask, predicted IoU and object score of every case."""
    golden, image, sizes = Golden(MODEL), images()[name], bundle.manifest.sizes
    encode, decode = both
    features = encode({"input_image": pixels_of(bundle, image)})
    for ours, theirs in FEATURES.items():
        close(golden, f"{name}/{theirs}", features[ours], ours)
    for case, arguments in cases(image).items():
        if case == "second_round":
            continue  # goes on from a mask of which the file has samples
        masks = {"mask_input": disc(sizes.low_res_size)} if "mask_input" in arguments else {}
        prompts = encode_prompts(original_hw=image.shape[:2], sizes=sizes, **{**arguments, **masks})
        outputs = decode({**features, **prompts.feeds(every_token_mask(sizes.token_masks))})
        for ours, theirs in OUTPUTS.items():
            close(golden, f"{name}/{case}/{theirs}", outputs[ours], ours)


def pixels_of(bundle: Bundle, image: Array) -> Array:
    manifest = bundle.manifest
    return preprocess(image, manifest.sizes.frame, manifest.pixel_mean, manifest.pixel_std)


def close(golden: Golden, name: str, got: Array, tensor: str) -> None:
    want, ours = golden.pair(name, np.asarray(got))
    np.testing.assert_allclose(ours, want, rtol=0, atol=ABSOLUTE.get(tensor, RELATIVE * np.ptp(want)), err_msg=name)


def test_stages(sam: Sam2, bundle: Bundle) -> None:
    golden, trunk = Golden(MODEL), sam.image_encoder.trunk
    for name, image in images().items():
        with torch.inference_mode():
            stages = trunk(torch.from_numpy(pixels_of(bundle, image)), trunk.positions())
        for index, stage in enumerate(stages):
            side = trunk.grid >> index
            close(golden, f"{name}/stage{index}", stage.transpose(1, 2).reshape(1, -1, side, side).numpy(), "stage")
