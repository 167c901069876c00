"""How the HQ output token is made from SAM's output token (SysCV/sam-hq issue 120, the published ablation).

Each way is a module of its own, so that the arithmetic is one named node of the exported decoder:
`/token_fusion/Mul` or `/token_fusion/Add`.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..architecture import TOKEN_FUSIONS


class IndependentToken(nn.Module):
    """The learned HQ token alone: what the released checkpoints use."""

    def forward(self, sam_token: Tensor, hq_token: Tensor) -> Tensor:
        return hq_token


class SumToken(nn.Module):
    """SAM token + HQ token."""

    def forward(self, sam_token: Tensor, hq_token: Tensor) -> Tensor:
        return sam_token + hq_token


class HadamardToken(nn.Module):
    """SAM token * HQ token, element by element: the best of the three in the ablation."""

    def forward(self, sam_token: Tensor, hq_token: Tensor) -> Tensor:
        return sam_token * hq_token


TOKEN_FUSION_MODULES: dict[str, type[nn.Module]] = dict(
    zip(TOKEN_FUSIONS, (IndependentToken, SumToken, HadamardToken), strict=True)
)
