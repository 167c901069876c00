"""A second opinion: where two bundles, or two kinds of mask of one, answer the same prompts otherwise.

In: two predictors, images and prompts. Out: IoU per object, and pictures of both. Imports masks, predictor, and
evaluation for its measures.
"""

from .compare import TOKENS, ImageDifference, ObjectDifference, Side, compare_image

__all__ = ["TOKENS", "ImageDifference", "ObjectDifference", "Side", "compare_image"]
