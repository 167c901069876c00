"""Images and objects that annotation files list, whichever tool wrote them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import DatasetError
from ..files import sha256_of
from ..formats.coco_tables import Entry
from ..frames.image_files import WHITE
from ..frames.image_names import best_folder, image_file, unique_last_parts
from .dataset import Box, Sample, Skip, Unusable, fingerprint_of, read_sample_image, require_same_size
from .metrics import Mask

HW = tuple[int, int]

_SIZES = ("height", "width")
_MOST = 2**31


def no_annotated_box(entry: Entry, image_hw: HW) -> Box:
    """For tools that state none beside the object's outline."""
    raise Unusable("no box for the object", "only COCO annotations have boxes; use the prompts box or point")


@dataclass(frozen=True, kw_only=True)
class AnnotatedDataset:
    """Images in the order of the files; each layout says how its objects are drawn.

    Attributes:
        path: what was opened.
        files: the annotation files in it, which the fingerprint follows.
        image_folder: where the images are.
        images: what is stated of an image, by its name; `height` and `width` are held against the file.
        annotations: what is stated of an object, by the name of its image, then by target.
        mask_of: an object's (H,W) mask, or Unusable; gets its annotation and the image's size.
        stated_box_of: the box that its annotation states, as `mask_of`.
        asked: options that change the above, for the fingerprint.
    """

    path: Path
    layout: str
    files: Sequence[Path]
    image_folder: Path
    images: Mapping[str, Entry]
    annotations: Mapping[str, Mapping[str, Entry]]
    mask_of: Callable[[Entry, HW], Mask]
    stated_box_of: Callable[[Entry, HW], Box] = no_annotated_box
    left_out: Sequence[Skip] = ()
    notices: Sequence[str] = ()
    white_point: int = WHITE
    asked: bytes = b""

    @property
    def names(self) -> Sequence[str]:
        return list(self.images)

    def fingerprint(self) -> str:
        content = "".join(sha256_of(file) for file in self.files).encode()  # labelme's files hold whole images
        return fingerprint_of((self._file(name) for name in self.images), self.white_point, content + self.asked)

    def read(self, name: str) -> Sample:
        annotations = self.annotations.get(name)
        if not annotations:
            raise Unusable("no annotation for the image")
        entry, image = self.images[name], read_sample_image(self._file(name), self.white_point)
        hw = (image.shape[0], image.shape[1])
        stated = tuple(_size(entry.get(key)) or size for key, size in zip(_SIZES, hw, strict=True))
        require_same_size("image of another size than annotated", "annotations are for", stated, image)
        return Sample(
            image,
            list(annotations),
            lambda target: self.mask_of(annotations[target], hw),
            lambda target: self.stated_box_of(annotations[target], hw),
        )

    def _file(self, name: str) -> Path:
        return image_file(self.image_folder, name, last_part_alone=name in self._unique)

    @cached_property
    def _unique(self) -> set[str]:
        return unique_last_parts(self.images)


def image_folder_of(path: Path, names: Sequence[str], *more: Sequence[str]) -> Path:
    """Where most of the images are: beside the file, or in the folder that COCO's own layout gives them.

    `more` are names to look for if none of `names` is anywhere.
    """
    split = path.stem.partition("_")[2] or path.stem
    folders = [path.parent, path.parent / "images", path.parent / split, path.parent.parent / split]
    folders += [path.parent.parent / "images", path.parent.parent / "images" / split]
    for tried in (names, *more):
        unique = unique_last_parts(tried)
        best = best_folder(folders, tried, lambda f, name, u=unique: image_file(f, name, last_part_alone=name in u))  # type: ignore[misc]
        if best is not None:
            return best
    looked = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    raise DatasetError(
        f"{path}: none of its {len(names)} images, such as {names[0]}, is in any of {looked}; give --images FOLDER"
    )


def _size(stated: object) -> int | None:
    """A width or height; None where it is unknown: null, 0, text, as some tools write."""
    return int(stated) if type(stated) in (int, float) and 0 < stated < _MOST else None  # type: ignore[operator,call-overload]
