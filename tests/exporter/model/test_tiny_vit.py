"""TinyViT against the official encoder, with every parameter and every running statistic random."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.model.tiny_vit import TinyViTEncoder, drop_unused, fold_batchnorm, fold_weights
from samhq_exporter.weights.checkpoint import load_checkpoint
from tests.support.models import seeded_checkpoint
from tests.support.official import import_official
from tests.support.parity import assert_close, randomise

PREFIX = "image_encoder."


@pytest.fixture(scope="module")
def official() -> nn.Module:
    package = import_official()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sam = package.sam_model_registry["vit_tiny"]()
    randomise(sam, seed=0)
    return sam.eval()  # again: upstream gathers the attention biases in `eval()`


@pytest.fixture(scope="module")
def state(official: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in official.state_dict().items() if key.startswith(PREFIX)}


@pytest.fixture(scope="module")
def encoder(state: dict[str, Tensor]) -> TinyViTEncoder:
    encoder = TinyViTEncoder(VARIANTS["vit_tiny"])
    folded = {key.removeprefix(PREFIX): value for key, value in fold_weights(state).items()}
    encoder.load_state_dict(folded, strict=True)
    return encoder.eval().requires_grad_(False)


@torch.no_grad()
def test_same_embeddings_and_early_feature(official: nn.Module, encoder: TinyViTEncoder) -> None:
    input_image = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    expected, intermediate = official.image_encoder(input_image)
    image_embeddings, early = encoder(input_image)
    assert len(intermediate) == 1
    assert early.shape == (1, 64, 64, VARIANTS["vit_tiny"].encoder_dim)
    assert_close(image_embeddings, expected)
    assert_close(early, intermediate[0])


def test_only_the_classifier_and_counters_are_dropped(state: dict[str, Tensor]) -> None:
    dropped = {key for key in state.keys() - drop_unused(state).keys() if not key.endswith(".num_batches_tracked")}
    assert dropped == {PREFIX + key for key in ("norm_head.weight", "norm_head.bias", "head.weight", "head.bias")}


def test_folded_weights_keep_nothing_of_batchnorm_and_all_attention_biases(state: dict[str, Tensor]) -> None:
    folded = fold_weights(state)
    assert not [key for key in folded if ".bn." in key or ".c." in key]
    biases = [key for key in folded if key.endswith("attention_biases")]
    assert len(biases) == 10
    assert all(folded[key].abs().min() > 0 and torch.equal(folded[key], state[key]) for key in biases)


@pytest.mark.parametrize("groups", [1, 6])
@torch.no_grad()
def test_fold_batchnorm_is_exact(groups: int) -> None:
    pair = nn.Sequential()
    pair.add_module("c", nn.Conv2d(6, 12, 3, padding=1, groups=groups, bias=False))
    pair.add_module("bn", nn.BatchNorm2d(12))
    randomise(pair, seed=2)
    folded = drop_unused(fold_batchnorm({f"x.{key}": value for key, value in pair.state_dict().items()}))
    conv = nn.Conv2d(6, 12, 3, padding=1, groups=groups)
    conv.load_state_dict({key.removeprefix("x."): value for key, value in folded.items()}, strict=True)
    x = torch.randn(2, 6, 9, 9, generator=torch.Generator().manual_seed(3))
    assert_close(conv(x), pair.eval()(x), 1e-6)


def test_an_incomplete_pair_is_left_for_strict_loading_to_report(state: dict[str, Tensor]) -> None:
    key = PREFIX + "patch_embed.seq.0.bn.running_mean"
    folded = fold_weights({name: value for name, value in state.items() if name != key})
    with pytest.raises(RuntimeError, match=r"patch_embed\.seq\.0\.weight"):
        TinyViTEncoder(VARIANTS["vit_tiny"]).load_state_dict(
            {name.removeprefix(PREFIX): value for name, value in folded.items()}, strict=True
        )


def test_a_seeded_file_has_the_official_names(official: nn.Module, tmp_path: Path) -> None:
    """Those of the benchmarks, with batch norms."""
    file = seeded_checkpoint("vit_tiny", tmp_path)
    assert load_checkpoint(file).variant == "vit_tiny"
    names = {key for key in official.state_dict() if not key.endswith("num_batches_tracked")}
    assert {key for key in names - torch.load(file).keys() if "head" not in key} == set()
