"""What several commands read from their arguments."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..callbacks import Notice
from ..errors import ConfigError
from ..session.ort_providers import PROVIDERS
from ..session.providers import AUTO, ENGINE_PROVIDERS, OPENVINO

_TOGETHER = [name for name, provider in PROVIDERS.items() if not provider.plugin]
_ALONE = [*(name for name in PROVIDERS if name not in _TOGETHER), OPENVINO, next(iter(ENGINE_PROVIDERS))]
PROVIDER_NAMES = [*_TOGETHER, *_ALONE]
PROVIDERS_HELP = (
    f"{', '.join(_TOGETHER)}, in order of preference; or one of {', '.join(_ALONE)} (the bundle's TensorRT engines); "
    f"ENCODER/DECODER, such as {OPENVINO}/cpu, for two different ones; or {AUTO}"
)
_NEGATIVE = re.compile(r"-[.\d]")


def add_providers(parser: argparse.ArgumentParser) -> None:
    """For commands that open one `Predictor`; `chosen_providers` and `provider_options` read it."""
    parser.add_argument(
        "--providers", help=f"{PROVIDERS_HELP} (default: {AUTO} once `samhq tune` ran for the bundle here, else cpu)"
    )
    parser.add_argument(
        "--provider-option",
        type=_provider_option,
        action="append",
        default=[],
        metavar="PROVIDER.OPTION=VALUE",
        help="such as cuda.device_id=1 or engine.cuda_graph=0; repeatable",
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def chosen_providers(options: argparse.Namespace, *, tell: Notice = _say) -> str:
    """As asked for, or the default, which is told where it is a stored choice."""
    if options.providers is not None:
        return str(options.providers)
    from ..auto import stored_ways

    ways = stored_ways(options.bundle)
    if ways is None:
        return "cpu"
    tell(f"as tuned for this machine: --providers {ways}")
    return AUTO


def provider_options(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Every `--provider-option`, as `Predictor` takes them."""
    given: dict[str, dict[str, str]] = {}
    for provider, option, value in options.provider_option:
        given.setdefault(provider, {})[option] = value
    return given


def add_max_image_mp(parser: argparse.ArgumentParser) -> None:
    """For commands that read image files of the user's own."""
    parser.add_argument(
        "--max-image-mp",
        type=float,
        metavar="N",
        help="read images of up to N megapixels (default: 179, Pillow's limit)",
    )


def allow_large_images(options: argparse.Namespace) -> None:
    """Heed `--max-image-mp`; ConfigError if it is not a number above 0."""
    if options.max_image_mp is not None:
        from ..frames.image_files import allow_megapixels

        allow_megapixels(options.max_image_mp)


def add_white_point(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """For images of 16 bits."""
    parser.add_argument(
        "--white-point",
        type=int,
        default=65535,
        metavar="N",
        help="value of white in images of 16 bits: 4095 where a camera of 12 bits made them (default: 65535)",
    )


def add_formats(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """For commands that write masks of many images; `chosen_formats` reads it."""
    from ..formats import FORMATS

    parser.add_argument(
        "--format", metavar="FORMATS", help=f"also write the masks as some of {','.join(FORMATS)}, each in its folder"
    )


def add_embeddings(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """For commands that encode images."""
    parser.add_argument(
        "--embeddings",
        type=Path,
        required=required,
        metavar="FOLDER",
        help="folder of encoded images: those that are there are not encoded again, others are added",
    )
    parser.add_argument(
        "--embeddings-mb",
        type=float,
        metavar="N",
        help="keep at most so many megabytes in it, those used last (default: no limit)",
    )


def max_bytes_of(options: argparse.Namespace) -> int | None:
    """`--embeddings-mb` in bytes; ConfigError if it is not a number above 0, or without its folder."""
    megabytes = options.embeddings_mb
    if megabytes is None:
        return None
    if options.embeddings is None:
        raise ConfigError("--embeddings-mb: for a folder of encoded images; give it with --embeddings")
    if not 0 < megabytes < math.inf:
        raise ConfigError(f"--embeddings-mb: got {megabytes}, expected a number of megabytes above 0")
    return max(1, int(megabytes * 1_000_000))


def add_verify_key(parser: argparse.ArgumentParser) -> None:
    """For commands that take one bundle or several."""
    parser.add_argument(
        "--verify-key", type=Path, metavar="PEM", help="refuse a bundle that was not signed with this public key's half"
    )


def require_signed(options: argparse.Namespace) -> None:
    """Heed `--verify-key`, before the command does anything."""
    key = getattr(options, "verify_key", None)
    if key is not None:
        from ..bundle.signing import require_signature

        for bundle in options.bundles if hasattr(options, "bundles") else [options.bundle]:
            require_signature(bundle, key)


def with_negative_values(arguments: Sequence[str]) -> list[str]:
    """`--box -5,10,20,30` as `--box=-5,10,20,30`: argparse takes a value that starts with a minus for an option."""
    joined: list[str] = []
    for argument in arguments:
        if _NEGATIVE.match(argument) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


def _provider_option(text: str) -> tuple[str, str, str]:
    provider, _, option = text.partition("=")[0].partition(".")
    if not provider or not option or "=" not in text:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected PROVIDER.OPTION=VALUE such as cuda.device_id=1")
    return provider, option, text.partition("=")[2]
