"""`samhq triton`: argv -> TritonOptions -> a model repository."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from ..flags import flag_of
from ..serve.options import ServeOptions
from ..triton.config import BACKENDS, DEVICES, LIMITS, TritonOptions
from .options import add_verify_key
from .serve import HELP


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    triton = commands.add_parser(
        "triton",
        help="write a model repository for the Triton Inference Server",
        description="Write encoder, decoder and a pipeline from image and prompts to masks into a Triton model "
        "repository. The pipeline needs this package and Pillow where Triton runs.",
    )
    triton.set_defaults(run=_triton)
    triton.add_argument("bundle", type=Path)
    add_verify_key(triton)
    triton.add_argument("repository", type=Path)
    default = TritonOptions()
    triton.add_argument("--name", default=default.name, help="of the pipeline model (default: %(default)s)")
    triton.add_argument("--backend", choices=BACKENDS, default=default.backend, help="tensorrt: the bundle's engines")
    triton.add_argument("--device", choices=DEVICES, default=default.device, help="auto leaves it to Triton")
    triton.add_argument("--instances", type=int, default=default.instances, help="of each model (default: %(default)s)")
    triton.add_argument(
        "--max-images", type=int, default=default.max_images, help="encoded together (default: %(default)s)"
    )
    triton.add_argument(
        "--queue-delay-us", type=int, default=default.queue_delay_us, help="an image waits for others this long"
    )
    triton.add_argument("--response-cache", action="store_true", help="let Triton's own cache keep encoded images")
    for name in LIMITS:
        value = getattr(default.limits, name)
        triton.add_argument(flag_of(name), type=int, default=value, help=f"{HELP[name]} (default: {value})")
    triton.add_argument("--overwrite", action="store_true", help="replace models of the same names")


def _triton(options: argparse.Namespace) -> None:
    from ..bundle import load_bundle
    from ..triton.repository import write_repository

    limits = ServeOptions(**{name: getattr(options, name) for name in LIMITS})
    names = {field.name for field in fields(TritonOptions)} - {"limits"}
    chosen = TritonOptions(limits=limits, **{name: getattr(options, name) for name in names})
    for model in write_repository(load_bundle(options.bundle), options.repository, chosen):
        print(model)
