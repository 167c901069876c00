"""`samhq eval`: argv -> evaluate -> tables on stdout, files in the output folder."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from ..errors import interrupted
from ..evaluation.reliability_chart import CHART_NAME
from ..evaluation.report import REPORT_NAME, Report
from ..evaluation.truth import PROMPTS
from .options import PROVIDERS_HELP, add_max_image_mp, add_verify_key, add_white_point, allow_large_images
from .progress_bar import late_bar

_DESCRIPTION = """Measure the masks of bundles against a dataset's ground truth: IoU and boundary IoU, by object size,
and how well predicted IoU foretells the measured one. The first bundle is the one the others are compared with.
An interrupted run goes on where it stopped when the same command is given again."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    command = commands.add_parser("eval", help="measure bundles on a dataset with true masks", description=_DESCRIPTION)
    command.set_defaults(run=_eval)
    command.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    add_verify_key(command)
    _add_dataset(command)
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="report, records and pictures")
    command.add_argument(
        "--prompts",
        choices=PROMPTS,
        default="box",
        help="of each object: the box of its true mask, its deepest point, or bbox: the box of the annotation",
    )
    command.add_argument("--multimask", action="store_true", help="choose among SAM's three candidates")
    command.add_argument("--hq-token-only", action="store_true", help="the HQ mask alone, without SAM's")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    command.add_argument("--worst", type=int, default=6, metavar="N", help="worst cases to draw (default: 6)")
    command.add_argument(
        "--providers",
        action="append",
        default=[],
        help=f"{PROVIDERS_HELP}; repeat to measure every bundle under each (default: cpu)",
    )
    command.add_argument("--threads", type=int, default=0, help="CPU threads (default: one per physical core)")


def _add_dataset(command: argparse.ArgumentParser) -> None:
    """Where images and true masks are, and how they are read."""
    command.add_argument(
        "--dataset",
        type=Path,
        required=True,
        metavar="PATH",
        help="annotations of COCO, Label Studio or labelme, or a folder: labelme's files, im/ and gt/, images/ and "
        "masks/, or .jpg and .png of the same name",
    )
    command.add_argument(
        "--images", type=Path, metavar="FOLDER", help="images of the annotation file (default: looked for beside it)"
    )
    command.add_argument("--masks", type=Path, metavar="FOLDER", help="masks of the images in the --dataset folder")
    command.add_argument(
        "--mask-suffix", metavar="SUFFIX", help="how masks are named after their image's stem, such as _mask.gif"
    )
    command.add_argument(
        "--include-crowd", action="store_true", help="take annotations with iscrowd as objects (CVAT's painted masks)"
    )
    add_max_image_mp(command)
    add_white_point(command)


def _eval(options: argparse.Namespace) -> None:
    with interrupted(f"the images that were finished are kept in {options.output}, the same command goes on"):
        report = _evaluate(options)
    print(report.to_text())
    print(f"\n{_files(options.output)}")


def _evaluate(options: argparse.Namespace) -> Report:
    from ..evaluation.open import open_dataset
    from ..evaluation.run import evaluate

    allow_large_images(options)
    dataset = open_dataset(
        options.dataset,
        images=options.images,
        masks=options.masks,
        include_crowd=options.include_crowd,
        mask_suffix=options.mask_suffix,
        white_point=options.white_point,
    )
    with ExitStack() as stack:
        return evaluate(
            options.bundles,
            dataset,
            prompts=options.prompts,
            multimask_output=options.multimask,
            hq_token_only=options.hq_token_only,
            providers=options.providers or ["cpu"],
            threads=options.threads,
            limit=options.limit,
            output=options.output,
            worst=options.worst,
            progress=late_bar(stack, "evaluate"),
            notice=lambda text: print(text, file=sys.stderr),
        )


def _files(folder: Path) -> str:
    from ..evaluation.pictures import find_pictures

    names = [REPORT_NAME, CHART_NAME, *(path.name for path in find_pictures(folder))]
    return f"written to {folder}: {', '.join(names)}"
