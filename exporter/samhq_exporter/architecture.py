"""The sizes that tell one SAM-HQ checkpoint from another. No torch here, so `--help` stays instant."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class TinyViTStage:
    """One stage of a TinyViT image encoder: `depth` blocks of width `dim` on one grid."""

    dim: int
    depth: int
    num_heads: int = 0  # 0: a stage of convolutions
    window_size: int = 0
    stride: int = 2  # of the patch merging that leads into this stage; the first stage has none


@dataclass(frozen=True, kw_only=True)
class HieraStages:
    """The stages of a Hiera image encoder (SAM 2), of blocks each; from one to the next widths and heads double, and
    the sides of the grid and of the windows' queries halve.

    `position_side` is the side of the learned table of positions that is enlarged to the grid.
    """

    depths: tuple[int, ...]
    window_sizes: tuple[int, ...]
    position_side: int = 7


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Every size of a SAM-HQ model; the defaults are those all released ViT checkpoints share.

    `encoder_dim`, `depth`, `num_heads`, `global_attn_indexes` and `window_size` describe the ViT image encoder,
    `embed_dim` is the channel count of `image_embeddings` and of every decoder token.
    """

    encoder_dim: int
    depth: int
    num_heads: int
    global_attn_indexes: tuple[int, ...]
    window_size: int = 14
    image_size: int = 1024
    patch_size: int = 16
    mlp_dim: int | None = None
    embed_dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    iou_head_dim: int = 256
    mask_in_chans: int = 16
    stages: tuple[TinyViTStage, ...] = ()  # of a TinyViT image encoder; empty for others
    hiera: HieraStages | None = None  # of SAM 2; `encoder_dim` and `num_heads` then are those of the first stage
    decoder_norm_eps: float = 1e-5  # of the LayerNorms in the decoder's blocks; transformers has 1e-6

    @property
    def embedding_size(self) -> int:
        """Side of the `image_embeddings` grid in tokens."""
        return self.image_size // self.patch_size

    @property
    def image_size_step(self) -> int:
        """What `image_size` is a multiple of: Hiera's last stage has half the resolution of `image_embeddings`."""
        return 2 * self.patch_size if self.hiera else self.patch_size

    @property
    def encoder_mlp_dim(self) -> int:
        return self.mlp_dim or 4 * self.encoder_dim


VARIANTS: dict[str, Architecture] = {
    "vit_b": Architecture(encoder_dim=768, depth=12, num_heads=12, global_attn_indexes=(2, 5, 8, 11)),
    "vit_l": Architecture(encoder_dim=1024, depth=24, num_heads=16, global_attn_indexes=(5, 11, 17, 23)),
    "vit_h": Architecture(encoder_dim=1280, depth=32, num_heads=16, global_attn_indexes=(7, 15, 23, 31)),
    "vit_tiny": Architecture(
        encoder_dim=160,  # width of the early feature, the only encoder width the HQ fusion sees
        depth=0,
        num_heads=0,
        global_attn_indexes=(),
        stages=(
            TinyViTStage(dim=64, depth=2),
            TinyViTStage(dim=128, depth=2, num_heads=4, window_size=7),
            TinyViTStage(dim=160, depth=6, num_heads=5, window_size=14),
            TinyViTStage(dim=320, depth=2, num_heads=10, window_size=7, stride=1),
        ),
    ),
    "demo": Architecture(
        encoder_dim=128,
        depth=5,
        num_heads=2,
        global_attn_indexes=(2,),
        window_size=8,
        image_size=256,
        patch_size=8,
        mlp_dim=256,
        embed_dim=64,
        decoder_mlp_dim=256,
        iou_head_dim=64,
        mask_in_chans=8,
    ),
    "hiera_tiny": Architecture(
        encoder_dim=96,
        depth=12,
        num_heads=1,
        global_attn_indexes=(5, 7, 9),
        hiera=HieraStages(depths=(1, 2, 7, 2), window_sizes=(8, 4, 14, 7)),
    ),
    "hiera_small": Architecture(
        encoder_dim=96,
        depth=16,
        num_heads=1,
        global_attn_indexes=(7, 10, 13),
        hiera=HieraStages(depths=(1, 2, 11, 2), window_sizes=(8, 4, 14, 7)),
    ),
    "hiera_base_plus": Architecture(
        encoder_dim=112,
        depth=24,
        num_heads=2,
        global_attn_indexes=(12, 16, 20),
        hiera=HieraStages(depths=(2, 3, 16, 3), window_sizes=(8, 4, 14, 7), position_side=14),
    ),
    "hiera_large": Architecture(
        encoder_dim=144,
        depth=48,
        num_heads=2,
        global_attn_indexes=(23, 33, 43),
        hiera=HieraStages(depths=(2, 6, 36, 4), window_sizes=(8, 4, 16, 8)),
    ),
    "hiera_demo": Architecture(
        encoder_dim=16,
        depth=7,
        num_heads=1,
        global_attn_indexes=(4,),
        image_size=256,
        embed_dim=64,
        hiera=HieraStages(depths=(1, 2, 3, 1), window_sizes=(8, 4, 14, 7)),
    ),
}
CUSTOM = "custom"

# How the HQ output token is made of SAM's token and the learned HQ token, and the ONNX operator that does it. None: the
# learned token is taken as it is.
TOKEN_FUSIONS = {"independent": None, "sum": "Add", "hadamard": "Mul"}

# SAM's pixel statistics (ImageNet), the same for every variant: `Sam.pixel_mean` and `Sam.pixel_std` upstream. SAM 2
# states the same numbers for pixels divided by 255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


def variant_name(architecture: Architecture) -> str:
    """The table row with exactly these sizes, whatever `decoder_norm_eps`, or `custom` for a model of other sizes."""
    sizes = replace(architecture, decoder_norm_eps=Architecture.decoder_norm_eps)
    return next((name for name, row in VARIANTS.items() if row == sizes), CUSTOM)
