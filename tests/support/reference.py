"""The official SAM and SAM-HQ models in any size, and the prompts every predictor is compared on."""

from __future__ import annotations

import warnings
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from samhq_exporter.architecture import VARIANTS, Architecture
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_runtime.contract import ModelFrame
from samhq_runtime.frames.geometry import fit_longest_side

from .official import import_official

ALL_PROMPTS = ("point", "points", "box", "box+points", "mask")


def official_sam(package: ModuleType, arch: Architecture) -> nn.Module:
    """`Sam` of `segment_anything_hq` or `segment_anything` with these sizes, built from the package's own modules."""
    modeling = package.modeling
    grid, dim = arch.embedding_size, arch.embed_dim
    transformer = modeling.TwoWayTransformer(
        depth=arch.decoder_depth, embedding_dim=dim, mlp_dim=arch.decoder_mlp_dim, num_heads=arch.decoder_heads
    )
    decoder = {"transformer_dim": dim, "transformer": transformer, "iou_head_hidden_dim": arch.iou_head_dim}
    if hasattr(modeling, "MaskDecoderHQ"):
        mask_decoder = modeling.MaskDecoderHQ(**decoder, vit_dim=arch.encoder_dim)
    else:
        mask_decoder = modeling.MaskDecoder(**decoder)
    image_encoder = modeling.ImageEncoderViT(
        depth=arch.depth,
        embed_dim=arch.encoder_dim,
        img_size=arch.image_size,
        patch_size=arch.patch_size,
        mlp_ratio=arch.encoder_mlp_dim / arch.encoder_dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=arch.num_heads,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=list(arch.global_attn_indexes),
        window_size=arch.window_size,
        out_chans=dim,
    )
    prompt_encoder = modeling.PromptEncoder(
        embed_dim=dim,
        image_embedding_size=(grid, grid),
        input_image_size=(arch.image_size, arch.image_size),
        mask_in_chans=arch.mask_in_chans,
    )
    sam = modeling.Sam(image_encoder=image_encoder, prompt_encoder=prompt_encoder, mask_decoder=mask_decoder)
    return sam.eval().requires_grad_(False)


def official_demo_sam() -> nn.Module:
    """The official package knows no token fusion, but the fused token in the HQ token's place is the same model."""
    from safetensors.torch import load_file

    state = {name: tensor.float() for name, tensor in load_file(DEMO_CHECKPOINT).items()}
    state["mask_decoder.hf_token.weight"] = (
        state["mask_decoder.hf_token.weight"] * state["mask_decoder.mask_tokens.weight"][:1]
    )
    sam = official_sam(import_official(), VARIANTS["demo"])
    sam.load_state_dict(state, strict=True)
    return sam


def tiny_vit_of(image_size: int) -> nn.Module:
    """The official TinyViT image encoder of Light HQ-SAM, which is MobileSAM's, for this input size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_official().modeling.TinyViT(
            img_size=image_size,
            embed_dims=[64, 128, 160, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            drop_path_rate=0.0,
            layer_lr_decay=0.8,
        )


def mobile_sam() -> nn.Module:
    """MobileSAM from the official packages' modules: Light HQ-SAM's encoder, SAM's prompt encoder and decoder."""
    modeling = import_official("segment_anything").modeling
    encoder = tiny_vit_of(1024)
    encoder.register_forward_hook(lambda module, args, out: out[0])  # MobileSAM returns no early feature
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    sam = modeling.Sam(
        image_encoder=encoder,
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=256, image_embedding_size=(64, 64), input_image_size=(1024, 1024), mask_in_chans=16
        ),
        mask_decoder=modeling.MaskDecoder(transformer_dim=256, transformer=transformer),
    )
    return sam.eval().requires_grad_(False)


def prompts_for(image: NDArray[np.uint8], kind: str, low_res_size: int) -> dict[str, Any]:
    """Keyword arguments of `predict`, in pixels of `image`; the same for the official predictor and ours."""
    height, width = image.shape[:2]
    point = np.array([[0.41 * width, 0.55 * height]])
    several = np.array([[0.3, 0.4], [0.62, 0.57], [0.05, 0.9]]) * (width, height)
    box = np.array([0.15 * width, 0.2 * height, 0.8 * width, 0.77 * height])
    mask = np.random.default_rng(3).normal(0, 6, (1, low_res_size, low_res_size)).astype(np.float32)
    return {
        "point": {"point_coords": point, "point_labels": np.array([1])},
        "points": {"point_coords": several, "point_labels": np.array([1, 1, 0])},
        "box": {"box": box},
        "box+points": {"box": box, "point_coords": several, "point_labels": np.array([1, 1, 0])},
        "mask": {"mask_input": mask, "point_coords": point, "point_labels": np.array([1])},
    }[kind]


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Real pictures of four shapes: square, landscape, portrait, and larger than any model's input."""
    from skimage import data

    coffee = data.coffee()  # 400 x 600
    return {
        "square 512": data.astronaut(),
        "landscape 400 x 600": coffee,
        "portrait 300 x 200": data.cat()[:300, 100:300],
        "larger 1411 x 1411": data.retina(),
    }


@torch.inference_mode()
def official_predictions(predictor: Any, prompts: dict[str, Any], **options: bool) -> tuple[NDArray[Any], ...]:
    """Logits at image size, predicted IoU and low-resolution logits of the official predictor."""
    return tuple(predictor.predict(**prompts, return_logits=True, **options))


def exact_masks(low_res_logits: NDArray[Any], hw: tuple[int, ...], frame: ModelFrame) -> NDArray[np.bool_]:
    """(N,H,W) of (N,h,w) logits: `postprocess_masks` of the official packages, in float64.

    In their float32, PyTorch's bilinear weights are off by 1e-5 of the logits' range, ten times the error of the rest.
    """
    logits = torch.from_numpy(low_res_logits).double()[:, None]
    if not frame.squashed:
        height, width = fit_longest_side((hw[0], hw[1]), frame.side)
        logits = F.interpolate(logits, (frame.side, frame.side), mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
    logits = F.interpolate(logits, hw, mode="bilinear", align_corners=False)
    return np.asarray(logits[:, 0] > 0)
