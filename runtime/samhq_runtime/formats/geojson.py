"""GeoJSON for each image, in pixels: x to the right and y down from the image's upper left corner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..files import write_json
from .results import Catalogue, FoundObject, ImageResult


def write_image(path: Path, result: ImageResult, catalogue: Catalogue) -> None:
    """A feature for each object, a multipolygon with holes; of an empty mask its geometry is null."""
    features = [_feature(number, item, catalogue) for number, item in enumerate(result.objects, 1)]
    write_json(path, {"type": "FeatureCollection", "features": features})


def _feature(number: int, item: FoundObject, catalogue: Catalogue) -> dict[str, Any]:
    from shapely import MultiPolygon
    from shapely.geometry import mapping

    polygons = item.polygons(catalogue)
    told = {"category": item.category, "predicted_iou": item.predicted_iou, "score": item.score}
    return {
        "type": "Feature",
        "id": number,
        "geometry": mapping(MultiPolygon(polygons)) if polygons else None,
        "properties": {key: value for key, value in told.items() if value is not None},
    }
