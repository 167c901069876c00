"""Folders of images with one mask each: DIS, HQSeg-44K, and anything laid out like them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError
from ..frames.image_files import WHITE
from ..frames.image_sources import IMAGE_SUFFIXES
from .dataset import Sample, Skip, Unusable, fingerprint_of, read_sample_image, require_same_size
from .metrics import Mask

_ANY_MASK = (*IMAGE_SUFFIXES, ".gif")  # for those who name them
_MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_OTHER_NAMES = "--mask-suffix _mask.gif reads masks named x_mask.gif for x.jpg"
_FOLDERS = (("im", "gt"), ("images", "masks"))
_LAYOUTS = ", or ".join(f"{images}/ and {masks}/" for images, masks in _FOLDERS)


@dataclass(frozen=True)
class PairDataset:
    """One object per image; the target's name is its mask file's."""

    path: Path
    layout: str
    images: dict[str, Path]  # by name, in order
    masks: dict[str, Path]
    left_out: Sequence[Skip]
    notices: Sequence[str] = ()
    white_point: int = WHITE

    @property
    def names(self) -> Sequence[str]:
        return list(self.images)

    def fingerprint(self) -> str:
        return fingerprint_of([*self.images.values(), *self.masks.values()], self.white_point)

    def read(self, name: str) -> Sample:
        if name not in self.masks:
            raise Unusable("no mask for the image", f"expected a mask file of the name {Path(name).stem}")
        image, mask_file = read_sample_image(self.images[name], self.white_point), self.masks[name]

        def read_mask(target: str) -> Mask:
            mask = _read_mask(mask_file)
            require_same_size("mask of another size", "mask", mask.shape, image)
            return mask

        return Sample(image, [mask_file.name], read_mask)


def open_pairs(
    path: Path, *, masks: Path | None = None, suffix: str | None = None, white_point: int = WHITE
) -> PairDataset:
    """Pairs of the same stem: in `path` and `masks`, or where `open_dataset` says; `suffix` as `mask_suffix` there."""
    image_folder, mask_folder, layout = _folders(path, masks)
    same = image_folder == mask_folder
    end, mask_types = _mask_names(suffix)
    image_types = (".jpg", ".jpeg") if same and not end else IMAGE_SUFFIXES
    images = _files(image_folder, image_types)
    if same and end:
        images = [image for image in images if not image.stem.endswith(end)]
    mask_files = [mask for mask in _files(mask_folder, mask_types) if _stem(mask).endswith(end)]
    stems = {stem.removesuffix(end): mask for stem, mask in _by_stem(mask_files).items()}
    if not images:
        raise DatasetError(f"{image_folder}: no images in it; expected {_LAYOUTS}, or .jpg images with .png masks")
    if not stems:
        wanted = ", ".join(f"{end}{kind}" for kind in mask_types)
        raise DatasetError(f"{mask_folder}: no masks in it; expected one of {wanted} per image; {_OTHER_NAMES}")
    _by_stem(images)
    named = {image.name: image for image in images}
    paired = {name: stems.pop(_stem(image)) for name, image in named.items() if _stem(image) in stems}
    if not paired:
        raise DatasetError(
            f"{path}: no image of {image_folder} has the name of a mask of {mask_folder}; {_OTHER_NAMES}"
        )
    unpaired = [Skip(mask.name, mask.name, "no image for the mask", str(mask)) for mask in stems.values()]
    unsupported = _unsupported(image_folder, (*image_types, *mask_types) if same else IMAGE_SUFFIXES)
    if not same:
        unsupported += _unsupported(mask_folder, mask_types)
    return PairDataset(path, layout, named, paired, [*unpaired, *unsupported], white_point=white_point)


def _mask_names(suffix: str | None) -> tuple[str, tuple[str, ...]]:
    """How the stem of a mask ends after that of its image, and the types it may have."""
    if suffix is None:
        return "", _MASK_SUFFIXES
    end, dot, kind = suffix.rpartition(".")
    if not dot:
        return suffix, _ANY_MASK
    if f".{kind.lower()}" not in _ANY_MASK or "/" in suffix:
        raise DatasetError(f"--mask-suffix {suffix}: expected what follows the image's name, such as _mask.png or .gif")
    return end, (f".{kind.lower()}",)


def _folders(path: Path, masks: Path | None) -> tuple[Path, Path, str]:
    """Of images, of masks, and what to call that."""
    if masks is not None:
        if not masks.is_dir():
            raise DatasetError(f"{masks}: no such folder of masks")
        return path, masks, "images and masks in two folders"
    for images, truths in _FOLDERS:
        if (path / images).is_dir() and (path / truths).is_dir():
            return path / images, path / truths, f"{images}/ and {truths}/"
    return path, path, "pairs of the same name"


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))


def _unsupported(folder: Path, suffixes: tuple[str, ...]) -> list[Skip]:
    """The files that are of none of these types, which may be images or masks all the same."""
    others = (p for p in folder.iterdir() if p.is_file() and p.suffix.lower() not in suffixes)
    detail = f"expected one of {', '.join(suffixes)}"
    names = sorted(p.name for p in others if not p.name.startswith("."))
    return [Skip(name, None, "file of an unsupported type", f"{folder / name}: {detail}") for name in names]


def _by_stem(files: Sequence[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for file in files:
        if _stem(file) in stems:
            raise DatasetError(f"{file.parent}: {stems[_stem(file)].name} and {file.name} have the same name; keep one")
        stems[_stem(file)] = file
    return stems


def _stem(file: Path) -> str:
    """Composed: macOS writes decomposed names, and copies of a folder may have both."""
    return unicodedata.normalize("NFC", file.stem)


def _read_mask(path: Path) -> Mask:
    """(H,W) of a mask file: above half of white, or 1 where no pixel is above 1."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            if picture.mode == "P" and len(picture.getcolors() or ()) > 2:
                raise Unusable("mask is a label map", f"{path}: a palette with more than two colours in use")
            deep = picture.mode.startswith(("I", "F"))
            values: NDArray = np.asarray(picture if deep else picture.convert("L"))
    except Unusable:
        raise
    except Exception as e:  # Pillow lets any exception out of a damaged file
        raise Unusable("mask unreadable", f"{path}: {e}") from e
    highest = values.max()
    if highest <= 1:
        return values > 0
    return values > (255 if highest <= 255 else 65535) / 2
