"""Images in arrays of other libraries: taken without a copy, or refused in one line."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch

from samhq_runtime.errors import ImageError
from samhq_runtime.frames.arrays import DeviceImage, require_image, take_image
from tests.support.device_arrays import CudaInterface, OnDevice

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
WIDE = np.zeros((6, 9, 3), np.uint8)[:, :8]  # rows with a gap, as hardware decoders leave
STRANGE_KIND = 99


def seen(image: DeviceImage) -> np.ndarray:
    """The pixels at its address."""
    size = int(np.prod(image.original_hw)) * 3
    return np.frombuffer((ctypes.c_uint8 * size).from_address(image.address), np.uint8).reshape(*image.original_hw, 3)


def test_tensors_on_the_host_are_not_copied() -> None:
    tensor = torch.from_numpy(IMAGE.copy())
    taken = take_image(tensor)
    assert isinstance(taken, np.ndarray)
    tensor[0, 0] = 7
    np.testing.assert_array_equal(taken, tensor.numpy())
    channels_first = torch.from_numpy(IMAGE.transpose(2, 0, 1).copy())
    np.testing.assert_array_equal(require_image(channels_first.permute(1, 2, 0)), IMAGE)  # strides of any kind


def test_arrays_that_cannot_be_written_to() -> None:
    image = IMAGE.copy()
    image.flags.writeable = False
    assert take_image(image) is image

    class ReadOnly(OnDevice):
        def __dlpack__(self, *, stream: object = None, **_: object) -> object:
            raise BufferError("read-only arrays are not handed out")

    for kind in (1, 2):
        with pytest.raises(ImageError, match=r"ReadOnly cannot be read as an array \(read-only arrays are not handed"):
            take_image(ReadOnly(image, kind=kind))


def test_arrays_on_a_device_are_described() -> None:
    array = OnDevice(IMAGE, number=1)
    taken = take_image(array)
    assert isinstance(taken, DeviceImage)
    assert (str(taken), taken.original_hw, array.streams) == ("cuda:1", (6, 8), [1])
    np.testing.assert_array_equal(seen(taken), IMAGE)
    by_interface = take_image(CudaInterface(IMAGE))
    assert isinstance(by_interface, DeviceImage)
    assert (str(by_interface), by_interface.address) == ("cuda", IMAGE.ctypes.data)
    np.testing.assert_array_equal(seen(take_image(CudaInterface(IMAGE, strides=None))), IMAGE)  # type: ignore[arg-type]


def test_memory_lives_as_long_as_its_description() -> None:
    kept = take_image(OnDevice(IMAGE.copy()))  # nobody else has the array
    np.testing.assert_array_equal(seen(kept), IMAGE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (torch.zeros((6, 8, 3), dtype=torch.bfloat16), r"Tensor cannot be read as an array \(.*\); expected uint8"),
        (torch.zeros((6, 8, 3)), "got float32 .6, 8, 3., expected uint8"),
        (torch.zeros((3, 6, 8), dtype=torch.uint8), "got uint8 .3, 6, 8., expected uint8 .H, W, 3."),
        (torch.zeros((6, 8, 3), requires_grad=True), "Tensor cannot be read as an array"),
        (OnDevice(torch.zeros((6, 8, 3), dtype=torch.bfloat16)), "got bfloat16 .6, 8, 3., expected uint8"),
        (OnDevice(torch.zeros((6, 8, 3), dtype=torch.float16)), "got float16 .6, 8, 3., expected uint8"),
        (OnDevice(np.zeros((6, 8, 4), np.uint8)), "got uint8 .6, 8, 4., expected uint8 .H, W, 3. RGB"),
        (OnDevice(np.zeros((0, 8, 3), np.uint8)), "expected at least one pixel"),
        (OnDevice(WIDE), r"got strides \(27, 3, 1\) on a device, expected \(24, 3, 1\).*tensor.contiguous"),
        (CudaInterface(WIDE), r"got strides \(27, 3, 1\) on a device, expected \(24, 3, 1\)"),
        (CudaInterface(IMAGE, typestr="<f4"), "got float32 .6, 8, 3., expected uint8"),
        (CudaInterface(IMAGE, mask=IMAGE), "a masked array"),
        (CudaInterface(IMAGE, typestr="bf16"), "CudaInterface cannot be read as an array"),
    ],
)
def test_refused_in_one_line(image: Any, complaint: str) -> None:
    with pytest.raises(ImageError, match=complaint) as raised:
        take_image(image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("array", "where"),
    [(OnDevice(IMAGE, number=1), "cuda:1"), (OnDevice(IMAGE, kind=8), "metal:0"), (CudaInterface(IMAGE), "cuda"),
     (OnDevice(IMAGE, kind=STRANGE_KIND), "device kind 99:0")],
)  # fmt: skip
def test_only_the_host_will_do(array: Any, where: str) -> None:
    with pytest.raises(ImageError, match=f"in the memory of {where}, expected it on the host here; copy it"):
        require_image(array)
