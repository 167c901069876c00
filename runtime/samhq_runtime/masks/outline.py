"""A mask as polygons along the edges of its pixels: rasterio finds them, shapely holds them (extra `geo`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..contract import Array, Float64
from ..installing import install_command, unavailable
from .box import extent

if TYPE_CHECKING:
    from shapely import Geometry, Polygon


def require_polygons(*more: str) -> None:
    """BackendUnavailable unless polygons can be made here, and `more` packages load; asked before hours of work."""
    for package in ("rasterio", "shapely", *more):
        try:
            __import__(package)
        except Exception as e:  # a broken native package raises whatever its loader does
            raise unavailable(package, e, install_command("geo"), use="polygons are made with it") from e


def outline_of(mask: NDArray[np.bool_], corner: tuple[int, int] = (0, 0)) -> Geometry:
    """(H,W) bool, not empty, with its first pixel's corner at `corner` -> its polygons, holes included.

    Pixels that touch at a corner alone are not connected, so every polygon is valid.
    """
    import shapely
    from rasterio.features import shapes
    from rasterio.transform import Affine

    rows, columns = extent(mask)
    part = np.ascontiguousarray(mask[rows, columns])
    place = Affine.translation(corner[0] + columns.start, corner[1] + rows.start)
    polygons = [shapely.geometry.shape(shape) for shape, _ in shapes(part.view(np.uint8), part, 4, place)]
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)


def polygons_of(mask: NDArray[np.bool_], *, simplify: float = 0.0) -> list[Polygon]:
    """(H,W) bool -> its polygons with their holes, the largest first; none of an empty mask.

    Coordinates are x, y in pixels, 0 at the outer edge of the first pixel. Outer rings and holes turn in opposite
    directions. With `simplify` an outline loses corners, but moves no further than so many pixels.
    """
    import shapely
    from shapely.geometry.polygon import orient

    if not mask.any():
        return []
    outline = outline_of(mask)
    if simplify:
        outline = outline.simplify(simplify, preserve_topology=True)
    return sorted(map(orient, shapely.get_parts(outline)), key=lambda part: -part.area)


def corners_of(ring: Geometry) -> Float64:
    """(N,2) x, y of a ring, its first point not repeated at the end."""
    return np.asarray(ring.coords, np.float64)[:-1]


def single_ring(polygons: list[Polygon]) -> Float64:
    """(N,2) x, y of one ring around all polygons and their holes, for formats that have no more than a ring.

    Rings are joined at their nearest corners by a path there and back, which encloses nothing: filled by the even-odd
    rule or the non-zero one, the ring gives the area of the polygons.
    """
    rings = [corners_of(ring) for part in polygons for ring in (part.exterior, *part.interiors)]
    joined = rings[0]
    for ring in rings[1:]:
        at, start = _nearest(joined, ring)
        joined = np.concatenate([joined[: at + 1], ring[start:], ring[: start + 1], joined[at:]])
    return joined


def _nearest(first: Array, second: Array) -> tuple[int, int]:
    """Indices of the corners of two rings that are nearest to each other."""
    import shapely

    pairs, distances = shapely.STRtree(shapely.points(first)).query_nearest(
        shapely.points(second), return_distance=True
    )
    of_second, of_first = pairs[:, int(distances.argmin())]
    return int(of_first), int(of_second)
