"""The image of a request: what identifies it, and its pixels once somebody needs them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ..contract import Float32, ModelFrame
from ..frames.arrays import require_image
from ..frames.geometry import fit_image
from ..frames.image_files import decode_image
from .errors import Reason, RequestError
from .options import MEGA, ServeOptions
from .signature import IMAGE, IMAGE_BYTES, InferRequest

HW = tuple[int, int]


@dataclass(frozen=True)
class ImageSource:
    """What a request sent, an image file or pixels (H,W,3) uint8 RGB; `key` is the same for the same content."""

    key: bytes
    content: bytes | NDArray[np.uint8]


@dataclass(frozen=True)
class FittedImage:
    """`pixels` as `fit_image` makes them of an image of size `original_hw`: what is left to do is to encode them."""

    pixels: NDArray[np.uint8] | Float32
    original_hw: HW


def image_of(request: InferRequest) -> ImageSource:
    """The request's image, not decoded yet; ImageError if there is none, or pixels of another shape than (H,W,3)."""
    if IMAGE.name in request.inputs:
        image = require_image(request.inputs[IMAGE.name].data)
        digest = sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
        return ImageSource(digest.digest(), image)
    encoded = _one_element(request)
    return ImageSource(sha256(encoded).digest(), encoded)


def read_pixels(content: bytes | NDArray[np.uint8], limits: ServeOptions) -> NDArray[np.uint8]:
    """(H,W,3) uint8 RGB.

    Raises:
        ImageError: a file that cannot be decoded.
        RequestError: an image larger than `limits` allows; nothing of it was decoded.
    """
    if isinstance(content, bytes):
        return decode_image(content, white_point=limits.white_point, check_hw=lambda hw: require_size(hw, limits))
    require_size((content.shape[0], content.shape[1]), limits)
    return content


def fitted(content: bytes | NDArray[np.uint8], frame: ModelFrame, limits: ServeOptions) -> FittedImage:
    """`read_pixels`, resized for the model."""
    pixels = read_pixels(content, limits)
    return FittedImage(fit_image(pixels, frame), (pixels.shape[0], pixels.shape[1]))


def require_size(hw: HW, limits: ServeOptions) -> None:
    """RequestError for an image with more pixels, or longer, or narrower, than `limits` allows."""
    height, width = hw
    if height * width > limits.max_image_mp * MEGA:
        raise RequestError(
            f"image: got {height * width / MEGA:.1f} megapixels, expected at most {limits.max_image_mp}",
            reason=Reason.TOO_LARGE,
        )
    if max(hw) > limits.max_image_side or max(hw) > limits.max_aspect * min(hw):
        raise RequestError(
            f"image: got {height} x {width} (H x W), expected a longer side of at most {limits.max_image_side} pixels, "
            f"and at most {limits.max_aspect} times the shorter one",
            reason=Reason.TOO_LARGE,
        )


def _one_element(request: InferRequest) -> bytes:
    data = request.inputs[IMAGE_BYTES.name].data
    if data.size != 1:
        raise RequestError(f"{IMAGE_BYTES.name}: got {data.size} elements, expected 1, the content of an image file")
    return bytes(data.ravel()[0])
