"""The caller's prompts, validated and turned into the decoder's feeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike

from ..contract import Array, Float32, Int64, ModelFrame, ModelSizes
from ..errors import PromptError
from .geometry import to_model_frame
from .numbers import finite_numbers

BOX_CORNER_LABELS = (2.0, 3.0)  # top-left, bottom-right
PADDING_LABEL = -1.0
POINT_LABELS = (0, 1, PADDING_LABEL)
MAX_POINTS = 1024  # of one prompt: the decoder's attention takes memory that grows with their square


@dataclass(frozen=True)
class Prompts:
    """B validated prompts for one image.

    Attributes:
        point_coords: (B,N,2) float32 x, y, model frame, box corners and padding included.
        point_labels: (B,N) float32.
        mask_input: (1 or B,1,L,L) float32 logits of an earlier prediction, zeros if there is none.
        has_mask_input: whether to use them.
        lengths: of objects with different numbers of points, how many of the N are each one's own. The others fill the
            arrays, and `split` leaves them out: the model would attend to them.
    """

    point_coords: Float32
    point_labels: Float32
    mask_input: Float32
    has_mask_input: bool
    lengths: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.point_coords)

    def split(self, size: int) -> Iterator[Prompts]:
        """In groups of at most `size`, each of neighbours with as many points."""
        for group, length in self._groups(size):
            coords, labels = (
                np.ascontiguousarray(array[group, :length]) for array in (self.point_coords, self.point_labels)
            )
            mask_input = self.mask_input if len(self.mask_input) == 1 else self.mask_input[group]
            yield Prompts(coords, labels, mask_input, self.has_mask_input)

    def _groups(self, size: int) -> Iterator[tuple[slice, int]]:
        start = 0
        for length, run in groupby(self.lengths or [self.point_coords.shape[1]] * len(self)):
            stop = start + len(list(run))
            for first in range(start, stop, size):
                yield slice(first, min(first + size, stop)), length
            start = stop

    def feeds(self, mask_weights: Float32, *, image_index: Int64 | None = None) -> dict[str, Array]:
        """All inputs of the decoder but the features of the images and a tuned HQ token.

        Args:
            mask_weights: (K, token masks), which combinations of token masks to compute.
            image_index: (B,) which image each prompt is for; the first by default.
        """
        return {
            "point_coords": self.point_coords,
            "point_labels": self.point_labels,
            "mask_input": self.mask_input,
            "has_mask_input": np.array([self.has_mask_input], dtype=np.float32),
            "image_index": np.zeros(len(self), np.int64) if image_index is None else image_index,
            "mask_weights": mask_weights,
        }


def encode_prompts(
    *,
    point_coords: ArrayLike | None = None,
    point_labels: ArrayLike | None = None,
    box: ArrayLike | None = None,
    mask_input: ArrayLike | None = None,
    original_hw: tuple[int, int],
    sizes: ModelSizes,
) -> Prompts:
    """Original-frame prompts -> Prompts, by the rules of upstream's predictor and `PromptEncoder`.

    Args:
        point_coords: (N,2) or (B,N,2) x, y pixels; with `point_labels` (N,) or (B,N), 1 foreground, 0 background, -1
            padding. A list of B objects may have another N for each: none is padded.
        box: (4,) or (B,4) x0, y0, x1, y1 pixels.
        mask_input: (L,L), (1,L,L) or (B,1,L,L) `low_res_logits` of an earlier prediction.

    B may be 0, no prompts, of an empty list too.

    Raises:
        PromptError: nothing given, wrong shape or label, not real numbers, NaN or infinity (of the model frame too),
            more than MAX_POINTS points in a prompt, or batch sizes that differ.
    """
    objects = _uneven_objects(point_coords, point_labels)
    points = None if objects else _points(point_coords, point_labels)
    corners = None if box is None else _box(box)
    mask = None if mask_input is None else _mask(mask_input, sizes.low_res_size)
    batch = _batch_size(objects, points, corners, mask)
    pads = corners is None or sizes.rules.pads_boxes
    coords, labels = _filled(objects, corners, pads) if objects else _points_and_corners(points, corners, batch, pads)
    return Prompts(
        _in_model_frame(coords, original_hw, sizes.frame),
        labels.astype(np.float32),
        no_mask(sizes.low_res_size) if mask is None else mask,
        mask is not None,
        tuple(len(k[0]) + (0 if corners is None else 2) + pads for _, k in objects or ()),
    )


def _uneven_objects(coords: ArrayLike | None, labels: ArrayLike | None) -> list[tuple[Array, Array]] | None:
    """Points (1,N,2) and labels (1,N) of objects whose N differ, which no array holds; None if one does."""
    if not isinstance(coords, list | tuple) or labels is None:
        return None
    try:
        shapes = {np.shape(points) for points in coords}
    except (TypeError, ValueError, RuntimeError):
        return None  # whoever reads the numbers says what is wrong
    if len(shapes) < 2 or any(len(shape) != 2 and shape != (0,) for shape in shapes):
        return None
    if not isinstance(labels, list | tuple) or len(labels) != len(coords):
        raise PromptError(f"point_labels: expected a list of {len(coords)} lists, one for each object of point_coords")
    return [_object(*pair) for pair in zip(range(len(coords)), coords, labels, strict=True)]


def _object(index: int, coords: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    try:
        if np.shape(coords) == (0,):
            raise PromptError("point_coords: empty, expected (N, 2); N >= 1")
        return _checked_points(coords, labels)
    except PromptError as e:
        raise PromptError(f"object {index}: {e}") from e


def _filled(objects: Sequence[tuple[Array, Array]], corners: Array | None, pads: bool) -> tuple[Array, Array]:
    """As `_points_and_corners`, the shorter ones filled up to the longest."""
    boxes = [None] * len(objects) if corners is None else [c[None] for c in _repeat(corners, len(objects))]
    each = [_points_and_corners(points, box, 1, pads) for points, box in zip(objects, boxes, strict=True)]
    longest = max(labels.shape[1] for _, labels in each)
    filled_coords, filled_labels = np.zeros((len(each), longest, 2)), np.full((len(each), longest), PADDING_LABEL)
    for index, (coords, labels) in enumerate(each):
        filled_coords[index, : labels.shape[1]], filled_labels[index, : labels.shape[1]] = coords[0], labels[0]
    return filled_coords, filled_labels


def _points_and_corners(
    points: tuple[Array, Array] | None, corners: Array | None, batch: int, pads: bool
) -> tuple[Array, Array]:
    """Coordinates (batch,N,2) and labels (batch,N) of both, and of the padding point that upstream puts behind them."""
    coords: Array = np.zeros((batch, 0, 2))
    labels: Array = np.zeros((batch, 0))
    if points is not None:
        coords, labels = _repeat(points[0], batch), _repeat(points[1], batch)
    if corners is not None:
        coords = np.concatenate([coords, _repeat(corners, batch)], axis=1)
        labels = np.concatenate([labels, np.tile(BOX_CORNER_LABELS, (batch, 1))], axis=1)
    if pads and (points is not None or corners is not None):  # a mask alone has none
        coords = np.concatenate([coords, np.zeros((batch, 1, 2))], axis=1)
        labels = np.concatenate([labels, np.full((batch, 1), PADDING_LABEL)], axis=1)
    return coords, labels


def no_mask(low_res_size: int) -> Float32:
    """`mask_input` (1,1,L,L) where there is no mask prompt."""
    return np.zeros((1, 1, low_res_size, low_res_size), np.float32)


def _points(coords: ArrayLike | None, labels: ArrayLike | None) -> tuple[Array, Array] | None:
    if coords is None and labels is None:
        return None
    if coords is None or labels is None:
        raise PromptError("point_coords and point_labels go together; one of them is missing")
    return _checked_points(coords, labels)


def _checked_points(coords: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Points (B,N,2) and labels (B,N)."""
    xy, label = finite_numbers("point_coords", coords), finite_numbers("point_labels", labels)
    if xy.shape == label.shape == (0,):  # two empty lists
        xy, label = xy.reshape(0, 1, 2), label.reshape(0, 1)
    if xy.ndim == 2:
        xy, label = xy[None], label[None]
    if xy.ndim != 3 or xy.shape != (*label.shape, 2) or xy.shape[1] == 0:
        raise PromptError(
            f"point_coords {np.shape(coords)} with point_labels {np.shape(labels)}: "
            "expected (N, 2) with (N,), or (B, N, 2) with (B, N); N >= 1"
        )
    if xy.shape[1] > MAX_POINTS:
        raise PromptError(f"point_coords: got {xy.shape[1]} points in a prompt, expected at most {MAX_POINTS}")
    wrong = np.unique(label[~np.isin(label, POINT_LABELS)])
    if wrong.size:
        got = ", ".join(map(str, wrong[:5]))
        raise PromptError(f"point_labels: got {got}, expected 1 (object), 0 (not) or -1 (padding)")
    return xy, label


