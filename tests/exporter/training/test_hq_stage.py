"""The HQ loss where there is no GPU to try it on."""

from __future__ import annotations

import pytest
import torch

from samhq_exporter.training.compute import Compute
from samhq_exporter.training.data import Batch
from samhq_exporter.training.hq_stage import hq_loss, prompt_groups
from tests.support.models import TINY, tiny_sam


@pytest.mark.parametrize("fusion", ["independent", "hadamard"])
def test_loss_stays_on_its_device(fusion: str) -> None:
    """On `meta`, the device without data: an operator that mixes it with a tensor left on the CPU raises."""
    meta = torch.device("meta")
    masks = torch.zeros(3, TINY.image_size, TINY.image_size, dtype=torch.bool)
    masks[:, 20:90, 30:70] = True
    batch = Batch(torch.zeros(2, 3, TINY.image_size, TINY.image_size), masks, torch.tensor([0, 0, 1]))
    groups = prompt_groups(masks, torch.Generator().manual_seed(0))
    groups = [(chosen.to(meta), prompts.to(meta)) for chosen, prompts in groups]
    sam, there = tiny_sam(token_fusion=fusion).to(meta), batch.to(meta)
    loss = hq_loss(sam, there, sam.image_encoder(there.images), groups, Compute(meta))
    assert (loss.device, loss.shape, loss.dtype) == (meta, (), torch.float32)
