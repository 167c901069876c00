"""One loaded bundle that turns jobs into files: the same in this process and in every Ray actor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..contract import Array
from ..embeddings import EmbeddingFolder
from ..errors import SamHqError
from ..files import write_json
from ..formats import Outputs
from ..frames.image_files import WHITE, allow_megapixels, read_image
from ..frames.image_names import image_file
from ..predictor import Predictor
from ..session import ProviderOptions
from ..session.providers import Providers
from .jobs import ImageJob
from .output import read_record, record_of, result_of, result_path, write_failure


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """What to do with every image.

    Attributes:
        bundle, images: folders that every worker sees under the same path, as it does that of `outputs`.
        multimask_output, hq_token_only: as `Predictor.predict` takes them.
        providers, provider_options, threads, hq_token: as `Predictor` takes them.
        white_point: as `read_image` takes it.
        max_image_mp: as `allow_megapixels` takes it; None leaves Pillow's own limit.
        embeddings: folder of encoded images, see `EmbeddingFolder`, with its limit `max_embeddings_bytes`; or None.
        outputs: the folder of results, and what is written beside them.
    """

    bundle: Path
    images: Path
    outputs: Outputs
    multimask_output: bool = False
    hq_token_only: bool = False
    providers: Providers = ("cpu",)
    provider_options: ProviderOptions = field(default_factory=dict)
    threads: int = 0
    hq_token: Path | None = None
    max_image_mp: float | None = None
    white_point: int = WHITE
    embeddings: Path | None = None
    max_embeddings_bytes: int | None = None

    @property
    def output(self) -> Path:
        """The folder of results."""
        return self.outputs.folder


class Segmenter:
    """Keeps a Predictor; `run` writes the file of one image and says why it could not, or nothing."""

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        if options.max_image_mp is not None:
            allow_megapixels(options.max_image_mp)
        self._predictor = Predictor(
            options.bundle,
            providers=options.providers,
            provider_options=options.provider_options,
            threads=options.threads,
            hq_token=options.hq_token,
        )
        self._embeddings = options.embeddings and EmbeddingFolder(
            self._predictor, options.embeddings, max_bytes=options.max_embeddings_bytes
        )

    def run(self, job: ImageJob) -> str:
        try:
            return self._run(job)
        except Exception as e:  # such as a name that no file can have, or a full disk
            return f"its results cannot be written ({getattr(e, 'strerror', None) or e})"

    def _run(self, job: ImageJob) -> str:
        options = self._options
        image = image_file(options.images, job.image)
        read = cache(partial(read_image, image, white_point=options.white_point))
        record = read_record(options.output, job)
        again = record is None
        try:
            record = record_of(job, *self._predict(image, read, job)) if record is None else record
        except Exception as e:  # whatever one image does, the others are still to be done
            message = str(e) if isinstance(e, SamHqError) else f"{type(e).__name__}: {e}"
            write_failure(options.output, job, message)
            return message
        box = job.prompts.get("box")
        boxes = None if box is None else np.reshape(box, (-1, 4))
        options.outputs.write_image(result_of(record, image), read, boxes, again=again)
        if again:  # last of all: what has its result has the rest
            write_json(result_path(options.output, job.image), record)
        return ""

    def _predict(self, image: Path, read: Callable[[], NDArray[np.uint8]], job: ImageJob) -> tuple[Array, Array]:
        """(B,K,H,W) masks and (B,K) predicted IoU."""
        options = self._options
        if self._embeddings:
            encoded = self._embeddings.encode(image, white_point=options.white_point)
        else:
            encoded = self._predictor.encode(read())
        masks, iou_predictions, _ = self._predictor.predict_batch(
            **job.arguments(),
            multimask_output=options.multimask_output,
            hq_token_only=options.hq_token_only,
            image=encoded,
        )
        return masks, iou_predictions
