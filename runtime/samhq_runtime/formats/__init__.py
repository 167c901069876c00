"""Masks in the files of other tools: COCO, YOLO, labelme, Label Studio, GeoJSON, PNG and NumPy.

`table` has a row for each format, `results` what a row is given: the masks of one image, and what all images share.
`written` is what a run writes with them; `coco_tables` is how COCO files are read, wherever one is.

In: masks as run lengths, categories, ids. Out: files, each written whole. Imports frames and masks; rasterio and
shapely where polygons are made (extra `geo`).
"""

from .results import Catalogue, FoundObject, ImageResult
from .table import FORMATS, Format, chosen_formats
from .written import Outputs

__all__ = ["FORMATS", "Catalogue", "Format", "FoundObject", "ImageResult", "Outputs", "chosen_formats"]
