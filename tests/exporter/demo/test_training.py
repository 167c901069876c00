"""The training script runs and repeats itself, its HQ stage leaves SAM alone, the shipped file is the measured one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.demo import train
from samhq_exporter.demo.data import draw_samples, low_res_targets
from samhq_exporter.demo.evaluate import evaluate, held_out_seeds
from samhq_exporter.demo.optimiser import Schedule
from samhq_exporter.demo.prompts import boxes
from samhq_exporter.demo.stages import _Part, train_hq
from samhq_exporter.model import Sam
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.files import sha256_of
from tests.support.models import TINY, tiny_sam

_SHORT = {"sam-steps": 2, "hq-steps": 2, "images": 4, "held-out": 2, "batch": 2, "objects": 2, "threads": 1}
_HQ = ("hf_token", "hf_mlp", "embedding_maskfeature", "compress_vit_feat", "embedding_encoder")


def run(monkeypatch: pytest.MonkeyPatch, output: Path, *more: str) -> dict[str, torch.Tensor]:
    output.parent.mkdir()
    short = [f"--{name}={value}" for name, value in _SHORT.items()]
    monkeypatch.setattr("sys.argv", ["train", "--output", str(output), *short, *more])
    train.main()
    return load_file(output)


def test_two_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = run(monkeypatch, tmp_path / "first" / "demo.safetensors")
    again = run(monkeypatch, tmp_path / "again" / "demo.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert 0 <= results["held_out"]["box"]["sam_and_hq"]["mean_iou"] <= 1

    source = str(tmp_path / "first" / "demo.safetensors")
    tuned = run(monkeypatch, tmp_path / "hq" / "demo.safetensors", "--sam-from", source, "--token-fusion", "sum")
    changed = {name for name in first if not torch.equal(first[name], tuned[name])}
    assert changed
    assert all(any(part in name for part in _HQ) for name in changed)


def test_fusions_train_side_by_side_as_alone() -> None:
    arch = dataclasses.replace(VARIANTS["demo"], image_size=64)
    samples = draw_samples(range(3), size=64, workers=1)
    schedule = Schedule(2, images=2, objects=2)
    frozen = Sam(arch)
    both = train_hq(frozen, ["sum", "hadamard"], samples, schedule, ignore)
    (alone,) = train_hq(frozen, ["hadamard"], samples, schedule, ignore)
    assert [sam.fusion_mode for sam in both] == ["sum", "hadamard"]
    for (name, a), (_, b) in zip(both[1].state_dict().items(), alone.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def ignore(step: int, loss: float, sam: Sam) -> None:
    pass


def test_sam_stage_decodes_what_the_model_does() -> None:
    """It leaves the HQ half out; the SAM tokens' masks must not notice."""
    sam = tiny_sam()
    masks = torch.zeros(2, TINY.image_size, TINY.image_size, dtype=torch.bool)
    masks[:, 20:90, 30:70] = True
    prompts, index = boxes(masks), torch.tensor([0, 0])
    embeddings, features = sam.encode_image(torch.rand(1, 3, TINY.image_size, TINY.image_size))
    side = 4 * TINY.embedding_size
    token = sam.mask_decoder.hq_token.weight
    part = _Part(embeddings, index, masks, low_res_targets(masks, side), token)
    args = (prompts.coords, prompts.labels, torch.zeros(1, 1, side, side), torch.zeros(1), index, torch.eye(4, 5))
    for ours, whole in zip(part.decode(sam, prompts), sam.decode_masks(embeddings, features, *args), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_shipped_checkpoint_is_the_measured_one() -> None:
    results = json.loads(DEMO_CHECKPOINT.with_name("results.json").read_text())
    assert DEMO_CHECKPOINT.stat().st_size <= 4_000_000
    assert results["file_bytes"] == DEMO_CHECKPOINT.stat().st_size
    assert results["file_sha256"] == sha256_of(DEMO_CHECKPOINT)
    assert results["held_out"]["box"]["sam_and_hq"]["mean_iou"] >= 0.80


def test_shipped_checkpoint_segments_held_out_scenes() -> None:
    """The first of the 100 measured ones, with the same prompts."""
    samples = draw_samples(held_out_seeds(16), size=VARIANTS["demo"].image_size, workers=1)
    measured = evaluate(load_checkpoint(DEMO_CHECKPOINT).sam, samples)
    assert measured["box"]["sam_and_hq"]["mean_iou"] >= 0.80
    assert measured["point"]["sam_and_hq"]["mean_iou"] >= 0.70
