"""Which kind of dataset a path is."""

from __future__ import annotations

from pathlib import Path

from ..errors import DatasetError
from ..frames.image_files import WHITE, require_white_point
from .coco import open_coco
from .dataset import Dataset
from .pairs import open_pairs


def open_dataset(
    path: str | Path,
    *,
    images: str | Path | None = None,
    masks: str | Path | None = None,
    include_crowd: bool = False,
    mask_suffix: str | None = None,
    white_point: int = WHITE,
) -> Dataset:
    """A COCO-format annotation file, or a folder of image and mask pairs.

    Args:
        path: `instances_*.json`; or a folder with `im/` and `gt/`, or `images/` and `masks/`, or pairs of one stem.
        images: where the images of an annotation file are; by default found beside it.
        masks: where the masks are, for images directly in the folder `path`.
        include_crowd: take annotations with `iscrowd` as objects.
        mask_suffix: how a mask's name goes on after its image's stem: `_mask.gif`, `.jpg`, or `_mask` of any type.
        white_point: value of white in images of 16 bits, as `read_image` takes it.

    Raises:
        ConfigError: a white point out of 1 to 65535.
        DatasetError: not there, of neither layout, or without anything to evaluate.
    """
    path, white_point = Path(path), require_white_point(white_point)
    images, masks = (None if folder is None else Path(folder) for folder in (images, masks))
    if path.is_dir():
        if images is not None:
            raise DatasetError(f"--images goes with an annotation file; {path} is a folder: give the folder of images")
        if include_crowd:
            raise DatasetError(f"--include-crowd goes with an annotation file; {path} is a folder")
        return open_pairs(path, masks=masks, suffix=mask_suffix, white_point=white_point)
    if not path.is_file():
        raise DatasetError(f"{path}: no such dataset; expected a COCO annotation file or a folder of images and masks")
    if masks is not None:
        raise DatasetError(f"--masks goes with a folder of images; {path} is a file, its masks are in it")
    if mask_suffix is not None:
        raise DatasetError(f"--mask-suffix goes with a folder of images; {path} is a file, its masks are in it")
    return open_coco(path, images=images, include_crowd=include_crowd, white_point=white_point)
