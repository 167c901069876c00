"""Exported bundles against the official packages, per variant, source of the weights and token fusion.

    python -m benchmarks checkpoint_parity --resume --docs

Each row stores a model in one source format (seeded random values in every tensor; the demo's trained ones in one row),
exports it to fp32, and compares `Predictor` on the bundle with the official predictor on photographs: every kind of
prompt, `multimask_output`, and for SAM-HQ `hq_token_only`. References and prompts are the tests'.

Masks are compared twice: with the official ones, and with the official low-resolution logits upscaled in float64. The
packages upscale in float32, where PyTorch's bilinear weights round to 1e-5 of the logits' range, ten times the error of
all the rest; a mask of random weights has pixels closer to zero than that. The second figure has to meet the tolerance.
--resume keeps rows of the same weights and library versions, and all that was not asked for.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.recording import Record
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT, ExportConfig
from samhq_exporter.pipeline import export_bundle
from samhq_runtime import Predictor
from samhq_runtime.evaluation.metrics import iou
from samhq_runtime.files import sha256_of
from samhq_runtime.tables import format_table
from tests.support.official import declare_torchvision_operators, import_official
from tests.support.parity import MASK_IOU, RELATIVE_ERROR, randomise
from tests.support.reference import (
    ALL_PROMPTS,
    exact_masks,
    mobile_sam,
    official_predictions,
    official_sam,
    photographs,
    prompts_for,
)
from tests.support.sam2_reference import official_predictor as predictor_of_sam2
from tests.support.sam2_reference import official_sam2, save_official
from tests.support.transformers_reference import TransformersPredictor, sam_hq_of, sam_of

_HQ_TOKEN, _SAM_TOKENS = "mask_decoder.hf_token.weight", "mask_decoder.mask_tokens.weight"
_FUSED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "independent": lambda sam, hq: hq,
    "sum": lambda sam, hq: sam + hq,
    "hadamard": lambda sam, hq: sam * hq,
}
_LIBRARIES = ("torch", "onnx", "onnxruntime", "numpy", "transformers", "segment-anything", "segment-anything-hq")
_IMAGES = ("landscape 400 x 600", "portrait 300 x 200")


@dataclass(frozen=True)
class Case:
    """One row of the table; `fusion` is `none` for a plain SAM."""

    variant: str
    source: str
    fusion: str


FILE, MEMORY, TRAINED, HUGGING_FACE = ".pth", "in memory", ".safetensors, trained", "Hugging Face"
FILE_OF_SAM2 = ".pt"
_SAM2_SIZES = ("hiera_tiny", "hiera_small", "hiera_base_plus", "hiera_large")
CASES = (
    *(Case("demo", FILE, fusion) for fusion in (*_FUSED, "none")),
    *(Case("demo", source, fusion) for source in (MEMORY, HUGGING_FACE) for fusion in ("independent", "none")),
    Case("demo", TRAINED, "hadamard"),
    *(Case("vit_tiny", FILE, fusion) for fusion in (*_FUSED, "none")),
    *(Case("vit_b", FILE, fusion) for fusion in (*_FUSED, "none")),
    Case("vit_b", HUGGING_FACE, "independent"),
    Case("vit_l", FILE, "independent"),
    Case("vit_h", FILE, "independent"),
    *(Case(variant, FILE_OF_SAM2, "none") for variant in _SAM2_SIZES),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    variants = [name for name in VARIANTS if any(case.variant == name for case in CASES)]
    parser.add_argument("--variants", nargs="+", choices=variants, default=["demo", "vit_tiny", "vit_b"])
    parser.add_argument("--fusions", nargs="+", choices=(*_FUSED, "none"), default=[*_FUSED, "none"])
    parser.add_argument("--again", action="store_true", help="measure chosen rows again that the file has")


def measure(options: argparse.Namespace, record: Record) -> None:
    known, valid = rows_of(record.content), valid_rows(record.content)
    asked = [case for case in CASES if case.variant in options.variants and case.fusion in options.fusions]
    for case in (case for case in asked if options.again or case not in valid):
        with tempfile.TemporaryDirectory() as folder:
            known[case] = parity(case, Path(folder))
        print(case, known[case], file=sys.stderr)
        record.content["rows"] = [{**asdict(case), **known[case]} for case in CASES if case in known]
        record.save()
        gc.collect()


def parity(case: Case, folder: Path) -> dict[str, Any]:
    """Largest error of logits (over their range) and predicted IoU, smallest mask IoU, over all predictions."""
    config, model, reference = _prepare(case, folder)
    exported = export_bundle(config, model=model)
    bundle, sha256 = exported.path, exported.manifest.checkpoint["sha256"]
    images = [photographs()[name] for name in _images_of(case)]
    relative, quality, overlap, exact, count = 0.0, 0.0, 1.0, (1.0, 0), 0
    with Predictor(bundle) as predictor:
        for image in images:
            predictor.set_image(image)
            reference.set_image(image)
            for prompts, wishes in _predictions(image, case.fusion != "none", predictor):
                expected = official_predictions(reference, prompts, **wishes)
                got = predictor.predict(**prompts, **wishes, return_logits=True)
                relative = max(relative, float(np.abs(got[0] - expected[0]).max() / np.ptp(expected[0])))
                quality = max(quality, float(np.abs(got[1] - expected[1]).max()))
                ours = got[0] > 0
                overlap = min(overlap, float(iou(ours, expected[0] > 0)))
                low_res = getattr(reference, "unclamped", expected[2])
                theirs = exact_masks(low_res, image.shape[:2], predictor.bundle.manifest.sizes.frame)
                exact = min(exact, (float(iou(ours, theirs)), int((ours != theirs).sum())))
                count += 1
    return {
        "logits": relative,
        "iou_predictions": quality,
        "mask_iou": overlap,
        "exact_mask_iou": exact[0],
        "exact_differing_pixels": exact[1],  # of the prediction with that IoU
        "predictions": count,
        "checkpoint_sha256": sha256,
        "versions": versions(case.variant),
    }


def versions(variant: str) -> dict[str, str]:
    """Of what the figures, and the seeded weights, depend on; no extra installs `sam2`."""
    of_sam2 = {"sam2": version("sam2") if find_spec("sam2") else ""} if variant in _SAM2_SIZES else {}
    return {name: version(name) for name in _LIBRARIES} | of_sam2


def _images_of(case: Case) -> tuple[str, ...]:
    if case.variant in _SAM2_SIZES:
        return ("square 512", *_IMAGES)
    return _IMAGES if case.variant == "demo" else _IMAGES[:1]


def breaches(content: Mapping[str, Any]) -> list[str]:
    """The rows that are further from the official package than the parity tests allow; one pixel always may differ.

    One pixel of a small mask, its logit next to zero, is more than the tolerance.
    """
    return [
        f"beyond the tolerances: {case.variant}, {case.source}, {case.fusion}: {row}"
        for case, row in rows_of(content).items()
        if not (row["logits"] <= RELATIVE_ERROR and row["iou_predictions"] <= RELATIVE_ERROR)
        or not (row["exact_mask_iou"] >= MASK_IOU or row["exact_differing_pixels"] <= 1)
    ]


def _predictions(image: Any, hq: bool, predictor: Predictor) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    low_res = predictor.bundle.manifest.sizes.low_res_size
    wishes = [
        {"multimask_output": multimask, **({"hq_token_only": only} if hq else {})}
        for multimask, only in itertools.product((False, True), (False, True) if hq else (False,))
    ]
    return [(prompts_for(image, kind, low_res), wish) for kind in ALL_PROMPTS for wish in wishes]


def _prepare(case: Case, folder: Path) -> tuple[ExportConfig, nn.Module | None, Any]:
    """What to export, and the official predictor of the same model."""
    output = folder / "bundle"
    if case.source == FILE_OF_SAM2:
        sam2 = official_sam2(case.variant)
        config = ExportConfig(checkpoint=save_official(sam2, folder / "sam2.pt"), output=output)
        return config, None, predictor_of_sam2(sam2)
    if case.source == HUGGING_FACE:
        theirs = _transformers_model(case)
        theirs.save_pretrained(folder / "weights")
        return ExportConfig(checkpoint=folder / "weights", output=output), None, TransformersPredictor(theirs)
    package = import_official("segment_anything" if case.fusion == "none" else "segment_anything_hq")
    sam = _official_model(case, package)
    if case.source == MEMORY:
        return ExportConfig(output=output), sam, package.SamPredictor(sam)
    if case.source == TRAINED:
        config = ExportConfig(checkpoint=DEMO_CHECKPOINT, output=output)
        sam.load_state_dict({name: tensor.float() for name, tensor in load_file(DEMO_CHECKPOINT).items()}, strict=True)
    else:
        torch.save(sam.state_dict(), folder / "weights.pth")
        fusion = None if case.fusion == "none" else case.fusion
        config = ExportConfig(checkpoint=folder / "weights.pth", output=output, token_fusion=fusion)
    if case.fusion != "none":  # the packages know no fusion, but the fused token in the HQ token's place is the same
        state = sam.state_dict()
        state[_HQ_TOKEN].copy_(_FUSED[case.fusion](state[_SAM_TOKENS][:1], state[_HQ_TOKEN]))
    return config, None, package.SamPredictor(sam)


def _official_model(case: Case, package: Any) -> nn.Module:
    if case.variant == "demo":
        sam = official_sam(package, VARIANTS["demo"])
    elif case == Case("vit_tiny", FILE, "none"):
        sam = mobile_sam()
    else:
        sam = package.sam_model_registry[case.variant]()
    randomise(sam, seed=1)
    return sam.eval().requires_grad_(False)


def _transformers_model(case: Case) -> Any:
    declare_torchvision_operators()
    import transformers

    arch = VARIANTS[case.variant]
    frame = {"image_size": arch.image_size, "patch_size": arch.patch_size}
    sizes = {
        "vision_config": {
            **frame,
            "hidden_size": arch.encoder_dim,
            "output_channels": arch.embed_dim,
            "num_hidden_layers": arch.depth,
            "num_attention_heads": arch.num_heads,
            "window_size": arch.window_size,
            "global_attn_indexes": list(arch.global_attn_indexes),
            "num_pos_feats": arch.embed_dim // 2,
            "mlp_dim": arch.encoder_mlp_dim,
        },
        "prompt_encoder_config": {**frame, "hidden_size": arch.embed_dim, "mask_input_channels": arch.mask_in_chans},
        "mask_decoder_config": {
            "hidden_size": arch.embed_dim,
            "mlp_dim": arch.decoder_mlp_dim,
            "iou_head_hidden_dim": arch.iou_head_dim,
            "vit_dim": arch.encoder_dim,
        },
    }
    return (sam_of if case.fusion == "none" else sam_hq_of)(transformers, sizes, seed=1)


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    rows = [
        (
            case.variant,
            _model_name(case),
            case.source,
            case.fusion,
            f"{row['logits']:.1e}",
            f"{row['iou_predictions']:.1e}",
            f"{row['mask_iou']:.5f}",
            f"{row['exact_mask_iou']:.5f}",
        )
        for case, row in rows_of(content).items()
    ]
    errors = ("max logit error / range", "max IoU error", "min mask IoU", "against float64 upscaling")
    header = ("variant", "model", "weights from", "fusion", *errors)
    return {"checkpoint_parity": format_table(header, rows)}


def _model_name(case: Case) -> str:
    if case.fusion != "none":
        return "SAM-HQ"
    return "SAM 2.1" if case.variant in _SAM2_SIZES else "MobileSAM" if case.variant == "vit_tiny" else "SAM"


def rows_of(content: Mapping[str, Any]) -> dict[Case, dict[str, Any]]:
    names = ("variant", "source", "fusion")
    return {
        Case(*(row[name] for name in names)): {key: value for key, value in row.items() if key not in names}
        for row in content.get("rows", [])
    }


def valid_rows(content: Mapping[str, Any]) -> dict[Case, dict[str, Any]]:
    """The rows that are still true: of these libraries and, where the weights are the demo's, of these."""
    demo = sha256_of(DEMO_CHECKPOINT)
    return {
        case: row
        for case, row in rows_of(content).items()
        if row.get("versions") == versions(case.variant)
        and (case.source != TRAINED or row["checkpoint_sha256"] == demo)
    }
