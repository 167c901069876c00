"""`samhq raster`: a GeoTIFF -> everything in it, as polygons of its own coordinates."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, interrupted
from ..flags import flag_of
from ..manifest import manifest_sha256
from .generator_options import NO_MATTER, add_generator_options, generator_options
from .options import add_providers, add_verify_key, chosen_providers, provider_options
from .progress_bar import late_bar

if TYPE_CHECKING:
    from ..bundle import Bundle
    from ..rasters.pixels import Raster

_NO_CRS = "none"


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    raster = commands.add_parser(
        "raster",
        help="segment everything in a GeoTIFF, tile by tile, and write polygons",
        description="Find everything in a raster of any size, tile by tile, join what the seams cut, and write "
        "polygons in the raster's coordinates. Tiles that are done are kept, and the same command goes on with them.",
    )
    raster.set_defaults(run=_segment, extras="cpu,geo")
    raster.add_argument("bundle", type=Path)
    add_verify_key(raster)
    raster.add_argument("raster", type=Path, help="GeoTIFF, or another that GDAL reads")
    raster.add_argument("--output", type=Path, required=True, metavar="FILE", help="ends in .gpkg or .geojson")
    _add_pixels(raster)
    raster.add_argument("--tile", type=int, default=1024, metavar="N", help="pixels of a tile's side (default: 1024)")
    raster.add_argument("--overlap", type=int, default=128, metavar="N", help="pixels that tiles share (default: 128)")
    raster.add_argument(
        "--seam-iou", type=_fraction, default=0.5, metavar="IOU", help="to join two tiles' masks (default: 0.5)"
    )
    raster.add_argument("--crs", help=f"of a raster that names none, such as EPSG:32633; {_NO_CRS!r} writes none")
    add_providers(raster)
    add_generator_options(raster)


def _add_pixels(raster: argparse.ArgumentParser) -> None:
    raster.add_argument(
        "--bands",
        type=_bands,
        metavar="R,G,B",
        help="from 1 on, or one for grey (default: the first three or one)",
    )
    raster.add_argument(
        "--white-point", type=float, metavar="N", help="value that is white (default: the type's largest)"
    )
    raster.add_argument("--black-point", type=float, metavar="N", help="value that is black (default: 0)")


def _bands(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected numbers with commas between them") from None


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number above 0, at most 1")
    return value


def _segment(options: argparse.Namespace) -> None:
    from ..bundle import load_bundle
    from ..masks.outline import require_polygons
    from ..rasters import open_raster
    from ..rasters.vectors import driver_of

    driver_of(options.output)
    require_polygons("pyogrio")
    points = {"black_point": options.black_point, "white_point": options.white_point}
    with open_raster(options.raster, bands=options.bands, **points) as raster:
        crs = _crs(options, raster)
        _run(options, load_bundle(options.bundle), raster, crs)


def _crs(options: argparse.Namespace, raster: Raster) -> str | None:
    """What is written as the coordinates' system."""
    from ..rasters.vectors import coordinate_system

    if raster.crs and options.crs:
        raise ConfigError(f"{flag_of('crs')}: {options.raster} names its own; leave the option out")
    if raster.crs is None and options.crs is None:
        raise ConfigError(
            f"{options.raster}: names no coordinate reference system; give {flag_of('crs')}, such as EPSG:32633, or "
            f"{flag_of('crs')} {_NO_CRS} for coordinates without one"
        )
    return raster.crs or (None if options.crs == _NO_CRS else coordinate_system(options.crs))


def _run(options: argparse.Namespace, bundle: Bundle, raster: Raster, crs: str | None) -> None:
    from ..everything.generator import MaskGenerator
    from ..predictor import Predictor
    from ..rasters import KeptTiles, Tiling, segment_raster, write_objects

    tiles, asked = Tiling(options.tile, options.overlap).of(*raster.size), generator_options(options)
    with ExitStack() as stack:
        providers = chosen_providers(options)
        predictor = Predictor(bundle, providers=providers, provider_options=provider_options(options))
        generator = MaskGenerator(stack.enter_context(predictor), **asked)
        kept = KeptTiles(Path(f"{options.output}.tiles"), _setting(options, asked))
        show = late_bar(stack, options.raster.name)
        stack.enter_context(interrupted("the tiles that are done are kept, and the same command goes on"))
        objects = segment_raster(raster, generator, tiles, seam_iou=options.seam_iou, kept=kept, show=show)
    write_objects(options.output, objects, transform=raster.transform, crs=crs)
    kept.remove()
    print(f"{options.output}: {len(objects)} objects of {len(tiles)} tiles")


def _setting(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """What a tile's masks depend on."""
    state = options.raster.stat()
    grids = [grid.tolist() for grid in asked.get("point_grids", [])]
    return {
        "bundle": manifest_sha256(options.bundle),
        "raster": [str(options.raster.resolve()), state.st_size, state.st_mtime_ns],
        **{name: getattr(options, name) for name in ("bands", "white_point", "black_point", "tile", "overlap")},
        **{name: value for name, value in asked.items() if name not in NO_MATTER},
        "point_grids": grids,
    }
