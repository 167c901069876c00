"""The graphs, each opened beside the session whose tensors it makes or takes, when it is first needed.

What depends on an image's size alone, the matrices, is sent to the device once for each of the last few sizes: cameras
have one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ..contract import Array, Float32, GraphSpec, ModelFrame, TensorSpec
from ..frames.arrays import IMAGE_FORMATS, DeviceImage
from ..frames.geometry import fit_size
from ..manifest import Manifest
from ..masks.upscale import bands
from ..session import Borrowed, DeviceTensor, Neighbourly, Session, Tensor
from .resampling import resize_matrix, split_steps, upscale_matrix

_KEPT = 4  # sizes of images


def _fit_spec(name: str, *more: TensorSpec) -> GraphSpec:
    return GraphSpec(
        name,
        inputs=(
            TensorSpec("image", "uint8", ("height", "width", 3)),
            TensorSpec("channels", "int64", (3,)),
            TensorSpec("rows", "float32", ("side", "height")),
            TensorSpec("columns", "float32", ("width", "side")),
            *more,
            TensorSpec("mean", "float32", (3, 1, 1)),
            TensorSpec("std", "float32", (3, 1, 1)),
            TensorSpec("inside", "float32", ("side", "side")),
        ),
        outputs=(TensorSpec("input_image", "float32", (1, 3, "side", "side")),),
    )


# 8-bit pixels after each of both passes, as Pillow makes them; weights come in two parts, see `split_steps`.
FIT_ROUNDED = _fit_spec(
    "fit_rounded",
    TensorSpec("rows_rest", "float32", ("side", "height")),
    TensorSpec("columns_rest", "float32", ("width", "side")),
)
FIT_FLOATS = _fit_spec("fit_floats")  # nothing is rounded, as SAM 2 resizes
UPSCALE = GraphSpec(
    "upscale_masks",
    inputs=(
        TensorSpec("low_res_logits", "float32", ("prompts", "kept", "low_res", "low_res")),
        TensorSpec("rows", "float32", ("height", "low_res")),
        TensorSpec("columns", "float32", ("low_res", "width")),
        TensorSpec("threshold", "float32", (1,)),
    ),
    outputs=(TensorSpec("masks", "bool", ("prompts", "kept", "height", "width")),),
)
Arrays = Mapping[str, Array]


class Fitting:
    """Makes `input_image` (1,3,S,S) of frames in the memory of an encoder's device."""

    def __init__(self, encoder: Neighbourly, manifest: Manifest) -> None:
        frame = manifest.sizes.frame
        self._graph = _Beside(encoder, FIT_FLOATS if frame.squashed else FIT_ROUNDED, partial(fit_feeds, frame=frame))
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (manifest.pixel_mean, manifest.pixel_std))
        self._normalisation = {"mean": mean, "std": std}

    def __call__(self, image: DeviceImage, image_format: str, place: tuple[str, int]) -> Tensor:
        pixels = Borrowed(image.address, (*image.original_hw, 3), np.dtype(np.uint8), place, image.owner)
        channels = np.array(IMAGE_FORMATS[image_format], np.int64)
        return self._graph({"image": pixels, "channels": channels, **self._normalisation}, image.original_hw)

    def close(self) -> None:
        self._graph.close()


class Upscaling:
    """Makes masks (B,K,H,W) bool on a decoder's device of logits (B,K,L,L) on the host."""

    def __init__(self, decoder: Neighbourly, manifest: Manifest) -> None:
        sizes = manifest.sizes
        self._graph = _Beside(decoder, UPSCALE, partial(upscale_feeds, sizes.low_res_size, frame=sizes.frame))
        self._threshold = np.array([manifest.mask_threshold], np.float32)

    def __call__(self, low_res_logits: Float32, original_hw: tuple[int, int]) -> Tensor:
        return self._graph({"low_res_logits": low_res_logits, "threshold": self._threshold}, original_hw)

    def close(self) -> None:
        self._graph.close()


def fit_feeds(original_hw: tuple[int, int], frame: ModelFrame) -> Arrays:
    """Inputs of the graphs that fit images that depend on their size; `inside` is 1 where there is no padding."""
    fitted_hw = fit_size(original_hw, frame)
    rows, columns = (resize_matrix(*sizes, frame.side) for sizes in zip(original_hw, fitted_hw, strict=True))
    inside = np.zeros((frame.side, frame.side), np.float32)
    inside[: fitted_hw[0], : fitted_hw[1]] = 1
    if frame.squashed:
        return {"rows": rows.astype(np.float32), "columns": columns.T.astype(np.float32), "inside": inside}
    (most_rows, rest_rows), (most_columns, rest_columns) = split_steps(rows), split_steps(columns.T)
    rests = {"rows_rest": rest_rows, "columns_rest": rest_columns}
    return {"rows": most_rows, "columns": most_columns, **rests, "inside": inside}


def upscale_feeds(side: int, original_hw: tuple[int, int], frame: ModelFrame) -> Arrays:
    """Inputs of the graph that upscales masks, of `side` low-resolution logits, that depend on the image's size."""
    rows, columns = (upscale_matrix(of_axis, side) for of_axis in bands(side, original_hw, frame))
    return {"rows": rows, "columns": columns.T}


class _Beside:
    """A graph of this package beside a session, with what it is fed for each size of image."""

    def __init__(self, session: Neighbourly, spec: GraphSpec, of_size: Callable[[tuple[int, int]], Arrays]) -> None:
        self._session, self._spec = session, spec
        self._graph: Session | None = None
        self._opening = threading.Lock()
        self._on_device = lru_cache(maxsize=_KEPT)(partial(_put, session, of_size))

    def __call__(self, feeds: Mapping[str, Tensor | Borrowed], original_hw: tuple[int, int]) -> Tensor:
        """The one output of the graph, on the device."""
        kept = self._opened().keep({**feeds, **self._on_device(original_hw)})  # type: ignore[dict-item]
        return kept[self._spec.outputs[0].name]

    def close(self) -> None:
        self._on_device.cache_clear()
        if self._graph is not None:
            self._graph.close()

    def _opened(self) -> Session:
        with self._opening:
            if self._graph is None:
                self._graph = self._session.beside(Path(__file__).with_name(f"{self._spec.name}.onnx"), self._spec)
            return self._graph


def _put(
    session: Neighbourly, of_size: Callable[[tuple[int, int]], Arrays], original_hw: tuple[int, int]
) -> dict[str, DeviceTensor]:
    return {name: session.put(array) for name, array in of_size(original_hw).items()}
