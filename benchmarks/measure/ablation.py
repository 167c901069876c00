"""Independent, sum or product: what the HQ token is made of, measured on the demo model.

    python -m benchmarks ablation --work ablation --docs

Trains only the HQ parameters of a frozen SAM, for every token fusion from the same seeds, scenes, prompts and steps.
A run that is finished in --work is not repeated, so an interrupted call goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.recording import Record
from samhq_exporter import ExportConfig, export_bundle
from samhq_exporter.config import DEMO_CHECKPOINT, TOKEN_FUSION_NAMES
from samhq_exporter.demo.data import Sample, draw_samples
from samhq_exporter.demo.evaluate import Metrics, evaluate, held_out_prompts, held_out_seeds, score, summarise
from samhq_exporter.demo.optimiser import Schedule
from samhq_exporter.demo.prompts import Prompts
from samhq_exporter.demo.stages import HQ_MODULES, train_hq
from samhq_exporter.demo.train import save_checkpoint
from samhq_exporter.model import PlainSam, Sam
from samhq_exporter.precision.policy import PRECISIONS
from samhq_exporter.weights.checkpoint import checkpoint_of_model, load_checkpoint
from samhq_runtime import Predictor

from .ablation_statistics import differences, means, report

_LEAST_SEEDS = 5

Scores = dict[str, dict[str, Metrics]]  # by prompt and output


@dataclass(frozen=True)
class Setting:
    """What all runs have in common; the hash is over the names and values of SAM's tensors."""

    sam: Path
    sam_sha256: str
    hq_steps: int
    scenes: int
    held_out: int
    batch: int
    objects: int
    learning_rate: float
    precisions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "sam"} | {
            "precisions": list(self.precisions)
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--work", type=Path, required=True, help="folder for the trained models and finished runs")
    parser.add_argument("--sam", type=Path, default=DEMO_CHECKPOINT, help="its SAM part is the frozen SAM of all runs")
    parser.add_argument("--token-fusions", nargs="+", choices=TOKEN_FUSION_NAMES, default=list(TOKEN_FUSION_NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--precisions", nargs="*", choices=PRECISIONS, default=["fp32", "fp16"])
    parser.add_argument(
        "--workers", type=int, default=1, help="processes, one thread each; a seed's runs stay together"
    )
    parser.add_argument("--hq-steps", type=int, default=300)
    parser.add_argument("--scenes", type=int, default=500, help="scenes drawn for training")
    parser.add_argument("--held-out", type=int, default=100, help="scenes drawn for the evaluation")
    parser.add_argument("--batch", type=int, default=4, help="images per step")
    parser.add_argument("--objects", type=int, default=6, help="objects prompted per image and step")
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)


def measure(options: argparse.Namespace, record: Record) -> None:
    """The record is made of the runs in --work, finished ones and new."""
    if (got := len(set(options.seeds))) < _LEAST_SEEDS:
        raise SystemExit(f"--seeds: got {got}, expected at least {_LEAST_SEEDS} for intervals; give more")
    plain = plain_sam(load_checkpoint(options.sam).sam_hq)
    setting = _setting(options, checkpoint_of_model(plain).sha256)
    record.require_setting(setting.to_json())
    options.work.mkdir(parents=True, exist_ok=True)
    runs = [run for runs in _each_seed(setting, options) for run in runs]
    bare = _of_plain_sam(plain, setting)
    record.content |= {
        "seeds": sorted(options.seeds),
        "plain_sam": bare,
        "means": means(runs),
        "differences": differences(runs, bare),
        "runs": [{key: value for key, value in run.items() if key != "setting"} for run in runs],
    }
    record.save()


def _setting(options: argparse.Namespace, sam_sha256: str) -> Setting:
    names = ("sam", "hq_steps", "scenes", "held_out", "batch", "objects", "learning_rate")
    common = {name: getattr(options, name) for name in names}
    return Setting(**common, sam_sha256=sam_sha256, precisions=tuple(options.precisions))


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    return {"ablation": report(content)}


def _each_seed(setting: Setting, options: argparse.Namespace) -> Iterator[list[dict[str, Any]]]:
    task = partial(runs_of_seed, setting, work=options.work, fusions=options.token_fusions)
    if options.workers == 1:
        yield from map(task, options.seeds)
        return
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(task, options.seeds)


def runs_of_seed(setting: Setting, seed: int, *, work: Path, fusions: Sequence[str]) -> list[dict[str, Any]]:
    """Train, export and measure what is still missing of this seed in `work`; one record per fusion."""
    torch.set_num_threads(1)
    done = {fusion: _finished(work / f"{fusion}-{seed}.json", setting) for fusion in fusions}
    missing = [fusion for fusion in fusions if done[fusion] is None]
    untrained = [fusion for fusion in missing if not (work / f"{fusion}-{seed}.safetensors").exists()]
    if untrained:
        _train(setting, seed, untrained, work)
    for fusion in missing:
        done[fusion] = _measure(setting, seed, fusion, work)
    return [run for run in done.values() if run is not None]


def _finished(path: Path, setting: Setting) -> dict[str, Any] | None:
    if not path.exists():
        return None
    run: dict[str, Any] = json.loads(path.read_text())
    if run["setting"] != setting.to_json():
        raise SystemExit(f"{path}: is of another setting, {run['setting']}; choose another --work")
    return run


def _train(setting: Setting, seed: int, fusions: Sequence[str], work: Path) -> None:
    schedule = Schedule(setting.hq_steps, setting.batch, setting.objects, setting.learning_rate, seed)
    frozen = load_checkpoint(setting.sam).sam_hq
    bar = tqdm(total=setting.hq_steps * len(fusions), desc=f"seed {seed}", mininterval=10)

    def report(step: int, loss: float, sam: Sam) -> None:
        bar.set_postfix({sam.fusion_mode: f"{loss:.3f}"}, refresh=False)
        bar.update()

    for sam in train_hq(frozen, fusions, training_scenes(setting.scenes), schedule, report):
        path = work / f"{sam.fusion_mode}-{seed}.safetensors"
        save_checkpoint(sam, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)
    bar.close()


def _measure(setting: Setting, seed: int, fusion: str, work: Path) -> dict[str, Any]:
    """Of the saved file: the torch model, and the bundle of each precision."""
    start = time.perf_counter()
    path = work / f"{fusion}-{seed}.safetensors"
    samples = held_out_scenes(setting.held_out)
    scores = {"torch": evaluate(load_checkpoint(path).sam_hq, samples)}
    for precision in setting.precisions:
        scores[f"onnx_{precision}"] = _of_bundle(path, precision, samples)
    run = {"token_fusion": fusion, "seed": seed, "scores": scores, "setting": setting.to_json()}
    path.with_suffix(".json").write_text(json.dumps(run, indent=1) + "\n")
    print(f"{fusion} seed {seed}: measured in {time.perf_counter() - start:.0f} s", flush=True)
    return run


def _of_plain_sam(plain: PlainSam, setting: Setting) -> dict[str, Scores]:
    """Of the frozen SAM without HQ, by what runs it: torch, and the bundle of each precision."""
    samples = held_out_scenes(setting.held_out)
    scores = {"torch": evaluate(plain, samples)}
    for precision in setting.precisions:
        with tempfile.TemporaryDirectory() as folder:
            config = ExportConfig(precision=precision, output=Path(folder) / "bundle")
            scores[f"onnx_{precision}"] = evaluate_bundle(export_bundle(config, model=plain).path, samples)
    return scores


def _of_bundle(checkpoint: Path, precision: str, samples: Sequence[Sample]) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        config = ExportConfig(checkpoint=checkpoint, precision=precision, output=Path(folder) / "bundle")
        return evaluate_bundle(export_bundle(config).path, samples)


def evaluate_bundle(bundle: Path, samples: Sequence[Sample]) -> Scores:
    """As `evaluate`, of the masks that the bundle's users get: `sam_and_hq`, or `sam_only` of a plain SAM."""
    scores: dict[str, list[torch.Tensor]] = {"box": [], "point": []}
    with Predictor(bundle, threads=1) as predictor:
        output = "sam_and_hq" if predictor.bundle.manifest.sizes.has_hq else "sam_only"
        for some, batch, prompts in held_out_prompts(samples):
            for index, sample in enumerate(some):
                predictor.set_image(sample.image.permute(1, 2, 0).contiguous().numpy())
                for name, arguments in _arguments(prompts, batch.image_index == index).items():
                    masks, _, _ = predictor.predict(**arguments, multimask_output=False)
                    scores[name].append(score(torch.from_numpy(masks), sample.masks[:, None]))
    return {name: summarise(torch.cat(parts), (output,)) for name, parts in scores.items()}


def _arguments(prompts: Mapping[str, Prompts], chosen: torch.Tensor) -> dict[str, dict[str, Any]]:
    """The chosen objects' prompts as `Predictor.predict` takes them; scenes are of the model's input size."""
    points = prompts["point"]  # the point and its padding, which the predictor adds itself
    return {
        "box": {"box": prompts["box"].coords[chosen].flatten(1).numpy()},
        "point": {
            "point_coords": points.coords[chosen, :1].numpy(),
            "point_labels": points.labels[chosen, :1].numpy(),
        },
    }


def plain_sam(sam: Sam) -> PlainSam:
    """The same SAM without an HQ token among its tokens."""
    plain = PlainSam(sam.arch)
    plain.load_state_dict({k: v for k, v in sam.state_dict().items() if not k.startswith(HQ_MODULES)})
    return plain.eval()


@cache
def training_scenes(count: int) -> list[Sample]:
    return draw_samples(range(count), size=256, workers=1)


@cache
def held_out_scenes(count: int) -> list[Sample]:
    return draw_samples(held_out_seeds(count), size=256, workers=1)
