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


@dataclass(frozen=True)
class ModelFrame:
    """The square of `side` pixels in which a model sees an image.

    The image fills it if `squashed`; otherwise its longer side does, and what is left is zero.
    """

    side: int
    squashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Where SAM 2's single mask is not used: the area of its logits above `delta` over that above `-delta` is less than
    `threshold`.
    """

    delta: float
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Family:
    """What SAM and SAM 2 differ in for those who run their graphs.

    Attributes:
        squashed: whether images fill the model's frame, see `ModelFrame`.
        high_res_feats: whether the encoder leaves features of high resolution.
        object_scores: whether the decoder says how likely there is an object.
        pads_boxes: whether a padding point follows boxes too, and not only points.
        every_candidate: whether multimask output is all three masks of a model with an HQ token too.
        stability: when the best candidate takes the place of the single mask; None if never.
        logits_bound: what the low-resolution logits that callers get are clamped to; None if they are not.
    """

    squashed: bool = False
    high_res_feats: bool = False
    object_scores: bool = False
    pads_boxes: bool = False
    every_candidate: bool = False
    stability: Stability | None = None
    logits_bound: float | None = None


SAM, SAM2 = "sam", "sam2"
FAMILIES = {
    SAM: Family(),
    SAM2: Family(
        squashed=True,
        high_res_feats=True,
        object_scores=True,
        pads_boxes=True,
        every_candidate=True,
        stability=Stability(delta=0.05, threshold=0.98),
        logits_bound=32.0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """The sizes the IO contract depends on (1024, 64, 256 for every released checkpoint).

    `token_masks` counts the columns of `mask_weights`: SAM's four mask tokens, and the HQ token if there is one;
    `family` is a key of `FAMILIES`.
    """

    image_size: int
    embedding_size: int
    embed_dim: int
    token_masks: int
    family: str = SAM

    @property
    def rules(self) -> Family:
        return FAMILIES[self.family]

    @property
    def frame(self) -> ModelFrame:
        return ModelFrame(self.image_size, self.rules.squashed)

    @property
    def has_hq(self) -> bool:
        """Whether there is an HQ token; a plain SAM has none, and no `hq_token` either."""
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
            *_object_scores(sizes),
        ),
    )


def _image_features(sizes: ModelSizes, dtype: str) -> tuple[TensorSpec, ...]:
    """What passes from the encoder to the decoder, and may stay on the device between them."""
    grid, low_res = sizes.embedding_size, sizes.low_res_size
    image_embeddings = TensorSpec("image_embeddings", dtype, ("images", sizes.embed_dim, grid, grid))
    if sizes.rules.high_res_feats:
        return (
            image_embeddings,
            TensorSpec("high_res_feats_0", dtype, ("images", sizes.embed_dim // 8, low_res, low_res)),
            TensorSpec("high_res_feats_1", dtype, ("images", sizes.embed_dim // 4, 2 * grid, 2 * grid)),
        )
    hq_features = TensorSpec("hq_features", dtype, ("images", sizes.embed_dim // 8, low_res, low_res))
    return (image_embeddings, hq_features) if sizes.has_hq else (image_embeddings,)


def _object_scores(sizes: ModelSizes) -> tuple[TensorSpec, ...]:
    scores = TensorSpec("object_score_logits", "float32", ("prompts", 1))
    return (scores,) if sizes.rules.object_scores else ()


def _hq_token(sizes: ModelSizes) -> tuple[TensorSpec, ...]:
    hq_token = TensorSpec("hq_token", "float32", (1, sizes.embed_dim), optional=True)
    return (hq_token,) if sizes.has_hq else ()
