"""The IO contract of the two graphs, declared once as data.

Export names, dynamic dimensions, sample inputs, the manifest and the runtime's checks are all derived from it.
A dimension is an int, or the name of a dynamic size:

* `images`: images encoded or kept at once;
* `prompts`: prompts decoded in one call, each for one image (`image_index`);
* `points`: points per prompt, box corners and padding included;
* `mask_inputs`: 1 (shared by all prompts) or `prompts`;
* `combinations`: masks computed per prompt, one per row of `mask_weights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import ContractError

IMAGE_ENCODER = "image_encoder"
MASK_DECODER = "mask_decoder"
NUM_SAM_TOKENS = 4  # mask tokens of SAM: one for a single mask, three for multimask output
NUM_TOKEN_MASKS = NUM_SAM_TOKENS + 1  # and the HQ token
NO_FUSION = "none"  # token fusion of a plain SAM, which has no HQ token

Array = NDArray[Any]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Shaped(Protocol):
    """An array, or what stands for one on a device."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def ndim(self) -> int: ...


@dataclass(frozen=True)
class TensorSpec:
    """Name, numpy dtype name and shape of one graph input or output; `optional` inputs have a default in the graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False

    def check(self, array: Shaped, sizes: dict[str, int]) -> None:
        """Raise ContractError unless `array` fits; `sizes` collects the dynamic sizes met so far."""
        fits = array.dtype == self.dtype and array.ndim == len(self.shape)
        for want, got in zip(self.shape, array.shape, strict=False):
            fits = fits and (got == want if isinstance(want, int) else sizes.setdefault(want, got) == got)
        if not fits:
            expected = ", ".join(str(sizes.get(d, d)) if isinstance(d, str) else str(d) for d in self.shape)
            raise ContractError(f"{self.name}: got {array.dtype} {array.shape}, expected {self.dtype} ({expected})")


@dataclass(frozen=True)
class GraphSpec:
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def check_feeds(self, feeds: Mapping[str, Shaped]) -> None:
        """Raise ContractError unless `feeds` has exactly the inputs of this graph, with fitting arrays."""
        known = {spec.name: spec for spec in self.inputs}
        missing = [spec.name for spec in self.inputs if not spec.optional and spec.name not in feeds]
        unknown = [name for name in feeds if name not in known]
        if missing or unknown:
            raise ContractError(f"{self.name}: inputs missing {missing}, unknown {unknown}; expected {list(known)}")
        sizes: dict[str, int] = {}
        for name, array in feeds.items():
            known[name].check(array, sizes)
        if sizes.get("mask_inputs", 1) not in (1, sizes.get("prompts", 1)):
            raise ContractError(
                f"mask_input: got {sizes['mask_inputs']} masks for {sizes['prompts']} prompts; expected 1 or one each"
            )


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes the IO contract depends on (1024, 64, 256 for every released checkpoint).

    `token_masks` counts the columns of `mask_weights`: SAM's four mask tokens, and the HQ token if there is one.
    """

    image_size: int
    embedding_size: int
    embed_dim: int
    token_masks: int

    @property
    def has_hq(self) -> bool:
        """Whether there is an HQ token; a plain SAM has none, and no `hq_features` and `hq_token` either."""
        return self.token_masks > NUM_SAM_TOKENS

    @property
    def low_res_size(self) -> int:
        """Side of `low_res_logits`, `mask_input` and `hq_features`."""
        return 4 * self.embedding_size


def require_same_io(file: str, kind: str, got: Iterable[str], expected: Iterable[str], *, cure: str) -> None:
    """Raise ContractError unless a file has these inputs or outputs, in any order.

    Args:
        file: its name.
        kind: `inputs` or `outputs`.
        got, expected: descriptions of tensors, in the same words.
        cure: what to do about it.
    """
    found, wanted = sorted(got), sorted(expected)
    if found != wanted:
        raise ContractError(f"{file}: {kind} are {found}, expected {wanted}; {cure}")


def image_encoder_spec(sizes: ModelSizes, *, embeddings_dtype: str = "float32") -> GraphSpec:
    side = sizes.image_size
    return GraphSpec(
        IMAGE_ENCODER,
        inputs=(TensorSpec("input_image", "float32", ("images", 3, side, side)),),
        outputs=_image_features(sizes, embeddings_dtype),
    )


def mask_decoder_spec(sizes: ModelSizes, *, embeddings_dtype: str = "float32") -> GraphSpec:
    low_res = sizes.low_res_size
    return GraphSpec(
        MASK_DECODER,
        inputs=(
            *_image_features(sizes, embeddings_dtype),
            TensorSpec("point_coords", "float32", ("prompts", "points", 2)),
            TensorSpec("point_labels", "float32", ("prompts", "points")),
            TensorSpec("mask_input", "float32", ("mask_inputs", 1, low_res, low_res)),
            TensorSpec("has_mask_input", "float32", (1,)),
            TensorSpec("image_index", "int64", ("prompts",)),
            TensorSpec("mask_weights", "float32", ("combinations", sizes.token_masks)),
            *_hq_token(sizes),
        ),
        outputs=(
            TensorSpec("low_res_logits", "float32", ("prompts", "combinations", low_res, low_res)),
            TensorSpec("iou_predictions", "float32", ("prompts", NUM_SAM_TOKENS)),
        ),
    )


def _image_features(sizes: ModelSizes, dtype: str) -> tuple[TensorSpec, ...]:
    """What passes from the encoder to the decoder, and may stay on the device between them."""
    grid, low_res = sizes.embedding_size, sizes.low_res_size
    image_embeddings = TensorSpec("image_embeddings", dtype, ("images", sizes.embed_dim, grid, grid))
    hq_features = TensorSpec("hq_features", dtype, ("images", sizes.embed_dim // 8, low_res, low_res))
    return (image_embeddings, hq_features) if sizes.has_hq else (image_embeddings,)


def _hq_token(sizes: ModelSizes) -> tuple[TensorSpec, ...]:
    hq_token = TensorSpec("hq_token", "float32", (1, sizes.embed_dim), optional=True)
    return (hq_token,) if sizes.has_hq else ()
