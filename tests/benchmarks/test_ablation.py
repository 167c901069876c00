"""The ablation benchmark: its statistics, its bundles' scores against torch's, and that it goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.measure import ablation_runs, ablation_statistics
from samhq_exporter.config import DEMO_CHECKPOINT
from samhq_exporter.demo.data import Scenes, draw_samples
from samhq_exporter.demo.evaluate import evaluate, held_out_seeds
from samhq_exporter.training.hq_stage import fresh_hq, hq_training
from samhq_exporter.training.optimiser import Schedule
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.bundle import Bundle

_SHORT = {
    "hq-steps": 1,
    "scenes": 2,
    "held-out": 1,
    "batch": 1,
    "objects": 2,
    "curve-every": 1,
    "curve-scenes": 1,
}


@pytest.mark.parametrize(("degrees", "expected"), [(2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)])  # printed tables
def test_t_quantile(degrees: int, expected: float) -> None:
    assert ablation_statistics.t_quantile(degrees) == pytest.approx(expected, abs=6e-4)


def run(variant: str, seed: int, value: float) -> dict[str, Any]:
    metrics = {"mean_iou": value, "mean_boundary_iou": value - 0.1}
    outputs = {"sam_and_hq": metrics, "sam_only": {"mean_iou": 0.5, "mean_boundary_iou": 0.4}}
    return {"variant": variant, "seed": seed, "scores": {"torch": {"box": outputs}}}


def test_differences_are_paired_by_seed() -> None:
    seeds = [0.70, 0.60, 0.80]  # vary much more between seeds than between fusions
    runs = [run("sum", seed, value) for seed, value in enumerate(seeds)]
    runs += [run("hadamard", seed, seeds[seed] + gain) for seed, gain in ((2, 0.03), (0, 0.01), (1, 0.02))]
    plain = {"torch": {"box": {"sam_only": {"mean_iou": 0.5, "mean_boundary_iou": 0.4}}}}
    rows = {
        (row["of"], row["from"]): row
        for row in ablation_statistics.differences(runs, plain)
        if row["metric"] == "mean_iou" and row["output"] == "sam_and_hq"
    }
    assert rows["hadamard", "sum"]["mean"] == pytest.approx(0.02)
    assert rows["hadamard", "sum"]["high"] == pytest.approx(0.02 + 4.3027 * 0.01 / 3**0.5, abs=1e-5)
    assert rows["sum", "plain_sam"]["mean"] == pytest.approx(0.2)
    assert rows["sum", "sam_only"]["mean"] == pytest.approx(0.2)


def test_bundle_scores_are_those_of_torch(demo_bundle: Bundle) -> None:
    samples = draw_samples(held_out_seeds(3), size=256, workers=1)
    torch_scores = evaluate(load_checkpoint(DEMO_CHECKPOINT).sam, samples)
    bundle_scores = ablation_runs.evaluate_bundle(demo_bundle.path, samples)
    assert bundle_scores.keys() == torch_scores.keys() == {"box", "point"}
    for prompt, by_output in bundle_scores.items():
        for metric, value in by_output["sam_and_hq"].items():
            assert value == pytest.approx(torch_scores[prompt]["sam_and_hq"][metric], abs=2e-4), prompt


def test_starts_of_the_tokens() -> None:
    """The token that enters the decoder: N(0, 1), or SAM's with the same noise, scaled by SAM's for the product."""
    models = ablation_runs.start(load_checkpoint(DEMO_CHECKPOINT).sam, seed=0)
    decoders = {variant: sam.mask_decoder for variant, sam in models.items()}
    sam_token = decoders["sum"].mask_tokens.weight[:1]
    entering = {v: models[v].token_fusion(sam_token, decoder.hq_token.weight) for v, decoder in decoders.items()}
    for variant in ablation_runs.COMMON_START:
        torch.testing.assert_close(entering[variant], entering["sum"], rtol=1e-4, atol=1e-5)
    noise = entering["independent"]
    torch.testing.assert_close(entering["sum"], sam_token + 0.1 * noise)
    torch.testing.assert_close(entering["hadamard"], sam_token * (1 + 0.1 * noise))
    for name, value in models["sum"].state_dict().items():
        assert "hq_token" in name or all(torch.equal(sam.state_dict()[name], value) for sam in models.values()), name


def test_independent_from_the_start_of_the_sum_is_the_sum() -> None:
    """SAM's token is a constant: adding it moves the origin of what is learned, and nothing else but weight decay."""
    frozen = load_checkpoint(DEMO_CHECKPOINT).sam
    models = [fresh_hq(frozen, fusion, 0) for fusion in ("sum", "independent")]
    entering = [sam.mask_decoder.hq_token.weight for sam in models]
    sam_token = models[0].mask_decoder.mask_tokens.weight[:1]
    with torch.no_grad():
        entering[1].copy_(sam_token + entering[0])
    begin = entering[1].detach().clone()
    source = Scenes(draw_samples(range(2), size=256, workers=1))
    for _ in hq_training(models, source, Schedule(3, images=1, objects=2, learning_rate=1e-2)).run():
        pass
    moved = (entering[1] - begin).abs().max()
    assert moved > 1e-3
    torch.testing.assert_close(sam_token + entering[0], entering[1], rtol=0, atol=0.05 * float(moved))


