"""Which kind of dataset a path is."""

from __future__ import annotations

from pathlib import Path

from ..errors import DatasetError
from ..formats.coco_tables import read_json
from ..frames.image_files import WHITE, require_white_point
from .coco import open_coco
from .dataset import Dataset
from .label_studio import is_label_studio, open_label_studio
from .labelme import is_labelme, labelme_files, open_labelme
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
    """An annotation file of COCO's format, Label Studio or labelme, or a folder of these or of image and mask pairs.

    Args:
        path: `instances_*.json`, Label Studio's JSON, labelme's; or a folder of labelme's files; or one with `im/` and
            `gt/`, or `images/` and `masks/`, or pairs of one stem.
        images: where the images of annotation files are; by default found beside them.
        masks: where the masks are, for images directly in the folder `path`.
        include_crowd: take annotations with `iscrowd` as objects.
        mask_suffix: how a mask's name goes on after its image's stem: `_mask.gif`, `.jpg`, or `_mask` of any type.
        white_point: value of white in images of 16 bits, as `read_image` takes it.

    Raises:
        ConfigError: a white point out of 1 to 65535.
        DatasetError: not there, of no such layout, or without anything to evaluate.
    """
    path, white_point = Path(path), require_white_point(white_point)
    images, masks = (None if folder is None else Path(folder) for folder in (images, masks))
    if images is not None and not images.is_dir():
        raise DatasetError(f"{images}: no such folder of images")
    if path.is_dir():
        if include_crowd:
            raise DatasetError(f"--include-crowd goes with an annotation file; {path} is a folder")
        return _open_folder(path, images, masks, suffix=mask_suffix, white_point=white_point)
    for name, value in (("--masks", masks), ("--mask-suffix", mask_suffix)):
        if path.is_file() and value is not None:
            raise DatasetError(f"{name} goes with a folder of images; {path} is a file, its masks are in it")
    return _open_file(path, images, include_crowd=include_crowd, white_point=white_point)


def _open_folder(
    path: Path, images: Path | None, masks: Path | None, *, suffix: str | None, white_point: int
) -> Dataset:
    files = labelme_files(path) if masks is None and suffix is None else []
    if files:
        return open_labelme(path, files, images=images, white_point=white_point)
    if images is not None:
        raise DatasetError(f"--images goes with an annotation file; {path} is a folder: give the folder of images")
    return open_pairs(path, masks=masks, suffix=suffix, white_point=white_point)


def _open_file(path: Path, images: Path | None, *, include_crowd: bool, white_point: int) -> Dataset:
    if not path.is_file():
        raise DatasetError(f"{path}: no such dataset; expected an annotation file, or a folder of images and masks")
    content = read_json(path)
    try:
        of_label_studio = is_label_studio(content)
    except DatasetError as e:
        raise DatasetError(f"{path}: {e}") from e
    others = of_label_studio or is_labelme(content)
    if others and include_crowd:
        raise DatasetError(f"--include-crowd goes with COCO annotations; {path} has no crowd regions")
    if of_label_studio and isinstance(content, list):
        return open_label_studio(path, content, images=images, white_point=white_point)
    if others:
        return open_labelme(path, [path], images=images, white_point=white_point)
    return open_coco(path, content, images=images, include_crowd=include_crowd, white_point=white_point)
