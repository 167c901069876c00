"""The image of a request: what identifies it, how big it is, and its pixels once somebody needs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from ..frames.geometry import require_image
from ..frames.image_files import count_pixels, decode_image
from .errors import Reason, RequestError
from .signature import IMAGE, IMAGE_BYTES, InferRequest


@dataclass(frozen=True)
class ImageSource:
    """`key` is the same for the same content; `read` returns (H,W,3) uint8 RGB."""

    key: bytes
    pixels: int
    read: Callable[[], NDArray[np.uint8]]


def image_of(request: InferRequest, *, max_pixels: int) -> ImageSource:
    """The request's image, not decoded yet.

    Raises:
        ImageError: no image, or one of another shape than (H,W,3).
        RequestError: more pixels than allowed.
    """
    if IMAGE.name in request.inputs:
        image = require_image(request.inputs[IMAGE.name].data)
        digest = sha256(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).data)
        source = ImageSource(digest.digest(), image.shape[0] * image.shape[1], lambda: image)
    else:
        encoded = _one_element(request)
        key = sha256(encoded).digest()
        source = ImageSource(key, _pixels_of(key, encoded), lambda: decode_image(encoded))
    if source.pixels > max_pixels:
        raise RequestError(
            f"image: got {source.pixels / 1e6:.1f} megapixels, expected at most {max_pixels / 1e6:g}",
            reason=Reason.TOO_LARGE,
        )
    return source


_pixels: dict[bytes, int] = {}  # by the hash of the file: opening it costs more than all else about a known image
_PIXELS_KEPT = 4096


def _pixels_of(key: bytes, encoded: bytes) -> int:
    count = _pixels.get(key)
    if count is None:  # two threads may both count; `clear` in between takes nothing from either
        count = count_pixels(encoded)
        if len(_pixels) >= _PIXELS_KEPT:
            _pixels.clear()
        _pixels[key] = count
    return count


def _one_element(request: InferRequest) -> bytes:
    data = request.inputs[IMAGE_BYTES.name].data
    if data.size != 1:
        raise RequestError(f"{IMAGE_BYTES.name}: got {data.size} elements, expected 1, the content of an image file")
    return bytes(data.ravel()[0])
