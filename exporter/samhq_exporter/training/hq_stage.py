"""The HQ parameters of a frozen SAM: a fresh start, the prompts of a batch, and the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..model import PlainSam, Sam
from .compute import CPU, Compute
from .data import Batch, Source, low_res_targets
from .evaluate import HQ_ONLY, SAM_AND_HQ
from .losses import mask_loss
from .optimiser import Schedule
from .prompts import Prompts, boxes, near_misses, padding, points_in
from .training import Training

HQ_MODULES = ("mask_decoder.hq_token.", "mask_decoder.hq_mlp.", "mask_decoder.embedding_maskfeature.", "hq_fusion.")
TOKEN_START = {"independent": (0.0, 1.0), "sum": (0.0, 0.1), "hadamard": (1.0, 0.1)}  # mean and standard deviation

_HQ_OUTPUTS = torch.cat([SAM_AND_HQ, HQ_ONLY])
_BOX_JITTER = 0.05

Encoded = tuple[Tensor, Tensor]  # image embeddings and the early ViT feature
PromptGroup = tuple[Tensor, Prompts]  # indexes of objects, and the prompts of these


def hq_training(
    models: Sequence[Sam],
    source: Source,
    schedule: Schedule,
    *,
    compute: Compute = CPU,
    setting: Mapping[str, Any] | None = None,
) -> Training:
    """The training of models that share their frozen SAM, whose encoder works once for all of them."""

    def losses(batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        groups = prompt_groups(batch.masks, generator)  # drawn on the CPU: the same on every device
        batch = batch.to(compute.device)
        groups = [(chosen.to(compute.device), prompts.to(compute.device)) for chosen, prompts in groups]
        with torch.no_grad(), compute.autocast():
            encoded = models[0].image_encoder(batch.images)
        for sam in models:
            yield hq_loss(sam, batch, encoded, groups, compute)

    return Training(models, source, schedule, losses, compute=compute, setting=setting)


def fresh_hq(frozen: PlainSam, token_fusion: str, seed: int) -> Sam:
    """A copy of `frozen` whose HQ parameters are new, and alone trainable.

    As upstream has it, but for the token of `sum` and `hadamard`, which starts near SAM's.
    """
    torch.manual_seed(seed)
    sam = Sam(frozen.arch, token_fusion=token_fusion)
    nn.init.normal_(sam.mask_decoder.hq_token.weight, *TOKEN_START[token_fusion])
    sam.load_state_dict({k: v for k, v in frozen.state_dict().items() if not k.startswith(HQ_MODULES)}, strict=False)
    return only_hq_trainable(sam)


def only_hq_trainable(sam: Sam, *, token_alone: bool = False) -> Sam:
    """The same model; of its parameters those of the HQ part, or the HQ token by itself, require gradients."""
    trained = HQ_MODULES[0] if token_alone else HQ_MODULES
    for name, parameter in sam.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    return sam


def prompt_groups(masks: Tensor, generator: torch.Generator) -> list[PromptGroup]:
    """The objects' indexes in two random parts, each with its prompts: boxes, and points in one of several ways.

    Two thirds of the objects have boxes, rounded down; a part without objects is left out.
    """
    order = torch.randperm(len(masks), generator=generator)
    draw = float(torch.rand((), generator=generator))
    boxed, pointed = order.tensor_split([_boxed(len(masks), draw)])
    groups = []
    if len(boxed):
        prompts = boxes(masks[boxed], jitter=_BOX_JITTER, generator=generator)
        if draw < 0.15:
            prompts = points_in(masks[boxed], 1, 1.0, generator=generator) + prompts
        groups.append((boxed, prompts))
    if len(pointed):
        prompts = points_in(masks[pointed], 1 if draw < 0.5 else 3, 1.0, generator=generator)
        if draw > 0.75:
            prompts = prompts + near_misses(masks[pointed], generator=generator)
        groups.append((pointed, prompts + padding(len(pointed))))
    return groups


def _boxed(objects: int, draw: float) -> int:
    """How many have boxes; a single object now and then."""
    return int(draw < 2 / 3) if objects == 1 else 2 * objects // 3


def hq_loss(sam: Sam, batch: Batch, encoded: Encoded, groups: Sequence[PromptGroup], compute: Compute = CPU) -> Tensor:
    """Loss of the released output (SAM + HQ) and of the HQ mask alone; `encoded` is what the image encoder returns."""
    targets = low_res_targets(batch.masks, 4 * sam.arch.embedding_size)
    no_mask, has_none = targets.new_zeros(1, 1, *targets.shape[1:]), targets.new_zeros(1)
    outputs = _HQ_OUTPUTS.to(compute.device)
    losses = []
    with compute.autocast():
        features = (encoded[0], sam.hq_fusion(*encoded))
        for chosen, prompts in groups:
            index = batch.image_index[chosen]
            args = (*features, prompts.coords, prompts.labels, no_mask, has_none, index, outputs)
            losses.append(mask_loss(sam.decode_masks(*args)[0].float(), targets[chosen]).mean())
    return torch.stack(losses).mean()
