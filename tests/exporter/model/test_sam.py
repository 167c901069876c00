"""Decoding: whose image a prompt is for, and what stands in for the learned tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samhq_exporter.model import Sam
from tests.support.models import TINY, tiny_sam

SIDE = 4 * TINY.embedding_size


@pytest.fixture(scope="module")
def sam() -> Sam:
    return tiny_sam(token_fusion="hadamard")


@pytest.fixture(scope="module")
def features(sam: Sam) -> tuple[Tensor, Tensor]:
    """Of two images."""
    return sam.encode_image(torch.rand(2, 3, TINY.image_size, TINY.image_size, generator=torch.manual_seed(0)))


def decode(sam: Sam, features: tuple[Tensor, Tensor], image_index: list[int], **tokens: Tensor) -> Tensor:
    """The logits (B,5,L,L) of one point in the middle of each image of `image_index`."""
    count = len(image_index)
    prompts = (torch.full((count, 1, 2), TINY.image_size / 2), torch.ones(count, 1))
    no_mask = (torch.zeros(1, 1, SIDE, SIDE), torch.zeros(1))
    logits, _ = sam.decode_masks(*features, *prompts, *no_mask, torch.tensor(image_index), torch.eye(5), **tokens)
    return logits


def test_each_prompt_is_for_its_image(sam: Sam, features: tuple[Tensor, Tensor]) -> None:
    several = decode(sam, features, [1, 0, 1])
    for position, index in enumerate([1, 0, 1]):
        alone = decode(sam, (features[0][index : index + 1], features[1][index : index + 1]), [0])
        torch.testing.assert_close(several[position], alone[0])
    assert (several[0] - several[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["hq_token", "sam_token", "image_pe"])
def test_stand_ins(sam: Sam, features: tuple[Tensor, Tensor], name: str) -> None:
    """What the model has is the default; anything else given changes the masks."""
    own = {**sam.decoder_constants(), "hq_token": sam.mask_decoder.hq_token.weight}[name]
    expected = decode(sam, features, [0])
    torch.testing.assert_close(decode(sam, features, [0], **{name: own}), expected, rtol=0, atol=0)
    assert (decode(sam, features, [0], **{name: own + 1}) - expected).abs().max() > 1e-3
