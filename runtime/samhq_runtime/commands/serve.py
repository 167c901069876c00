"""`samhq serve`: argv -> ServeOptions -> a server that runs until it is told to stop."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path

from ..errors import BackendUnavailable
from ..flags import flag_of
from ..serve.options import LOG_FORMATS, LOG_LEVELS, ServeOptions
from .options import add_providers, add_verify_key, chosen_providers, provider_options

_log = logging.getLogger(__name__)

HELP = {
    "host": "address to listen on; clients are asked for nothing without --token-file: think before you open it",
    "http_port": "0 takes a free one",
    "grpc_port": "0 takes a free one",
    "model_name": "the name clients ask for",
    "threads": "CPU threads inside one operator; 0 means one per physical core",
    "workers": "threads that compute, each with its own copy of both graphs",
    "max_batch": "most prompts in one decoder call",
    "cache_mb": "megabytes of encoded images that are kept",
    "max_concurrency": "requests being computed, or waiting for it; more are told to come back",
    "max_connections": "HTTP connections; gRPC may have what the limit of open files leaves",
    "max_held_mb": "megabytes held for all clients: bodies that arrive, masks, answers that are not read yet",
    "max_request_mb": "megabytes of one request",
    "max_prompts": "prompts of one request",
    "max_points": "points of one prompt",
    "max_image_mp": "megapixels of one image",
    "max_image_side": "pixels of an image's longer side",
    "max_aspect": "how many times longer than the shorter one that side may be",
    "white_point": "value of white in image files of 16 bits: 4095 where a camera of 12 bits made them",
    "max_mask_mp": "megapixels of all masks of one request",
    "max_json_values": "numbers in the JSON of one request or answer",
    "timeout_s": "seconds until a request that is not answered is refused",
    "header_timeout_s": "seconds until the head of an HTTP request is there",
    "body_timeout_s": "seconds until all of a request is there",
    "write_timeout_s": "seconds that a client may read nothing of its answer",
    "decode_timeout_s": "seconds for decoding one image file",
    "grace_s": "seconds that requests in flight may take after SIGTERM",
    "log_format": "of the log on stderr: lines for people, or a JSON object each",
    "log_level": "the least that is logged; `info` has a line for every request",
}
_CHOICES = {"log_format": LOG_FORMATS, "log_level": LOG_LEVELS}

_FILES = {
    "token_file": "bearer tokens, one a line, # for comments: all requests but those for health must have one",
    "tls_cert": "certificate chain in PEM: TLS on both ports",
    "tls_key": "its key in PEM, without passphrase",
}
_REPEATED = {
    "allow_host": "name that HTTP clients may call this server by, besides IP addresses and localhost; repeatable",
    "allow_origin": "web page that may call it from a browser, such as https://example.org, or * for all; repeatable",
}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    serve = commands.add_parser(
        "serve",
        help="answer requests of the Open Inference Protocol (KServe v2) over HTTP and gRPC",
        description="Serve a bundle over the Open Inference Protocol (KServe v2), HTTP and gRPC, until SIGTERM, which "
        "lets the requests in flight finish. Metrics for Prometheus are at /metrics.",
    )
    serve.set_defaults(run=_serve, extras="cpu,serve")
    serve.add_argument("bundle", type=Path)
    add_verify_key(serve)
    serve.add_argument("--protocol", choices=("v2",), default="v2", help="the Open Inference Protocol (default: v2)")
    add_providers(serve)
    serve.add_argument("--hq-token", type=Path, metavar="FILE", help="tuned HQ token, .safetensors or .npy")
    serve.add_argument(
        "--private", action="store_true", help="open copies of the bundle's files, which nobody else can change"
    )
    for name, text in _FILES.items():
        serve.add_argument(flag_of(name), type=Path, metavar="FILE", help=text)
    serve.add_argument("--public-metrics", action="store_true", help="answer /metrics without a token")
    serve.add_argument(
        "--traces", action="store_true", help="send spans of requests to OpenTelemetry, as its variables OTEL_* say"
    )
    for name, text in _REPEATED.items():
        metavar = name.split("_")[1].upper()
        serve.add_argument(flag_of(name), action="append", default=[], metavar=metavar, help=text)
    for field in fields(ServeOptions):
        if field.name in HELP:
            kind = type(field.default)
            text = f"{HELP[field.name]} (default: {field.default})"
            choices = _CHOICES.get(field.name)
            serve.add_argument(flag_of(field.name), type=kind, default=field.default, choices=choices, help=text)


def _serve(options: argparse.Namespace) -> None:
    if sys.platform == "win32":
        raise BackendUnavailable(
            "samhq serve: runs on Linux and macOS, not on Windows; start it in WSL 2 or a Linux container"
        )
    names = {field.name for field in fields(ServeOptions)} - {"provider_options"}
    given = {name: getattr(options, name) for name in names} | {"provider_options": provider_options(options)}
    from ..serve.logs import configure_logging
    from ..serve.runner import serve

    configure_logging(options.log_format, options.log_level)  # notices about a stored choice are lines of the log, too
    given["providers"] = chosen_providers(options, tell=_log.info)
    serve_options = ServeOptions(**given | {name: tuple(given[name]) for name in _REPEATED})
    serve(options.bundle, serve_options)
