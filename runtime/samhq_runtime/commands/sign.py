"""`samhq sign`: a signature into a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    sign = commands.add_parser(
        "sign",
        help="sign a bundle, so that --verify-key tells it from others",
        description="Check every hash of a bundle, then sign its manifest with an Ed25519 key: manifest.json.sig.",
    )
    sign.set_defaults(run=_sign, extras="sign")
    sign.add_argument("bundle", type=Path)
    sign.add_argument("--key", type=Path, required=True, metavar="PEM", help="private key")


def _sign(options: argparse.Namespace) -> None:
    from ..bundle import load_bundle
    from ..bundle.signing import sign_bundle

    load_bundle(options.bundle)
    print(sign_bundle(options.bundle, options.key))
