"""A request checked against the model and the limits: what is left to do is to compute."""

from __future__ import annotations

from ..contract import ModelSizes
from .errors import Reason, RequestError
from .images import ImageSource, image_of
from .options import ServeOptions
from .signature import InferRequest, PromptSet, read_prompts, require_inputs

MEGA = 1_000_000


def read_infer(request: InferRequest, sizes: ModelSizes, limits: ServeOptions) -> tuple[PromptSet, ImageSource]:
    """The request's prompts and its image, which is not decoded yet.

    Raises:
        RequestError: other inputs or outputs than the model's, or more of something than `limits` allows.
        PromptError, ImageError: prompts or an image that are malformed.
    """
    require_inputs(request)
    prompts = read_prompts(request, sizes, max_prompts=limits.max_prompts)
    image = image_of(request, max_pixels=limits.max_image_mp * MEGA)
    if len(prompts) * image.pixels > limits.max_mask_mp * MEGA:
        raise RequestError(
            f"masks: {len(prompts)} of {image.pixels / MEGA:.1f} megapixels, expected at most "
            f"{limits.max_mask_mp} megapixels a request; ask for fewer at once",
            reason=Reason.TOO_LARGE,
        )
    return prompts, image
