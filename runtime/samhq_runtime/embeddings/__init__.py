"""Encoded images: what an image leaves for its prompts, as a file, and a folder of such files with a limit.

In: an encoded image, its bundle, a path. Out: a `.safetensors` file; the same encoded image again. Imports frames,
session and bundle; never predictor, which encodes.
"""

from .encoded import EncodedImage
from .folder import EmbeddingFolder
from .stored import load_embedding, save_embedding

__all__ = ["EmbeddingFolder", "EncodedImage", "load_embedding", "save_embedding"]
