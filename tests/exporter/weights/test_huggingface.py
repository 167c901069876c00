"""Hugging Face weights read without transformers, against the transformers model itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samhq_exporter.model import Sam
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_exporter.weights.huggingface import is_huggingface, read_huggingface, to_official_names, weight_files
from samhq_runtime import Predictor
from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation.metrics import iou
from tests.support.bundles import export
from tests.support.json_files import edit_json
from tests.support.official import import_official
from tests.support.parity import MASK_IOU, TOLERANCE, assert_close
from tests.support.reference import ALL_PROMPTS, photographs, prompts_for
from tests.support.transformers_reference import TINY, TransformersPredictor, sam_hq_of, sam_of

DEFAULT: dict[str, dict[str, Any]] = {"vision_config": {}, "prompt_encoder_config": {}, "mask_decoder_config": {}}
VIT_B_OF_256 = DEFAULT | {"vision_config": {"image_size": 256}, "prompt_encoder_config": {"image_size": 256}}
PROMPTS = 3


def test_a_model_in_memory_is_to_be_saved(tiny: nn.Module) -> None:
    for model in (tiny, nn.DataParallel(tiny)):
        with pytest.raises(ConfigError, match=r"a transformers SamHQModel; save it with model\.save_pretrained"):
            checkpoint_of_model(model)


def load(path: Path) -> Sam:
    return load_checkpoint(path).sam_hq


def prompts(side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points (B,2,2), labels (B,2) and a mask prompt (1,1,4G,4G) of seeded noise."""
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(PROMPTS, 2, 2, generator=generator) * side
    return points, torch.tensor([[1, 0], [1, 1], [0, 1]]), torch.randn(1, 1, side // 4, side // 4, generator=generator)


def decode(sam: Sam, embeddings: Tensor, hq_features: Tensor, *, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """All five token masks (B,5,4G,4G) and `iou_predictions` (B,4); transformers pads points as the runtime does."""
    points, labels, _ = prompts(sam.arch.image_size)
    padded = torch.cat([points, torch.zeros(PROMPTS, 1, 2)], dim=1)
    return sam.decode_masks(
        embeddings,
        hq_features,
        padded,
        torch.cat([labels, -torch.ones(PROMPTS, 1)], dim=1),
        torch.zeros(1, 1, *hq_features.shape[2:]) if mask is None else mask,
        torch.tensor([0.0 if mask is None else 1.0]),
        torch.zeros(PROMPTS, dtype=torch.long),
        torch.eye(5),
    )


def their_hq_features(decoder: nn.Module, embeddings: Tensor, early: Tensor) -> Tensor:
    act = nn.functional.gelu
    x = decoder.encoder_conv2(act(decoder.encoder_norm(decoder.encoder_conv1(embeddings))))
    early = early.permute(0, 3, 1, 2)
    return x + decoder.compress_vit_conv2(act(decoder.compress_vit_norm(decoder.compress_vit_conv1(early))))


def assert_same_model(theirs: nn.Module, sam: Sam) -> None:
    side = sam.arch.image_size
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(6))
    embeddings, intermediate = theirs.get_image_embeddings(pixels)
    image_embeddings, hq_features = sam.encode_image(pixels)
    assert_close(image_embeddings, embeddings)
    assert_close(hq_features, their_hq_features(theirs.mask_decoder, embeddings, intermediate[0]))

    points, labels, mask = prompts(side)
    for mask_input in (None, mask):
        masks, iou = decode(sam, image_embeddings, hq_features, mask=mask_input)
        order = iou[:, 1:].argsort(dim=1, descending=True) + 1  # transformers sorts the three candidates
        rows = torch.arange(PROMPTS)[:, None]
        single, several = masks[:, :1], masks[rows, order]
        expected = {
            (False, False): (single + masks[:, 4:], iou[:, :1]),
            (False, True): (masks[:, 4:], iou[:, :1]),
            (True, False): (several + masks[:, 4:], iou[rows, order]),
        }
        for (multimask, hq_only), (our_masks, our_iou) in expected.items():
            out = theirs(
                image_embeddings=embeddings,
                intermediate_embeddings=intermediate,
                input_points=points[None],
                input_labels=labels[None],
                input_masks=mask_input,
                multimask_output=multimask,
                hq_token_only=hq_only,
            )
            assert_close(our_masks, out.pred_masks[0])
            torch.testing.assert_close(our_iou, out.iou_scores[0], rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_tiny_sizes_in_one_file(tiny: nn.Module, folder: Path) -> None:
    assert_same_model(tiny, load(folder))
    assert is_huggingface(folder / "model.safetensors")
    one = read_huggingface(folder / "model.safetensors").state
    assert all(torch.equal(value, one[key]) for key, value in read_huggingface(folder).state.items())


@torch.no_grad()
def test_vit_b_in_shards(transformers: ModuleType, tmp_path: Path) -> None:
    theirs = sam_hq_of(transformers, VIT_B_OF_256)
    theirs.save_pretrained(tmp_path, max_shard_size="150MB")
    assert len(weight_files(tmp_path)) > 1
    assert_same_model(theirs, load(tmp_path))


@pytest.mark.parametrize(
    ("kind", "registry"), [("SamHQ", "sam_model_registry"), ("Sam", "sam_model_registry_baseline")]
)
def test_names_and_shapes_are_the_official_ones(transformers: ModuleType, kind: str, registry: str) -> None:
    package = import_official()
    with torch.device("meta"):
        official = getattr(package, registry)["vit_b"]().state_dict()
        theirs = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")()).state_dict()
    del theirs["prompt_encoder.shared_embedding.positional_embedding"]  # tied, and never saved
    state = to_official_names(theirs, Path(kind))
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in official.items()}


@pytest.mark.parametrize("build", [sam_hq_of, sam_of])
def test_exported_bundle_equals_transformers(
    transformers: ModuleType, tmp_path: Path, build: Callable[..., nn.Module]
) -> None:
    """From the folder that `save_pretrained` wrote to masks, for SAM-HQ and for plain SAM."""
    model = build(transformers, TINY, seed=8)
    model.save_pretrained(tmp_path / "weights")
    bundle = export(tmp_path / "weights", tmp_path / "bundle")
    assert bundle.manifest.sizes.has_hq == (build is sam_hq_of)
    reference, image = TransformersPredictor(model), photographs()["landscape 400 x 600"]
    reference.set_image(image)
    with Predictor(bundle) as predictor:
        predictor.set_image(image)
        for kind, multimask in itertools.product(ALL_PROMPTS, (False, True)):
            wish = prompts_for(image, kind, bundle.manifest.sizes.low_res_size)
            got = predictor.predict(**wish, multimask_output=multimask, return_logits=True)
            for ours, theirs in zip(got, reference.predict(**wish, multimask_output=multimask), strict=True):
                assert ours.shape == theirs.shape
                assert np.abs(ours - theirs).max() <= 1e-4 * max(float(np.ptp(theirs)), 1e-2), (kind, multimask)
            assert iou(got[0] > 0, reference.predict(**wish, multimask_output=multimask)[0] > 0) >= MASK_IOU


@pytest.mark.parametrize(("stored", "expected"), [(None, 1e-6), (1e-6, 1e-6), (1e-3, 1e-3)])
@torch.no_grad()
def test_eps_of_the_decoder(transformers: ModuleType, tmp_path: Path, stored: float | None, expected: float) -> None:
    """No tensor shows it: it comes from the configuration, and the tokens of an untrained model feel it."""
    sizes = TINY | {"mask_decoder_config": {**TINY["mask_decoder_config"], "layer_norm_eps": expected}}
    theirs = sam_hq_of(transformers, sizes)
    theirs.save_pretrained(tmp_path)
    if stored is None:
        edit_json(tmp_path / "config.json", lambda config: config["mask_decoder_config"].pop("layer_norm_eps"))
    sam = load(tmp_path)
    assert sam.arch.decoder_norm_eps == expected
    assert_same_model(theirs, sam)
