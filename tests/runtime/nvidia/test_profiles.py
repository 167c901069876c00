"""Optimisation profiles: text -> ranges -> shapes of every dynamic input, and what is refused."""

from __future__ import annotations

import pytest

from samhq_runtime.contract import ModelSizes, image_encoder_spec, mask_decoder_spec
from samhq_runtime.errors import ConfigError
from samhq_runtime.nvidia.profiles import DEFAULT_RANGES, Range, ShapeRange, parse_ranges, profiles_of

SIZES = ModelSizes(image_size=1024, embedding_size=64, embed_dim=256, token_masks=5)
ENCODER, DECODER = image_encoder_spec(SIZES), mask_decoder_spec(SIZES)


def test_every_dynamic_input_of_the_decoder() -> None:
    (profile,) = profiles_of(DECODER, {"prompts": (Range(1, 8, 64),), "points": (Range(1, 4, 16),)})
    assert profile == {
        "image_embeddings": ShapeRange((1, 256, 64, 64), (1, 256, 64, 64), (1, 256, 64, 64)),
        "hq_features": ShapeRange((1, 32, 256, 256), (1, 32, 256, 256), (1, 32, 256, 256)),
        "point_coords": ShapeRange((1, 1, 2), (8, 4, 2), (64, 16, 2)),
        "point_labels": ShapeRange((1, 1), (8, 4), (64, 16)),
        "mask_input": ShapeRange((1, 1, 256, 256), (1, 1, 256, 256), (64, 1, 256, 256)),  # shared, or one per prompt
        "image_index": ShapeRange((1,), (8,), (64,)),
        "mask_weights": ShapeRange((1, 5), (1, 5), (5, 5)),
    }


def test_sizes_broadcast_in_every_corner() -> None:
    """TensorRT checks the smallest, usual and largest sizes each as one set of shapes."""
    (profile,) = profiles_of(DECODER, {"prompts": (Range(2, 3, 5),)})
    for corner in ("min", "opt", "max"):
        masks = getattr(profile["mask_input"], corner)[0]
        assert masks in (1, getattr(profile["point_coords"], corner)[0])


def test_encoder_has_one_profile_however_many_the_decoder_has() -> None:
    ranges = {"prompts": parse_ranges("prompts", "1,1:8:64"), "images": parse_ranges("images", "1:1:4")}
    assert len(profiles_of(DECODER, ranges)) == 2
    (profile,) = profiles_of(ENCODER, ranges)
    assert profile == {"input_image": ShapeRange((1, 3, 1024, 1024), (1, 3, 1024, 1024), (4, 3, 1024, 1024))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:8:64", (Range(1, 8, 64),)),
        ("4", (Range(4, 4, 4),)),
        ("1,1:8:64", (Range(1, 1, 1), Range(1, 8, 64))),
    ],
)
def test_ranges(text: str, expected: tuple[Range, ...]) -> None:
    assert parse_ranges("prompts", text) == expected


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("prompts", "", "expected SMALLEST:USUAL:LARGEST"),
        ("prompts", "1:8", "got '1:8'"),
        ("prompts", "1:8:64:2", "expected SMALLEST:USUAL:LARGEST"),
        ("prompts", "a:b:c", "expected SMALLEST:USUAL:LARGEST"),
        ("prompts", "-1:1:1", "expected SMALLEST:USUAL:LARGEST"),
        ("prompts", "1,", "got ''"),
        ("prompts", "8:1:64", "ascending"),
        ("prompts", "1:64:8", "ascending"),
        ("prompts", "0:1:8", "at least 1"),
        ("images", "0", "at least 1"),
        ("combinations", "0:1:5", "at least 1"),
        ("points", "0", "ascending order"),  # no points at all is possible, never having any is not a range
        ("points", "99999999999999", "expected SMALLEST"),
    ],
)
def test_ranges_outside_the_contract(name: str, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_ranges(name, text)


def test_a_mask_prompt_alone_has_no_points() -> None:
    (profile,) = profiles_of(DECODER, {"points": parse_ranges("points", "0:2:16")})
    assert profile["point_coords"].min == (1, 0, 2)


@pytest.mark.parametrize(
    ("ranges", "complaint"),
    [
        ({"mask_inputs": (Range(1, 1, 8),)}, "not a dynamic size"),  # it follows from prompts
        ({"height": (Range(1, 1, 8),)}, "choose from images, prompts, points, combinations"),
        ({"prompts": (Range(1, 1, 1),) * 2, "points": (Range(2, 2, 2),) * 3}, r"for \[2, 3\] profiles"),
        ({"prompts": ()}, r"for \[0\] profiles"),
        ({"images": (Range(1, 0, 4),)}, "ascending"),
    ],
)
def test_impossible_profiles(ranges: dict[str, tuple[Range, ...]], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        profiles_of(DECODER, ranges)


def test_defaults_are_possible() -> None:
    for name, size in DEFAULT_RANGES.items():
        assert parse_ranges(name, str(size)) == (size,)
