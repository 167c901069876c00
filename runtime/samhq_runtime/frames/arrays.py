"""Images in arrays: numpy's, and those of other libraries (torch, CuPy, JAX, decoders of video, drivers of cameras).

Host memory becomes a numpy array without a copy. What lies in a GPU's memory is described and not touched: whoever has
a session on that GPU reads it there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, reason_of
from .dlpack import describe

IMAGE_FORMATS = {"RGB": (0, 1, 2), "BGR": (2, 1, 0)}  # and which of an image's channels are red, green and blue
CUDA = "cuda"
# DLPack's kinds of devices. numpy reads host memory that is pinned for a GPU, or shared with one, too.
_HOST = (1, 3, 11, 13)
DEVICES = {2: CUDA, 4: "opencl", 7: "vulkan", 8: "metal", 10: "rocm", 14: "oneapi", 15: "webgpu"}
_LEGACY_STREAM = 1  # CUDA's default one, in the words of DLPack: the producer's work is to be done before what it gets


class DlpackArray(Protocol):
    """See https://data-apis.org/array-api/latest/design_topics/data_interchange.html."""

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


class CudaArray(Protocol):
    @property
    def __cuda_array_interface__(self) -> Any: ...


ImageLike: TypeAlias = "NDArray[np.uint8] | DlpackArray | CudaArray"


@dataclass(frozen=True)
class DeviceImage:
    """Pixels (H,W,3) uint8, one behind the other, in the memory of a device.

    Attributes:
        address: of the first of them.
        original_hw: H, W.
        kind, number: the device, such as `cuda` and 0; the number is None where the array does not say.
        owner: what keeps the memory as it is.
    """

    address: int
    original_hw: tuple[int, int]
    kind: str
    number: int | None
    owner: object

    def __str__(self) -> str:
        return self.kind if self.number is None else f"{self.kind}:{self.number}"


def require_image(image: object) -> NDArray[np.uint8]:
    """`image` if it is a (H,W,3) uint8 array on the host with pixels in it, else ImageError."""
    taken = take_image(image)
    if isinstance(taken, DeviceImage):
        raise ImageError(
            f"image: in the memory of {taken}, expected it on the host here; copy it, as tensor.cpu() does"
        )
    return taken


def take_image(image: object) -> NDArray[np.uint8] | DeviceImage:
    """(H,W,3) uint8 of numpy, or of anything with `__dlpack__` or `__cuda_array_interface__`, wherever it lies.

    Raises:
        ImageError: no array, of another dtype or shape, without pixels; on a device and not contiguous.
    """
    if isinstance(image, np.ndarray):
        _require(image.dtype, image.shape)
        return image
    try:
        if hasattr(image, "__dlpack__") and hasattr(image, "__dlpack_device__"):
            return _of_dlpack(image)
        if hasattr(image, "__cuda_array_interface__"):
            return _of_cuda(image)
    except ImageError:
        raise
    except Exception as e:  # each library has errors of its own for what it does not hand out
        raise ImageError(
            f"image: {type(image).__name__} cannot be read as an array ({reason_of(e)}); expected uint8 (H, W, 3) RGB"
        ) from e
    raise ImageError(f"image: got {type(image).__name__}, expected an array (H, W, 3) uint8 RGB")


def _of_dlpack(image: Any) -> NDArray[np.uint8] | DeviceImage:
    kind, number = map(int, image.__dlpack_device__())
    if kind in _HOST:
        array: NDArray[Any] = np.from_dlpack(image)
        _require(array.dtype, array.shape)
        return array
    device = DEVICES.get(kind, f"device kind {kind}")
    capsule = image.__dlpack__(stream=_LEGACY_STREAM) if device == CUDA else image.__dlpack__()
    found = describe(capsule)
    _require(found.dtype, found.shape)
    if found.strides is not None:
        _require_contiguous(found.shape, found.strides)
    return DeviceImage(found.address, (found.shape[0], found.shape[1]), device, number, (image, capsule))


def _of_cuda(image: Any) -> DeviceImage:
    """See https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html; strides are in bytes there."""
    interface = image.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise ImageError("image: a masked array, whose mask would be dropped; choose its valid values first")
    shape = tuple(interface["shape"])
    _require(np.dtype(interface["typestr"]), shape)
    if interface.get("strides") is not None:
        _require_contiguous(shape, tuple(interface["strides"]))
    return DeviceImage(interface["data"][0], (shape[0], shape[1]), CUDA, None, image)


def _require(dtype: object, shape: tuple[int, ...]) -> None:
    if str(dtype) != "uint8" or len(shape) != 3 or shape[2] != 3:
        raise ImageError(
            f"image: got {dtype} {shape}, expected uint8 (H, W, 3) RGB; "
            "convert grey or RGBA pictures first, e.g. PIL.Image.convert('RGB')"
        )
    if 0 in shape:
        raise ImageError(f"image: got {shape}, expected at least one pixel")


def _require_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """Of uint8, where elements are bytes."""
    _, width, channels = shape
    expected = (width * channels, channels, 1)
    if any(size > 1 and got != want for size, got, want in zip(shape, strides, expected, strict=True)):
        raise ImageError(
            f"image: got strides {strides} on a device, expected {expected}, rows without gaps of an image (H, W, 3); "
            "make it contiguous there first, as tensor.contiguous() does"
        )
