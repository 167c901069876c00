"""A request checked against the model and the limits: what is left to do is to compute."""

from __future__ import annotations

from ..contract import ModelSizes
from .errors import Reason, RequestError
from .images import HW, ImageSource, image_of
from .options import MEGA, ServeOptions
from .signature import InferRequest, PromptSet, masks_per_prompt, read_prompts, require_inputs

_JSON_BYTES = 20  # of a number in the answer, at most


def read_infer(request: InferRequest, sizes: ModelSizes, limits: ServeOptions) -> tuple[PromptSet, ImageSource]:
    """The request's prompts and its image, which is not decoded yet.

    Raises:
        RequestError: other inputs or outputs than the model's, or more of something than `limits` allows.
        PromptError, ImageError: prompts or an image that are malformed.
    """
    require_inputs(request)
    prompts = read_prompts(request, sizes, max_prompts=limits.max_prompts, max_points=limits.max_points)
    return prompts, image_of(request)


def require_room(
    request: InferRequest, prompts: PromptSet, original_hw: HW, sizes: ModelSizes, limits: ServeOptions
) -> int:
    """Bytes that the answer takes in the server, at most.

    Raises:
        RequestError: more mask pixels than `limits` allows, or more numbers in JSON.
    """
    masks, pixels = len(prompts) * masks_per_prompt(prompts, sizes), original_hw[0] * original_hw[1]
    if masks * pixels > limits.max_mask_mp * MEGA:
        raise RequestError(
            f"masks: {masks} of {pixels / MEGA:.1f} megapixels, expected at most "
            f"{limits.max_mask_mp} megapixels a request; ask for fewer at once",
            reason=Reason.TOO_LARGE,
        )
    logits = sizes.low_res_size**2
    values = {"masks": pixels, "masks_packed": pixels // 8, "low_res_logits": logits}
    in_json = masks * sum(values.get(name, 1) for name in request.as_json)
    if in_json > limits.max_json_values:
        raise RequestError(
            f"the answer would be {in_json} numbers as JSON, expected at most {limits.max_json_values}; ask for "
            "masks_rle, for binary tensors (the parameter binary_data_output), or over gRPC",
            reason=Reason.TOO_LARGE,
        )
    return 3 * masks * (pixels + 4 * logits) + _JSON_BYTES * in_json  # computed, joined, copied to be sent
