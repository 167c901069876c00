"""The traced modules compute what the model's own methods compute, and name their parts."""

from __future__ import annotations

import pytest
import torch

from samhq_exporter.model import PlainSam
from samhq_exporter.scenes.sample_prompts import prompt_feeds
from samhq_exporter.tracing.modules import graphs_of, model_sizes
from tests.support.models import TINY, tiny_sam
from tests.support.parity import randomise


def plain_sam() -> PlainSam:
    sam = PlainSam(TINY)
    randomise(sam, seed=0)
    return sam.eval().requires_grad_(False)


MODELS = {
    "plain": (plain_sam, {"image_encoder"}, {"prompt_encoder", "mask_decoder"}, {"image_pe"}),
    "hadamard": (
        lambda: tiny_sam(token_fusion="hadamard"),
        {"image_encoder", "hq_fusion"},
        {"prompt_encoder", "mask_decoder", "token_fusion"},
        {"image_pe", "sam_token"},
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_graphs_of(kind: str) -> None:
    make, encoder_parts, decoder_parts, constants = MODELS[kind]
    sam = make()
    encoder, decoder = graphs_of(sam)
    assert {name for name, _ in encoder.module.named_children()} == encoder_parts
    assert {name for name, _ in decoder.module.named_children()} == decoder_parts
    assert {name for name, _ in decoder.module.named_buffers(recurse=False)} == constants
    assert set(decoder.defaults) == ({"hq_token"} if kind != "plain" else set())

    features = sam.encode_image(image := torch.rand(1, 3, TINY.image_size, TINY.image_size))
    for got, expected in zip(encoder.module(image), features, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    boxes = torch.tensor([[10, 10, 60, 90], [5, 50, 40, 80]]).numpy()
    for feeds in prompt_feeds(model_sizes(sam), (TINY.image_size, TINY.image_size), boxes):
        inputs = [torch.from_numpy(feeds[t.name]) for t in decoder.spec.inputs if t.name in feeds]
        given = [*features, *inputs]
        for got, expected in zip(decoder.module(*given), sam.decode_masks(*given), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_constants_of_a_graph_are_its_own() -> None:
    """Or an HQ token that is trained on would change a graph that waits to be traced."""
    sam = tiny_sam()
    _, decoder = graphs_of(sam)
    before = decoder.module.get_buffer("sam_token").clone()
    sam.mask_decoder.mask_tokens.weight.data.add_(1)
    torch.testing.assert_close(decoder.module.get_buffer("sam_token"), before)
