"""The SAM stages of the demo: prompts like a user's, a second round that corrects, and the loss of all SAM tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samhq_runtime.contract import NUM_SAM_TOKENS

from ..architecture import Architecture
from ..model import Sam
from ..model.mask_decoder import MaskProduct
from ..model.transformer import Attention
from ..training.data import Batch, Source, low_res_targets
from ..training.hq_stage import HQ_MODULES, prompt_groups
from ..training.losses import iou, mask_loss
from ..training.optimiser import Schedule
from ..training.prompts import Prompts, corrections
from ..training.training import Training

_CORRECTED = 0.15  # share of the prompt groups that get a second round
_POSITION_SCALE = 0.5
_MULTIMASK_WEIGHT = 0.5
_IOU_WEIGHT = 0.5

_DRAWS = ("mask_tokens.", "iou_token.", "iou_prediction_head.", "output_hypernetworks_mlps.", "output_upscaling.")
DRAWING_MODULES = tuple(f"mask_decoder.{name}" for name in _DRAWS)  # what draws masks of what the transformer found


def sam_training(sam: Sam, source: Source, schedule: Schedule, *, trained: tuple[str, ...] = ("",)) -> Training:
    """The training of SAM, all of it or the parameters whose names start with one of `trained`; of HQ's, none."""
    for name, parameter in sam.named_parameters():
        parameter.requires_grad_(name.startswith(trained) and not name.startswith(HQ_MODULES))

    def losses(batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        yield batch_loss(sam, batch, generator)

    return Training([sam], source, schedule, losses)


def fresh_sam(arch: Architecture, seed: int) -> Sam:
    """Start where little is left to learn about positions.

    The encoder's position embedding starts as the prompts' one, and the decoder projects queries and keys alike, so
    that image and prompt tokens at nearby positions attend to each other from the first step.
    """
    torch.manual_seed(seed)
    sam = Sam(arch)
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
    return sam


def batch_loss(sam: Sam, batch: Batch, generator: torch.Generator) -> Tensor:
    """Boxes for most objects, points for the others; now and then a second round that corrects the first."""
    embeddings, _ = sam.image_encoder(batch.images)
    targets = low_res_targets(batch.masks, 4 * sam.arch.embedding_size)
    token = _any_hq_token(sam, generator)
    losses = []
    for chosen, prompts in prompt_groups(batch.masks, generator):
        part = _Part(embeddings, batch.image_index[chosen], batch.masks[chosen], targets[chosen], token)
        losses.append(part.loss(sam, prompts))
        if torch.rand((), generator=generator) < _CORRECTED:
            losses.append(part.corrected_loss(sam, prompts, generator))
    return torch.stack(losses).mean()


def token_loss(logits: Tensor, iou_predictions: Tensor, targets: Tensor) -> Tensor:
    """Loss of the 4 SAM tokens: the first as it is, the best of the other three, and how well the IoU is foretold.

    `logits` (M,4,L,L), `iou_predictions` (M,4), `targets` (M,L,L).
    """
    per_mask = mask_loss(logits, targets)
    iou_error = F.mse_loss(iou_predictions, iou(logits > 0, targets[:, None] >= 0.5))
    best = per_mask[:, 1:].amin(1)
    return (per_mask[:, 0] + _MULTIMASK_WEIGHT * best).mean() + _IOU_WEIGHT * iou_error


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
        image_pe, decoder = sam.prompt_encoder.dense_pe(), sam.mask_decoder
        prompted = (prompts.coords, prompts.labels, mask_input, has_mask)
        image_tokens, sparse = sam.prompted(self.image_embeddings, self.image_index, image_pe, prompted)
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight, self.hq_token])
        tokens, upscaled = decoder.attend(output_tokens, image_tokens, image_pe, sparse)
        product = MaskProduct(self.targets.shape[-1])
        hyper = decoder.mask_vectors(tokens, decoder.output_hypernetworks_mlps)
        logits = product(hyper, upscaled, torch.eye(NUM_SAM_TOKENS))
        return logits, decoder.iou_prediction_head(tokens[:, 0])

    def loss(self, sam: Sam, prompts: Prompts) -> Tensor:
        return token_loss(*self.decode(sam, prompts), self.targets)

    def corrected_loss(self, sam: Sam, prompts: Prompts, generator: torch.Generator) -> Tensor:
        """The loss after one more point where the first answer is wrong, and that answer as the mask prompt."""
        with torch.no_grad():
            previous = self.decode(sam, prompts)[0][:, :1]
        predicted = nn.functional.interpolate(previous, size=self.masks.shape[1:], mode="bilinear")[:, 0] > 0
        prompts = corrections(self.masks, predicted, generator=generator) + prompts
        return token_loss(*self.decode(sam, prompts, previous), self.targets)


def _any_hq_token(sam: Sam, generator: torch.Generator) -> Tensor:
    """A random stand-in for the HQ token, anywhere between noise and the SAM token it will be fused with.

    The HQ token is one more token that SAM's own tokens attend to; SAM learns here not to be disturbed by it.
    """
    tokens = sam.mask_decoder.mask_tokens.weight.detach()
    noise = torch.randn(tokens[:1].shape, generator=generator) * tokens.std()
    return torch.lerp(noise, tokens[:1], torch.rand((), generator=generator))
