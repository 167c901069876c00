"""One loaded bundle that turns jobs into files: the same in this process and in every Ray actor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..embeddings import EmbeddingFolder
from ..errors import SamHqError
from ..frames.image_files import WHITE, allow_megapixels, read_image
from ..frames.image_names import image_file
from ..predictor import Predictor
from ..session.providers import Providers
from .jobs import ImageJob
from .output import write_failure, write_result


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """What to do with every image.

    Attributes:
        bundle, images, output: folders that every worker sees under the same path.
        multimask_output, hq_token_only: as `Predictor.predict` takes them.
        providers, threads, hq_token: as `Predictor` takes them.
        white_point: as `read_image` takes it.
        max_image_mp: as `allow_megapixels` takes it; None leaves Pillow's own limit.
        embeddings: folder of encoded images, see `EmbeddingFolder`, with its limit `max_embeddings_bytes`; or None.
    """

    bundle: Path
    images: Path
    output: Path
    multimask_output: bool = False
    hq_token_only: bool = False
    providers: Providers = ("cpu",)
    threads: int = 0
    hq_token: Path | None = None
    max_image_mp: float | None = None
    white_point: int = WHITE
    embeddings: Path | None = None
    max_embeddings_bytes: int | None = None


class Segmenter:
    """Keeps a Predictor; `run` writes the file of one image and says why it could not, or nothing."""

    def __init__(self, options: FleetOptions) -> None:
        self._options = options
        if options.max_image_mp is not None:
            allow_megapixels(options.max_image_mp)
        self._predictor = Predictor(
            options.bundle, providers=options.providers, threads=options.threads, hq_token=options.hq_token
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
        try:
            image = image_file(options.images, job.image)
            if self._embeddings:
                encoded = self._embeddings.encode(image, white_point=options.white_point)
            else:
                encoded = self._predictor.encode(read_image(image, white_point=options.white_point))
            masks, iou_predictions, _ = self._predictor.predict_batch(
                **job.arguments(),
                multimask_output=options.multimask_output,
                hq_token_only=options.hq_token_only,
                image=encoded,
            )
        except Exception as e:  # whatever one image does, the others are still to be done
            message = str(e) if isinstance(e, SamHqError) else f"{type(e).__name__}: {e}"
            write_failure(options.output, job, message)
            return message
        write_result(options.output, job, masks, iou_predictions)
        return ""
