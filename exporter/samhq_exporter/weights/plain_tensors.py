"""Are these tensors weights: plain arrays of floating-point numbers, each with memory of its own?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch
from torch import Tensor

from samhq_runtime.errors import CheckpointError

from ..model.tiny_vit import drop_unused

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TIED = 2  # how many times the tensors of a file may be as large as what it stores: some models tie a few


def require_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Before any value is read.

    Raises:
        CheckpointError: quantized, sparse or meta tensors, whole numbers, booleans, complex numbers; or shapes that
            stand for more than the file holds.
    """
    weights = drop_unused(state)
    for name, tensor in weights.items():
        kind = _not_plain(tensor)
        if kind:
            raise CheckpointError(
                f"{path.name}: {name} is {kind}; expected float16, bfloat16, float32 or float64 weights: save the "
                "model again without quantization"
            )
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in weights.values()}
    needed = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if needed > _TIED * sum(held.values()):
        raise CheckpointError(
            f"{path.name}: its tensors stand for {needed} bytes, it holds {sum(held.values())}; expected every value "
            "to be stored: save it again with .contiguous() tensors"
        )


def require_stored(path: Path) -> None:
    """CheckpointError for an archive that is larger unpacked than it is; `torch.save` compresses nothing."""
    try:
        if not is_zipfile(path):
            return
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except (BadZipFile, ValueError, NotImplementedError):
        return  # whoever reads it says so
    packed = [entry.filename for entry in entries if entry.compress_type != ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(
            f"{path.name}: an archive that is compressed, or larger inside than outside, which torch.save does not "
            "write; expected a state dict saved with torch.save or safetensors"
        )


def _not_plain(tensor: Tensor) -> str:
    """What a tensor is instead of a plain array of floats; empty if it is one."""
    if tensor.is_nested:
        return "nested"
    if tensor.layout is not torch.strided:
        return f"sparse ({tensor.layout})"
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_meta:
        return "a meta tensor, a shape without values"
    return "" if tensor.dtype in _DTYPES else f"of {tensor.dtype}"
