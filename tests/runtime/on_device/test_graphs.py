"""The graphs of pixels against what the host computes, on the CPU provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from samhq_exporter.pixel_graphs import FOLDER, TEXTS, parsed
from samhq_runtime.contract import Array, ModelFrame
from samhq_runtime.frames.arrays import IMAGE_FORMATS
from samhq_runtime.frames.geometry import fit_image, normalise
from samhq_runtime.masks.upscale import upscale
from samhq_runtime.on_device.graphs import fit_feeds, upscale_feeds

SIDE = 256
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZES = [(256, 256), (135, 240), (480, 270), (300, 257), (33, 1000), (1, 7), (777, 512)]
FLOATS_BOUND = 1e-4  # of 255 levels
UNDECIDED = 1e-4  # logits so near to the threshold that rounding decides


def run(name: str, feeds: dict[str, Array]) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.ascontiguousarray(array) for name, array in feeds.items()})[0]


def picture(hw: tuple[int, int]) -> Array:
    """Noise, and a part of black and white, whose means are often exactly half a level."""
    rng = np.random.default_rng(hw)
    image = rng.integers(0, 256, (*hw, 3), dtype=np.uint8)
    image[: hw[0] // 2] = rng.integers(0, 2, (hw[0] // 2, hw[1], 3), dtype=np.uint8) * 255
    return image


def fitted(image: Array, frame: ModelFrame, image_format: str = "RGB") -> Array:
    normalisation = {k: np.array(v, np.float32).reshape(3, 1, 1) for k, v in (("mean", MEAN), ("std", STD))}
    feeds = {"image": image, "channels": np.array(IMAGE_FORMATS[image_format]), **normalisation}
    name = "fit_floats" if frame.squashed else "fit_rounded"
    return run(name, feeds | fit_feeds((image.shape[0], image.shape[1]), frame))


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_files_are_their_texts(name: str) -> None:
    """`python -m samhq_exporter.pixel_graphs` writes them."""
    assert onnx.load(FOLDER / f"{name}.onnx") == parsed(name)
    assert {path.stem for path in Path(FOLDER).glob("*.onnx")} == set(TEXTS)


@pytest.mark.parametrize("hw", SIZES)
def test_every_pixel_is_pillows(hw: tuple[int, int]) -> None:
    """To the bit: float32 is exact here, in whatever order a GPU adds."""
    image, frame = picture(hw), ModelFrame(SIDE)
    np.testing.assert_array_equal(fitted(image, frame), normalise(fit_image(image, frame), SIDE, MEAN, STD))


def test_colours_in_another_order() -> None:
    image, frame = picture((40, 60)), ModelFrame(SIDE)
    np.testing.assert_array_equal(fitted(image, frame, "BGR"), fitted(image[..., ::-1], frame))


@pytest.mark.parametrize("hw", SIZES)
def test_squashed_pixels_are_pillows_floats(hw: tuple[int, int]) -> None:
    image, frame = picture(hw), ModelFrame(SIDE, squashed=True)
    expected = normalise(fit_image(image, frame), SIDE, MEAN, STD)
    assert np.abs(fitted(image, frame) - expected).max() <= FLOATS_BOUND / min(STD)


@pytest.mark.parametrize("squashed", [False, True])
@pytest.mark.parametrize("hw", [(60, 80), (270, 480), (33, 1000), (1, 7)])
def test_masks_are_the_hosts(hw: tuple[int, int], squashed: bool) -> None:
    frame = ModelFrame(SIDE, squashed)
    logits = np.random.default_rng(1).normal(0, 5, (2, 3, 64, 64)).astype(np.float32)
    expected = upscale(logits, hw, frame)
    feeds = {"low_res_logits": logits, "threshold": np.zeros(1, np.float32), **upscale_feeds(64, hw, frame)}
    masks = run("upscale_masks", feeds)
    assert (masks.dtype, masks.shape) == (np.bool_, (2, 3, *hw))
    decided = np.abs(expected) > UNDECIDED
    np.testing.assert_array_equal(masks[decided], (expected > 0)[decided])
    assert decided.mean() > 0.99
