"""One encoded image as a file, tied to the bundle that encoded it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..bundle import Bundle
from ..contract import IMAGE_ENCODER, Array
from ..errors import EmbeddingError
from ..files import write_whole
from .encoded import EncodedImage
from .tensor_file import read_header, read_tensors, write_tensors

FORMAT = "samhq_embedding_1"
_AGAIN = "encode the image again"


def bundle_sha256(bundle: Bundle) -> str:
    """What decides an embedding: the hashes of the bundle's files but engines, and how images are prepared."""
    manifest = bundle.manifest
    content = {
        "files": {name: entry.sha256 for name, entry in manifest.lasting_files.items()},
        "sizes": asdict(manifest.sizes),
        "pixels": [manifest.pixel_mean, manifest.pixel_std],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_embedding(path: Path, encoded: EncodedImage, bundle: Bundle, *, float16: bool = False) -> None:
    """Write an encoded image, whole or not at all.

    Args:
        path: a `.safetensors` file; one of that name is replaced.
        encoded: what `bundle` made of an image.
        bundle: its hash, precision and the image's original size are in the file's metadata.
        float16: half the size; features are rounded.

    Raises:
        EmbeddingError: not features of this bundle, not finite, beyond float16, or the file cannot be written.
    """
    features = {name: np.asarray(tensor) for name, tensor in encoded.features.items()}
    _require_features({name: array.shape for name, array in features.items()}, bundle, "image")
    if float16:
        with np.errstate(over="ignore"):  # refused below
            features = {name: array.astype(np.float16) for name, array in features.items()}
    if not all(np.isfinite(array).all() for array in features.values()):
        raise EmbeddingError(f"{path}: not written, features are NaN, infinite or beyond {_dtype_of(features)}")
    metadata = {**_of_bundle(bundle), "original_hw": json.dumps(list(encoded.original_hw))}
    metadata["sha256"] = _sha256_of(features, metadata)

    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            write_tensors(file, features, metadata)

    try:
        write_whole(path, write)
    except OSError as e:
        raise EmbeddingError(f"{path}: cannot be written ({e.strerror or e})") from e


def load_embedding(path: Path, bundle: Bundle) -> EncodedImage:
    """What `save_embedding` wrote for the same bundle, in the dtype of its graphs.

    Raises:
        EmbeddingError: missing, damaged, no embedding, NaN in it, or of another bundle or precision.
    """
    try:
        with path.open("rb") as file:
            header = read_header(file)
            original_hw = _require_of(header.metadata, bundle, path)
            _require_features({name: shape for name, (_, shape) in header.tensors.items()}, bundle, path)
            features = read_tensors(file, header)
    except FileNotFoundError as e:
        raise EmbeddingError(f"{path}: no such file; expected what save_embedding writes") from e
    except (OSError, ValueError) as e:
        reason = (isinstance(e, OSError) and e.strerror) or e
        raise EmbeddingError(f"{path}: cannot be read as an embedding ({reason}); {_AGAIN}") from e
    unsigned = {name: text for name, text in header.metadata.items() if name != "sha256"}
    if header.metadata.get("sha256") != _sha256_of(features, unsigned):
        raise EmbeddingError(f"{path}: damaged or changed; {_AGAIN}")
    if not all(np.isfinite(array).all() for array in features.values()):
        raise EmbeddingError(f"{path}: has NaN or infinity; {_AGAIN}")
    dtypes = {spec.name: spec.dtype for spec in bundle.manifest.graphs[IMAGE_ENCODER].spec.outputs}
    typed = {name: features[name].astype(dtype, copy=False) for name, dtype in dtypes.items()}
    return EncodedImage(typed, original_hw)


def _of_bundle(bundle: Bundle) -> dict[str, str]:
    manifest = bundle.manifest
    names = {"variant": manifest.variant, "precision": manifest.precision}
    return {"format": FORMAT, **names, "bundle_sha256": bundle_sha256(bundle)}


def _require_of(metadata: Mapping[str, str], bundle: Bundle, path: Path) -> tuple[int, int]:
    """The image's original size (H, W), if the file is of this bundle."""
    expected = _of_bundle(bundle)
    if metadata.get("format") != FORMAT:
        raise EmbeddingError(f"{path}: a safetensors file, but not an embedding of this project; {_AGAIN}")
    for name, text in expected.items():
        if metadata.get(name) != text:
            got, wanted = (f"{str(value)[:16]}" for value in (metadata.get(name), text))
            raise EmbeddingError(
                f"{path}: an embedding of another bundle ({name} {got}, expected {wanted}); "
                f"use the bundle that encoded it, or {_AGAIN} with this one"
            )
    try:
        height, width = json.loads(metadata["original_hw"])
    except (KeyError, ValueError, TypeError, RecursionError):
        height = width = 0
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise EmbeddingError(f"{path}: damaged, it does not say how large the image was; {_AGAIN}")
    return height, width


def _require_features(shapes: Mapping[str, tuple[int, ...]], bundle: Bundle, where: object) -> None:
    """EmbeddingError unless these are the encoder's outputs for one image."""
    outputs = bundle.manifest.graphs[IMAGE_ENCODER].spec.outputs
    expected = {spec.name: tuple(1 if side == "images" else side for side in spec.shape) for spec in outputs}
    if dict(shapes) != expected:
        raise EmbeddingError(f"{where}: got features {dict(shapes)}, expected {expected}, one image of this bundle")


def _sha256_of(features: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    described = {name: [array.dtype.str, array.shape] for name, array in features.items()}
    digest = hashlib.sha256(json.dumps([dict(metadata), described], sort_keys=True).encode())
    for name in sorted(features):
        digest.update(np.ascontiguousarray(features[name]).data)
    return digest.hexdigest()


def _dtype_of(features: Mapping[str, Array]) -> str:
    return str(next(iter(features.values())).dtype)
