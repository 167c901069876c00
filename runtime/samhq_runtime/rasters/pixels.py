"""Windows of a raster as pictures: bands chosen, values stretched to 8 bits, pixels without data known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..contract import Array
from ..errors import ConfigError, ImageError
from ..flags import flag_of
from ..installing import install_command, unavailable
from .tiles import Tile

_RGB = (1, 2, 3)
_WHITE_OF = {"uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True)
class Stretch:
    """Which values of a band are black and white; between them it is linear, beyond them cut."""

    black: float
    white: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.black, self.white]).all() and self.black < self.white):
            raise ConfigError(
                f"{flag_of('black_point')}, {flag_of('white_point')}: got {self.black:g} and {self.white:g}, "
                "expected finite numbers, the first below the second"
            )

    def __call__(self, values: Array) -> NDArray[np.uint8]:
        if values.dtype == np.uint8 and (self.black, self.white) == (0, 255):
            return values
        shades = (values.astype(np.float32) - self.black) * (255 / (self.white - self.black))
        return np.nan_to_num(np.clip(np.rint(shades), 0, 255)).astype(np.uint8)


class Raster:
    """An open raster. `size` is width, height; `transform` leads from pixels to coordinates in `crs`, WKT or None."""

    def __init__(self, dataset: Any, bands: Sequence[int] | None, black: float | None, white: float | None) -> None:
        self._dataset = dataset
        self.size: tuple[int, int] = (dataset.width, dataset.height)
        self.transform: tuple[float, ...] = tuple(dataset.transform)[:6]
        self.crs: str | None = dataset.crs.to_wkt() if dataset.crs else None
        self._bands = self._chosen(bands)
        self._stretch = self._stretched(black, white)

    def read(self, tile: Tile) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(H,W,3) uint8 pixels of a window, and (H,W) where the raster has data; what has none is black."""
        from rasterio.errors import RasterioError
        from rasterio.windows import Window

        window = Window(tile.x, tile.y, tile.width, tile.height)
        try:
            values = self._dataset.read(self._bands, window=window)
            valid = (self._dataset.read_masks(self._bands, window=window) > 0).all(axis=0)
        except (RasterioError, OSError) as e:
            x, y = tile.x, tile.y
            raise ImageError(f"{self._dataset.name}: the window at {x}, {y} cannot be read ({e})") from e
        if np.issubdtype(values.dtype, np.floating):
            valid &= np.isfinite(values).all(axis=0)
        picture = self._stretch(values).transpose(1, 2, 0)
        picture = np.where(valid[..., None], picture, np.uint8(0))
        return np.ascontiguousarray(np.broadcast_to(picture, (*valid.shape, 3))), valid

    def _chosen(self, bands: Sequence[int] | None) -> list[int]:
        count = self._dataset.count
        if bands is None:
            return list(_RGB) if count >= len(_RGB) else [1]
        if len(bands) not in (1, len(_RGB)) or not all(1 <= band <= count for band in bands):
            raise ConfigError(
                f"{flag_of('bands')}: got {','.join(map(str, bands))}, expected one or three of 1 to {count}, which "
                f"{self._dataset.name} has"
            )
        return list(bands)

    def _stretched(self, black: float | None, white: float | None) -> Stretch:
        kind = str(np.result_type(*(self._dataset.dtypes[band - 1] for band in self._bands)))
        white = _WHITE_OF.get(kind) if white is None else white
        if white is None:
            raise ConfigError(
                f"{self._dataset.name}: of values of type {kind} it is not known which is white; give "
                f"{flag_of('white_point')}, and {flag_of('black_point')} if black is not 0"
            )
        return Stretch(0.0 if black is None else black, white)


@contextmanager
def open_raster(
    path: Path,
    *,
    bands: Sequence[int] | None = None,
    black_point: float | None = None,
    white_point: float | None = None,
) -> Iterator[Raster]:
    """A raster that GDAL reads.

    Args:
        bands: one (grey) or three (red, green, blue), counted from 1. By default the first three, or the first.
        black_point, white_point: the values that are black and white. By default 0 and, of unsigned integers of 8 and
            16 bits, the largest; of other types the white one must be given.

    Raises:
        BackendUnavailable: rasterio is missing or does not load.
        ConfigError: bands that are not there, or points that no stretch can be made of.
        ImageError: no raster, or a damaged one.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("rasterio", e, install_command("geo"), use="rasters are read with it") from e
    if not path.is_file():
        raise ImageError(f"{path}: no such raster file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `crs` says so, and the caller asks
            dataset = rasterio.open(path)
    except RasterioError as e:
        raise ImageError(
            f"{path}: cannot be read as a raster ({e}); expected GeoTIFF or another that GDAL reads"
        ) from e
    with dataset:
        yield Raster(dataset, bands, black_point, white_point)
