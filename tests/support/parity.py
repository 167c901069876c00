"""Seeded weights and the closeness that tests of numerical parity ask for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

TOLERANCE = 1e-4  # of the range of the reference
RELATIVE_ERROR = 1e-3  # of official logits, of a whole bundle
MASK_IOU = 0.9999


def randomise(module: nn.Module, *, seed: int) -> None:
    """Random values in every tensor of the state dict, of a scale that keeps activations of the order of 1."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif key.endswith("attention_biases"):
            value.copy_(noise)
        elif value.ndim >= 2:
            value.copy_(noise * value[0].numel() ** -0.5)
        elif key.endswith("weight"):  # of a normalisation
            value.copy_(1 + 0.3 * noise)
        else:
            value.copy_(0.3 * noise)


def assert_close(got: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Equal within `tolerance` of the range of `expected`."""
    assert got.shape == expected.shape
    scale = (expected.max() - expected.min()).item()
    assert (got - expected).abs().max().item() <= tolerance * scale