def test_finished_seeds_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["ablation", *(f"--{name}={value}" for name, value in _SHORT.items())]
    options += ["--work", str(tmp_path / "work"), "--output", str(tmp_path / "results.json"), "--precisions"]
    main(options)
    first = json.loads((tmp_path / "results.json").read_text())
    assert len(first["trained"]) == 5 * len(ablation_runs.FUSION_OF)
    assert {row["step"] for row in first["curves"]} == {1}

    monkeypatch.setattr(ablation_runs, "hq_training", lambda *args: pytest.fail("trained again"))
    main([*options, "--resume"])
    assert json.loads((tmp_path / "results.json").read_text())["trained"] == first["trained"]
    with pytest.raises(SystemExit, match="another --work"):
        main([*options, "--hq-steps=2", "--overwrite"])


def test_too_few_seeds(tmp_path: Path) -> None:
    options = ["--work", str(tmp_path), "--output", str(tmp_path / "results.json"), "--seeds", *"11234"]
    with pytest.raises(SystemExit, match="got 4, expected at least 5"):
        main(["ablation", *options])
    assert not list(tmp_path.iterdir())


def test_bundle_of_the_frozen_sam() -> None:
    plain = ablation_runs.plain_sam(load_checkpoint(DEMO_CHECKPOINT).sam_hq)
    setting = ablation_runs.Setting(
        sam=DEMO_CHECKPOINT,
        sam_sha256="",
        hq_steps=0,
        scenes=0,
        held_out=2,
        curve_every=1,
        curve_scenes=1,
        batch=1,
        objects=1,
        learning_rate=0.0,
    )
    scores = ablation_runs.of_plain_sam(plain, setting, ["fp32"])
    assert scores.keys() == {"torch", "onnx_fp32"}
    for prompt in ("box", "point"):
        expected = scores["torch"][prompt]["sam_only"]["mean_iou"]
        assert scores["onnx_fp32"][prompt]["sam_only"]["mean_iou"] == pytest.approx(expected, abs=2e-4)


def test_page_without_markers_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "ablation.md"
    page.parent.mkdir()
    page.write_text("<!-- ablation: begin -->\n")
    monkeypatch.setattr("benchmarks.__main__.ROOT", tmp_path)
    with pytest.raises(SystemExit, match="expected <!-- ablation: begin --> and after it <!-- ablation: end -->"):
        main(["ablation", "--work", str(tmp_path / "w"), "--docs"])
    assert list(tmp_path.iterdir()) == [page.parent]
