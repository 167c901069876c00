"""`samhq everything`: images -> a folder with a COCO file of all masks of each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from ..callbacks import Show
from ..errors import ConfigError, ImageError, SamHqError, interrupted
from ..everything.found import COCO_RLE, UNCOMPRESSED_RLE
from ..everything.generator import MaskGenerator
from ..everything.output import masks_of, read_masks, result_of, write_failure
from ..files import sha256_of, write_json
from ..formats import ImageResult, Outputs, chosen_formats
from ..formats.settings import SETTINGS, require_settings
from ..frames.image_files import read_image
from ..frames.image_sources import image_files
from ..manifest import manifest_sha256
from ..masks.choice import MaskChoice
from ..predictor import Predictor
from ..tables import printable
from .generator_options import DEFAULTS, NO_MATTER, add_generator_options, generator_options
from .options import (
    add_formats,
    add_max_image_mp,
    add_providers,
    add_verify_key,
    add_white_point,
    allow_large_images,
    chosen_providers,
    provider_options,
)
from .progress_bar import late_bar

_DESCRIPTION = """Segment everything in images: a grid of points is put on each, and masks that are good, stable and no
duplicates are kept, as SAM's automatic mask generator does it. Each image gets a COCO file. Images that are done are
left alone, so an interrupted run goes on when the same command is given again."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    command = commands.add_parser("everything", help="segment everything in images", description=_DESCRIPTION)
    command.set_defaults(run=_everything)
    command.add_argument("bundle", type=Path)
    add_verify_key(command)
    command.add_argument("images", type=Path, nargs="+", help="folders, image files, patterns, lists (.txt)")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a COCO file of each image")
    command.add_argument("--overlay", type=Path, metavar="FOLDER", help="also write the masks drawn over each image")
    add_formats(command)
    add_generator_options(command)
    command.add_argument(
        "--output-mode",
        choices=(COCO_RLE, UNCOMPRESSED_RLE),
        default=COCO_RLE,
        help=f"run lengths as COCO's text, or as numbers (default: {COCO_RLE})",
    )
    command.add_argument(
        "--no-multimask", action="store_true", help="SAM's single mask of each point, not the best of three candidates"
    )
    command.add_argument("--hq-token-only", action="store_true", help="the HQ mask alone, without SAM's")
    command.add_argument("--sam-tokens-only", action="store_true", help="SAM's mask alone, without the HQ mask")
    command.add_argument("--hq-token", type=Path, metavar="FILE", help="tuned HQ token, .safetensors or .npy")
    add_providers(command)
    add_max_image_mp(command)
    add_white_point(command)


def _everything(options: argparse.Namespace) -> None:
    allow_large_images(options)
    outputs = Outputs(folder=options.output, formats=chosen_formats(options.format), overlay=options.overlay)
    images = _images(options.images)
    outputs.require_own_files(images)
    asked = {**generator_options(options), "output_mode": options.output_mode}
    with Predictor(
        options.bundle,
        providers=chosen_providers(options),
        provider_options=provider_options(options),
        hq_token=options.hq_token,
    ) as predictor:
        generator = MaskGenerator(predictor, **asked)
        MaskChoice(sizes=predictor.bundle.manifest.sizes, **_choice(options))  # refuse what no image can have
        require_settings(options.output, _settings(options, asked))
        outputs.require_settings()
        outputs.sweep()
        todo = {name: path for name, path in images.items() if not _is_done(outputs, name)}
        masks, failed = _segment_all(generator, todo, options, outputs)
    outputs.write_run(lambda: _results(outputs, images))
    print(
        f"{options.output}: {masks} masks in {len(todo) - failed} images, {len(images) - len(todo)} were done already"
    )
    if failed:
        raise ImageError(f"{failed} of {len(todo)} images could not be segmented; they are named above")


def _segment_all(
    generator: MaskGenerator, todo: dict[str, Path], options: argparse.Namespace, outputs: Outputs
) -> tuple[int, int]:
    """How many masks were found, and how many images failed; each of these is named on stderr."""
    masks, errors = 0, []
    kept = f"the images that were finished are kept in {options.output}, the same command goes on"
    with interrupted(kept):
        with ExitStack() as stack:
            show = late_bar(stack, "everything")
            for index, (name, path) in enumerate(todo.items()):
                progress = _part(show, index, len(todo), name)
                try:
                    masks += _segment(generator, name, path, options, outputs, progress)
                except Exception as e:  # whatever one image does, the others are still to be done
                    errors.append(f"{name}: {_reason(e)}")
                    with suppress(OSError):
                        write_failure(_file(outputs, name), name, _reason(e))
        for error in errors:
            print(printable(error), file=sys.stderr)
    return masks, len(errors)


def _segment(
    generator: MaskGenerator,
    name: str,
    path: Path,
    options: argparse.Namespace,
    outputs: Outputs,
    progress: Show,
) -> int:
    """Write what is asked for of one image, and last of all its own file; how many masks it has."""
    image = cache(partial(read_image, path, white_point=options.white_point))
    content = read_masks(_file(outputs, name))
    again = content is None
    if content is None:
        pixels = image()
        records = generator.generate(pixels, **_choice(options), progress=progress)
        content = masks_of(name, (pixels.shape[0], pixels.shape[1]), records)
    outputs.write_image(result_of(content, path), image, again=again)
    if again:
        write_json(_file(outputs, name), content)
    return len(content["annotations"])


def _results(outputs: Outputs, images: dict[str, Path]) -> Iterator[ImageResult]:
    """What is there of the images, in order."""
    for name, path in images.items():
        content = read_masks(_file(outputs, name))
        if content is not None:
            yield result_of(content, path)


def _images(sources: list[Path]) -> dict[str, Path]:
    """Files by the name of their results: the path below a folder that was given, or the file's own name."""
    images: dict[str, Path] = {}
    for source in sources:
        for path in image_files([source]):
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            if name == SETTINGS:
                raise ConfigError(f"{path}: its results would take the place of {SETTINGS}.json; rename it")
            if images.setdefault(name, path) != path:
                raise ConfigError(
                    f"{path} and {images[name]}: results of both would be {name}.json; give the folder that has both"
                )
    return images


def _choice(options: argparse.Namespace) -> dict[str, bool]:
    return {
        "multimask_output": not options.no_multimask,
        "hq_token_only": options.hq_token_only,
        "sam_tokens_only": options.sam_tokens_only,
    }


def _settings(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, object]:
    """What decides the masks, beside the images."""
    told = {name: asked.get(name, DEFAULTS[name]) for name in DEFAULTS if name not in ("predictor", *NO_MATTER)}
    return {
        **told,
        **_choice(options),
        "point_grids": [grid.tolist() for grid in asked.get("point_grids", [])],
        "bundle": manifest_sha256(options.bundle),
        "hq_token": sha256_of(options.hq_token) if options.hq_token else None,
        "white_point": options.white_point,
    }


def _file(outputs: Outputs, name: str) -> Path:
    return outputs.folder / f"{name}.json"


def _is_done(outputs: Outputs, name: str) -> bool:
    return read_masks(_file(outputs, name)) is not None and outputs.are_there(name)


def _part(show: Show, index: int, count: int, name: str) -> Show:
    """The progress of one image as part of the whole."""
    return lambda fraction, phase: show((index + fraction) / count, f"{name}, {phase}")


def _reason(error: Exception) -> str:
    if isinstance(error, SamHqError):
        return str(error)
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
