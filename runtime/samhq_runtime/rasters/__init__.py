"""Rasters too large for one picture: tiles are segmented one by one, and what a seam cut is joined.

In: a GeoTIFF or another raster that GDAL reads, and a mask generator. Out: polygons in the raster's coordinates, as
GeoJSON or GeoPackage. Imports masks; rasterio, shapely and pyogrio where they are used (extra `geo`).
"""

from .kept import KeptTiles
from .pixels import open_raster
from .segment import segment_raster
from .tiles import Tile, Tiling
from .vectors import write_objects

__all__ = ["KeptTiles", "Tile", "Tiling", "open_raster", "segment_raster", "write_objects"]
