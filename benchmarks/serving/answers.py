"""Are the server's answers those of the bare runtime?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samhq_runtime import Predictor
from samhq_runtime.contract import Array
from samhq_runtime.frames.image_files import decode_image

from .requests import Request
from .sides import Answer

_IOU_TOLERANCE = 1e-4
_LOGIT_TOLERANCE = 1e-3  # of logits of the order of 10: where a mask may flip


def count_wrong(bundle: Path, images: Sequence[bytes], requests: Sequence[Request], answers: Sequence[Answer]) -> int:
    """How many answers are not the bare runtime's."""
    wrong = 0
    order = sorted(range(len(requests)), key=lambda i: (requests[i].image, requests[i].prompt))
    with Predictor(bundle, threads=1) as predictor:
        image = -1
        asked: tuple[int, int] | None = None
        for i in order:
            request = requests[i]
            if request.image != image:
                image = request.image
                predictor.set_image(decode_image(images[image]))
            if (image, request.prompt) != asked:
                asked = (image, request.prompt)
                logits, iou_predictions, _ = predictor.predict_batch(**request.arguments, return_logits=True)
            wrong += not _same(answers[i], logits[0, 0], iou_predictions)
    return wrong


def _same(got: Answer, logits: Array, iou_predictions: Array) -> bool:
    height, width = logits.shape
    packed = np.frombuffer(got[0], np.uint8)
    if packed.size != height * ((width + 7) // 8) or len(got[1]) != iou_predictions.nbytes:
        return False
    mask = np.unpackbits(packed.reshape(height, -1), axis=-1, count=width).astype(bool)
    sure = np.abs(logits) > _LOGIT_TOLERANCE
    return bool(
        np.array_equal(mask[sure], logits[sure] > 0)
        and np.allclose(np.frombuffer(got[1], np.float32), iou_predictions.ravel(), atol=_IOU_TOLERANCE)
    )
