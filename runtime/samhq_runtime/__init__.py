"""Segment images with an exported SAM-HQ bundle. Needs numpy and one backend; never torch."""

from .bundle import Bundle, load_bundle
from .embeddings import EmbeddingFolder, EncodedImage
from .errors import SamHqError
from .everything.generator import MaskGenerator
from .predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Bundle", "EmbeddingFolder", "EncodedImage", "MaskGenerator", "Predictor", "SamHqError", "load_bundle"]
