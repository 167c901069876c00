"""One image and its prompts, answered by two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..evaluation.metrics import Mask, iou
from ..masks.choice import require_hq
from ..masks.overlay import draw_comparison
from ..predictor import Predictor

# Which masks a side shows: SAM + HQ as released (of a plain SAM its own), the HQ token's, or SAM's.
TOKENS: Mapping[str, Mapping[str, bool]] = {
    "all": {},
    "hq": {"hq_token_only": True},
    "sam": {"sam_tokens_only": True},
}


@dataclass(frozen=True)
class Side:
    """What answers, and its name in tables and pictures; `tokens` is a key of TOKENS.

    Raises:
        PromptError: `hq` of a plain SAM.
    """

    name: str
    predictor: Predictor
    tokens: str = "all"

    def __post_init__(self) -> None:
        if self.tokens == "hq":
            require_hq("hq", token_masks=self.predictor.bundle.manifest.sizes.token_masks)

    def answer(
        self, image: NDArray[np.uint8], prompts: Mapping[str, ArrayLike], *, multimask_output: bool
    ) -> tuple[Mask, NDArray[np.float32]]:
        """Masks (B,H,W) and predicted IoU (B,); of three masks the one of the highest predicted IoU."""
        asked: dict[str, Any] = {**prompts, **TOKENS[self.tokens], "multimask_output": multimask_output}
        masks, predicted, _ = self.predictor.predict_batch(**asked, image=self.predictor.encode(image))
        best = np.arange(len(masks)), predicted.argmax(axis=1) if len(masks) else np.zeros(0, int)
        return masks[best], predicted[best]


@dataclass(frozen=True)
class ObjectDifference:
    """How two masks of one object compare: IoU, the pixels of each, the predicted IoU of each."""

    iou: float
    areas: tuple[int, int]
    predicted_iou: tuple[float, float]


@dataclass(frozen=True)
class ImageDifference:
    """Both answers to the prompts of one image: masks (B,H,W) by the name of the side, and what they differ in."""

    masks: Mapping[str, Mask]
    objects: Sequence[ObjectDifference]

    def picture(self, image: NDArray[np.uint8], boxes: NDArray[Any] | None = None) -> NDArray[np.uint8]:
        """The image, both answers, and the pixels where they differ, side by side."""
        first, second = self.masks.values()
        return draw_comparison(image, {**self.masks, "differ": first ^ second}, boxes)


def compare_image(
    sides: tuple[Side, Side],
    image: NDArray[np.uint8],
    prompts: Mapping[str, ArrayLike],
    *,
    multimask_output: bool = False,
) -> ImageDifference:
    """Ask both sides the same.

    Args:
        sides: of different names.
        image: (H,W,3) uint8 RGB.
        prompts: for B objects, as `Predictor.predict` takes them: `point_coords` and `point_labels`, `box`.
        multimask_output: as for `predict`.

    Raises:
        PromptError: as `predict`.
    """
    (masks_a, predicted_a), (masks_b, predicted_b) = (
        side.answer(image, prompts, multimask_output=multimask_output) for side in sides
    )
    objects = [
        ObjectDifference(iou(a, b), (int(a.sum()), int(b.sum())), (float(p), float(q)))
        for a, b, p, q in zip(masks_a, masks_b, predicted_a, predicted_b, strict=True)
    ]
    return ImageDifference({sides[0].name: masks_a, sides[1].name: masks_b}, objects)
