"""The trainings of the ablation: four kinds of HQ token side by side on one frozen SAM, and what each is worth."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from samhq_exporter import ExportConfig, export_bundle
from samhq_exporter.demo.data import Scenes, draw_samples
from samhq_exporter.demo.evaluate import evaluate, held_out_prompts, held_out_seeds
from samhq_exporter.demo.train import save_checkpoint
from samhq_exporter.model import PlainSam, Sam
from samhq_exporter.training.data import Sample
from samhq_exporter.training.evaluate import Metrics, score, summarise
from samhq_exporter.training.hq_stage import HQ_MODULES, fresh_hq, hq_training
from samhq_exporter.training.optimiser import Schedule
from samhq_exporter.training.progress import run_to_end
from samhq_exporter.training.prompts import Prompts
from samhq_exporter.training.training import Training
from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime import Predictor
from samhq_runtime.files import write_whole

OWN_START = {"independent": "independent", "sum": "sum", "hadamard": "hadamard"}
# The token that enters the decoder starts where that of `sum` starts.
# `independent` from there would be `sum` over again: SAM's token is a constant, and adding it to a learned vector only
# moves the vector's origin.
COMMON_START = {"hadamard, start of sum": "hadamard"}
FUSION_OF = {**OWN_START, **COMMON_START}

Scores = dict[str, dict[str, Metrics]]  # by prompt and output


@dataclass(frozen=True)
class Setting:
    """What all runs have in common; the hash is over the names and values of SAM's tensors."""

    sam: Path
    sam_sha256: str
    hq_steps: int
    scenes: int
    held_out: int
    curve_every: int
    curve_scenes: int
    batch: int
    objects: int
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "sam"}


def runs_of_seed(setting: Setting, seed: int, *, work: Path, precisions: Sequence[str]) -> list[dict[str, Any]]:
    """Train, export and measure what is still missing of this seed in `work`; one record per kind of token."""
    torch.set_num_threads(1)
    folder = work / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    curves = folder / "curves.json"
    if not curves.exists():
        _train(setting, seed, folder, curves)
    trained = json.loads(curves.read_text())
    if trained["setting"] != setting.to_json():
        raise SystemExit(f"{curves}: is of another setting, {trained['setting']}; choose another --work")
    return [
        {
            "variant": variant,
            "token_fusion": FUSION_OF[variant],
            "seed": seed,
            "cpu_seconds": trained["cpu_seconds"] / len(FUSION_OF),
            "scores": _measured(setting, variant, folder, precisions if variant in OWN_START else ()),
            "curve": trained["curves"][variant],
        }
        for variant in FUSION_OF
    ]


def _train(setting: Setting, seed: int, folder: Path, curves: Path) -> None:
    frozen = load_checkpoint(setting.sam).sam_hq
    models = start(frozen, seed)
    schedule = Schedule(setting.hq_steps, setting.batch, setting.objects, setting.learning_rate, seed)
    training = hq_training(list(models.values()), Scenes(training_scenes(setting.scenes)), schedule)

    def look(training: Training, losses: list[float]) -> None:
        if training.step % setting.curve_every == 0:
            training.history.append({"step": training.step, "variants": _points_of(models, setting)})

    def write() -> None:
        for variant, sam in models.items():
            save_checkpoint(sam, file_of(folder, variant))
        rows = {v: [{"step": p["step"], **p["variants"][v]} for p in training.history] for v in models}
        content = {"setting": setting.to_json(), "cpu_seconds": training.cpu_seconds, "curves": rows}
        curves.write_text(json.dumps(content))

    run_to_end(
        training,
        folder / "training.state",
        label=f"seed {seed}",
        steps=setting.hq_steps,
        save_every=setting.curve_every,
        after_step=look,
        before_end=write,
    )


