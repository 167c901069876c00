"""Stored weights -> strictly loaded model. Sizes are read from the tensors, never guessed from the file name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from samhq_runtime.contract import NO_FUSION
from samhq_runtime.errors import CheckpointError, ConfigError
from samhq_runtime.files import sha256_of

from ..architecture import TOKEN_FUSIONS, Architecture, variant_name
from ..model import PlainSam, PlainSam2, Sam, Sam2, WithHqToken
from ..model.tiny_vit import fold_weights
from .base import is_part, merged
from .in_memory import weights_of
from .infer import MASK_TOKENS, NOT_A_MODEL, architecture_of, is_tiny_vit
from .input_size import resize_state, resized
from .plain_tensors import require_weights
from .sam2_names import image_part, is_sam2
from .stored import read_weights

# (official prefix, prefix in our modules): `hf_` is spelt `hq_`, and what depends on the image alone moved.
_PREFIXES = (
    ("mask_decoder.hf_token.", "mask_decoder.hq_token."),
    ("mask_decoder.hf_mlp.", "mask_decoder.hq_mlp."),
    ("mask_decoder.compress_vit_feat.", "hq_fusion.compress_vit_feat."),
    ("mask_decoder.embedding_encoder.", "hq_fusion.embedding_encoder."),
)
_OUR_NAMES = tuple(ours for _, ours in _PREFIXES)
_NAMED_HQ = re.compile(r"sam(2(\.1)?)?[_-]hq[_-]")  # as the authors name their files and folders
_HQ_KEYS = (*(official for official, _ in _PREFIXES), "mask_decoder.embedding_maskfeature.")


@dataclass(frozen=True)
class SourceFile:
    """Name and SHA-256 of a file, or shards, that some of the weights came from."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model in eval mode, with where it came from.

    `token_fusion` is `none` for a plain SAM; `hq_token` is the tuned HQ token in the place of the checkpoint's, `base`
    the whole model that a file of a mask decoder alone was put into. `notice` is a line about tensors of the file that
    are not used; empty if all are.
    """

    sam: PlainSam
    variant: str
    token_fusion: str
    sha256: str
    file_name: str
    hq_token: SourceFile | None = None
    base: SourceFile | None = None
    notice: str = ""

    @property
    def sam_hq(self) -> Sam:
        """`sam`, if it is a SAM-HQ; else ConfigError."""
        if not isinstance(self.sam, Sam):
            raise ConfigError(f"{self.file_name}: a {self.variant} model, not SAM-HQ; expected SAM-HQ weights")
        return self.sam

    @property
    def hq_token_weight(self) -> Tensor:
        """(1,C), the learned HQ token of SAM-HQ or HQ-SAM 2; ConfigError of a plain SAM."""
        if not isinstance(self.sam, WithHqToken):
            raise ConfigError(f"{self.file_name}: a plain SAM without HQ part; expected SAM-HQ weights")
        return self.sam.mask_decoder.hq_token.weight


def load_checkpoint(
    path: Path,
    *,
    base: Path | None = None,
    variant: str | None = None,
    token_fusion: str | None = None,
    image_size: int | None = None,
) -> Checkpoint:
    """Load SAM-HQ or SAM weights: an official state dict (`.pth`, `.safetensors`) or a Hugging Face folder.

    Args:
        path: the weights file or folder; pickles are read with `weights_only=True`, so code in them never runs.
        base: the whole model's weights, for a `path` that holds only a mask decoder, which wins over the base's.
        variant: insist on this variant; by default it is recognised from the tensors' shapes.
        token_fusion: one of `TOKEN_FUSIONS`; by default the file's metadata, else `independent` as released.
        image_size: interpolate the weights to this input size; by default the one they were trained with.

    Raises:
        CheckpointError: unreadable, unsafe, not SAM or SAM-HQ, or tensors missing or left over.
        ConfigError: `variant` is not what the file holds, `token_fusion` contradicts its metadata or is for a plain
            SAM, `image_size` does not fit the patches, or `base` is given for whole weights.
    """
    stored = read_weights(path)
    tensors, whole = merged(stored, path, base)
    require_weights(tensors, path)
    own, notice = _own_names(tensors, path)
    state = {key: value.float() for key, value in own.items()}
    fusion = _token_fusion(state, stored.metadata, token_fusion, path)
    arch = replace(infer_architecture(state, path), decoder_norm_eps=stored.decoder_norm_eps)
    digest = _sha256_of(stored.files)
    built = _build(state, arch, path, variant=variant, token_fusion=fusion, image_size=image_size, sha256=digest)
    built = replace(built, notice=notice)
    if base is None or whole is None:
        return built
    return replace(built, base=SourceFile(base.name, _sha256_of(whole.files)))


def checkpoint_of_model(
    model: nn.Module, *, variant: str | None = None, token_fusion: str | None = None, image_size: int | None = None
) -> Checkpoint:
    """The weights of a `Sam` object of `segment_anything_hq` or `segment_anything` (fine-tuned, say), copied.

    Raises as `load_checkpoint` and `weights_of` do; the hash is over the names and values of its tensors.
    """
    given, name = weights_of(model)
    if is_part(given):
        raise ConfigError(f"model=: {name} without image encoder; expected the whole Sam")
    own, notice = _own_names(given, name)
    state = {key: value.detach().cpu().float().clone() for key, value in own.items()}
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].contiguous().numpy().tobytes())
    fusion = _token_fusion(state, {}, token_fusion, name)
    sha256 = digest.hexdigest()
    arch = infer_architecture(state, name)
    built = _build(state, arch, name, variant=variant, token_fusion=fusion, image_size=image_size, sha256=sha256)
    return replace(built, notice=notice)


def from_official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official state-dict keys -> keys of `model.Sam`; a TinyViT's weights are folded."""
    folded = fold_weights(state) if is_tiny_vit(state) else state
    return {_rename(key, _PREFIXES): value for key, value in folded.items()}


