"""`samhq encode`: images into a folder of embeddings."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, SamHqError, interrupted
from ..tables import printable
from .options import (
    add_embeddings,
    add_max_image_mp,
    add_providers,
    add_verify_key,
    add_white_point,
    allow_large_images,
    chosen_providers,
    max_bytes_of,
    provider_options,
)
from .progress_bar import late_bar

if TYPE_CHECKING:
    from ..embeddings import EmbeddingFolder

_DESCRIPTION = """Encode images and keep what the encoder made of them: `samhq predict --embeddings FOLDER` then runs
the decoder alone. Images are known by their content, wherever they lie and whatever they are called; those that are
there are left alone."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    encode = commands.add_parser("encode", help="encode images ahead of time", description=_DESCRIPTION)
    encode.set_defaults(run=_encode)
    encode.add_argument("bundle", type=Path)
    add_verify_key(encode)
    encode.add_argument("images", type=Path, nargs="+", help="folders, image files, patterns, lists (.txt)")
    add_embeddings(encode, required=True)
    encode.add_argument("--float16", action="store_true", help="half the size; features are rounded")
    add_providers(encode)
    add_max_image_mp(encode)
    add_white_point(encode)


def _encode(options: argparse.Namespace) -> None:
    from ..embeddings import EmbeddingFolder
    from ..frames.image_sources import image_files
    from ..predictor import Predictor

    allow_large_images(options)
    images = image_files(options.images)
    providers = chosen_providers(options)
    with Predictor(options.bundle, providers=providers, provider_options=provider_options(options)) as predictor:
        folder = EmbeddingFolder(
            predictor, options.embeddings, max_bytes=max_bytes_of(options), float16=options.float16
        )
        new, failed = _add_all(folder, images, options)
    print(f"{options.embeddings}: {new} images encoded, {len(images) - new - failed} were there already")
    if options.embeddings_mb is not None and (kept := _kept(folder, images, options)) < len(images) - failed:
        print(f"{kept} of {len(images)} are kept: --embeddings-mb {options.embeddings_mb:g} has no room for more")
    if failed:
        raise ImageError(f"{failed} of {len(images)} images could not be encoded; they are named above")


def _kept(folder: EmbeddingFolder, images: list[Path], options: argparse.Namespace) -> int:
    """How many of the images are in the folder now; each is read once more, for its name there."""
    return sum(folder.path_of(image, white_point=options.white_point).exists() for image in images)


def _add_all(folder: EmbeddingFolder, images: list[Path], options: argparse.Namespace) -> tuple[int, int]:
    """How many were new, and how many failed; each of these is named on stderr."""
    new = failed = 0
    kept = f"what was encoded is kept in {options.embeddings}, the same command goes on"
    with ExitStack() as stack, interrupted(kept):
        show = late_bar(stack, "encode")
        for index, image in enumerate(images):
            try:
                new += folder.add(image, white_point=options.white_point)
            except SamHqError as e:
                failed += 1
                print(printable(str(e)), file=sys.stderr)
            show((index + 1) / len(images), image.name)
    return new, failed
