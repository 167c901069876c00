"""Rasters in tiles: what is joined across seams, read from bands, and written for other programs to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samhq_runtime.errors import ConfigError, ImageError, SamHqError
from samhq_runtime.masks.outline import outline_of
from samhq_runtime.rasters.kept import KeptTiles
from samhq_runtime.rasters.pixels import Stretch, open_raster
from samhq_runtime.rasters.seams import RasterObject
from samhq_runtime.rasters.segment import segment_raster
from samhq_runtime.rasters.tiles import Tile, Tiling
from samhq_runtime.rasters.vectors import driver_of, write_objects
from tests.support.rasters import Labels, blobs, write_raster

shapely = pytest.importorskip("shapely", reason="extra geo is not installed")
pyogrio = pytest.importorskip("pyogrio", reason="extra geo is not installed")


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (65, 64), (200, 90), (1000, 333)])
@pytest.mark.parametrize(("side", "overlap"), [(64, 1), (64, 32), (100, 20)])
def test_tiles_cover_every_pixel_and_overlap(size: tuple[int, int], side: int, overlap: int) -> None:
    width, height = size
    tiles = Tiling(side, overlap).of(width, height)
    seen = np.zeros((height, width), int)
    for tile in tiles:
        seen[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] += 1
        assert 0 <= tile.x <= width - tile.width
        assert (tile.width, tile.height) == (min(side, width), min(side, height))
    assert seen.min() == 1
    starts = sorted({tile.x for tile in tiles})
    assert all(b - a <= side - overlap for a, b in pairwise(starts))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"size": 10}, "--tile"),
        ({"size": 100, "overlap": 0}, "--overlap"),
        ({"size": 100, "overlap": 51}, "at most half of a tile"),
    ],
)
def test_tilings_that_are_none(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Tiling(**options)


@pytest.mark.parametrize("order", [lambda tiles: tiles, lambda tiles: tiles[::-1]], ids=["forth", "back"])
def test_objects_are_whole_again(tmp_path: Path, order: Callable[[list[Tile]], list[Tile]]) -> None:
    """Of a generator that sees what is there, tiles give what one look at all of it would, each object once."""
    labels = blobs(300, 260, seed=0)
    path = write_raster(tmp_path / "blobs.tif", labels[None].astype(np.uint16))
    with open_raster(path, white_point=255) as raster:
        tiles = order(Tiling(100, 40).of(*raster.size))
        found = segment_raster(raster, Labels(), tiles)
    expected = [outline_of(labels == label, (0, 0)) for label in range(1, labels.max() + 1)]
    assert any(item.pieces > 1 for item in found)
    assert same(found, expected)


def same(found: Sequence[RasterObject], expected: Sequence[Any]) -> bool:
    """The same polygons, in any order; where a seam was, there may be a point more on a straight line."""
    outlines = [item.outline for item in found]
    return len(outlines) == len(expected) and all(any(shapely.equals(outlines, one)) for one in expected)


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    labels = blobs(300, 260, seed=0)
    path = write_raster(tmp_path / "blobs.tif", labels[None])

    def run(generator: Labels, setting: dict[str, Any]) -> list[RasterObject]:
        kept = KeptTiles(tmp_path / "out.gpkg.tiles", setting)
        with open_raster(path) as raster:
            return segment_raster(raster, generator, Tiling(100, 40).of(*raster.size), kept=kept)

    with pytest.raises(KeyboardInterrupt):
        run(Labels(most=7), {"bundle": "a"})
    with pytest.raises(ConfigError, match="another bundle; finish it"):
        run(Labels(), {"bundle": "b"})
    (tmp_path / "out.gpkg.tiles" / "0-0.json").write_text("[[")
    rest = Labels()
    found = run(rest, {"bundle": "a"})
    assert rest.pictures == 20 - 7 + 1
    with open_raster(path) as raster:
        assert found == segment_raster(raster, Labels(), Tiling(100, 40).of(*raster.size))
    KeptTiles(tmp_path / "out.gpkg.tiles", {"bundle": "a"}).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["blobs.tif"]


def test_holes_and_corners() -> None:
    mask = np.zeros((7, 9), bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[6, 6] = True  # touches at a corner
    outline = outline_of(mask, (10, 20))
    assert outline.is_valid
    assert outline.area == mask.sum()
    assert sorted(len(part.interiors) for part in outline.geoms) == [0, 1]
    assert outline.bounds == (11, 21, 17, 27)


def test_pixels_without_data_belong_to_nothing(tmp_path: Path) -> None:
    values = np.full((1, 80, 90), 7, np.uint8)
    values[:, :, 50:] = 0
    path = write_raster(tmp_path / "half.tif", values, nodata=0)
    with open_raster(path) as raster:
        (item,) = segment_raster(raster, Labels(everything=True), Tiling(64, 16).of(*raster.size))
    assert item.outline.equals(shapely.box(0, 0, 50, 80))


def bands_of(dtype: str) -> NDArray[Any]:
    return np.arange(4 * 6 * 5).reshape(4, 6, 5).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "options", "expected"),
    [
        ("uint8", {}, lambda v: v[:3]),
        ("uint8", {"bands": [4, 2, 1]}, lambda v: v[[3, 1, 0]]),
        ("uint8", {"bands": [2]}, lambda v: v[[1, 1, 1]]),
        ("uint16", {"white_point": 119}, lambda v: np.rint(v[:3].astype(float) * 255 / 119)),
        ("float32", {"white_point": 100, "black_point": 20}, lambda v: np.rint((v[:3].clip(20, 100) - 20) * 255 / 80)),
        ("int16", {"white_point": 255}, lambda v: v[:3]),
    ],
)  # fmt: skip
def test_bands_and_stretch(
    tmp_path: Path, dtype: str, options: dict[str, Any], expected: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    values = bands_of(dtype)
    with open_raster(write_raster(tmp_path / "bands.tif", values), **options) as raster:
        picture, valid = raster.read(Tile(1, 2, 3, 4))
    assert picture.shape == (4, 3, 3)
    assert valid.all()
    np.testing.assert_array_equal(picture, expected(values)[:, 2:6, 1:4].transpose(1, 2, 0))


def test_numbers_that_are_none_have_no_data(tmp_path: Path) -> None:
    values = np.ones((1, 4, 4), np.float32)
    values[0, 1, 2] = np.nan
    with open_raster(write_raster(tmp_path / "nan.tif", values), white_point=1) as raster:
        picture, valid = raster.read(Tile(0, 0, 4, 4))
    assert valid.sum() == 15
    assert (picture[1, 2] == 0).all()


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"bands": [5]}, ConfigError, "--bands: got 5, expected one or three of 1 to 4"),
        ({"bands": [1, 2]}, ConfigError, "--bands: got 1,2"),
        ({}, ConfigError, "give --white-point"),
        ({"white_point": 0}, ConfigError, "the first below the second"),
        ({"white_point": float("nan")}, ConfigError, "finite"),
    ],
)
def test_rasters_that_cannot_be_seen(
    tmp_path: Path, options: dict[str, Any], error: type[SamHqError], complaint: str
) -> None:
    path = write_raster(tmp_path / "bands.tif", bands_of("float32"))
    with pytest.raises(error, match=complaint), open_raster(path, **options):
        pass


def test_no_raster(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such raster file"), open_raster(tmp_path / "none.tif"):
        pass
    (tmp_path / "text.tif").write_text("<html>")
    with pytest.raises(ImageError, match="cannot be read as a raster"), open_raster(tmp_path / "text.tif"):
        pass


def test_a_raster_that_was_cut_off(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "cut.tif", np.ones((1, 900, 900), np.uint8))
    path.write_bytes(path.read_bytes()[:400_000])
    with open_raster(path) as raster, pytest.raises(ImageError, match="the window at 0, 800 cannot be read"):
        raster.read(Tile(0, 800, 100, 100))


OBJECT = RasterObject(shapely.Polygon([(0, 0), (4, 0), (4, 2), (0, 2)], [[(1, 1), (2, 1), (2, 2)]]), 0.9, 0.8, 2)


@pytest.mark.parametrize("name", ["out.geojson", "out.gpkg", "OUT.GPKG"])
def test_other_programs_read_what_is_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_objects(path, [OBJECT], transform=(10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0), crs="EPSG:32633")
    meta, _, geometry, fields = pyogrio.raw.read(path)
    assert meta["crs"] == "EPSG:32633"
    assert dict(zip(meta["fields"], (field[0] for field in fields), strict=True)) == {
        "id": 1, "pixels": 8, "predicted_iou": 0.9, "stability_score": 0.8, "tiles": 2,
    }  # fmt: skip
    outline = shapely.from_wkb(geometry[0])
    assert outline.bounds == (500_000, 4_599_980, 500_040, 4_600_000)
    assert outline.area == pytest.approx(750)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_no_objects_and_no_system(tmp_path: Path) -> None:
    path = tmp_path / "out.geojson"
    write_objects(path, [], transform=(1.0, 0, 0, 0, 1, 0), crs=None)
    assert json.loads(path.read_text())["features"] == []


def test_formats_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a name that ends in \.geojson or \.gpkg"):
        driver_of(tmp_path / "out.shp")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_objects(tmp_path / "none" / "out.gpkg", [OBJECT], transform=(1.0, 0, 0, 0, 1, 0), crs=None)


def test_stretch_keeps_bytes() -> None:
    values = np.arange(256, dtype=np.uint8)
    assert Stretch(0, 255)(values) is values
