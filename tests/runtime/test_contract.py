"""The IO contract: what fits, what does not, and what passes from one graph to the other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from samhq_runtime.bundle import Bundle
from samhq_runtime.contract import Array, GraphSpec, TensorSpec, image_encoder_spec, mask_decoder_spec
from samhq_runtime.errors import ContractError

SPEC = TensorSpec("x", "float32", ("prompts", 3))


@pytest.fixture(scope="module")
def decoder(tiny_bundle: Bundle) -> GraphSpec:
    return mask_decoder_spec(tiny_bundle.manifest.sizes)


@pytest.mark.parametrize(
    ("array", "prompts", "complaint"),
    [
        (np.zeros((2, 3), np.float32), 2, None),
        (np.zeros((2, 3), np.float32), None, None),
        (np.zeros((0, 3), np.float32), None, None),
        (np.zeros((2, 3), np.float32), 4, r"expected float32 \(4, 3\)"),
        (np.zeros((2, 4), np.float32), None, r"got float32 \(2, 4\)"),
        (np.zeros((2, 3)), None, "got float64"),
        (np.zeros((2, 3), np.float16), None, "got float16"),
        (np.zeros(3, np.float32), None, r"got float32 \(3,\)"),
        (np.zeros((2, 3, 1), np.float32), None, r"\(2, 3, 1\)"),
    ],
)
def test_tensor_check(array: Array, prompts: int | None, complaint: str | None) -> None:
    sizes = {} if prompts is None else {"prompts": prompts}
    if complaint is None:
        SPEC.check(array, sizes)
        assert sizes == {"prompts": len(array)}
    else:
        with pytest.raises(ContractError, match=complaint):
            SPEC.check(array, sizes)


def feeds_of(spec: GraphSpec, **sizes: int) -> dict[str, Array]:
    sizes = {"images": 1, "prompts": 2, "points": 3, "mask_inputs": 1, "combinations": 1} | sizes
    return {
        t.name: np.zeros([sizes[d] if isinstance(d, str) else d for d in t.shape], t.dtype)
        for t in spec.inputs
        if not t.optional
    }


@pytest.mark.parametrize("sizes", [{}, {"images": 3}, {"mask_inputs": 2}, {"points": 0}, {"combinations": 5}])
def test_feeds_of_any_dynamic_size(decoder: GraphSpec, sizes: dict[str, int]) -> None:
    decoder.check_feeds(feeds_of(decoder, **sizes))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"image_embeddings": None}, r"missing \['image_embeddings'\]"),
        ({"boxes": np.zeros(4)}, r"unknown \['boxes'\]"),
        ({"point_labels": np.zeros((3, 3), np.float32)}, "point_labels"),  # of three prompts, not two
        ({"point_labels": np.zeros((2, 4), np.float32)}, "point_labels"),  # of four points, not three
        ({"image_index": np.zeros(2, np.int32)}, "image_index: got int32"),
        ({"image_index": np.zeros(1, np.int64)}, "image_index"),
        ({"mask_weights": np.zeros((1, 4), np.float32)}, "mask_weights"),
        ({"has_mask_input": np.zeros((), np.float32)}, "has_mask_input"),
        ({"hq_token": np.zeros((1, 3), np.float32)}, "hq_token"),
        ({"mask_input": (3,)}, "got 3 masks for 2 prompts"),
    ],
)
def test_feeds_refused(decoder: GraphSpec, change: dict[str, Array | None], complaint: str) -> None:
    feeds = feeds_of(decoder)
    if "mask_input" in change:
        feeds = feeds_of(decoder, mask_inputs=3)
    else:
        feeds |= change  # type: ignore[arg-type]
    with pytest.raises(ContractError, match=complaint):
        decoder.check_feeds({name: array for name, array in feeds.items() if array is not None})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_encoder_outputs_are_decoder_inputs(tiny_bundle: Bundle, dtype: str) -> None:
    sizes = tiny_bundle.manifest.sizes
    encoder = image_encoder_spec(sizes, embeddings_dtype=dtype)
    decoder = mask_decoder_spec(sizes, embeddings_dtype=dtype)
    assert {t.dtype for t in encoder.outputs} == {dtype}
    assert set(encoder.outputs) <= set(decoder.inputs)


def test_low_res_size_follows_the_grid(tiny_bundle: Bundle) -> None:
    sizes = dataclasses.replace(tiny_bundle.manifest.sizes, embedding_size=7)
    assert sizes.low_res_size == 28
    assert mask_decoder_spec(sizes).outputs[0].shape == ("prompts", "combinations", 28, 28)


def test_a_plain_sam_has_the_same_contract_without_the_hq_part(tiny_bundle: Bundle) -> None:
    sizes = tiny_bundle.manifest.sizes
    plain = dataclasses.replace(sizes, token_masks=4)
    assert (sizes.has_hq, plain.has_hq) == (True, False)
    for make in (image_encoder_spec, mask_decoder_spec):
        with_hq, without = make(sizes), make(plain)
        kept = [t for t in (*with_hq.inputs, *with_hq.outputs) if t.name not in ("hq_features", "hq_token")]
        rest = [
            dataclasses.replace(t, shape=("combinations", 5)) if t.name == "mask_weights" else t
            for t in (*without.inputs, *without.outputs)
        ]
        assert rest == kept
