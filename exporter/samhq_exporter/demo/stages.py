"""The two training stages: SAM alone, then the HQ parameters of a frozen SAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samhq_runtime.contract import NUM_SAM_TOKENS

from ..architecture import Architecture
from ..model import Sam
from ..model.mask_decoder import MaskProduct
from ..model.transformer import Attention
from .data import Batch, Sample, low_res_targets
from .evaluate import HQ_ONLY, SAM_AND_HQ
from .losses import mask_loss, sam_loss
from .optimiser import Optimiser, Schedule
from .prompts import Prompts, boxes, corrections, near_misses, padding, points_in

HQ_MODULES = ("mask_decoder.hq_token.", "mask_decoder.hq_mlp.", "mask_decoder.embedding_maskfeature.", "hq_fusion.")

_HQ_OUTPUTS = torch.cat([SAM_AND_HQ, HQ_ONLY])
_BOX_JITTER = 0.05
_CORRECTED = 0.15  # share of the prompt groups that get a second round
_POSITION_SCALE = 0.5

Report = Callable[[int, float, Sam], None]  # step, loss, the model so far
Encoded = tuple[Tensor, Tensor]  # image embeddings and the early ViT feature
PromptGroup = tuple[Tensor, Prompts]  # indexes of objects, and the prompts of these


def train_sam(arch: Architecture, samples: Sequence[Sample], schedule: Schedule, report: Report) -> Sam:
    """A SAM trained from scratch, its HQ parameters left as initialised."""
    torch.manual_seed(schedule.seed)
    sam = Sam(arch)
    initialise(sam)
    sam.train()
    optimiser = Optimiser((p for name, p in sam.named_parameters() if not name.startswith(HQ_MODULES)), schedule)
    generator = torch.Generator().manual_seed(schedule.seed)
    for step, batch in enumerate(schedule.batches(samples), 1):
        loss = _sam_loss(sam, batch, generator)
        optimiser.step(loss)
        report(step, loss.item(), sam)
    return sam.eval()


def train_hq(
    frozen: Sam, token_fusions: Sequence[str], samples: Sequence[Sample], schedule: Schedule, report: Report
) -> list[Sam]:
    """Copies of `frozen`, one per token fusion, with their HQ parameters trained from scratch and all else unchanged.

    They train side by side on the same batches and prompts, and share the frozen encoder's work; each comes out as if
    trained alone. `report` is called for each after each step.
    """
    models = [_hq_trainee(frozen, token_fusion, schedule.seed) for token_fusion in token_fusions]
    optimisers = [Optimiser((p for p in sam.parameters() if p.requires_grad), schedule) for sam in models]
    generator = torch.Generator().manual_seed(schedule.seed)
    for step, batch in enumerate(schedule.batches(samples), 1):
        with torch.no_grad():
            encoded = frozen.image_encoder(batch.images)
        groups = _prompt_groups(batch.masks, generator)
        for sam, optimiser in zip(models, optimisers, strict=True):
            loss = _hq_loss(sam, batch, encoded, groups)
            optimiser.step(loss)
            report(step, loss.item(), sam)
    return [sam.eval().requires_grad_(True) for sam in models]


def _hq_trainee(frozen: Sam, token_fusion: str, seed: int) -> Sam:
    """A copy of `frozen` whose HQ parameters are fresh and alone trainable."""
    torch.manual_seed(seed)
    sam = Sam(frozen.arch, token_fusion=token_fusion)
    initialise(sam)
    sam.load_state_dict({k: v for k, v in frozen.state_dict().items() if not k.startswith(HQ_MODULES)}, strict=False)
    for name, parameter in sam.named_parameters():
        parameter.requires_grad_(name.startswith(HQ_MODULES))
    return sam.train()


def initialise(sam: Sam) -> None:
    """Start where little is left to learn about positions, and where the fused token is near the SAM token.

    The encoder's position embedding starts as the prompts' one, and the decoder projects queries and keys alike, so
    that image and prompt tokens at nearby positions attend to each other from the first step.
    """
    arch = sam.arch
    encoding = sam.prompt_encoder.dense_pe().reshape(1, arch.embedding_size, arch.embedding_size, arch.embed_dim)
    with torch.no_grad():
        encoding = encoding.repeat(1, 1, 1, arch.encoder_dim // arch.embed_dim)
        sam.get_parameter("image_encoder.pos_embed").copy_(_POSITION_SCALE * encoding)
    for name, embedding in sam.prompt_encoder.named_modules():
        if isinstance(embedding, nn.Embedding) and "point" in name:
            nn.init.normal_(embedding.weight, std=0.3)
    for name, attention in sam.mask_decoder.transformer.named_modules():
        if isinstance(attention, Attention) and "cross_attn" in name:
            nn.init.orthogonal_(attention.q_proj.weight)
            attention.k_proj.load_state_dict(attention.q_proj.state_dict())
    mean, std = {"hadamard": (1.0, 0.1), "sum": (0.0, 0.1), "independent": (0.0, 1.0)}[sam.fusion_mode]
    nn.init.normal_(sam.mask_decoder.hq_token.weight, mean, std)


def _sam_loss(sam: Sam, batch: Batch, generator: torch.Generator) -> Tensor:
    """Boxes for most objects, points for the others; now and then a second round that corrects the first."""
    embeddings, _ = sam.image_encoder(batch.images)
    targets = low_res_targets(batch.masks, 4 * sam.arch.embedding_size)
    token = _any_hq_token(sam, generator)
    losses = []
    for chosen, prompts in _prompt_groups(batch.masks, generator):
        part = _Part(embeddings, batch.image_index[chosen], batch.masks[chosen], targets[chosen], token)
        losses.append(part.loss(sam, prompts))
        if torch.rand((), generator=generator) < _CORRECTED:
            losses.append(part.corrected_loss(sam, prompts, generator))
    return torch.stack(losses).mean()


@dataclass(frozen=True)
class _Part:
    """Objects prompted in the same way, with what their masks are decoded from and compared with."""

    image_embeddings: Tensor
    image_index: Tensor
    masks: Tensor
    targets: Tensor
    hq_token: Tensor

    def decode(self, sam: Sam, prompts: Prompts, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The SAM tokens' logits (M,4,L,L) and IoU predictions; `previous` (M,1,L,L) logits are a mask prompt.

        `sam.decode_masks` without its HQ half, which no SAM mask depends on.
        """
        mask_input = torch.zeros(1, 1, *self.targets.shape[1:]) if previous is None else previous
        has_mask = torch.zeros(1) if previous is None else torch.ones(1)
        sparse, dense = sam.prompt_encoder(prompts.coords, prompts.labels, mask_input, has_mask)
        image_tokens = self.image_embeddings.flatten(2).transpose(1, 2)[self.image_index] + dense
        decoder = sam.mask_decoder
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, self.hq_token])
        tokens, upscaled = decoder.attend(output_tokens, image_tokens, sam.prompt_encoder.dense_pe(), sparse)
        product = MaskProduct(self.targets.shape[-1])
        logits = product(decoder.hypernetworks(tokens), upscaled, torch.eye(NUM_SAM_TOKENS))
        return logits, decoder.iou_prediction_head(tokens[:, 0])

    def loss(self, sam: Sam, prompts: Prompts) -> Tensor:
        return sam_loss(*self.decode(sam, prompts), self.targets)

    def corrected_loss(self, sam: Sam, prompts: Prompts, generator: torch.Generator) -> Tensor:
        """The loss after one more point where the first answer is wrong, and that answer as the mask prompt."""
        with torch.no_grad():
            previous = self.decode(sam, prompts)[0][:, :1]
        predicted = nn.functional.interpolate(previous, size=self.masks.shape[1:], mode="bilinear")[:, 0] > 0
        prompts = corrections(self.masks, predicted, generator=generator) + prompts
        return sam_loss(*self.decode(sam, prompts, previous), self.targets)


