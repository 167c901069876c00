"""Prompts of every kind, held to the decoder's contract."""

from __future__ import annotations

import numpy as np
import pytest

from samhq_exporter.scenes.sample_prompts import prompt_feeds
from samhq_runtime.contract import NUM_SAM_TOKENS, NUM_TOKEN_MASKS, ModelSizes, mask_decoder_spec

BOXES = np.array([[4, 6, 40, 30], [10, 10, 20, 50], [0, 0, 63, 63]])


@pytest.mark.parametrize("token_masks", [NUM_SAM_TOKENS, NUM_TOKEN_MASKS])
def test_feeds_fit_the_decoder(token_masks: int) -> None:
    sizes = ModelSizes(image_size=128, embedding_size=8, embed_dim=64, token_masks=token_masks)
    spec = mask_decoder_spec(sizes)
    images = {
        tensor.name: np.zeros([1 if isinstance(size, str) else size for size in tensor.shape], tensor.dtype)
        for tensor in spec.inputs
        if tensor.name in ("image_embeddings", "hq_features")
    }
    every = prompt_feeds(sizes, (64, 64), BOXES)
    for feeds in every:
        spec.check_feeds({**images, **feeds})
        assert len(feeds["point_coords"]) == len(BOXES)
        np.testing.assert_array_equal(feeds["mask_weights"], np.eye(token_masks))
    assert [feeds["point_coords"].shape[1] for feeds in every] == [2, 2, 4, 3, 2]  # points alone get one of padding
    assert [float(feeds["has_mask_input"][0]) for feeds in every] == [0, 0, 0, 0, 1]
