"""Masks of everything in an image: `MaskGenerator`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..callbacks import Show
from ..contract import Float32, Float64, Int64
from ..embeddings import EncodedImage
from ..errors import ConfigError
from ..frames.arrays import require_image
from ..frames.prompts import encode_prompts
from ..masks.choice import MaskChoice
from ..masks.regions import without_small_regions
from ..masks.runs import Runs
from ..masks.stability import upscale_runs
from ..predictor import Predictor
from ..whole_numbers import require_whole
from .found import BINARY_MASK, OUTPUT_MODES, Found, joined
from .grid import Crop, crops_of, own_grids, regular_grids
from .nms import distinct

_EDGE = 20  # pixels from the edge of a crop, within which a mask is likely cut off


@dataclass(eq=False)
class MaskGenerator:
    """`SamAutomaticMaskGenerator` over an exported bundle: the same parameters, defaults and masks; no torch.

    Attributes:
        predictor: what decodes; its current image stays what it is.
        points_per_side: points along each side of the image, or of a crop; None where `point_grids` says them.
        points_per_batch: points decoded, and whose low-resolution logits are kept, at once.
        pred_iou_thresh: from 0 to 1; masks whose predicted IoU is not above it are left out; 0 keeps all.
        stability_score_thresh: from 0 to 1; masks whose stability score is below it are left out; 0 keeps all.
        stability_score_offset: how far the threshold of logits is moved, down and up, for the stability score.
        box_nms_thresh: box IoU from which a mask counts as a duplicate of one of higher predicted IoU.
        crop_n_layers: layer n cuts the image into 2**n x 2**n crops and segments each like an image.
        crop_nms_thresh: as `box_nms_thresh`, between crops; smaller crops are preferred.
        crop_overlap_ratio: how much crops of the first layer overlap, of the image's shorter side; less in the next.
        crop_n_points_downscale_factor: crops of layer n get `points_per_side` divided by this to the n.
        point_grids: one grid for the image and one for each layer, (N,2) x, y from 0 to 1, instead.
        min_mask_region_area: islands and holes of fewer pixels are removed; 0 leaves all as they are.
        output_mode: `binary_mask`: (H,W) bool; `uncompressed_rle`, `coco_rle`: run lengths as a list, as COCO's text.

    Raises:
        ConfigError: an option out of its range, or not exactly one of `points_per_side` and `point_grids`.
    """

    predictor: Predictor
    points_per_side: int | None = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    point_grids: Sequence[ArrayLike] | None = None
    min_mask_region_area: int = 0
    output_mode: str = BINARY_MASK

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            setattr(self, name, require_whole(name, getattr(self, name), least, None, f"at least {least}"))
        for name in _FRACTIONS:
            _require_number(name, getattr(self, name), most=1)
        _require_number("stability_score_offset", self.stability_score_offset, most=np.inf)
        if self.output_mode not in OUTPUT_MODES:
            raise ConfigError(f"output_mode: got {self.output_mode!r}, expected one of {', '.join(OUTPUT_MODES)}")
        self._grids = self._all_grids()

    def generate(
        self,
        image: NDArray[np.uint8],
        multimask_output: bool = True,
        *,
        hq_token_only: bool = False,
        sam_tokens_only: bool = False,
        progress: Show | None = None,
    ) -> list[dict[str, Any]]:
        """Masks of `image`, (H,W,3) uint8 RGB.

        Args:
            image: what to segment.
            multimask_output, hq_token_only, sam_tokens_only: as `Predictor.predict` takes them: which masks a point
                gets.
            progress: called with the fraction done, and the crop.

        Returns:
            A record per mask, in the official order, with `segmentation` (see `output_mode`), `area` in pixels, `bbox`
            and `crop_box` as x, y, width, height, `predicted_iou`, `stability_score`, and `point_coords` [[x, y]]. As
            there, width and height of `bbox` are one less than the pixels it spans.

        Raises:
            ImageError: not such an array, or too small for `crop_n_layers`.
            PromptError: `hq_token_only` of a plain SAM.
        """
        choice = MaskChoice(
            sizes=self.predictor.bundle.manifest.sizes,
            multimask_output=multimask_output,
            hq_token_only=hq_token_only,
            sam_tokens_only=sam_tokens_only,
        )
        found = self._find(require_image(image), choice, progress or _unseen)
        if self.min_mask_region_area:
            found = self._without_small_regions(found)
        return [found.record(index, self.output_mode) for index in range(len(found))]

    def _find(self, image: NDArray[np.uint8], choice: MaskChoice, progress: Show) -> Found:
        """In all crops; of masks found in several the one of the smallest crop."""
        crops = crops_of((image.shape[0], image.shape[1]), self.crop_n_layers, self.crop_overlap_ratio)
        total, done, found = sum(len(self._grids[layer]) for _, layer in crops), 0, []
        for number, (crop, layer) in enumerate(crops, 1):
            parts = []
            for part, points in self._in_crop(image, crop, self._grids[layer], choice):
                parts.append(part)
                done += points
                progress(done / total, f"crop {number} of {len(crops)}")
            of_crop = joined(parts)
            found.append(of_crop.chosen(distinct(of_crop.boxes, of_crop.iou_predictions, self.box_nms_thresh)))
        if len(crops) == 1:
            return found[0]
        every = joined(found)
        x0, y0, x1, y1 = every.crops.T
        areas = ((x1 - x0) * (y1 - y0)).astype(np.float32)
        return every.chosen(distinct(every.boxes, 1 / areas, self.crop_nms_thresh))

    def _in_crop(
        self, image: NDArray[np.uint8], crop: Crop, grid: Float64, choice: MaskChoice
    ) -> Iterator[tuple[Found, int]]:
        """Masks of one batch of points after the other, and how many points these were."""
        x0, y0, x1, y1 = crop
        encoded = self.predictor.encode(np.ascontiguousarray(image[y0:y1, x0:x1]))
        points = grid * (x1 - x0, y1 - y0)
        for start in range(0, len(points), self.points_per_batch):
            batch = points[start : start + self.points_per_batch]
            yield self._of_points(encoded, batch, choice, crop, (image.shape[0], image.shape[1])), len(batch)

    def _of_points(
        self, encoded: EncodedImage, points: Float64, choice: MaskChoice, crop: Crop, original_hw: tuple[int, int]
    ) -> Found:
        """The good masks of points, x and y in the crop; all that leaves here is in the image's frame."""
        prompts = encode_prompts(
            point_coords=points[:, None],
            point_labels=np.ones((len(points), 1)),
            original_hw=encoded.original_hw,
            sizes=choice.sizes,
        )
        logits, iou_predictions = self.predictor.decode(encoded, prompts, choice)
        candidates, flat_iou = logits.reshape(-1, *logits.shape[2:]), iou_predictions.ravel()
        kept, masks, boxes, scores = [], [], [], []
        for index in np.flatnonzero(_passes(flat_iou, self.pred_iou_thresh, np.greater)).tolist():
            mask, score = self._upscale(candidates[index], encoded.original_hw)
            if not _passes(score, self.stability_score_thresh, np.greater_equal):
                continue
            box = mask.box() + np.array([*crop[:2], *crop[:2]])
            if not _cut_off(box, crop, original_hw):
                kept.append(index)
                masks.append(mask.moved(*crop[:2], original_hw))
                boxes.append(box)
                scores.append(score)
        return Found(
            masks=masks,
            boxes=np.array(boxes, np.int64).reshape(-1, 4),
            iou_predictions=flat_iou[kept],
            stability_scores=np.array(scores, np.float32),
            points=points.repeat(logits.shape[1], axis=0)[kept] + crop[:2],
            crops=np.tile(crop, (len(kept), 1)),
        )

    def _upscale(self, low_res_logits: Float32, crop_hw: tuple[int, int]) -> tuple[Runs, np.float32]:
        manifest = self.predictor.bundle.manifest
        return upscale_runs(
            low_res_logits,
            crop_hw,
            manifest.sizes.frame,
            threshold=manifest.mask_threshold,
            offset=self.stability_score_offset,
        )

    def _without_small_regions(self, found: Found) -> Found:
        """With small islands and holes gone; of duplicates that makes, one that was left as it was is preferred."""
        if not len(found):
            return found
        cleaned, changed = zip(
            *(without_small_regions(mask, self.min_mask_region_area) for mask in found.masks), strict=True
        )
        found = replace(found, masks=cleaned, boxes=np.stack([mask.box() for mask in cleaned]))
        unchanged = 1 - np.array(changed, np.float32)
        return found.chosen(distinct(found.boxes, unchanged, max(self.box_nms_thresh, self.crop_nms_thresh)))

    def _all_grids(self) -> list[Float64]:
        if (self.points_per_side is None) == (self.point_grids is None):
            raise ConfigError("points_per_side and point_grids: expected exactly one of them, and None for the other")
        if self.point_grids is not None:
            return own_grids(self.point_grids, self.crop_n_layers)
        side = require_whole("points_per_side", self.points_per_side, 1, None, "at least 1")
        return regular_grids(side, self.crop_n_layers, self.crop_n_points_downscale_factor)


_WHOLE = {"points_per_batch": 1, "crop_n_layers": 0, "crop_n_points_downscale_factor": 1, "min_mask_region_area": 0}
_FRACTIONS = ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh", "crop_overlap_ratio")


def _require_number(name: str, value: object, *, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= most:
        raise ConfigError(f"{name}: got {value!r}, expected a number {'from 0 to 1' if most == 1 else 'of at least 0'}")


def _passes(values: Any, threshold: float, compare: Callable[..., Any]) -> Any:
    """Compared in float32, as torch does; a threshold of 0 lets all pass."""
    return compare(values, np.float32(threshold)) if threshold > 0 else np.ones_like(values, bool)


def _cut_off(box: Int64, crop: Crop, original_hw: tuple[int, int]) -> bool:
    """Whether a box ends near an edge of its crop that is no edge of the image."""
    height, width = original_hw
    near_crop = np.abs(box - crop) <= _EDGE
    near_image = np.abs(box - (0, 0, width, height)) <= _EDGE
    return bool((near_crop & ~near_image).any())


def _unseen(fraction: float, phase: str) -> None:
    """Progress that nobody asked for."""
