"""The official packages as the reference for parity. Only tests use them."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

required = False  # set by --run-slow, the whole suite, which must not pass without its reference

_BOX_OPERATORS = ("nms", "qnms")
_FEATURE_OPERATORS = ("roi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d")
_declared: list[torch.library.Library] = []  # a library's operators live as long as the object


def declare_torchvision_operators() -> None:
    """Let torchvision be imported beside a torch build without its compiled operators (none is called here)."""
    if _declared or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "DEF")
    _declared.append(library)
    for name in _BOX_OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in _FEATURE_OPERATORS:
        library.define(f"{name}(Tensor x) -> Tensor")
        library.define(f"_{name}_backward(Tensor x) -> Tensor")


def import_official(name: str = "segment_anything_hq") -> ModuleType:
    """The official SAM-HQ or SAM module; without it the calling test is skipped, or fails if it is required."""
    import pytest

    declare_torchvision_operators()
    if required:
        return importlib.import_module(name)
    return pytest.importorskip(name, reason="the official reference is not installed")
