"""The tiles that cover a raster, each of which overlaps its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..flags import flag_of
from ..whole_numbers import require_whole

_SMALLEST, _LARGEST = 64, 16384  # pixels of a tile's side


@dataclass(frozen=True)
class Tile:
    """A window of the raster, in its pixels; `x`, `y` is the corner of the first pixel."""

    x: int
    y: int
    width: int
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1; the last two lie outside."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Tiling:
    """Square tiles of `size` pixels; neighbours share at least `overlap` of them.

    An object that is to be joined across a seam must be recognisable in what both tiles see of it.
    """

    size: int = 1024
    overlap: int = 128

    def __post_init__(self) -> None:
        require_whole(flag_of("tile"), self.size, _SMALLEST, _LARGEST, f"{_SMALLEST} to {_LARGEST} pixels")
        require_whole(flag_of("overlap"), self.overlap, 1, _LARGEST, "pixels, 1 or more")
        if 2 * self.overlap > self.size:
            raise ConfigError(
                f"{flag_of('overlap')}: got {self.overlap}, expected at most half of a tile of {self.size} pixels; "
                f"give a smaller one, or a larger {flag_of('tile')}"
            )

    def of(self, width: int, height: int) -> list[Tile]:
        """Row by row. The last tiles end where the raster ends, so all but those of a small raster are of one size."""
        return [
            Tile(x, y, min(self.size, width), min(self.size, height))
            for y in self._starts(height)
            for x in self._starts(width)
        ]

    def _starts(self, length: int) -> list[int]:
        last = max(0, length - self.size)
        return [*range(0, last, self.size - self.overlap), last]
