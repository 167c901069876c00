"""One image of a dataset against one bundle: prompts from the truth go in, scores of every object come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..predictor import Predictor
from .dataset import Dataset, Sample, Skip, Unusable
from .metrics import boundary_iou, iou
from .truth import PROMPTS, Truth, prompt_arguments, read_truth

_PIXELS_AT_ONCE = 1 << 24  # masks predicted together become float32 logits of the image's size: 64 MB


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is asked of every bundle.

    Attributes:
        prompts: `box`, the tight box of each true mask; `point`, the pixel deepest inside it; or `bbox`, the box that
            its COCO annotation states.
        multimask_output, hq_token_only: as `Predictor.predict` takes them.
    """

    prompts: str = "box"
    multimask_output: bool = False
    hq_token_only: bool = False

    def __post_init__(self) -> None:
        if self.prompts not in PROMPTS:
            raise ConfigError(f"prompts: got {self.prompts!r}, choose from {', '.join(PROMPTS)}")


@dataclass(frozen=True)
class ObjectScore:
    """One object: `target` names it, `area` is its pixels; `predicted_iou` is None if not finite.

    `finite` is False if a logit of the mask was NaN or infinite.
    """

    target: str
    area: int
    iou: float
    boundary_iou: float
    predicted_iou: float | None
    finite: bool


@dataclass(frozen=True)
class ImageRecord:
    """All that is kept of an image."""

    image: str
    objects: tuple[ObjectScore, ...]
    skipped: tuple[Skip, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImageRecord:
        objects = tuple(ObjectScore(**entry) for entry in content["objects"])
        return cls(content["image"], objects, tuple(Skip(**entry) for entry in content["skipped"]))


def measure_image(predictor: Predictor, dataset: Dataset, name: str, setting: Setting) -> ImageRecord:
    """Scores of the image's objects; what cannot be used is in `skipped`. An image without objects is not encoded."""
    skipped: list[Skip] = []
    objects: list[ObjectScore] = []
    try:
        sample = dataset.read(name)
        for truths in _batches(name, sample, setting, skipped):
            if not objects:
                predictor.set_image(sample.image)
            objects += _score(predictor, truths, setting)
    except Unusable as e:
        skipped.append(Skip(name, None, e.reason, e.detail))
    except Exception as e:  # whatever one image does, the others are still to be measured
        objects.clear()  # half an image would be another measure
        skipped.append(Skip(name, None, "failed", f"{type(e).__name__}: {e}"))
    return ImageRecord(name, tuple(objects), tuple(skipped))


def predict_masks(
    predictor: Predictor, truths: Sequence[Truth], setting: Setting
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.bool_]]:
    """For B objects of the current image: predicted masks (B,H,W), predicted IoU (B,), finite logits (B,).

    Where several candidates come back (`multimask_output` of a plain SAM) it is the one of the best predicted IoU.
    """
    prompts: dict[str, Any] = prompt_arguments(setting.prompts, truths)
    predicted, predicted_iou, logits = predictor.predict_batch(
        **prompts,
        multimask_output=setting.multimask_output,
        hq_token_only=setting.hq_token_only,
    )
    finite = np.asarray(np.isfinite(logits).all(axis=(1, 2, 3)), dtype=bool)
    rows, best = np.arange(len(truths)), predicted_iou.argmax(axis=1)
    return predicted[rows, best], predicted_iou[rows, best], finite


def _batches(name: str, sample: Sample, setting: Setting, skipped: list[Skip]) -> Iterator[list[Truth]]:
    """Usable objects, as many at once as memory allows; the others go to `skipped`."""
    limit = max(1, _PIXELS_AT_ONCE // (sample.image.shape[0] * sample.image.shape[1]))
    part: list[Truth] = []
    for target in sample.targets:
        try:
            part.append(read_truth(sample, target, setting.prompts))
        except Unusable as e:
            skipped.append(Skip(name, target, e.reason, e.detail))
        if len(part) == limit:
            yield part
            part = []
    if part:
        yield part


def _score(predictor: Predictor, truths: list[Truth], setting: Setting) -> Iterator[ObjectScore]:
    predicted, predicted_iou, finite = predict_masks(predictor, truths, setting)
    for index, truth in enumerate(truths):
        quality = float(predicted_iou[index])
        yield ObjectScore(
            target=truth.target,
            area=int(truth.mask.sum()),
            iou=iou(predicted[index], truth.mask),
            boundary_iou=boundary_iou(predicted[index], truth.mask),
            predicted_iou=quality if np.isfinite(quality) else None,
            finite=bool(finite[index]),
        )
