"""`samhq raster` on the demo's scenes: polygons of other programs' formats, taken up again, refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samhq_exporter.scenes.drawing import draw_scene
from samhq_runtime.bundle import Bundle
from samhq_runtime.cli import main
from tests.support.rasters import write_raster

pyogrio = pytest.importorskip("pyogrio", reason="extra geo is not installed")
FAST = ("--tile", "128", "--overlap", "32", "--points-per-side", "4", "--pred-iou-thresh", "0.3")


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoTIFF of 200 x 150 pixels, 10 m each."""
    from rasterio.transform import Affine

    values = draw_scene(3, 200).image[:150].transpose(2, 0, 1)
    transform = Affine(10, 0, 500_000, 0, -10, 4_600_000)
    return write_raster(tmp_path_factory.mktemp("field") / "field.tif", values, crs="EPSG:32633", transform=transform)


def test_polygons_in_the_rasters_coordinates(demo_bundle: Bundle, field: Path, tmp_path: Path) -> None:
    output = tmp_path / "objects.gpkg"
    assert main(["raster", str(demo_bundle.path), str(field), "--output", str(output), *FAST]) == 0
    meta, _, geometry, fields = pyogrio.raw.read(output)
    assert meta["crs"] == "EPSG:32633"
    assert len(geometry) > 1
    pixels = dict(zip(meta["fields"], fields, strict=True))["pixels"]
    assert ((pixels > 0) & (pixels <= 200 * 150)).all()
    x0, y0, x1, y1 = pyogrio.read_bounds(output)[1]
    assert (x0 >= 500_000).all()
    assert (x1 <= 502_000).all()
    assert (y0 >= 4_598_500).all()
    assert (y1 <= 4_600_000).all()
    assert [path.name for path in tmp_path.iterdir()] == ["objects.gpkg"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--output", "out.shp"], "expected a name that ends in .geojson or .gpkg"),
        (["--output", "none/out.gpkg"], "none/out.gpkg.tiles: cannot be written"),
        (["--output", "out.gpkg", "--crs", "EPSG:4326"], "names its own; leave the option out"),
        (["--output", "out.gpkg", "--bands", "4"], "--bands: got 4, expected one or three of 1 to 3"),
        (["--output", "out.gpkg", "--tile", "100", "--overlap", "60"], "--overlap: got 60"),
        (["--output", "out.gpkg", "--points-per-side", "0"], "points_per_side: got 0"),
    ],
)
def test_refused_in_one_line(
    demo_bundle: Bundle,
    field: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["raster", str(demo_bundle.path), str(field), *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("crs", "complaint"),
    [
        (None, "names no coordinate reference system; give --crs"),
        ("EPSG:0", "expected a system such as EPSG:32633"),
        ("none", None),
    ],
)
def test_a_raster_without_a_system(
    demo_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], crs: str | None, complaint: str | None
) -> None:
    bare = write_raster(tmp_path / "bare.tif", np.zeros((1, 70, 70), np.uint8), nodata=0)
    output, asked = tmp_path / "out.geojson", ["--crs", crs] if crs else []
    done = main(["raster", str(demo_bundle.path), str(bare), "--output", str(output), *asked])
    assert done == (1 if complaint else 0)
    assert (complaint or "") in capsys.readouterr().err
    assert output.exists() == (complaint is None)
