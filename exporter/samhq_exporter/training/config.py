"""What the user of `samhq-export train-hq` asked for, validated at birth. No torch here, so `--help` stays instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samhq_runtime.errors import ConfigError
from samhq_runtime.frames.image_files import WHITE

from ..architecture import TOKEN_FUSIONS

TRAINED = ("all", "token")
MIXED_PRECISIONS = ("no", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class TrainHqConfig:
    """One training of HQ parameters.

    Attributes:
        checkpoint: SAM or SAM-HQ weights, as `ExportConfig.checkpoint`; all but the HQ parameters stay as they are.
        base: weights of the whole SAM, for a checkpoint of the mask decoder alone, as `ExportConfig.base`.
        dataset: images and masks, see `samhq_runtime.evaluation.open.open_dataset`.
        output: `.safetensors` file to write, in the official layout, with the token fusion in its metadata.
        images: where the images of an annotation file are.
        masks: where the masks are, for images directly in the folder `dataset`.
        include_crowd: take annotations with `iscrowd` as objects.
        mask_suffix: how masks are named after their image's stem.
        white_point: value of white in images of 16 bits.
        held_out: a dataset to measure on; by default a tenth of `dataset`, at least one image, is not trained on.
        token_fusion: how the HQ token is made; by default what the checkpoint says, else `independent`.
        trained: `all` HQ parameters, or the HQ `token` alone.
        fresh: start from new HQ parameters although the checkpoint has some.
        steps: optimisation steps.
        batch: images per step.
        objects: objects prompted per image and step; of images with fewer, some come twice.
        learning_rate: the highest, of AdamW.
        evaluate_every: steps from one measurement on the held-out images to the next, and from one saved state to the
            next.
        device: `cpu`, `cuda`, `cuda:1`, ...; by default a GPU if PyTorch has one.
        mixed_precision: compute type of autocast; by default `bf16` on GPUs that have it, `fp16` on others, `no` on
            CPUs.
        seed: of new parameters, batches, prompts, and of the choice of held-out images.
        overwrite: replace an existing `output`, once the new one is complete.
    """

    checkpoint: Path
    dataset: Path
    output: Path
    base: Path | None = None
    images: Path | None = None
    masks: Path | None = None
    include_crowd: bool = False
    mask_suffix: str | None = None
    white_point: int = WHITE
    held_out: Path | None = None
    token_fusion: str | None = None
    trained: str = "all"
    fresh: bool = False
    steps: int = 1000
    batch: int = 4
    objects: int = 2
    learning_rate: float = 1e-3
    evaluate_every: int = 100
    device: str | None = None
    mixed_precision: str | None = None
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "objects", "evaluate_every", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"--{name.replace('_', '-')}: got {getattr(self, name)}, expected more than 0")
        for name, choices in (
            ("token_fusion", tuple(TOKEN_FUSIONS)),
            ("trained", TRAINED),
            ("mixed_precision", MIXED_PRECISIONS),
        ):
            value = getattr(self, name)
            if value is not None and value not in choices:
                raise ConfigError(f"unknown {name.replace('_', ' ')} {value!r}; choose from {', '.join(choices)}")
        if self.output.suffix != ".safetensors":
            raise ConfigError(f"{self.output}: expected a name that ends in .safetensors")
        if self.output.exists() and not self.overwrite:
            raise ConfigError(f"{self.output}: exists already; --overwrite to replace it, or name another file")
        if not self.output.parent.is_dir():
            raise ConfigError(f"{self.output.parent}: no such folder; make it first")

    @property
    def state(self) -> Path:
        """Where a training that is stopped is taken up from."""
        return self.output.with_name(f"{self.output.name}.state")
