"""`samhq predict BUNDLE FOLDER --prompts FILE`: the options, and the run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ImageError, interrupted
from ..flags import flag_of
from ..fleet.jobs import ImageJob, read_jobs
from ..installing import install_command, unavailable
from ..tables import printable
from .options import chosen_providers, max_bytes_of

if TYPE_CHECKING:
    from ..fleet.segmenter import FleetOptions

_RAY_DEFAULTS = {"workers": 1, "worker_cpus": 1.0, "worker_gpus": 0.0}
_SINGLE_IMAGE = ("box", "point", "negative_point", "overlay", "compare_sam", "provider_option")


def add_fleet_options(predict: argparse.ArgumentParser) -> None:
    """Options of `samhq predict` for a folder of images."""
    fleet = predict.add_argument_group("a folder of images (IMAGE and --output are folders then)")
    fleet.add_argument(
        "--prompts",
        type=Path,
        metavar="JSONL",
        help='lines such as {"image": "a/cat.jpg", "box": [[10, 20, 300, 400]]}',
    )
    fleet.add_argument("--ray", metavar="ADDRESS", help="on a Ray cluster; `local` starts one in this machine")
    fleet.add_argument("--workers", type=int, help="Ray actors, each with the bundle loaded (default: 1)")
    fleet.add_argument("--worker-cpus", type=float, metavar="N", help="CPUs of each, may be a fraction (default: 1)")
    fleet.add_argument("--worker-gpus", type=float, metavar="N", help="GPUs of each, may be a fraction (default: 0)")


def for_a_folder(options: argparse.Namespace) -> bool:
    """Whether any option of a folder of images is given."""
    return any(getattr(options, name) is not None for name in ("prompts", "ray", *_RAY_DEFAULTS))


def predict_folder(options: argparse.Namespace) -> None:
    """Do what is not done yet; ends with an error if an image could not be segmented."""
    if options.prompts is None:
        raise ConfigError("--ray and --worker options: for a folder of images; give its prompts with --prompts")
    if given := [flag_of(name) for name in _SINGLE_IMAGE if getattr(options, name)]:
        raise ConfigError(f"{', '.join(given)}: for a single image, not for a folder with --prompts")
    resources = _ray_resources(options)
    jobs = read_jobs(options.prompts)
    if not options.image.is_dir():
        raise ImageError(f"{options.image}: no such folder of images")
    from ..files import sweep
    from ..fleet.output import is_done, require_settings
    from ..fleet.segmenter import FleetOptions

    fleet = FleetOptions(
        bundle=options.bundle.resolve(),
        images=options.image.resolve(),
        output=options.output.resolve(),
        multimask_output=options.multimask,
        hq_token_only=options.hq_token_only,
        providers=chosen_providers(options),
        hq_token=options.hq_token and options.hq_token.resolve(),
        max_image_mp=options.max_image_mp,
        white_point=options.white_point,
        embeddings=options.embeddings and options.embeddings.resolve(),
        max_embeddings_bytes=max_bytes_of(options),
    )
    require_settings(fleet.output, _settings(fleet.bundle, options))
    sweep(fleet.output)
    todo = [job for job in jobs if not is_done(fleet.output, job)]
    failed = 0
    with interrupted(f"the images that were finished are kept in {fleet.output}, the same command goes on"):
        for image, error in _results(todo, fleet, address=options.ray, resources=resources):
            if error:
                failed += 1
                print(printable(f"{image}: {error}"), file=sys.stderr)
    sweep(fleet.output)  # of workers that died on the way
    print(f"{options.output}: {len(todo) - failed} images segmented, {len(jobs) - len(todo)} were done already")
    if failed:
        raise ImageError(f"{failed} of {len(todo)} images could not be segmented; they are named above")


def _ray_resources(options: argparse.Namespace) -> dict[str, Any]:
    """The --worker options; ConfigError for impossible ones, and for any that nothing would heed."""
    given = {name: getattr(options, name) for name in _RAY_DEFAULTS if getattr(options, name) is not None}
    if given and not options.ray:
        names = ", ".join(map(flag_of, given))
        raise ConfigError(f"{names}: for --ray; this process segments one image after the other")
    resources = {**_RAY_DEFAULTS, **given}
    if min(resources["workers"], resources["worker_cpus"]) <= 0 or resources["worker_gpus"] < 0:
        raise ConfigError("--workers and --worker-cpus: expected more than 0; --worker-gpus: at least 0")
    return resources


def _results(
    jobs: Sequence[ImageJob], fleet: FleetOptions, *, address: str | None, resources: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    if not jobs:
        return
    if address:
        try:
            from ..fleet.ray_data import run
        except ModuleNotFoundError as e:
            raise unavailable(e.name or "ray", e, install_command("ray"), use="--ray needs it") from e
        yield from run(jobs, fleet, address=address, **resources)
        return
    from ..fleet.segmenter import Segmenter

    segmenter = Segmenter(fleet)
    for job in jobs:
        yield job.image, segmenter.run(job)


def _settings(bundle: Path, options: argparse.Namespace) -> dict[str, object]:
    """What decides the masks: the files of the bundle, and the options of a prediction."""
    from ..bundle import load_bundle
    from ..files import sha256_of
    from ..frames.image_files import WHITE
    from ..manifest import manifest_sha256

    load_bundle(bundle)  # refuse a damaged one before any worker starts
    return {
        "bundle": manifest_sha256(bundle),
        **({} if options.white_point == WHITE else {"white_point": options.white_point}),
        "multimask_output": options.multimask,
        "hq_token_only": options.hq_token_only,
        "hq_token": sha256_of(options.hq_token) if options.hq_token else None,
    }
