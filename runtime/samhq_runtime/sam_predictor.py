"""What programs written for `SamPredictor` use besides `set_image` and `predict`; upstream's names.

torch is never imported: who passes a tensor has it already, and gets tensors.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .contract import Array, Float32, ModelFrame, ModelSizes
from .errors import ImageError, PromptError
from .frames.arrays import require_image
from .frames.geometry import fit_image, fit_size, to_model_frame
from .frames.numbers import finite_numbers


class ResizeLongestSide:
    """Between pixels of an image and those of the model's input, as `predictor.transform` upstream.

    Of a SAM 2, which squashes images to a square, `squashed` is true. The methods ending in `_torch` take what numpy
    can read, CPU tensors too, and return numpy arrays, or tensors for a tensor.
    """

    def __init__(self, target_length: int, *, squashed: bool = False) -> None:
        self.target_length = target_length
        self._frame = ModelFrame(target_length, squashed)

    def apply_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8] | Float32:
        """(H,W,3) uint8, resized so that the longest side is `target_length`; float32 if squashed."""
        return fit_image(require_image(image), self._frame)

    def apply_coords(self, coords: ArrayLike, original_size: tuple[int, int]) -> Float32:
        """(..., 2) x, y pixels of an image of `original_size` (H, W) -> pixels of the resized image."""
        xy = finite_numbers("coords", coords)
        if xy.shape[-1:] != (2,):
            raise PromptError(f"coords: got shape {xy.shape}, expected (..., 2) as x, y")
        return to_model_frame(xy, original_size, self._frame)

    def apply_boxes(self, boxes: ArrayLike, original_size: tuple[int, int]) -> Float32:
        """(4,) or (B,4) boxes x0, y0, x1, y1, as `apply_coords`; (B,4)."""
        xyxy = finite_numbers("boxes", boxes)
        if xyxy.size and xyxy.shape[-1] != 4:
            raise PromptError(f"boxes: got shape {xyxy.shape}, expected (B, 4) as x0, y0, x1, y1")
        return self.apply_coords(xyxy.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_coords_torch(self, coords: Any, original_size: tuple[int, int]) -> Any:
        """As `apply_coords`."""
        return _as_tensors(coords, self.apply_coords(coords, original_size))[0]

    def apply_boxes_torch(self, boxes: Any, original_size: tuple[int, int]) -> Any:
        """As `apply_boxes`."""
        return _as_tensors(boxes, self.apply_boxes(boxes, original_size))[0]


class SamPredictorApi:
    """The rest of `SamPredictor`'s interface, on the methods of `Predictor`."""

    _sizes: ModelSizes

    if TYPE_CHECKING:
        _current: Any

        def _image_of_call(self, image: Any) -> Any: ...
        def set_encoded(self, encoded: Any) -> None: ...
        def encode_fitted(self, fitted: NDArray[Any], original_hw: tuple[int, int]) -> Any: ...
        def predict_batch(self, *args: Any, **kwargs: Any) -> tuple[Array, Float32, Float32]: ...

    @property
    def transform(self) -> ResizeLongestSide:
        return ResizeLongestSide(self._sizes.image_size, squashed=self._sizes.frame.squashed)

    @property
    def device(self) -> str:
        """Where torch tensors given to it should be; on which device it computes is `providers`' business."""
        return "cpu"

    @property
    def is_image_set(self) -> bool:
        return self._current is not None

    @property
    def features(self) -> Array:
        """`image_embeddings` (1,C,G,G) of the current image, on the host; as `get_image_embedding`."""
        return np.asarray(self._image_of_call(None).features["image_embeddings"])

    def get_image_embedding(self) -> Array:
        """`image_embeddings` (1,C,G,G) of the current image; PromptError if there is none."""
        return self.features

    @property
    def original_size(self) -> tuple[int, int]:
        """(H, W) of the current image."""
        height, width = self._image_of_call(None).original_hw
        return height, width

    @property
    def input_size(self) -> tuple[int, int]:
        """(H, W) of the current image as it was resized for the model."""
        return fit_size(self.original_size, self._sizes.frame)

    def set_torch_image(self, transformed_image: ArrayLike, original_image_size: tuple[int, int]) -> None:
        """Encode an image (1,3,H,W) that `transform.apply_image` has resized, values 0 to 255.

        Raises:
            ImageError: of another shape, or not the size that the original becomes.
        """
        original_hw = (int(original_image_size[0]), int(original_image_size[1]))
        fitted, expected = np.asarray(transformed_image), fit_size(original_hw, self._sizes.frame)
        if fitted.shape != (1, 3, *expected):
            raise ImageError(f"transformed_image: got shape {fitted.shape}, expected {(1, 3, *expected)}")
        self.set_encoded(self.encode_fitted(fitted[0].transpose(1, 2, 0), original_hw))

    def predict_torch(
        self,
        point_coords: ArrayLike | None,
        point_labels: ArrayLike | None,
        boxes: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
    ) -> tuple[Any, ...]:
        """As `predict_batch`, for prompts that `transform` has moved to the model's frame: (B,N,2), (B,N), (B,4).

        Takes what numpy can read, torch tensors on the CPU too; returns numpy arrays, or tensors if the points or the
        boxes are tensors.
        """
        results = self.predict_batch(
            None if point_coords is None else self._to_image(finite_numbers("point_coords", point_coords)),
            point_labels,
            None if boxes is None else self._to_image(finite_numbers("boxes", boxes).reshape(-1, 2, 2)).reshape(-1, 4),
            mask_input,
            multimask_output,
            return_logits,
            hq_token_only,
        )
        return _as_tensors(boxes if point_coords is None else point_coords, *results)

    def _to_image(self, coords: Array) -> Array:
        """(..., 2) pixels of the resized image -> float64 pixels of the current image."""
        (height, width), (input_height, input_width) = self.original_size, self.input_size
        return coords * (width / input_width, height / input_height)


def _as_tensors(given: object, *results: Array) -> tuple[Any, ...]:
    """The results, as torch tensors if `given` is one."""
    if type(given).__module__ != "torch":
        return results
    torch = sys.modules["torch"]
    return tuple(torch.from_numpy(result) for result in results)
