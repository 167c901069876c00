"""Weights that belong to SAM and still are no SAM: low-rank updates, adapters, shards. Each is said to be so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from samhq_runtime.errors import CheckpointError

_MERGE = (
    "merge them into the model they were trained on (with peft: model.merge_and_unload()), then export that as "
    "model=... or save its state dict"
)
_KINDS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"(^|[._])(lora|lora_[ab]|lora_embedding_[ab]|linear_[ab]_[qkv]|w_[ab](_\d+)?)([._]|$)", re.I),
        "low-rank updates (LoRA)",
        _MERGE,
    ),
    (
        re.compile(r"(^|[._])\w*(adapter|adaptor)s?\w*([._]|$)|(^|\.)prompt_generator\.", re.I),
        "adapters, layers that SAM does not have",
        "only SAM's and SAM-HQ's own layers can be exported: export the model that the adapters were put into",
    ),
    (
        re.compile(r"(^|\.)vision_encoder\.backbone\."),
        "SAM 2 under the names of transformers",
        "give the folder that save_pretrained writes, or the official file, such as sam2.1_hiera_large.pt",
    ),
    (
        re.compile(r"(^|\.)_?flat_param(_\d+)?$"),
        "the flattened parameters of one FSDP process",
        "save with a full state dict (StateDictType.FULL_STATE_DICT)",
    ),
    (
        re.compile(r"\.(weight_scale|qweight|qzeros|absmax|quant_map|SCB|_packed_params)\b"),
        "quantized layers",
        "save the model again without quantization; --precision int8 quantizes on export",
    ),
)


def require_own_kind(names: Iterable[str], path: Path) -> None:
    """CheckpointError that says what they are, for names of adapted, foreign or sharded models."""
    names = list(names)
    for pattern, kind, cure in _KINDS:
        found = [name for name in names if pattern.search(name)]
        if found:
            raise CheckpointError(
                f"{path.name}: holds {kind}, such as {found[0]} ({len(found)} of {len(names)} tensors); {cure}"
            )
