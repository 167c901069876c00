"""The three ways to make the HQ output token."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samhq_exporter.architecture import TOKEN_FUSIONS
from samhq_exporter.model.token_fusion import TOKEN_FUSION_MODULES

SAM_TOKEN, HQ_TOKEN = torch.tensor([[1.0, 2.0, -3.0]]), torch.tensor([[0.5, -1.0, 4.0]])
RESULTS = {"independent": HQ_TOKEN, "sum": torch.tensor([[1.5, 1.0, 1.0]]), "hadamard": torch.tensor([[0.5, -2, -12]])}


def test_every_fusion_is_here() -> None:
    assert list(RESULTS) == list(TOKEN_FUSIONS) == list(TOKEN_FUSION_MODULES)


@pytest.mark.parametrize(("name", "expected"), RESULTS.items(), ids=RESULTS)
def test_arithmetic(name: str, expected: Tensor) -> None:
    torch.testing.assert_close(TOKEN_FUSION_MODULES[name]()(SAM_TOKEN, HQ_TOKEN), expected, rtol=0, atol=0)