def to_official_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of `model.Sam` -> official state-dict keys (of a ViT; TinyViT's folded weights cannot be unfolded)."""
    prefixes = tuple((ours, official) for official, ours in _PREFIXES)
    return {_rename(key, prefixes): value for key, value in state.items()}


def infer_architecture(state: Mapping[str, Tensor], path: Path) -> Architecture:
    """Read every size off the shapes of an official-format state dict."""
    try:
        return architecture_of(state)
    except NOT_A_MODEL as e:
        raise CheckpointError(
            f"{path.name}: not a SAM or SAM-HQ checkpoint (its tensors do not describe one: {e}); "
            "expected the names and shapes of sam_hq_vit_b, vit_l, vit_h or vit_tiny, or of a SAM 2.1"
        ) from e


def _own_names(tensors: Mapping[str, Tensor], path: Path) -> tuple[Mapping[str, Tensor], str]:
    """The tensors that segment images under SAM's names, and a line about those that do not."""
    if not is_sam2(tensors):
        return tensors, ""
    own, video = image_part(tensors, path)
    notice = f"{path.name}: {len(video)} tensors are for videos alone and left out, such as {video[0]}" if video else ""
    return own, notice


def _build(
    state: dict[str, Tensor],
    arch: Architecture,
    path: Path,
    *,
    variant: str | None,
    token_fusion: str,
    image_size: int | None,
    sha256: str,
) -> Checkpoint:
    found = variant_name(arch)
    if variant is not None and variant != found:
        raise ConfigError(f"{path.name}: holds a {found} model, --variant asked for {variant}; drop the option")
    if image_size is not None and image_size != arch.image_size:
        arch = resized(arch, image_size)
        state = resize_state(state, arch)
    sam = _empty_model(arch, token_fusion, path)
    _load_strictly(sam, state, path)
    return Checkpoint(sam.eval().requires_grad_(False), found, token_fusion, sha256, path.name)


def _empty_model(arch: Architecture, token_fusion: str, path: Path) -> PlainSam:
    try:
        plain, hq = (PlainSam2, Sam2) if arch.hiera else (PlainSam, Sam)
        return plain(arch) if token_fusion == NO_FUSION else hq(arch, token_fusion=token_fusion)
    except (ValueError, RuntimeError, ZeroDivisionError) as e:
        raise CheckpointError(f"{path.name}: its tensors describe a model that cannot exist ({arch})") from e


def _sha256_of(files: Sequence[Path]) -> str:
    """Of the weights file; of several shards, the digest of their digests in the order of their names."""
    digests = [sha256_of(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _token_fusion(state: Mapping[str, Tensor], metadata: Mapping[str, str], asked: str | None, path: Path) -> str:
    """What the file says or the caller asks for; `none` if the weights have no HQ part at all."""
    if MASK_TOKENS not in state:
        raise CheckpointError(
            f"{path.name}: not a SAM checkpoint ({MASK_TOKENS} is missing among {len(state)} tensors)"
        )
    recorded = metadata.get("token_fusion")
    if recorded and asked and recorded != asked:
        raise ConfigError(
            f"{path.name}: was trained with token fusion {recorded}, --token-fusion asked for {asked}; drop the option"
        )
    fusion = asked or recorded
    if not any(key.startswith(_HQ_KEYS) for key in state):
        if fusion:
            raise ConfigError(
                f"{path.name}: a SAM checkpoint without the HQ part, which has no HQ token for token fusion {fusion}; "
                "drop --token-fusion to export plain SAM, or give SAM-HQ weights such as sam_hq_vit_b.pth"
            )
        if _NAMED_HQ.match(path.name):
            raise CheckpointError(
                f"{path.name}: named as SAM-HQ, but none of the {len(state)} tensors is of the HQ part (hf_token, "
                "hf_mlp, ...); download it again, or rename it to export the plain SAM in it"
            )
        return NO_FUSION
    fusion = fusion or "independent"
    if fusion not in TOKEN_FUSIONS:
        raise ConfigError(f"unknown token fusion {fusion!r}; choose from {', '.join(TOKEN_FUSIONS)}")
    return fusion


def _load_strictly(sam: PlainSam, state: Mapping[str, Tensor], path: Path) -> None:
    """Every tensor in place, none left over, all finite."""
    expected = sam.state_dict()
    got = from_official_keys(state)
    ours = {key for key in state if key.startswith(_OUR_NAMES)}  # no file has them; renamed ones must not hide them
    missing, unknown = sorted(expected.keys() - got.keys()), sorted((got.keys() - expected.keys()) | ours)
    if missing or unknown:
        raise CheckpointError(f"{path.name}: tensors missing {_some(missing)}, unexpected {_some(unknown)}")
    wrong = [
        f"{k} {tuple(got[k].shape)}, not {tuple(expected[k].shape)}" for k in got if got[k].shape != expected[k].shape
    ]
    if wrong:
        raise CheckpointError(f"{path.name}: tensors of the wrong shape {_some(wrong)}")
    broken = [key for key, value in got.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(f"{path.name}: NaN or infinity in {_some(broken)}; the file is damaged or diverged")
    sam.load_state_dict(got, strict=True, assign=True)


def _some(names: list[str]) -> str:
    return f"[{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}] ({len(names)})"


def _rename(key: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
