"""Label Studio's tasks: one file for all images, with what was found as predictions, and the labelling set-up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..files import write_text, write_whole
from ..masks.brush import pack_brush
from ..masks.outline import corners_of
from .results import Catalogue, FoundObject, ImageResult

FILE, CONFIG = "tasks.json", "config.xml"
_LOCAL = "/data/local-files/?d="  # files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
_MODEL = "samhq"
_TOOLS = ("PolygonLabels", "BrushLabels")


def write_run(folder: Path, results: Iterable[ImageResult], catalogue: Catalogue) -> None:
    """`tasks.json` to import, and `config.xml`, the set-up that has its labels and tools."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            for number, result in enumerate(results):
                file.write(("," if number else "[") + "\n" + json.dumps(_task(result, catalogue)))
            file.write("\n]\n")

    write_whole(folder / FILE, write)
    write_text(folder / CONFIG, _config(catalogue))


def _task(result: ImageResult, catalogue: Catalogue) -> dict[str, Any]:
    regions = [
        region
        for number, item in enumerate(result.objects, 1)
        if (region := _region(f"object-{number}", item, result, catalogue))
    ]
    scores = [region["score"] for region in regions if "score" in region]
    prediction = {
        "model_version": _MODEL,
        "score": sum(scores) / len(scores) if scores else None,
        "result": regions,
    }
    return {"data": {"image": _LOCAL + quote(result.image)}, "predictions": [prediction]}


def _region(key: str, item: FoundObject, result: ImageResult, catalogue: Catalogue) -> dict[str, Any] | None:
    """A polygon in percent of width and height; a brush mask of what has holes or parts; None of an empty mask."""
    polygons = item.polygons(catalogue)
    if not polygons:
        return None
    height, width = result.hw
    value: dict[str, Any]
    if len(polygons) > 1 or polygons[0].interiors:
        kind, value = "brushlabels", {"format": "rle", "rle": list(pack_brush(item.mask()))}
    else:
        points = corners_of(polygons[0].exterior) * (100 / width, 100 / height)
        kind, value = "polygonlabels", {"points": points.round(6).tolist(), "closed": True}
    region = {
        "id": key,
        "type": kind,
        "from_name": kind,
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: [item.category]},
    }
    return region if item.predicted_iou is None else {**region, "score": item.predicted_iou}


def _config(catalogue: Catalogue) -> str:
    from xml.sax.saxutils import quoteattr  # brings urllib.request and http, which no command needs to start

    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in catalogue.categories)
    tools = "".join(f'  <{tag} name="{tag.lower()}" toName="image">\n{labels}  </{tag}>\n' for tag in _TOOLS)
    return f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{tools}</View>\n'
