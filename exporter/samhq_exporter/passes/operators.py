"""Kinds of ONNX operators."""

MOVES = frozenset(
    {"Concat", "DepthToSpace", "Expand", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split"}
    | {"Squeeze", "Transpose", "Unsqueeze"}
)
"""They hand values on and compute none."""

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})
"""Their results are sums of products."""
