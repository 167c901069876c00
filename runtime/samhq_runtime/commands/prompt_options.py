"""Prompts on the command line: the same for every command that takes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """Box and points of one object."""
    parser.add_argument("--box", type=numbers(4), metavar="X0,Y0,X1,Y1", help="box around the object, in pixels")
    parser.add_argument(
        "--point", type=numbers(2), action="append", default=[], metavar="X,Y", help="pixel on the object; repeatable"
    )
    parser.add_argument(
        "--negative-point", type=numbers(2), action="append", default=[], metavar="X,Y", help="pixel not on the object"
    )


def prompts_of(options: argparse.Namespace) -> dict[str, Any]:
    """What `Predictor.predict` takes, of what was given."""
    prompts: dict[str, Any] = {} if options.box is None else {"box": options.box}
    if options.point or options.negative_point:
        prompts["point_coords"] = [*options.point, *options.negative_point]
        prompts["point_labels"] = [1] * len(options.point) + [0] * len(options.negative_point)
    return prompts


def numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    """The type of an option with so many numbers."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"got {text!r}, expected {count} numbers with commas between them")
        return values

    return parse