def start(frozen: PlainSam, seed: int) -> dict[str, Sam]:
    """The models before the first step: the same HQ layers, and a token of the same noise."""
    models = {variant: fresh_hq(frozen, fusion, seed) for variant, fusion in FUSION_OF.items()}
    with torch.no_grad():
        sam_token = models["sum"].mask_decoder.mask_tokens.weight[:1]
        noise = models["sum"].mask_decoder.hq_token.weight
        models["hadamard, start of sum"].mask_decoder.hq_token.weight.copy_(1 + noise / sam_token)
    return models


def file_of(folder: Path, variant: str) -> Path:
    return folder / f"{variant.replace(', ', '-').replace(' ', '_')}.safetensors"


def _points_of(models: Mapping[str, Sam], setting: Setting) -> dict[str, dict[str, float]]:
    """Each model's mIoU by prompt, of the released output on the first held-out scenes."""
    samples = held_out_scenes(setting.held_out)[: setting.curve_scenes]
    scores = {variant: evaluate(sam, samples) for variant, sam in models.items()}
    return {
        variant: {prompt: by_output["sam_and_hq"]["mean_iou"] for prompt, by_output in of_it.items()}
        for variant, of_it in scores.items()
    }


def _measured(setting: Setting, variant: str, folder: Path, precisions: Sequence[str]) -> dict[str, Scores]:
    """Of the saved file: the torch model, and the bundle of each precision."""
    path = file_of(folder, variant)
    scores = {"torch": _once(path.with_suffix(".torch.json"), lambda: _of_torch(path, setting))}
    for precision in precisions:
        config = ExportConfig(checkpoint=path, precision=precision)
        file = path.with_suffix(f".{precision}.json")
        scores[f"onnx_{precision}"] = _once(file, lambda: _of_bundle(config, None, setting))  # noqa: B023, called at once
    return scores


def _once(file: Path, measure: Callable[[], Scores]) -> Scores:
    """What `file` holds, measured first if it is not there."""
    if not file.exists():
        begin = time.perf_counter()
        text = json.dumps(measure(), indent=1)
        write_whole(file, lambda partial: partial.write_text(text))
        print(f"{file}: measured in {time.perf_counter() - begin:.0f} s", flush=True)
    scores: Scores = json.loads(file.read_text())
    return scores


def _of_torch(checkpoint: Path, setting: Setting) -> Scores:
    return evaluate(load_checkpoint(checkpoint).sam_hq, held_out_scenes(setting.held_out))


def of_plain_sam(plain: PlainSam, setting: Setting, precisions: Sequence[str]) -> dict[str, Scores]:
    """Of the frozen SAM without HQ, by what runs it: torch, and the bundle of each precision."""
    scores = {"torch": evaluate(plain, held_out_scenes(setting.held_out))}
    for precision in precisions:
        scores[f"onnx_{precision}"] = _of_bundle(ExportConfig(precision=precision), plain, setting)
    return scores


def _of_bundle(config: ExportConfig, model: PlainSam | None, setting: Setting) -> Scores:
    with tempfile.TemporaryDirectory() as folder:
        here = replace(config, output=Path(folder) / "bundle")
        return evaluate_bundle(export_bundle(here, model=model).path, held_out_scenes(setting.held_out))


def evaluate_bundle(bundle: Path, samples: Sequence[Sample]) -> Scores:
    """As `evaluate`, of the masks that the bundle's users get: `sam_and_hq`, or `sam_only` of a plain SAM."""
    scores: dict[str, list[torch.Tensor]] = {"box": [], "point": []}
    with Predictor(bundle, threads=1) as predictor:
        output = "sam_and_hq" if predictor.bundle.manifest.sizes.has_hq else "sam_only"
        for some, batch, prompts in held_out_prompts(samples):
            for index, sample in enumerate(some):
                predictor.set_image(sample.image.permute(1, 2, 0).contiguous().numpy())
                for name, arguments in _arguments(prompts, batch.image_index == index).items():
                    masks, _, _ = predictor.predict_batch(**arguments, multimask_output=False)
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
