"""What a `Predictor` does with many images at a time, and with one mask again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .bundle import Bundle
from .contract import Array, Float32, ModelSizes
from .embeddings import EncodedImage
from .errors import PromptError
from .frames.arrays import require_image
from .frames.geometry import fit_image, normalise
from .session import Session
from .whole_numbers import require_whole

Requests: TypeAlias = Sequence[tuple[EncodedImage, Mapping[str, Any]]]  # images, and prompts as `predict` takes them


class BatchApi:
    """Calls for several images, and refinement, on the methods of `Predictor`."""

    _sizes: ModelSizes
    bundle: Bundle

    if TYPE_CHECKING:
        _encoder: Session

        def _answers(self, requests: Requests, upscale: Any, **choice: bool) -> list[tuple[Any, Float32, Float32]]: ...
        def _upscale(self, low_res_logits: Float32, original_hw: Any, *, return_logits: bool) -> Array: ...
        def predict_batch(self, *args: Any, **kwargs: Any) -> tuple[Array, Float32, Float32]: ...

    def encode_batch(self, images: Sequence[NDArray[np.uint8]]) -> list[EncodedImage]:
        """Encode images of any sizes, each (H,W,3) uint8 RGB, in one call of the encoder; features on the host.

        Memory grows with their number. It is faster than one by one where the device is not busy with one: on GPUs.
        TensorRT engines take as many as their profile says.
        """
        self.bundle.require_unchanged()
        images = [require_image(image) for image in images]
        if not images:
            return []
        manifest = self.bundle.manifest
        fitted = (fit_image(image, self._sizes.frame) for image in images)
        inputs = [normalise(one, self._sizes.image_size, manifest.pixel_mean, manifest.pixel_std) for one in fitted]
        outputs = self._encoder({"input_image": np.concatenate(inputs)})
        return [
            EncodedImage({name: array[i : i + 1].copy() for name, array in outputs.items()}, image.shape[:2])
            for i, image in enumerate(images)
        ]

    def predict_images(
        self,
        prompts: Requests,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        *,
        sam_tokens_only: bool = False,
    ) -> list[tuple[Array, Float32, Float32]]:
        """Masks of several images, whose prompts share calls of the decoder.

        Args:
            prompts: per image what `encode` returned, and the prompts by name as `predict` takes them, such as
                `{"box": boxes}`; `point_coords`, `point_labels`, `box`, `mask_input`.
            multimask_output, return_logits, hq_token_only, sam_tokens_only: as for `predict`.

        Returns:
            Per image what `predict_batch` returns. Prompts with as many points are decoded together, in groups of
            `prompts_per_call`; features of images that share a call are copied to the host.

        Raises:
            PromptError: as `predict`.
        """
        _require_prompts(prompts)
        return self._masks_of(
            prompts,
            multimask_output=multimask_output,
            return_logits=return_logits,
            hq_token_only=hq_token_only,
            sam_tokens_only=sam_tokens_only,
        )

    def refine(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
        hq_token_only: bool = False,
        *,
        rounds: int = 2,
        sam_tokens_only: bool = False,
        image: EncodedImage | None = None,
    ) -> tuple[Array, Float32, Float32]:
        """As `predict_batch`, then the same prompts again with the logits of the last answer as `mask_input`.

        Args:
            point_coords, point_labels, box, return_logits, hq_token_only, sam_tokens_only, image: as for `predict`.
            multimask_output: of the first round; of three masks the one of the highest predicted IoU goes on. Later
                rounds ask for one mask, since the earlier one says which is meant.
            rounds: how often in all; 1 is `predict_batch`.

        Returns:
            (B,1,H,W), (B,1), (B,1,L,L) of the last round.
        """
        rounds = require_whole("rounds", rounds, 1, None, "at least 1")
        tokens: dict[str, Any] = {"hq_token_only": hq_token_only, "sam_tokens_only": sam_tokens_only, "image": image}
        prompts = (point_coords, point_labels, box)
        masks, iou, logits = self.predict_batch(*prompts, None, multimask_output, return_logits, **tokens)
        if masks.shape[1] > 1:
            best = np.arange(len(masks)), iou.argmax(axis=1)
            masks, iou, logits = (array[best][:, None] for array in (masks, iou, logits))
        for _ in range(rounds - 1 if len(masks) else 0):
            masks, iou, logits = self.predict_batch(*prompts, logits, False, return_logits, **tokens)
        return masks, iou, logits

    def _masks_of(
        self, requests: Requests, *, return_logits: bool, **choice: bool
    ) -> list[tuple[Array, Float32, Float32]]:
        """Per image and its prompts the masks, predicted IoU and low-resolution logits that a caller gets."""
        return self._answers(requests, partial(self._upscale, return_logits=return_logits), **choice)


def _require_prompts(prompts: Requests) -> None:
    """PromptError unless each is an encoded image and prompts by the names of `predict`."""
    for index, (image, of_image) in enumerate(prompts):
        if not isinstance(image, EncodedImage):
            raise PromptError(
                f"prompts[{index}]: got {type(image).__name__}, expected what predictor.encode(image) returns"
            )
        unknown = sorted(set(of_image) - {"point_coords", "point_labels", "box", "mask_input"})
        if unknown:
            raise PromptError(
                f"prompts[{index}]: got {', '.join(unknown)}, expected some of point_coords, point_labels, box, "
                "mask_input"
            )
