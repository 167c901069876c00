"""How fast this machine could be: arithmetic and bytes of each graph, over its measured GEMM rate and copy bandwidth.

Counted is what any implementation must do: no padded window tokens, no mask that was not asked for, every weight,
input and output moved once. Softmax, normalisation and activations are left out, so the floor cannot be reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import torch

from samhq_exporter.architecture import Architecture
from samhq_runtime.bench.measuring import repeat

_GEMM = 2048
_COPY_BYTES = 256 << 20
_REPEATS = 7
_FLOAT = 4
_TOKENS = 8  # IoU token, four SAM mask tokens, HQ token, two box corners
_HEADS = 8
_DECONV = 4  # a 2 x 2 deconvolution of stride 2 has four weights per input pixel
_CONV = 9


@dataclass(frozen=True)
class Work:
    flops: float
    bytes: float

    def seconds(self, rates: dict[str, float]) -> float:
        """The least time this work takes at these rates, if arithmetic and transfers overlap perfectly."""
        return max(self.flops / rates["flops_per_second"], self.bytes / rates["bytes_per_second"])


def machine_rates(threads: int) -> dict[str, float]:
    """float32 GEMM rate (the best of torch's, numpy's and ONNX Runtime's) and copy bandwidth (read plus written)."""
    if threads:
        torch.set_num_threads(threads)
    a, b, out = (np.ones((_GEMM, _GEMM), np.float32) for _ in range(3))
    at, bt, out_t = map(torch.from_numpy, (a, b, out))
    session = _matmul_session(b, threads)
    gemm = min(
        _best(lambda: np.matmul(a, b, out=out)),
        _best(lambda: torch.mm(at, bt, out=out_t)),
        _best(lambda: session.run(None, {"a": a})),
    )
    source, target = (torch.ones(_COPY_BYTES // _FLOAT) for _ in range(2))
    copy = _best(lambda: target.copy_(source))
    return {"flops_per_second": 2 * _GEMM**3 / gemm, "bytes_per_second": 2 * _COPY_BYTES / copy}


def _matmul_session(b: np.ndarray, threads: int) -> ort.InferenceSession:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["a", "b"], ["c"])],
        "matmul",
        [onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, b.shape)],
        [onnx.helper.make_tensor_value_info("c", onnx.TensorProto.FLOAT, b.shape)],
        [onnx.numpy_helper.from_array(b, "b")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def encoder_work(arch: Architecture) -> Work:
    """One image to `image_embeddings` and `hq_features`."""
    tokens, dim, side = arch.embedding_size**2, arch.encoder_dim, arch.embedding_size
    linear = arch.depth * 2 * tokens * dim * (4 * dim + 2 * arch.encoder_mlp_dim)
    global_blocks = len(arch.global_attn_indexes)
    window_blocks = arch.depth - global_blocks
    attention = 4 * tokens * dim * (global_blocks * tokens + window_blocks * arch.window_size**2)
    positions = 4 * tokens * dim * (global_blocks * side + window_blocks * arch.window_size)
    patches = 2 * tokens * dim * 3 * arch.patch_size**2
    neck = 2 * tokens * arch.embed_dim * (dim + _CONV * arch.embed_dim)
    flops = linear + attention + positions + patches + neck + _hq_feature_flops(arch)
    weights = arch.depth * (4 * dim**2 + 2 * dim * arch.encoder_mlp_dim) + dim * 3 * arch.patch_size**2
    io = 3 * arch.image_size**2 + _feature_values(arch)
    return Work(flops, _FLOAT * (weights + io))


def decoder_work(arch: Architecture, prompts: int, *, mask_hw: tuple[int, int]) -> Work:
    """`prompts` box prompts of one image to one boolean mask each."""
    tokens, dim = arch.embedding_size**2, arch.embed_dim
    inner = dim // 2  # cross attention works on half the channels
    # Image tokens meet prompt tokens twice per layer, and once more at the end. Either the image tokens are projected
    # (keys and values, or queries and outputs), or the projections move to the side of the prompt tokens, which then
    # are as wide as the image tokens, once per head. Counted is the smaller.
    projected = 2 * 2 * tokens * dim * inner + 4 * _TOKENS * tokens * inner
    moved = 2 * 2 * tokens * dim * _HEADS * _TOKENS
    attention = (2 * arch.decoder_depth + 1) * min(projected, moved)
    upscaling = 2 * tokens * _DECONV * (dim * dim // 4 + _DECONV * (dim // 4) * (dim // 8))
    pixels = (4 * arch.embedding_size) ** 2
    hq = 2 * pixels * _CONV * (dim // 8 * dim // 4 + dim // 4)  # 3x3, then its linear successor contracted
    products = 2 * pixels * 2 * (dim // 8)
    per_prompt = attention + upscaling + hq + products
    masks = prompts * mask_hw[0] * mask_hw[1]  # one byte a pixel
    return Work(prompts * per_prompt, _FLOAT * _feature_values(arch) + masks)


def _hq_feature_flops(arch: Architecture) -> float:
    tokens, dim = arch.embedding_size**2, arch.embed_dim
    from_embeddings = dim * dim // 4 + _DECONV * (dim // 4) * (dim // 8)
    from_early = arch.encoder_dim * dim + _DECONV * dim * (dim // 8)
    return 2 * tokens * _DECONV * (from_embeddings + from_early)


def _feature_values(arch: Architecture) -> int:
    """Numbers in `image_embeddings` and `hq_features`."""
    return arch.embed_dim * arch.embedding_size**2 + arch.embed_dim // 8 * (4 * arch.embedding_size) ** 2


def _best(call: Callable[[], object]) -> float:
    return min(repeat(call, _REPEATS))