def _box(box: ArrayLike) -> Array:
    """(B, 2, 2) corners of (4,) or (B,4) boxes."""
    xyxy = finite_numbers("box", box)
    if xyxy.shape != (0,) and (xyxy.ndim not in (1, 2) or xyxy.shape[-1] != 4):
        raise PromptError(f"box: got shape {np.shape(box)}, expected (4,) or (B, 4) as x0, y0, x1, y1")
    corners = xyxy.reshape(-1, 2, 2)
    if (corners[:, 1] < corners[:, 0]).any():
        raise PromptError("box: expected x0 <= x1 and y0 <= y1; the corners are swapped (or it is x, y, w, h)")
    return corners


def _mask(mask_input: ArrayLike, side: int) -> Float32:
    mask = finite_numbers("mask_input", mask_input).astype(np.float32)
    if mask.shape[-2:] != (side, side) or mask.ndim > 4 or (mask.ndim >= 3 and mask.shape[-3] != 1):
        raise PromptError(
            f"mask_input: got shape {np.shape(mask_input)}, expected low_res_logits of an earlier prediction, "
            f"(1, {side}, {side}) or (B, 1, {side}, {side})"
        )
    return mask.reshape(-1, 1, side, side)


def _batch_size(*prompts: object) -> int:
    given = [len(p[0] if isinstance(p, tuple) else p) for p in prompts if p is not None]  # type: ignore[arg-type]
    if not given:
        raise PromptError("no prompt: give point_coords with point_labels, a box, or a mask_input")
    if len(set(given) - {1}) > 1 or set(given) == {0, 1}:
        raise PromptError(f"prompts for different numbers of objects: {given}; expected the same number, or 1")
    return max(given)


def _repeat(array: Array, batch: int) -> Array:
    return np.broadcast_to(array, (batch, *array.shape[1:]))


def _in_model_frame(coords: Array, original_hw: tuple[int, int], frame: ModelFrame) -> Float32:
    """As `to_model_frame`; what was finite may not be after an image was enlarged."""
    with np.errstate(over="ignore"):
        scaled = to_model_frame(coords, original_hw, frame)
    if not np.isfinite(scaled).all():
        raise PromptError("coordinates: beyond float32 once scaled to the model's frame; expected pixels of the image")
    return scaled
