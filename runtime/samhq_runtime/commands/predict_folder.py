"""`samhq predict BUNDLE FOLDER --prompts FILE`: the options, and the run."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ImageError, interrupted
from ..flags import flag_of
from ..fleet.jobs import REPORT, ImageJob
from ..fleet.prompt_files import read_prompts
from ..fleet.prompt_set import PromptOptions
from ..fleet.sources import Images, open_images
from ..formats import Outputs, chosen_formats
from ..formats.settings import require_settings
from ..installing import install_command, unavailable
from ..tables import printable
from .options import add_formats, chosen_providers, max_bytes_of, provider_options
from .progress_bar import late_bar

if TYPE_CHECKING:
    from ..fleet.run import Report, Run
    from ..fleet.segmenter import FleetOptions

_RAY_DEFAULTS = {"worker_cpus": 1.0, "worker_gpus": 0.0}
_OF_MANY = ("prompts", "format", "image_ids", "min_score", "simplify", "ray", "workers", *_RAY_DEFAULTS)
_SINGLE_IMAGE = ("box", "point", "negative_point", "compare_sam")


def add_fleet_options(predict: argparse.ArgumentParser) -> None:
    """Options of `samhq predict` for many images."""
    fleet = predict.add_argument_group(
        "many images (IMAGE is a folder, a pattern or a .txt list; --output and --overlay are folders)"
    )
    fleet.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help='lines such as {"image": "a/cat.jpg", "box": [[10, 20, 300, 400]]}, COCO annotations or detections, or '
        "lists of boxes or points (.json)",
    )
    add_formats(fleet)
    fleet.add_argument("--image-ids", type=Path, metavar="COCO", help="COCO file that the ids of detections are of")
    fleet.add_argument("--min-score", type=float, metavar="S", help="leave out detections below it (default: 0)")
    fleet.add_argument(
        "--simplify", type=float, metavar="PIXELS", help="fewer corners: polygons may depart so far (default: 0)"
    )
    fleet.add_argument("--workers", type=int, help="processes, or Ray actors, each with the bundle loaded (default: 1)")
    fleet.add_argument("--ray", metavar="ADDRESS", help="on a Ray cluster; `local` starts one in this machine")
    fleet.add_argument("--worker-cpus", type=float, metavar="N", help="CPUs of a Ray actor (default: 1)")
    fleet.add_argument("--worker-gpus", type=float, metavar="N", help="GPUs of a Ray actor (default: 0)")


def for_a_folder(options: argparse.Namespace) -> bool:
    """Whether any option of many images is given."""
    return any(getattr(options, name) is not None for name in _OF_MANY)


def predict_folder(options: argparse.Namespace) -> None:
    """Do what is not done yet; ends with an error if an image could not be segmented."""
    from ..fleet.run import write_formats

    run = _run(options)
    formats = chosen_formats(options.format)
    images = open_images(options.image)
    asked = read_prompts(options.prompts, _prompt_options(options, images))
    jobs, unmatched = images.match(asked.jobs)
    catalogue = replace(asked.catalogue, simplify=_simplify(options))
    overlay = options.overlay and options.overlay.resolve()
    outputs = Outputs(folder=options.output.resolve(), formats=formats, overlay=overlay, catalogue=catalogue)
    outputs.require_own_files(job.image for job in jobs)
    fleet = _fleet_options(options, images.folder, outputs)
    require_settings(fleet.output, _settings(fleet, options))
    outputs.require_settings()
    left_out = {**asked.left_out, **unmatched}
    for reason, lines in left_out.items():
        print(printable(f"left out: {len(lines)} {reason}, such as {lines[0]}"), file=sys.stderr)
    report = _segment(jobs, fleet, run, left_out)
    for image, error in report.failed.items():
        print(printable(f"{image}: {error}"), file=sys.stderr)
    with interrupted(_kept(fleet)):
        write_formats(jobs, fleet)
    print(f"{report.objects} objects{_written(options, formats)}; {options.output / REPORT}.json tells how it went")
    print(f"{options.output}: {report.segmented} images segmented, {report.done_already} were done already")
    if report.failed:
        tried = report.segmented + len(report.failed)
        raise ImageError(f"{len(report.failed)} of {tried} images could not be segmented; they are named above")


def _segment(jobs: Sequence[ImageJob], fleet: FleetOptions, run: Run, left_out: Mapping[str, Sequence[str]]) -> Report:
    from ..fleet.run import segment_images

    with interrupted(_kept(fleet)), ExitStack() as stack:
        show = late_bar(stack, "predict")
        return segment_images(jobs, fleet, run, left_out=left_out, show=show)


def _kept(fleet: FleetOptions) -> str:
    return f"the images that were finished are kept in {fleet.output}, the same command goes on"


def _written(options: argparse.Namespace, formats: Sequence[str]) -> str:
    return f", also as {', '.join(formats)} in {options.output}" if formats else ""


def _fleet_options(options: argparse.Namespace, images: Path, outputs: Outputs) -> FleetOptions:
    from ..fleet.segmenter import FleetOptions

    return FleetOptions(
        bundle=options.bundle.resolve(),
        images=images,
        outputs=outputs,
        multimask_output=options.multimask,
        hq_token_only=options.hq_token_only,
        providers=chosen_providers(options),
        provider_options=provider_options(options),
        hq_token=options.hq_token and options.hq_token.resolve(),
        max_image_mp=options.max_image_mp,
        white_point=options.white_point,
        embeddings=options.embeddings and options.embeddings.resolve(),
        max_embeddings_bytes=max_bytes_of(options),
    )


def _prompt_options(options: argparse.Namespace, images: Images) -> PromptOptions:
    if options.min_score is not None and not math.isfinite(options.min_score):
        raise ConfigError(f"--min-score: got {options.min_score:g}, expected a number")
    return PromptOptions(images=images.names, image_ids=options.image_ids, min_score=options.min_score or 0.0)


def _simplify(options: argparse.Namespace) -> float:
    if options.simplify is not None and not 0 <= options.simplify < math.inf:
        raise ConfigError(f"--simplify: got {options.simplify:g}, expected a number of pixels, 0 or more")
    return options.simplify or 0.0


def _run(options: argparse.Namespace) -> Run:
    """How images are segmented: here, in processes, or on a Ray cluster; ConfigError for what does not go together."""
    if options.prompts is None:
        given = ", ".join(flag_of(name) for name in _OF_MANY if getattr(options, name) is not None)
        raise ConfigError(f"{given}: for many images; give their prompts with --prompts")
    if given := ", ".join(flag_of(name) for name in _SINGLE_IMAGE if getattr(options, name)):
        raise ConfigError(f"{given}: for a single image, not for a folder with --prompts")
    resources = {name: getattr(options, name) for name in _RAY_DEFAULTS if getattr(options, name) is not None}
    if resources and not options.ray:
        raise ConfigError(f"{', '.join(map(flag_of, resources))}: for --ray")
    workers = 1 if options.workers is None else options.workers
    resources = {**_RAY_DEFAULTS, **resources}
    if min(workers, resources["worker_cpus"]) <= 0 or resources["worker_gpus"] < 0:
        raise ConfigError("--workers and --worker-cpus: expected more than 0; --worker-gpus: at least 0")
    if options.ray:
        return partial(_on_ray, address=options.ray, workers=workers, **resources)
    if workers > 1:
        from ..fleet.processes import run

        return partial(run, workers=workers)
    from ..fleet.run import in_this_process

    return in_this_process


def _on_ray(jobs: Sequence[ImageJob], fleet: FleetOptions, **asked: Any) -> Iterable[tuple[str, str]]:
    if not jobs:
        return ()
    try:
        from ..fleet.ray_data import run
    except ModuleNotFoundError as e:
        raise unavailable(e.name or "ray", e, install_command("ray"), use="--ray needs it") from e
    return run(jobs, fleet, **asked)


def _settings(fleet: FleetOptions, options: argparse.Namespace) -> dict[str, object]:
    """What decides the masks: the files of the bundle, and the options of a prediction."""
    from ..bundle import load_bundle
    from ..files import sha256_of
    from ..frames.image_files import WHITE
    from ..manifest import manifest_sha256

    load_bundle(fleet.bundle)  # refuse a damaged one before any worker starts
    return {
        "bundle": manifest_sha256(fleet.bundle),
        **({} if options.white_point == WHITE else {"white_point": options.white_point}),
        "multimask_output": options.multimask,
        "hq_token_only": options.hq_token_only,
        "hq_token": sha256_of(options.hq_token) if options.hq_token else None,
    }
