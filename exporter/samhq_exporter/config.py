"""What the user asked for, validated at birth. No torch here, so `--help` stays instant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samhq_runtime.errors import ConfigError
from samhq_runtime.nvidia.flavour import FLAVOURS

from .architecture import CUSTOM, TOKEN_FUSIONS, VARIANTS
from .precision.policy import CLIPPING_RULES, DEFAULT_CLIPPING, PRECISIONS

DEMO_CHECKPOINT = Path(__file__).parent / "demo" / "sam_hq_demo.safetensors"


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """One export.

    Attributes:
        checkpoint: weights file, `.pth` or `.safetensors`, a folder of Hugging Face weights, or a name in `RELEASES`,
            which is downloaded unless a path of that name exists; the demo model by default.
        base: weights file or name of the whole model, for a checkpoint that holds only a mask decoder.
        output: bundle folder to write; `samhq-<checkpoint>-<precision>` in the current folder by default.
        variant: insist on this variant instead of taking what the tensors' shapes say.
        token_fusion: how the HQ token is made; by default what the file's metadata say, else `independent`.
        image_size: interpolate the weights to this input size, a multiple of the patch size.
        hq_token: `.safetensors` or `.npy` file with a tuned HQ token that replaces the checkpoint's.
        precision: numerics of both graphs.
        keep_fp32: nodes that stay float32 besides those the precision's policy names: operator types, fragments of node
            names that start with `/`, or globs.
        calibration: images and folders of images that activation ranges are measured on; drawn scenes by default.
        clipping: rule from measured activations to int8 and fp8 scales; `entropy` counts int8 levels.
        image: picture for the parity check and the preview; a drawn scene by default.
        engine: also build TensorRT engines, `tensorrt` for this machine's GPU or `rtx` ahead of time.
        triton: also write a Triton model repository there, with the engines if they are for this machine's GPU.
        sign: PEM file with an Ed25519 private key, to sign the bundle with.
        overwrite: replace an existing bundle at `output`, once the new one is complete.
    """

    checkpoint: Path = DEMO_CHECKPOINT
    base: Path | None = None
    output: Path | None = None
    variant: str | None = None
    token_fusion: str | None = None
    image_size: int | None = None
    hq_token: Path | None = None
    precision: str = "fp32"
    keep_fp32: tuple[str, ...] = ()
    calibration: tuple[Path, ...] = ()
    clipping: str = DEFAULT_CLIPPING
    image: Path | None = None
    engine: str | None = None
    triton: Path | None = None
    sign: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        _require_choice("variant", self.variant, (*VARIANTS, CUSTOM))
        _require_choice("token fusion", self.token_fusion, tuple(TOKEN_FUSIONS))
        _require_choice("precision", self.precision, PRECISIONS)
        _require_choice("engine", self.engine, tuple(FLAVOURS))
        _require_choice("clipping rule", self.clipping, CLIPPING_RULES)
        if self.precision == "fp8" and self.clipping == "entropy":
            raise ConfigError("--clipping entropy: counts int8's even levels; choose mse, percentile or minmax for fp8")

    @property
    def output_folder(self) -> Path:
        return self.output or Path(f"samhq-{self.checkpoint.stem}-{self.precision}")


def _require_choice(what: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ConfigError(f"unknown {what} {value!r}; choose from {', '.join(choices)}")
