"""How the server was asked to run, validated at birth."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..errors import ConfigError
from ..flags import flag_of
from ..frames.image_files import WHITE, require_white_point
from ..frames.prompts import MAX_POINTS

MEGA = 1_000_000
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\s*]+|null|\*")  # no path, and no slash at the end
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
FLUSH_S = 1.0  # after the grace period: until the refusals of what was still in flight have left
LEAVE_S = 3.0  # after the grace period: until the process is gone, whatever it computes
_MAY_BE_ZERO = ("http_port", "grpc_port", "threads", "cache_mb", "private", "public_metrics", "traces")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """One server.

    Attributes:
        host: address to listen on; the loopback one unless asked otherwise, as nobody is asked for a password
            unless `token_file` is given.
        http_port, grpc_port: 0 takes a free one.
        model_name: the name clients ask for.
        providers, provider_options, threads, hq_token: as `Predictor` takes them.
        private, verify_key: as `load_bundle` takes them.
        workers: threads that compute, each with its own copy of both graphs.
        max_batch: most prompts in one decoder call; each takes about 0.1 GB for 1024-pixel models, and more than 8
            together are hardly faster on a CPU.
        cache_mb: encoded images that are kept, in megabytes; the least recently used go first.
        max_concurrency: requests that are computed or wait for it, their bodies received; more are told to come back.
        max_connections: HTTP connections; where there are more, those that were idle longest are closed. gRPC has as
            many as the limit of open files leaves.
        max_held_mb: megabytes held for all clients together: bodies that arrive, masks computed, answers not yet read.
        max_request_mb, max_prompts, max_points: bounds of one request's size, and of one prompt's points.
        max_image_mp, max_image_side, max_aspect: most megapixels of one image, pixels of its longer side, and how many
            times longer than the shorter side that may be.
        white_point: value of white in image files of 16 bits a pixel, as `read_image` takes it.
        max_mask_mp: most megapixels of all masks that one request may ask for.
        max_json_values: most numbers in the JSON of one request, and of one answer; binary tensors and gRPC have none.
        timeout_s: a request that is not answered by then is refused and not computed if it has not begun.
        header_timeout_s: until the head of an HTTP request is there, on new connections and on idle ones.
        body_timeout_s: until all of a request has arrived.
        write_timeout_s: how long a client may read nothing of its answer.
        decode_timeout_s: for decoding one image file, in a process that is ended then.
        grace_s: how long requests in flight may take once the server was told to stop; then they are refused, and the
            process is gone `LEAVE_S` later at most.
        allow_host: names besides IP addresses and `localhost` that HTTP clients may call a server by that listens on a
            loopback address; if any is given, one that listens elsewhere insists on them too.
        allow_origin: web pages that may call it from a browser, such as `https://example.org`, or `*` for all; others
            may not.
        token_file: bearer tokens, one a line, of which every request but those for health must have one.
        public_metrics: whether metrics need none.
        tls_cert, tls_key: a certificate chain and its key in PEM, for TLS on both ports.
        log_format, log_level: of `LOG_FORMATS` and `LOG_LEVELS`; `info` has a line for every request.
        traces: whether spans of requests go to OpenTelemetry, see `otel`.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    model_name: str = "samhq"
    providers: str | tuple[str, ...] = ("cpu",)
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    threads: int = 0
    hq_token: Path | None = None
    private: bool = False
    verify_key: Path | None = None
    workers: int = 1
    max_batch: int = 8
    cache_mb: int = 1024
    max_concurrency: int = 256
    max_connections: int = 512
    max_held_mb: int = 2048
    max_request_mb: int = 64
    max_prompts: int = 256
    max_points: int = 256
    max_image_mp: int = 50
    max_image_side: int = 32768
    max_aspect: int = 100
    white_point: int = WHITE
    max_mask_mp: int = 256
    max_json_values: int = 4_000_000
    timeout_s: float = 30.0
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    decode_timeout_s: float = 5.0
    grace_s: float = 30.0
    allow_host: tuple[str, ...] = ()
    allow_origin: tuple[str, ...] = ()
    token_file: Path | None = None
    public_metrics: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_format: str = "text"
    log_level: str = "info"
    traces: bool = False

    def __post_init__(self) -> None:
        for name in (option.name for option in fields(self)):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not (value > 0 or (value == 0 and name in _MAY_BE_ZERO)):
                raise ConfigError(f"{flag_of(name)}: got {value}, expected more than 0")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert, --tls-key: got one of them, expected both")
        require_white_point(self.white_point)
        if self.max_points > MAX_POINTS:
            raise ConfigError(f"--max-points: got {self.max_points}, expected at most {MAX_POINTS}")
        if self.max_held_mb < 2 * self.max_request_mb:
            raise ConfigError(
                f"--max-held-mb: got {self.max_held_mb}, expected at least twice --max-request-mb {self.max_request_mb}"
            )
        for name, choices in (("log_format", LOG_FORMATS), ("log_level", LOG_LEVELS)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"{flag_of(name)}: got {getattr(self, name)!r}, expected {' or '.join(choices)}")
        for origin in self.allow_origin:
            if not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"--allow-origin: got {origin!r}, expected scheme and host as browsers send them, such as "
                    "https://example.org or http://localhost:3000, null for pages of files, or * for all"
                )
        if not self.model_name or set(self.model_name) & set("/?#% "):
            raise ConfigError(f"--model-name: got {self.model_name!r}, expected a name that fits into a URL path")

    @property
    def checks_host(self) -> bool:
        """Whether HTTP clients must use a known name: where only this machine reaches the server, or if asked."""
        return bool(self.allow_host) or self.host.startswith("127.") or self.host in ("localhost", "::1")

    def address(self, port: int) -> str:
        """`host:port`; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
