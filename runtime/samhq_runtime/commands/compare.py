"""`samhq compare`: two bundles, the same prompts -> a table, and pictures of where they differ."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ImageError, ParityError, PromptError, SamHqError
from ..tables import format_table, printable
from .options import PROVIDERS_HELP, add_max_image_mp, add_verify_key, add_white_point, allow_large_images
from .prompt_options import add_prompts, prompts_of

if TYPE_CHECKING:
    from ..comparison import ObjectDifference, Side

_DESCRIPTION = """Ask two bundles the same and compare their masks: two precisions, two checkpoints, or with
--tokens sam,all SAM's and SAM-HQ's masks of one bundle."""
_TABLE = "differences.csv"
_TOKENS = ("all", "hq", "sam")


@dataclass(frozen=True)
class _Row:
    image: str
    number: int
    difference: ObjectDifference


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    compare = commands.add_parser("compare", help="compare the masks of two bundles", description=_DESCRIPTION)
    compare.set_defaults(run=_compare)
    compare.add_argument("bundles", type=Path, nargs=2, metavar="BUNDLE")
    add_verify_key(compare)
    compare.add_argument(
        "images", type=Path, nargs="+", help="image files, folders, patterns, lists (.txt); with --prompts one folder"
    )
    add_prompts(compare)
    compare.add_argument(
        "--prompts", type=Path, metavar="JSONL", help="prompts of each image, as `samhq predict` takes"
    )
    compare.add_argument(
        "--tokens",
        type=_two_tokens,
        default=("all", "all"),
        metavar="A,B",
        help=f"which masks of the first and of the second: {', '.join(_TOKENS)} (default: all,all)",
    )
    compare.add_argument("--multimask", action="store_true", help="choose among SAM's three candidates")
    compare.add_argument(
        "--output", type=Path, metavar="FOLDER", help=f"{_TABLE} with every object, and pictures of the worst images"
    )
    compare.add_argument("--worst", type=int, default=6, metavar="N", help="images to draw, or to list (default: 6)")
    compare.add_argument("--fail-below", type=float, metavar="IOU", help="end with an error if an object is below this")
    compare.add_argument("--providers", default="cpu", help=f"{PROVIDERS_HELP}; of both bundles (default: cpu)")
    add_max_image_mp(compare)
    add_white_point(compare)


def _two_tokens(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if len(names) != 2 or not set(names) <= set(_TOKENS):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected two of {', '.join(_TOKENS)}, such as sam,all")
    return names


def _compare(options: argparse.Namespace) -> None:
    allow_large_images(options)
    if options.worst < 0:
        raise ConfigError(f"--worst: got {options.worst}, expected at least 0")
    asked = _asked(options)
    rows: list[_Row] = []
    failed = 0
    with ExitStack() as stack:
        sides = _sides(options, stack)
        for path, prompts in asked.items():
            try:
                rows += _rows(sides, path, prompts, options)
            except SamHqError as e:
                failed += 1
                print(printable(str(e) if str(path) in str(e) else f"{path}: {e}"), file=sys.stderr)
        worst = _worst(rows, options.worst)
        if options.output:
            _write(options.output, rows)
            for number, name in enumerate(worst, 1):
                _draw(sides, Path(name), asked[Path(name)], options, number)
    _report(rows, worst, options)
    if failed:
        raise ImageError(f"{failed} of {len(asked)} images could not be compared; they are named above")
    below = [row for row in rows if options.fail_below is not None and row.difference.iou < options.fail_below]
    if below:
        raise ParityError(f"{len(below)} of {len(rows)} objects are below an IoU of {options.fail_below:g}")


def _asked(options: argparse.Namespace) -> Mapping[Path, Mapping[str, Any]]:
    """The prompts of every image."""
    from ..fleet.prompt_files import read_jobs
    from ..frames.image_names import image_file
    from ..frames.image_sources import image_files

    prompts = prompts_of(options)
    if options.prompts is None:
        if not prompts:
            raise PromptError("no prompt: give --box, --point, or both, or a file with --prompts")
        return dict.fromkeys(image_files(options.images), prompts)
    if prompts:
        raise ConfigError("--prompts: has the prompts of every image; leave out --box, --point and --negative-point")
    if len(options.images) != 1 or not options.images[0].is_dir():
        raise ImageError(f"{' '.join(map(str, options.images))}: expected one folder of images with --prompts")
    jobs = read_jobs(options.prompts)
    return {image_file(options.images[0], job.image): job.arguments() for job in jobs}


def _sides(options: argparse.Namespace, stack: ExitStack) -> tuple[Side, Side]:
    from ..bundle import load_bundle
    from ..comparison import Side
    from ..predictor import Predictor

    bundles = [load_bundle(path) for path in options.bundles]
    names = [path.resolve().name for path in options.bundles]
    if names[0] == names[1]:
        same_tokens = options.tokens[0] == options.tokens[1]
        names = [f"{name} {mark}" for name, mark in zip(names, "12" if same_tokens else options.tokens, strict=True)]
    one = options.bundles[0].resolve() == options.bundles[1].resolve()
    first = stack.enter_context(Predictor(bundles[0], providers=options.providers))
    second = first if one else stack.enter_context(Predictor(bundles[1], providers=options.providers))
    return Side(names[0], first, options.tokens[0]), Side(names[1], second, options.tokens[1])


def _rows(
    sides: tuple[Side, Side], path: Path, prompts: Mapping[str, Any], options: argparse.Namespace
) -> Iterator[_Row]:
    from ..comparison import compare_image
    from ..frames.image_files import read_image

    image = read_image(path, white_point=options.white_point)
    found = compare_image(sides, image, prompts, multimask_output=options.multimask)
    yield from (_Row(str(path), number, difference) for number, difference in enumerate(found.objects))


def _worst(rows: Sequence[_Row], count: int) -> list[str]:
    """The images with the lowest IoU of an object, of those that differ at all."""
    ranked = sorted((row for row in rows if row.difference.iou < 1), key=lambda row: row.difference.iou)
    return list(dict.fromkeys(row.image for row in ranked))[:count]


def _draw(
    sides: tuple[Side, Side], path: Path, prompts: Mapping[str, Any], options: argparse.Namespace, number: int
) -> None:
    import numpy as np

    from ..comparison import compare_image
    from ..frames.image_files import read_image, write_png

    image = read_image(path, white_point=options.white_point)
    box = prompts.get("box")
    boxes = None if box is None else np.reshape(box, (-1, 4))
    found = compare_image(sides, image, prompts, multimask_output=options.multimask)
    write_png(options.output / f"differ-{number:02d}.png", found.picture(image, boxes))


def _write(output: Path, rows: Sequence[_Row]) -> None:
    import csv
    import io

    from ..files import write_text

    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "object", "iou", "pixels_1", "pixels_2", "predicted_iou_1", "predicted_iou_2"])
    for row in rows:
        table.writerow([row.image, row.number, *_values(row.difference)])
    try:
        output.mkdir(parents=True, exist_ok=True)
        for old in output.glob("differ-[0-9][0-9].png"):
            old.unlink()
        write_text(output / _TABLE, text.getvalue())
    except OSError as e:
        raise ConfigError(f"{output}: cannot be written ({e.strerror or e}); choose another --output") from e


def _values(difference: ObjectDifference) -> list[str]:
    return [
        f"{difference.iou:.6f}",
        *map(str, difference.areas),
        *(f"{value:.4f}" for value in difference.predicted_iou),
    ]


def _report(rows: Sequence[_Row], worst: Sequence[str], options: argparse.Namespace) -> None:
    if not rows:
        return
    shown = [min((r for r in rows if r.image == name), key=lambda row: row.difference.iou) for name in worst]
    header = ("lowest IoU of an image", "object", "IoU", "pixels 1", "pixels 2", "predicted 1", "predicted 2")
    if shown:
        print(format_table(header, [(printable(r.image), str(r.number), *_values(r.difference)) for r in shown]))
    values = [row.difference.iou for row in rows]
    equal = sum(value == 1 for value in values)
    print(f"{len(rows)} objects: mean IoU {sum(values) / len(values):.4f}, lowest {min(values):.4f}, {equal} the same")
    if options.output:
        print(f"written to {options.output}: {_TABLE}, {len(worst)} pictures")
