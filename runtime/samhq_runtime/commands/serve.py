"""`samhq serve`: argv -> ServeOptions -> a server that runs until it is told to stop."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from ..flags import flag_of
from ..serve.options import ServeOptions
from .options import PROVIDERS_HELP, provider_names

_HELP = {
    "host": "address to listen on; clients are not authenticated, so think before you open it to others",
    "http_port": "0 takes a free one",
    "grpc_port": "0 takes a free one",
    "model_name": "the name clients ask for",
    "threads": "CPU threads inside one operator; 0 means one per physical core",
    "workers": "threads that compute, each with its own copy of both graphs",
    "max_batch": "most prompts in one decoder call",
    "cache_mb": "megabytes of encoded images that are kept",
    "max_concurrency": "requests in flight; more are told to come back",
    "max_request_mb": "megabytes of one request",
    "max_prompts": "prompts of one request",
    "max_image_mp": "megapixels of one image",
    "max_mask_mp": "megapixels of all masks of one request",
    "timeout_s": "seconds until a request that is not answered is refused",
    "grace_s": "seconds that requests in flight may take after SIGTERM",
}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="answer requests of the Open Inference Protocol (KServe v2) over HTTP and gRPC",
        description="Serve a bundle over the Open Inference Protocol (KServe v2), HTTP and gRPC, until SIGTERM, which "
        "lets the requests in flight finish. Metrics for Prometheus are at /metrics.",
    )
    serve.set_defaults(run=_serve)
    serve.add_argument("bundle", type=Path)
    serve.add_argument("--protocol", choices=("v2",), default="v2", help="the Open Inference Protocol (default: v2)")
    serve.add_argument("--providers", type=provider_names, default=("cpu",), help=f"{PROVIDERS_HELP} (default: cpu)")
    serve.add_argument("--hq-token", type=Path, metavar="FILE", help="tuned HQ token, .safetensors or .npy")
    for field in fields(ServeOptions):
        if field.name in _HELP:
            kind = type(field.default)
            text = f"{_HELP[field.name]} (default: {field.default})"
            serve.add_argument(flag_of(field.name), type=kind, default=field.default, help=text)


def _serve(options: argparse.Namespace) -> None:
    serve_options = ServeOptions(**{field.name: getattr(options, field.name) for field in fields(ServeOptions)})
    from ..serve.runner import serve

    serve(options.bundle, serve_options)
