"""A COCO `segmentation` as a mask: polygons through pycocotools, run lengths in numpy.

pycocotools reads run lengths too, but fills what a short list leaves open with uninitialised memory (2.0.11).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..installing import install_command, unavailable
from ..masks.rle import decode_runs
from ..tables import shown
from .dataset import Unusable
from .metrics import Mask

_BAD = "segmentation not usable"
_ELLIPSE_CORNERS = 360
_FAR = 4  # image sides beyond the image: rasterising takes memory in proportion to the outline


def decode_segmentation(segmentation: object, image_hw: tuple[int, int]) -> Mask:
    """(H,W) mask of a list of polygons or a run-length object; Unusable says what is wrong with it."""
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, image_hw)
    if not isinstance(segmentation, list) or not segmentation:
        raise Unusable(_BAD, f"got {shown(segmentation)}, expected polygons or run lengths")
    return _from_polygons(segmentation, image_hw)


def _from_polygons(polygons: Sequence[object], image_hw: tuple[int, int]) -> Mask:
    for polygon in polygons:
        _require_polygon(polygon, image_hw)
    try:
        from pycocotools import mask as coco_mask
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("pycocotools", e, install_command("eval"), use="polygons are drawn with it") from e
    parts = coco_mask.frPyObjects(polygons, *image_hw)
    return np.asarray(coco_mask.decode(coco_mask.merge(parts)), dtype=bool)


def _require_polygon(polygon: object, image_hw: tuple[int, int]) -> None:
    numbers = isinstance(polygon, list) and all(type(value) in (int, float) for value in polygon)
    if not numbers or len(polygon) < 6 or len(polygon) % 2:  # type: ignore[arg-type]
        raise Unusable(_BAD, f"got {shown(polygon)}, expected at least three points x, y, x, y, ...")
    limit = _FAR * max(image_hw)
    if not all(abs(value) <= limit for value in polygon):  # type: ignore[attr-defined]  # NaN too, integers of any size
        raise Unusable(_BAD, f"got {shown(polygon)}, points far outside the {image_hw[1]} x {image_hw[0]} image")


def read_points(points: object, image_hw: tuple[int, int]) -> list[tuple[float, float]]:
    """A list of x, y near an image of this size; Unusable if it is none."""
    limit = _FAR * max(image_hw)
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise Unusable(_BAD, f"got {shown(points)}, expected points [x, y], ...")
    if not all(type(value) in (int, float) and abs(value) <= limit for point in points for value in point):
        raise Unusable(_BAD, f"got {shown(points)}, expected numbers near the image")
    return [(float(x), float(y)) for x, y in points]


def draw_outline(corners: Iterable[tuple[float, float]], image_hw: tuple[int, int]) -> Mask:
    """(H,W) mask of one polygon, as COCO draws it; Unusable as `decode_segmentation`."""
    return decode_segmentation([[value for corner in corners for value in corner]], image_hw)


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], turned_by: float = 0.0
) -> list[tuple[float, float]]:
    """Corners of a polygon; `turned_by` is in radians, from x towards y."""
    angles = np.linspace(0, 2 * np.pi, _ELLIPSE_CORNERS, endpoint=False)
    x, y = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    cosine, sine = np.cos(turned_by), np.sin(turned_by)
    corners = zip(centre[0] + x * cosine - y * sine, centre[1] + x * sine + y * cosine, strict=True)
    return [(float(a), float(b)) for a, b in corners]


def _from_runs(segmentation: dict[str, Any], image_hw: tuple[int, int]) -> Mask:
    """Column by column, background first."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(image_hw):
        raise Unusable("mask of another size", f"run lengths are for {shown(size)}, image is {list(image_hw)} (H, W)")
    runs = decode_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise Unusable(_BAD, f"counts: got {shown(counts)}, expected run lengths or their compressed string")
    if sum(runs) != image_hw[0] * image_hw[1]:
        raise Unusable(_BAD, f"run lengths add up to {sum(runs)} pixels, not {image_hw[0] * image_hw[1]}")
    bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return bits.reshape(image_hw[1], image_hw[0]).T
