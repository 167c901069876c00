"""Fold what is constant, drop what is unused, keep one copy of what is equal."""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
    ShapeInferencePass,
)
from onnxscript import optimizer

_NO_LIMIT = 1 << 40  # every weight may be folded: transposed linear weights, gathered position tables
TOKEN_FUSION = "/token_fusion/"
# It warns about `hq_token` being a graph input, which is what we want it to be.
logging.getLogger("onnx_ir.passes.common.initializer_deduplication").setLevel(logging.ERROR)


def clean_up(model: ir.Model) -> None:
    """Leave no node whose inputs are all constant, except the token fusion, and type every value.

    Postcondition: constants are initializers; no unused node or initializer; every value has dtype and shape as far as
    ONNX shape inference knows them.
    """
    optimizer.fold_constants(
        model,
        input_size_limit=_NO_LIMIT,
        output_size_limit=_NO_LIMIT,
        should_fold=lambda node: False if (node.name or "").startswith(TOKEN_FUSION) else None,
    )
    for graph_pass in (
        IdentityEliminationPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        CommonSubexpressionEliminationPass(),
        DeduplicateInitializersPass(size_limit=_NO_LIMIT),
        RemoveUnusedNodesPass(),
        ClearMetadataAndDocStringPass(),
        ShapeInferencePass(),
    ):
        graph_pass(model)
