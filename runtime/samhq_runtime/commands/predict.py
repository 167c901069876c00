"""`samhq predict`: one image and its prompts -> a mask; a folder and a file of prompts -> a folder of masks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from .options import (
    add_embeddings,
    add_max_image_mp,
    add_providers,
    add_verify_key,
    add_white_point,
    allow_large_images,
    chosen_providers,
    max_bytes_of,
    provider_options,
)
from .predict_folder import add_fleet_options, for_a_folder, predict_folder
from .prompt_options import add_prompts, prompts_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..embeddings import EncodedImage
    from ..predictor import Predictor

    Mask = NDArray[np.bool_]


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help="segment one image, or many with --prompts")
    predict.set_defaults(run=_predict)
    predict.add_argument("bundle", type=Path)
    add_verify_key(predict)
    predict.add_argument("image", type=Path, help="an image; with --prompts a folder, a pattern or a list (.txt)")
    add_prompts(predict)
    predict.add_argument("--output", type=Path, required=True, metavar="PNG", help="mask: 255 object, 0 not")
    predict.add_argument("--overlay", type=Path, metavar="PNG", help="also write the mask drawn over the image")
    predict.add_argument(
        "--compare-sam", type=Path, metavar="PNG", help="also write image, SAM's mask and SAM-HQ's mask side by side"
    )
    predict.add_argument(
        "--multimask", action="store_true", help="choose among SAM's three candidates (ambiguous points)"
    )
    predict.add_argument("--hq-token-only", action="store_true", help="the HQ mask alone, without SAM's")
    predict.add_argument("--hq-token", type=Path, metavar="FILE", help="tuned HQ token, .safetensors or .npy")
    add_providers(predict)
    add_max_image_mp(predict)
    add_white_point(predict)
    add_embeddings(predict)
    add_fleet_options(predict)


def _predict(options: argparse.Namespace) -> None:
    if for_a_folder(options):
        predict_folder(options)
        return
    from ..frames.image_files import read_image

    allow_large_images(options)
    if not prompts_of(options):
        raise PromptError("no prompt: give --box, --point, or both")
    max_bytes_of(options)
    drawn_over = options.overlay or options.compare_sam
    image = read_image(options.image, white_point=options.white_point) if drawn_over or not options.embeddings else None
    with _open(options) as predictor:
        predictor.set_encoded(_encoded(predictor, options, image))
        mask, iou = _best(predictor, options, hq_token_only=options.hq_token_only)
        sam_mask = _best(predictor, options, sam_tokens_only=True)[0] if options.compare_sam else None
    _write(options, image, mask, sam_mask)
    print(f"{options.output}: {mask.mean():.1%} of the image, predicted IoU {iou:.3f}")


def _encoded(predictor: Predictor, options: argparse.Namespace, image: NDArray[np.uint8] | None) -> EncodedImage:
    """`image` encoded; if there is none, the one in --embeddings."""
    if image is not None and options.embeddings is None:
        return predictor.encode(image)
    from ..embeddings import EmbeddingFolder

    folder = EmbeddingFolder(predictor, options.embeddings, max_bytes=max_bytes_of(options))
    return folder.encode(options.image, white_point=options.white_point)


def _open(options: argparse.Namespace) -> Predictor:
    from ..bundle import load_bundle
    from ..masks.choice import require_hq
    from ..predictor import Predictor

    bundle = load_bundle(options.bundle)
    if options.compare_sam:
        require_hq("--compare-sam", token_masks=bundle.manifest.sizes.token_masks)
    return Predictor(
        bundle,
        providers=chosen_providers(options),
        provider_options=provider_options(options),
        hq_token=options.hq_token,
    )


def _best(predictor: Predictor, options: argparse.Namespace, **tokens: Any) -> tuple[Mask, float]:
    """The mask of the highest predicted IoU, of the three that a plain SAM returns with --multimask, and that IoU."""
    masks, iou_predictions, _ = predictor.predict(
        **prompts_of(options),
        multimask_output=options.multimask,
        **tokens,
    )
    best = int(iou_predictions.argmax())
    return masks[best], float(iou_predictions[best])


def _write(options: argparse.Namespace, image: NDArray[np.uint8] | None, mask: Mask, sam_mask: Mask | None) -> None:
    """The mask, and what is asked for beside it, for which `image` is needed."""
    import numpy as np

    from ..frames.image_files import write_png
    from ..masks.overlay import draw_comparison, draw_overlay

    boxes = None if options.box is None else np.array([options.box])
    write_png(options.output, mask.astype(np.uint8) * 255)
    if options.overlay and image is not None:
        write_png(options.overlay, draw_overlay(image, mask[None], boxes))
    if sam_mask is not None and image is not None:
        masks = {"SAM": sam_mask[None], "SAM-HQ": mask[None]}
        write_png(options.compare_sam, draw_comparison(image, masks, boxes))
