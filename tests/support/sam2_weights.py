"""Seeded weights of SAM 2.1 and HQ-SAM 2: every value depends on the tensor's official name and shape alone.

The golden results in tests/data were computed by the official packages with these weights. The bits come from PCG64
seeded with crc32(name) through `random_raw`, whose stream numpy guarantees.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from samhq_runtime.contract import Float32

# (pattern, kind, scale). The first pattern found in the name decides.
#   embed:  mean 0, standard deviation `scale`
#   matrix: the same / sqrt(fan_in); fan_in = product of all axes but the first
#   convT:  the same with fan_in = first axis (a 2x2 stride-2 transposed convolution: one tap per output pixel)
#   hyper:  the same as matrix, / sqrt(first axis): the dot product that follows sums over it
#   norm:   mean 1, standard deviation `scale`
_RULES = [
    (r"positional_encoding_gaussian_matrix$", "embed", 1.0),
    (r"pos_embed(_window)?$", "embed", 0.7),
    (r"maskmem_tpos_enc$|no_mem_embed$|no_mem_pos_enc$|no_obj_ptr$|no_obj_embed_spatial$", "embed", 0.5),
    (r"no_mask_embed\.weight$", "embed", 0.5),
    (r"(iou_token|mask_tokens|obj_score_token|hf_token|point_embeddings\.\d|not_a_point_embed)\.weight$", "embed", 1.0),
    (r"\.gamma$", "norm", 0.2),
    (r"^mask_downsample\.weight$", "matrix", 8.0),
    (r"output_upscaling\.[03]\.weight$", "convT", 1.4),
    (r"sam_mask_decoder\.conv_s[01]\.weight$", "matrix", 1.4),
    (r"sam_mask_decoder\.transformer\..*\.[qk]_proj\.weight$", "matrix", 1.6),
    (r"memory_attention\..*\.[qk]_proj\.weight$", "matrix", 1.1),
    (r"memory_attention\..*\.cross_attn_image\.out_proj\.weight$", "matrix", 1.5),
    (r"image_encoder\.neck\.convs\.\d\.conv\.weight$", "matrix", 0.5),
    (r"output_hypernetworks_mlps\.0\.layers\.2\.weight$", "hyper", 7.5),
    (r"hf_mlp\.layers\.2\.weight$", "hyper", 4.0),
    (r"output_hypernetworks_mlps\.[123]\.layers\.2\.weight$", "hyper", 3.0),
    (r"(output_hypernetworks_mlps\.\d|hf_mlp)\.layers\.[01]\.weight$", "matrix", 1.4),
    (r"iou_prediction_head\.layers\.2\.weight$", "matrix", 2.0),
    (r"pred_obj_score_head\.layers\.2\.weight$", "matrix", 6.0),
    (r"(iou_prediction_head|pred_obj_score_head|obj_ptr_proj)\.layers\.[01]\.weight$", "matrix", 1.4),
    (r"\.bias$", "embed", 0.1),
]

# So that object scores of both signs occur; by number of values: 64 of the small model, 256 of the released ones.
_SALT = {"sam_mask_decoder.pred_obj_score_head.layers.2.weight": {64: "#7", 256: "#1793"}}


def seeded_tensor(name: str, shape: Sequence[int]) -> Float32:
    """float32 values of the parameter or buffer with this official name."""
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.random.PCG64(zlib.crc32((name + _SALT.get(name, {}).get(count, "")).encode())).random_raw(count)
    unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1)
    noise = ((2 * unit - 1) * 3.0**0.5).astype(np.float32).reshape(shape)  # mean 0, standard deviation 1
    kind, scale = _rule(name, len(shape))
    if kind == "norm":
        return np.float32(1) + np.float32(scale) * noise
    fan_in = float(np.prod(shape[1:], dtype=np.int64))
    divisor = {"embed": 1.0, "matrix": fan_in, "convT": shape[0], "hyper": fan_in * shape[0]}[kind]
    return np.float32(scale / divisor**0.5) * noise


def seeded_state(keys: Mapping[str, Sequence[int]]) -> dict[str, Float32]:
    return {name: seeded_tensor(name, shape) for name, shape in keys.items()}


def _rule(name: str, rank: int) -> tuple[str, float]:
    for pattern, kind, scale in _RULES:
        if re.search(pattern, name):
            return kind, scale
    return ("norm", 0.2) if rank == 1 else ("matrix", 1.0)  # of one axis: weights of a LayerNorm
