"""The training script runs, repeats itself and goes on; its HQ stage leaves SAM alone; the shipped file is measured."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.demo import train
from samhq_exporter.demo.coarse import coarsen
from samhq_exporter.demo.data import Scenes, draw_samples
from samhq_exporter.demo.evaluate import evaluate, held_out_seeds
from samhq_exporter.demo.sam_stage import DRAWING_MODULES, _Part
from samhq_exporter.model import Sam
from samhq_exporter.scenes.drawing import draw_scene
from samhq_exporter.training.data import low_res_targets
from samhq_exporter.training.hq_stage import fresh_hq, hq_training
from samhq_exporter.training.optimiser import Schedule
from samhq_exporter.training.prompts import boxes
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.files import sha256_of
from tests.support.models import TINY, tiny_sam

_SHORT = {"sam-steps": 2, "coarse-steps": 1, "hq-steps": 2, "images": 4, "held-out": 2, "batch": 2, "objects": 2}
_HQ = ("hf_token", "hf_mlp", "embedding_maskfeature", "compress_vit_feat", "embedding_encoder")


def run(output: Path, *more: str) -> dict[str, torch.Tensor]:
    train.main(["--output", str(output), *(f"--{name}={value}" for name, value in _SHORT.items()), *more])
    return load_file(output)


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_three_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = run(tmp_path / "first" / "demo.safetensors")
    exact, coarse = (load_file(tmp_path / "first" / f"{stage}.safetensors") for stage in ("exact", "coarse"))
    by_coarse, by_hq = changed(exact, coarse), changed(coarse, demo)
    assert by_coarse
    assert all(name.startswith(DRAWING_MODULES) for name in by_coarse)
    assert by_hq
    assert all(any(part in name for part in _HQ) for name in by_hq)
    results = json.loads((tmp_path / "first" / "results.json").read_text())
    assert 0 <= results["held_out"]["box"]["sam_and_hq"]["mean_iou"] <= 1
    assert results["cpu_seconds"].keys() == {"exact", "coarse", "hq"}
    assert (tmp_path / "first" / "held_out.png").exists()
    gain = results["hq_gain"]["point"]["iou"]
    assert gain["low"] <= gain["mean"] <= gain["high"]

    stop_after_one_step_each(monkeypatch)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "again" / "demo.safetensors")
    monkeypatch.undo()
    assert not changed(demo, run(tmp_path / "again" / "demo.safetensors"))


def stop_after_one_step_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of the script does a step, saves it and is interrupted."""
    run_to_end = train.run_to_end

    def stopped(training: Any, state: Path, **options: Any) -> None:
        def stop(training: Any, losses: list[float]) -> None:
            training.save(state)
            raise KeyboardInterrupt

        run_to_end(training, state, **{**options, "after_step": stop})

    monkeypatch.setattr(train, "run_to_end", stopped)


def test_hq_on_a_given_sam(tmp_path: Path) -> None:
    """The stages before are not run; the cost of what was not run is not in the results."""
    tuned = run(tmp_path / "hq" / "demo.safetensors", "--sam-from", str(DEMO_CHECKPOINT), "--token-fusion", "sum")
    assert all(any(part in name for part in _HQ) for name in changed(load_file(DEMO_CHECKPOINT), tuned))
    results = json.loads((tmp_path / "hq" / "results.json").read_text())
    assert results["sam_sha256"]["coarse"] == sha256_of(DEMO_CHECKPOINT)
    assert results["cpu_seconds"].keys() == {"hq"}


def test_coarse_masks() -> None:
    """No holes, no gaps, what is solid stays; as coarse at twice the size."""
    ring = np.hypot(*np.mgrid[-40:41, -40:41]) < 30
    solid = ring.copy()
    ring &= np.hypot(*np.mgrid[-40:41, -40:41]) > 20
    assert coarsen(ring)[40, 40]
    overlap = coarsen(solid) & solid
    assert overlap.sum() / (coarsen(solid) | solid).sum() > 0.9
    speck = np.zeros((20, 20), bool)
    speck[4, 5:9] = True
    assert coarsen(speck).any()
    ious = []
    for size in (128, 256):
        masks = [mask for seed in range(4) for mask in draw_scene(seed, size).masks]
        ious.append(np.mean([(coarsen(mask) & mask).sum() / (coarsen(mask) | mask).sum() for mask in masks]))
    assert ious[0] == pytest.approx(ious[1], abs=0.03)
    assert 0.65 < ious[0] < 0.85


def test_fusions_train_side_by_side_as_alone() -> None:
    arch = dataclasses.replace(VARIANTS["demo"], image_size=64)
    source = Scenes(draw_samples(range(3), size=64, workers=1))
    frozen = Sam(arch)

    def trained(*fusions: str) -> list[Sam]:
        models = [fresh_hq(frozen, fusion, 0) for fusion in fusions]
        assert len(list(hq_training(models, source, Schedule(2, images=2, objects=2)).run())) == 2
        return models

    both, (alone,) = trained("sum", "hadamard"), trained("hadamard")
    for (name, a), (_, b) in zip(both[1].state_dict().items(), alone.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


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
