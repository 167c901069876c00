"""Objects of a raster as a file of polygons in the raster's own coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..contract import Array
from ..errors import ConfigError
from ..files import write_whole
from ..flags import flag_of
from .seams import RasterObject

DRIVERS = {".geojson": "GeoJSON", ".gpkg": "GPKG"}


def driver_of(path: Path) -> str:
    """GDAL's name for the format of a file, by its suffix; ConfigError for another one."""
    if driver := DRIVERS.get(path.suffix.lower()):
        return driver
    raise ConfigError(f"{path}: unknown format, expected a name that ends in {' or '.join(DRIVERS)}")


def coordinate_system(text: str) -> str:
    """`EPSG:32633`, WKT or PROJ's words -> WKT; ConfigError for what is none."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return str(CRS.from_user_input(text).to_wkt())
    except CRSError as e:
        raise ConfigError(f"{flag_of('crs')}: got {text!r}, expected a system such as EPSG:32633 ({e})") from e


def write_objects(path: Path, objects: Sequence[RasterObject], *, transform: Sequence[float], crs: str | None) -> None:
    """Write GeoJSON or GeoPackage, whole or not at all: multipolygons, with what is known of each object.

    Coordinates are those of `crs` (WKT, or what else GDAL understands); in GeoJSON it stands in the member `crs`,
    unless it is longitude and latitude in WGS 84, which RFC 7946 has without. None: no system is written.

    Args:
        path: its suffix says which, `.geojson` or `.gpkg`.
        transform: the affine one from pixels to coordinates: a, b, c, d, e, f of x = a*column + b*row + c and
            y = d*column + e*row + f.

    Raises:
        ConfigError: another suffix, or a file that cannot be written.
    """
    from pyogrio.errors import DataSourceError
    from pyogrio.raw import write

    driver, columns = driver_of(path), _columns(objects)
    asked = {"geometry_type": "MultiPolygon", "crs": crs, "driver": driver}
    asked |= {"layer": "objects"} if driver == "GPKG" else {}
    geometry, names = _geometry(objects, transform), np.array(list(columns), object)
    try:
        write_whole(path, lambda partial: write(partial, geometry, list(columns.values()), names, **asked))
    except (OSError, DataSourceError) as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error


def _columns(objects: Sequence[RasterObject]) -> dict[str, Array]:
    return {
        "id": np.arange(1, len(objects) + 1, dtype=np.int64),
        "pixels": np.array([round(item.outline.area) for item in objects], np.int64),
        "predicted_iou": np.array([item.predicted_iou for item in objects], np.float64),
        "stability_score": np.array([item.stability_score for item in objects], np.float64),
        "tiles": np.array([item.pieces for item in objects], np.int32),
    }


def _geometry(objects: Sequence[RasterObject], transform: Sequence[float]) -> Array:
    """Multipolygons in the coordinates that `transform` leads to, as WKB."""
    import shapely

    a, b, c, d, e, f = transform
    matrix, shift = np.array([[a, d], [b, e]]), np.array([c, f])
    outlines = (shapely.transform(item.outline, lambda xy: xy @ matrix + shift) for item in objects)
    return np.array([shapely.to_wkb(shapely.MultiPolygon(shapely.get_parts(o))) for o in outlines], object)
