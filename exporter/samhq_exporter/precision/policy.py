"""Precision as data: the compute type of a graph and the parts that differ from it. No torch or onnx here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from samhq_runtime.contract import FAMILIES, NO_FUSION, SAM, SAM2

from ..architecture import TOKEN_FUSIONS

_FEATURES = frozenset({"image_embeddings", "hq_features", "high_res_feats_0", "high_res_feats_1"})


@dataclass(frozen=True, kw_only=True)
class PrecisionPolicy:
    """What every node of a graph computes in, and why.

    Attributes:
        compute: type of all that is not named below.
        fp32_islands: stated islands: operator types, node-name fragments that start with `/`, or globs. They keep what
            half precision breaks whatever the range: statistics and exponentials (LayerNorm, Softmax), large angles
            (positional encoding), near-ties that flip the choice of a mask (IoU head), the final sum over features, and
            the scores by which image tokens first meet the prompt.
        keep_fp32: islands the user asked for, in the same notation.
        measured_islands: nodes whose measured values do not fit the compute type, and the largest of those values.
        number: what quantized operands are stored in, `int8` or `fp8`; empty if there are none.
        quantized_layers: products of quantized operands, and the calibrated scale of each that is an activation.
        ranges: where the measured values come from; empty if nothing was measured.
    """

    compute: str
    fp32_islands: tuple[str, ...] = ()
    keep_fp32: tuple[str, ...] = ()
    measured_islands: Mapping[str, float] = field(default_factory=dict)
    number: str = ""
    quantized_layers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Any] = field(default_factory=dict)

    @property
    def islands(self) -> tuple[str, ...]:
        """All patterns of nodes that stay float32."""
        return self.fp32_islands + self.keep_fp32

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One `--precision`.

    Attributes:
        compute: type of the arithmetic outside islands and quantized layers.
        embeddings: numpy dtype of what passes from encoder to decoder; numpy has no bfloat16.
        opset: of both graphs; None for the tracer's. Conv takes bfloat16 from opset 22 on.
        islands: parts that stay float32 besides those of every half precision, by graph.
        float32_graphs: graphs that compute in float32 all the same.
        number: what quantized operands are stored in.
        quantized: node-name fragment of the places whose products get quantized operands, by graph.
        needs_ranges: whether activations must be measured before the graphs can be typed.
        cpu_form: whether CPUs get graphs of their own, float32 outside of quantized products: they have few float16
            kernels, and other fused operators.
    """

    compute: str
    embeddings: str = "float32"
    opset: int | None = None
    islands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    float32_graphs: frozenset[str] = frozenset()
    number: str = ""
    quantized: Mapping[str, str] = field(default_factory=dict)
    needs_ranges: bool = False
    cpu_form: bool = False

    @property
    def half_io(self) -> frozenset[str]:
        """Inputs and outputs that are float16."""
        return _FEATURES if self.embeddings == "float16" else frozenset()


# The blocks hold nearly all of the arithmetic, so first (patches), last (neck, HQ features) and the decoder stay
# float32. So do sums: bfloat16's range is float32's, but it keeps 8 bits, and adding a small number to a large one
# (residuals, biases) loses the small one.
_BF16_ISLANDS = ("Add", "/patch_embed/", "/neck/", "/hq_fusion/")

TABLE = {
    "fp32": Precision(compute="float32", cpu_form=True),
    "fp16": Precision(compute="float16", embeddings="float16", needs_ranges=True),
    "bf16": Precision(
        compute="bfloat16",
        opset=22,
        islands={"image_encoder": _BF16_ISLANDS},
        float32_graphs=frozenset({"mask_decoder"}),
    ),
    # The products of the blocks, nearly all of the arithmetic; the rest as in fp16.
    "int8": Precision(
        compute="float16", number="int8", quantized={"image_encoder": "/blocks."}, needs_ranges=True, cpu_form=True
    ),
    # The same products in E4M3, for GPUs that have it (8.9 and newer); CPUs convert it and can check such a graph.
    "fp8": Precision(compute="float16", number="fp8", quantized={"image_encoder": "/blocks."}, needs_ranges=True),
}
PRECISIONS = tuple(TABLE)
CLIPPING_RULES = ("minmax", "percentile", "mse", "entropy")
DEFAULT_CLIPPING = "mse"
EMBEDDINGS_DTYPE = {name: row.embeddings for name, row in TABLE.items()}

_ISLANDS = {
    "image_encoder": ("LayerNormalization", "Softmax"),
    "mask_decoder": (
        "LayerNormalization",
        "Softmax",
        "/prompt_encoder/",
        "/layers.0/cross_attn_image_to_token/",
        "/iou_prediction_head/",
        "/pred_obj_score_head/",
        "/mask_product/",
        "/token_fusion/",
    ),
}
# Parts that not every model has: the families and the token fusions (`none`: a plain SAM) with which it has them.
_ONLY_WITH = {
    "/token_fusion/": (tuple(FAMILIES), tuple(name for name, operator in TOKEN_FUSIONS.items() if operator)),
    "/hq_fusion/": ((SAM,), tuple(TOKEN_FUSIONS)),
    "/pred_obj_score_head/": ((SAM2,), (NO_FUSION, *TOKEN_FUSIONS)),
}


def policy_of(precision: str, graph: str, *, token_fusion: str, family: str = SAM) -> PrecisionPolicy:
    """The stated policy of one graph; `token_fusion` and `family` because islands of absent parts would be errors."""
    row = TABLE[precision]
    if row.compute == "float32" or graph in row.float32_graphs:
        return PrecisionPolicy(compute="float32")
    stated = _ISLANDS[graph] + row.islands.get(graph, ())
    islands = tuple(island for island in stated if _is_there(island, family, token_fusion))
    return PrecisionPolicy(compute=row.compute, fp32_islands=islands)


def _is_there(island: str, family: str, token_fusion: str) -> bool:
    families, token_fusions = _ONLY_WITH.get(island, ((family,), (token_fusion,)))
    return family in families and token_fusion in token_fusions
