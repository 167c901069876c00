"""The HQ mask decoder: two-way transformer, mask heads of the SAM tokens and of the HQ token.

Parameter names follow `segment_anything_hq.modeling.MaskDecoderHQ` with `hf_` spelt `hq_`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samhq_runtime.contract import NUM_SAM_TOKENS

from ..architecture import Architecture
from .layers import MLP, LayerNorm2d, upsample_pixels
from .transformer import TwoWayTransformer

_MAPS = 10  # of the HQ mask: nine taps and a zero


class HqFusion(nn.Module):
    """`image_embeddings` and the early ViT feature -> `hq_features` (B, C/8, 4G, 4G).

    Depends on the image alone, hence a part of the encoder graph (upstream keeps it in the decoder).
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        dim = arch.embed_dim
        self.grid = arch.embedding_size
        self.features = dim // 8
        self.compress_vit_feat = _upscaling(arch.encoder_dim, dim, self.features)
        self.embedding_encoder = _upscaling(dim, dim // 4, self.features)

    def forward(self, image_embeddings: Tensor, early: Tensor) -> Tensor:
        pixels = _upscale_pixels(image_embeddings.permute(0, 2, 3, 1), self.embedding_encoder)
        pixels = pixels + _upscale_pixels(early, self.compress_vit_feat)
        return raster(pixels, self.grid).permute(0, 3, 1, 2)


class MaskDecoder(nn.Module):
    """SAM's own decoder: one IoU token and four mask tokens."""

    first_mask_token = 1  # before it the IoU token; behind the masks' the HQ token, then prompts

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        dim, features = arch.embed_dim, arch.embed_dim // 8
        self.dim = dim
        self.grid = arch.embedding_size
        self.transformer = TwoWayTransformer(
            dim,
            depth=arch.decoder_depth,
            num_heads=arch.decoder_heads,
            mlp_dim=arch.decoder_mlp_dim,
            norm_eps=arch.decoder_norm_eps,
        )
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(NUM_SAM_TOKENS, dim)
        self.output_upscaling = nn.Sequential(*_upscaling(dim, dim // 4, features), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList(MLP((dim, dim, dim, features)) for _ in range(NUM_SAM_TOKENS))
        self.iou_prediction_head = MLP((dim, arch.iou_head_dim, arch.iou_head_dim, NUM_SAM_TOKENS))
        self.hypernetworks = SideBySide()
        self.mask_product = self._mask_product()

    def forward(
        self, image_tokens: Tensor, image_pe: Tensor, sparse_prompts: Tensor, mask_weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `HqMaskDecoder.forward`, with `mask_weights` (K, 4)."""
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens, upscaled = self.attend(output_tokens, image_tokens, image_pe, sparse_prompts)
        return self.masks(tokens, upscaled, mask_weights), self.iou_prediction_head(tokens[:, 0])

    def masks(self, tokens: Tensor, upscaled: Tensor, mask_weights: Tensor) -> Tensor:
        """Tokens and pixels after attention, mask_weights (K,4) -> (B,K,4G,4G)."""
        return self.mask_product(self.mask_vectors(tokens, self.output_hypernetworks_mlps), upscaled, mask_weights)

    def mask_vectors(self, tokens: Tensor, mlps: Sequence[nn.Module] | nn.ModuleList) -> Tensor:
        """The mask tokens, one for each network, through them: (B,n,C/8)."""
        first = self.first_mask_token
        return self.hypernetworks(tokens[:, first : first + len(mlps)], mlps)

    def attend(
        self, output_tokens: Tensor, image_tokens: Tensor, image_pe: Tensor, sparse_prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Output tokens (T,C) meet prompts and image: tokens (B,T+N,C), upscaled pixels (B,4G,4G,C/8)."""
        tokens, image_tokens = self.meet(output_tokens, image_tokens, image_pe, sparse_prompts)
        return tokens, raster(F.gelu(_upscale_pixels(image_tokens, self.output_upscaling)), self.grid)

    def meet(
        self, output_tokens: Tensor, image_tokens: Tensor, image_pe: Tensor, sparse_prompts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The transformer alone: tokens (B,T+N,C) and image tokens (B,G*G,C)."""
        batch, count = sparse_prompts.shape[0], output_tokens.shape[0]
        tokens = torch.cat([output_tokens[None].expand(batch, int(count), self.dim), sparse_prompts], dim=1)
        return self.transformer(tokens, image_tokens, image_pe)

    def _mask_product(self) -> nn.Module:
        return MaskProduct(4 * self.grid)


class WithHqMask(MaskDecoder):
    """What SAM-HQ and HQ-SAM 2 add to a decoder: the HQ token among the output tokens, a hypernetwork, features.

    The HQ token takes part in self-attention, so even SAM's masks are not exactly those of the decoder without it.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__(arch)
        dim, hidden, features = arch.embed_dim, arch.embed_dim // 4, arch.embed_dim // 8
        self.hq_token = nn.Embedding(1, dim)
        self.hq_mlp = MLP((dim, dim, dim, features))
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(features, hidden, 3, padding=1),
            LayerNorm2d(hidden),
            nn.GELU(),
            nn.Conv2d(hidden, features, 3, padding=1),
        )

    def masks(
        self, tokens: Tensor, upscaled: Tensor, mask_weights: Tensor, hq_features: Tensor | None = None
    ) -> Tensor:
        """As above, with mask_weights (K,5); hq_features as `HqMaskProduct` takes them."""
        hyper = self.mask_vectors(tokens, [*self.output_hypernetworks_mlps, self.hq_mlp])
        conv1, norm, act, conv2 = self.embedding_maskfeature
        assert isinstance(norm, LayerNorm2d)
        hq_hidden = act(norm.channels_last(conv1(upscaled.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)))
        sam, hq = hyper[:, :NUM_SAM_TOKENS], hyper[:, NUM_SAM_TOKENS:]
        return self.mask_product(sam, upscaled, mask_weights, hq, hq_hidden, conv2, hq_features)

    def _mask_product(self) -> nn.Module:
        return HqMaskProduct(4 * self.grid)


class HqMaskDecoder(WithHqMask):
    """SAM-HQ's own decoder, whose HQ mask also has features that depend on the image alone."""

    def forward(  # type: ignore[override]
        self,
        image_tokens: Tensor,
        hq_features: Tensor,
        image_pe: Tensor,
        sparse_prompts: Tensor,
        hq_output_token: Tensor,
        mask_weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Masks and their predicted quality for B prompts.

        Args:
            image_tokens: (B, G*G, C) image embeddings of each prompt's image plus its dense prompt.
            hq_features: (B, C/8, 4G, 4G), one per prompt.
            image_pe: (1, G*G, C).
            sparse_prompts: (B, N, C).
            hq_output_token: (1, C), already fused with the SAM token.
            mask_weights: (K, 5), how each of the K masks is made of the 4 SAM token masks and the HQ token mask.

        Returns:
            `low_res_logits` (B, K, 4G, 4G) and `iou_predictions` (B, 4) of the SAM tokens.
        """
        output_tokens = torch.cat([self.iou_token.weight, self.mask_tokens.weight, hq_output_token])
        tokens, upscaled = self.attend(output_tokens, image_tokens, image_pe, sparse_prompts)
        return self.masks(tokens, upscaled, mask_weights, hq_features), self.iou_prediction_head(tokens[:, 0])


class SideBySide(nn.Module):
    """Hypernetworks of the same widths, one token each: a batched product per layer instead of one per network."""

    def forward(self, tokens: Tensor, mlps: Sequence[MLP]) -> Tensor:
        """(B, n, C) through n networks -> (B, n, F)."""
        x = tokens.transpose(0, 1)
        for position, layers in enumerate(zip(*(mlp.layers for mlp in mlps), strict=True)):
            x = F.relu(x) if position else x
            weight = torch.stack([layer.weight.T for layer in layers])
            x = x @ weight + torch.stack([layer.bias for layer in layers])[:, None]
        return x.transpose(0, 1)


class MaskProduct(nn.Module):
    """Hypernetwork vectors times pixel features: the K requested masks, and no others."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, hyper: Tensor, upscaled: Tensor, mask_weights: Tensor) -> Tensor:
        """hyper (B,4,F), upscaled (B,L,L,F), mask_weights (K,4) -> (B,K,L,L)."""
        masks = self.combine(hyper, upscaled, mask_weights)
        return masks.reshape(masks.shape[0], -1, self.side, self.side)

    def combine(self, hyper: Tensor, upscaled: Tensor, weights: Tensor) -> Tensor:
        """(B,K,L*L), combined before the product, so that K masks are computed and not all."""
        return (weights @ hyper) @ upscaled.reshape(-1, self.side**2, int(upscaled.shape[3])).transpose(1, 2)


class HqMaskProduct(MaskProduct):
    """SAM's masks and the HQ token's.

    Upstream computes all of `embedding_maskfeature` and then dots it with the HQ vector. Its last 3x3 convolution and
    the dot product are both linear: dotting the kernel with the vector first leaves one 9-channel map to shift and sum
    instead of C/8 channels to convolve. A tenth channel is zero: TensorRT's product wants an even number of rows, and
    spends two kernels on making them.
    """

    shift_and_sum: Tensor

    def __init__(self, side: int) -> None:
        super().__init__(side)
        # Channel k of this kernel is 1 at tap k: the convolution sums nine maps, each shifted to its tap.
        self.register_buffer("shift_and_sum", torch.eye(_MAPS, 9).reshape(1, _MAPS, 3, 3), persistent=False)

    def forward(  # type: ignore[override]
        self,
        hyper: Tensor,
        upscaled: Tensor,
        mask_weights: Tensor,
        hq_hyper: Tensor,
        hq_hidden: Tensor,
        last_conv: nn.Conv2d,
        hq_features: Tensor | None = None,
    ) -> Tensor:
        """As above, with mask_weights (K,5).

        Args:
            hq_hyper: (B,1,F), the HQ token's vector.
            hq_hidden: (B,L,L,2F), what the last convolution reads.
            last_conv: of `embedding_maskfeature`.
            hq_features: (B,F,L,L) of SAM-HQ, the part of the features that depends on the image alone.
        """
        features, hidden, side = last_conv.out_channels, last_conv.in_channels, self.side
        kernel = last_conv.weight.reshape(features, hidden, 9).transpose(1, 2)
        kernel = torch.cat([kernel, kernel.new_zeros(features, _MAPS - 9, hidden)], dim=1)
        taps = (hq_hyper @ kernel.reshape(features, -1)).reshape(-1, _MAPS, hidden)
        maps = (taps @ hq_hidden.reshape(-1, side * side, hidden).transpose(1, 2)).reshape(-1, _MAPS, side, side)
        hq = F.conv2d(maps, self.shift_and_sum, padding=1).reshape(-1, 1, side * side)
        if hq_features is not None:
            hq = hq + hq_hyper @ hq_features.reshape(-1, features, side * side)
        assert last_conv.bias is not None
        hq = hq + hq_hyper @ last_conv.bias[:, None]
        masks = self.combine(hyper, upscaled, mask_weights[:, :NUM_SAM_TOKENS])
        masks = masks + mask_weights[:, NUM_SAM_TOKENS:] * hq
        return masks.reshape(masks.shape[0], -1, side, side)


def _upscaling(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Four-fold upscaling by two transposed convolutions; the indices are those of the official state dict."""
    return nn.Sequential(
        nn.ConvTranspose2d(dim, hidden, kernel_size=2, stride=2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, out, kernel_size=2, stride=2),
    )


def _upscale_pixels(x: Tensor, upscaling: nn.Sequential) -> Tensor:
    """(..., C) grid tokens -> (B*G*G*16, C_out): the two convolutions, channels last all the way, pixels in blocks."""
    conv1, norm, act, conv2 = list(upscaling)[:4]
    assert isinstance(conv1, nn.ConvTranspose2d)
    assert isinstance(norm, LayerNorm2d)
    assert isinstance(conv2, nn.ConvTranspose2d)
    pixels = x.reshape(-1, conv1.in_channels)
    return upsample_pixels(act(norm.channels_last(upsample_pixels(pixels, conv1))), conv2)


def raster(pixels: Tensor, grid: int) -> Tensor:
    """(B*G*G*16, C) pixels in 4x4 blocks of 2x2 blocks -> (B, 4G, 4G, C)."""
    channels = int(pixels.shape[1])
    blocks = pixels.reshape(-1, grid, grid, 2, 2, 2, 2, channels)  # (B, y, x, y/2, x/2, y/4, x/4, channel)
    return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, 4 * grid, 4 * grid, channels)
