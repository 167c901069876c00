"""What is evaluated on: images with ground-truth masks, read one at a time, and every reason to leave one out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..contract import Float64
from ..errors import ImageError
from ..frames.image_files import WHITE, read_image
from ..frames.image_names import is_file
from .metrics import Mask

Box = Float64


class Unusable(Exception):
    """An image or an object that cannot be evaluated: counted under `reason`, named with `detail`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Skip:
    """What was left out: an image, or one `target` (annotation or mask) of it, and why."""

    image: str
    target: str | None
    reason: str
    detail: str = ""


def no_box(target: str) -> Box:
    """For datasets of masks alone."""
    raise Unusable("no box for the object", f"{target}: only COCO annotations have boxes; use the prompts box or point")


@dataclass(frozen=True)
class Sample:
    """An image (H,W,3) uint8 RGB, its targets, and what is read of a target; Unusable if there is none.

    `read_mask` gives its (H,W) bool mask, `read_box` the x0, y0, x1, y1 that the dataset states, as `box_of` does.
    """

    image: NDArray[np.uint8]
    targets: Sequence[str]
    read_mask: Callable[[str], Mask]
    read_box: Callable[[str], Box] = no_box


class Dataset(Protocol):
    """Images by name in a fixed order.

    `left_out` holds what was found without opening an image and belongs to none of `names`; `notices` are lines about
    what was read otherwise than it stands. `fingerprint` changes when an image, a mask or an annotation does.
    """

    @property
    def path(self) -> Path: ...

    @property
    def layout(self) -> str: ...

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def left_out(self) -> Sequence[Skip]: ...

    @property
    def notices(self) -> Sequence[str]: ...

    def fingerprint(self) -> str: ...

    def read(self, name: str) -> Sample:
        """Raises Unusable if the whole image is to be left out."""
        ...


def read_sample_image(path: Path, white_point: int) -> NDArray[np.uint8]:
    """The image (H,W,3), or Unusable; `white_point` as `read_image` takes it."""
    if not is_file(path):
        raise Unusable("image missing", str(path))
    try:
        return read_image(path, white_point=white_point)
    except ImageError as e:
        raise Unusable("image unreadable", str(e)) from e


def require_same_size(reason: str, what: str, got_hw: Sequence[int], image: NDArray[Any]) -> None:
    """Unusable unless a mask or an annotation has the size of its image."""
    if tuple(got_hw) != image.shape[:2]:
        height, width = image.shape[:2]
        raise Unusable(reason, f"{what} {got_hw[1]} x {got_hw[0]}, image {width} x {height} (width x height)")


def fingerprint_of(files: Iterable[Path], white_point: int, content: bytes = b"") -> str:
    """Hex SHA-256 of `content` and of the files' names, sizes and times; the pixels themselves are not read."""
    digest = hashlib.sha256(content if white_point == WHITE else content + b"white is %d" % white_point)
    for path in files:
        stat = path.stat() if is_file(path) else None
        state = f"{stat.st_size} {stat.st_mtime_ns}" if stat else "missing"
        digest.update(f"\n{path.name}\0{state}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
