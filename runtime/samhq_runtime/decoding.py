"""Prompts of one image or several through the mask decoder, in as few calls as bounds allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .contract import NUM_SAM_TOKENS, Array, Float32, ModelSizes
from .embeddings import EncodedImage
from .errors import PromptError
from .frames.prompts import Prompts
from .masks.choice import MaskChoice
from .session import Session, Tensor

Request = tuple[EncodedImage, Prompts]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """A mask decoder, and how it is called.

    Attributes:
        session: runs it.
        sizes: of its model.
        hq_token: the feed of a tuned HQ token, or nothing.
        prompts_per_call: how many prompts go into one call at most.
    """

    session: Session
    sizes: ModelSizes
    hq_token: Mapping[str, Float32]
    prompts_per_call: int

    def __call__(self, requests: Sequence[Request], choice: MaskChoice) -> list[tuple[Float32, Float32]]:
        """Per request the chosen `low_res_logits` (B,M,L,L) and `iou_predictions` (B,M).

        Prompts of different images go into one call where they have as many points; each names its image.

        Raises:
            PromptError: the model answers NaN or infinity.
        """
        weights = choice.weights()
        parts = [(i, p) for i, (_, prompts) in enumerate(requests) for p in prompts.split(self.prompts_per_call)]
        none = choice.choose(*self._of_no_prompts(weights))
        answers = [none] * len(parts)
        for numbers in self._calls([prompts for _, prompts in parts]):
            logits, iou = choice.choose(*self._call(requests, [parts[number] for number in numbers], weights))
            ends = np.cumsum([len(parts[number][1]) for number in numbers])[:-1]
            for number, *answer in zip(numbers, np.split(logits, ends), np.split(iou, ends), strict=True):
                answers[number] = answer[0], answer[1]
        if not all(np.isfinite(array).all() for answer in answers for array in answer):
            raise PromptError(
                "the model answers NaN or infinity to these prompts; expected coordinates near the image, and a "
                "mask_input like the low_res_logits of an earlier prediction"
            )
        of_each = [
            [none, *(answers[n] for n, (i, _) in enumerate(parts) if i == index)] for index in range(len(requests))
        ]
        return [(np.concatenate([a for a, _ in of]), np.concatenate([b for _, b in of])) for of in of_each]

    def _calls(self, parts: Sequence[Prompts]) -> Iterator[list[int]]:
        """Numbers of the parts that go together: of as many points, all with a mask or none, and not too many."""
        waiting: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for number, part in enumerate(parts):
            numbers = waiting[part.point_coords.shape[1], part.has_mask_input]
            if sum(len(parts[n]) for n in numbers) + len(part) > self.prompts_per_call:
                yield numbers.copy()
                numbers.clear()
            numbers.append(number)
        yield from filter(None, waiting.values())

    def _call(
        self, requests: Sequence[Request], parts: Sequence[tuple[int, Prompts]], weights: Float32
    ) -> tuple[Float32, Float32]:
        """`low_res_logits` (B,K,L,L) and `iou_predictions` (B,4) of prompts, each with the number of its request."""
        images = list(dict.fromkeys(index for index, _ in parts))
        prompts, counts = _joined([part for _, part in parts]), [len(part) for _, part in parts]
        image_index = np.repeat([images.index(index) for index, _ in parts], counts).astype(np.int64)
        features = _together([requests[index][0].features for index in images])
        outputs = self.session({**features, **prompts.feeds(weights, image_index=image_index), **self.hq_token})
        return outputs["low_res_logits"], outputs["iou_predictions"]

    def _of_no_prompts(self, weights: Float32) -> tuple[Float32, Float32]:
        """What `_call` would answer to none, which engines do not take."""
        side = self.sizes.low_res_size
        return np.zeros((0, len(weights), side, side), np.float32), np.zeros((0, NUM_SAM_TOKENS), np.float32)


def _joined(parts: Sequence[Prompts]) -> Prompts:
    """Prompts of as many points one behind the other."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    masks: Array = first.mask_input
    if first.has_mask_input:
        masks = np.concatenate([np.broadcast_to(p.mask_input, (len(p), *p.mask_input.shape[1:])) for p in parts])
    coords, labels = (np.concatenate([getattr(p, name) for p in parts]) for name in ("point_coords", "point_labels"))
    return Prompts(coords, labels, masks, first.has_mask_input)


def _together(features: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Those of several images one behind the other, on the host; those of one stay where they are."""
    if len(features) == 1:
        return features[0]
    return {name: np.concatenate([np.asarray(image[name]) for image in features]) for name in features[0]}