def _any_hq_token(sam: Sam, generator: torch.Generator) -> Tensor:
    """A random stand-in for the HQ token, anywhere between noise and the SAM token it will be fused with.

    The HQ token is one more token that SAM's own tokens attend to; SAM learns here not to be disturbed by it.
    """
    tokens = sam.mask_decoder.mask_tokens.weight.detach()
    noise = torch.randn(tokens[:1].shape, generator=generator) * tokens.std()
    return torch.lerp(noise, tokens[:1], torch.rand((), generator=generator))


def _prompt_groups(masks: Tensor, generator: torch.Generator) -> list[PromptGroup]:
    """The objects' indexes in two random parts, each with its prompts: boxes, and points in one of several ways."""
    order = torch.randperm(len(masks), generator=generator)
    boxed, pointed = order.tensor_split([2 * len(masks) // 3])
    draw = float(torch.rand((), generator=generator))
    box_prompts = boxes(masks[boxed], jitter=_BOX_JITTER, generator=generator)
    if draw < 0.15:
        box_prompts = points_in(masks[boxed], 1, 1.0, generator=generator) + box_prompts
    point_prompts = points_in(masks[pointed], 1 if draw < 0.5 else 3, 1.0, generator=generator)
    if draw > 0.75:
        point_prompts = point_prompts + near_misses(masks[pointed], generator=generator)
    return [(boxed, box_prompts), (pointed, point_prompts + padding(len(pointed)))]


def _hq_loss(sam: Sam, batch: Batch, encoded: Encoded, groups: Sequence[PromptGroup]) -> Tensor:
    """Loss of the released output (SAM + HQ) and of the HQ mask alone; `encoded` is what the image encoder returns."""
    features = (encoded[0], sam.hq_fusion(*encoded))
    targets = low_res_targets(batch.masks, 4 * sam.arch.embedding_size)
    no_mask = torch.zeros(1, 1, *targets.shape[1:])
    losses = []
    for chosen, prompts in groups:
        index = batch.image_index[chosen]
        args = (*features, prompts.coords, prompts.labels, no_mask, torch.zeros(1), index, _HQ_OUTPUTS)
        losses.append(mask_loss(sam.decode_masks(*args)[0], targets[chosen]).mean())
    return torch.stack(losses).mean()
