"""The official packages as the reference for parity. Only tests use them."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch

required = False  # set by --run-slow and --run-released, which must not pass without its reference

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


def import_official(name: str = "segment_anything_hq", *, install: str = "") -> ModuleType:
    """The official SAM-HQ or SAM module; without it the calling test is skipped, or fails if it is required.

    `install` is the command for what no extra can name, which nothing requires.
    """
    import pytest

    declare_torchvision_operators()
    if required and not install:
        return importlib.import_module(name)
    how = f": {install}" if install else ""
    return pytest.importorskip(name, reason=f"the official reference {name} is not installed{how}")


def official_generator(name: str = "segment_anything_hq") -> Any:
    """The official `SamAutomaticMaskGenerator`, also beside a torchvision without compiled operators."""
    import_official(name)
    module = importlib.import_module(f"{name}.automatic_mask_generator")
    if not importlib.import_module("torchvision.extension")._has_ops():
        module.batched_nms = torchvision_nms
    return module.SamAutomaticMaskGenerator


def torchvision_nms(
    boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float
) -> torch.Tensor:
    """`torchvision.ops.boxes.batched_nms` of a single category, on torchvision's own box IoU."""
    overlap = importlib.import_module("torchvision.ops.boxes").box_iou(boxes, boxes).double() > iou_threshold
    left = torch.ones(len(boxes), dtype=torch.bool)
    kept = []
    for index in scores.sort(descending=True, stable=True).indices.tolist():
        if left[index]:
            kept.append(index)
            left &= ~overlap[index]
    return torch.tensor(kept, dtype=torch.int64)
