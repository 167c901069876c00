"""How the server was asked to run, validated at birth."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import ConfigError
from ..flags import flag_of

_MAY_BE_ZERO = ("http_port", "grpc_port", "threads", "cache_mb")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """One server.

    Attributes:
        host: address to listen on; the loopback one unless asked otherwise, as nobody is asked for a password.
        http_port, grpc_port: 0 takes a free one.
        model_name: the name clients ask for.
        providers, threads, hq_token: as `Predictor` takes them.
        workers: threads that compute, each with its own copy of both graphs.
        max_batch: most prompts in one decoder call; each takes about 0.1 GB for 1024-pixel models, and more than 8
            together are hardly faster on a CPU.
        cache_mb: encoded images that are kept, in megabytes; the least recently used go first.
        max_concurrency: requests in flight; more are told to come back.
        max_request_mb, max_prompts: bounds of one request's size.
        max_image_mp, max_mask_mp: most megapixels of one image, and of all masks that one request may ask for.
        timeout_s: a request that is not answered by then is refused and not computed if it has not begun.
        grace_s: how long requests in flight may take once the server was told to stop.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    model_name: str = "samhq"
    providers: tuple[str, ...] = ("cpu",)
    threads: int = 0
    hq_token: Path | None = None
    workers: int = 1
    max_batch: int = 8
    cache_mb: int = 1024
    max_concurrency: int = 256
    max_request_mb: int = 64
    max_prompts: int = 256
    max_image_mp: int = 50
    max_mask_mp: int = 256
    timeout_s: float = 30.0
    grace_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not (value > 0 or (value == 0 and field.name in _MAY_BE_ZERO)):
                raise ConfigError(f"{flag_of(field.name)}: got {value}, expected more than 0")
        if not self.model_name or set(self.model_name) & set("/?#% "):
            raise ConfigError(f"--model-name: got {self.model_name!r}, expected a name that fits into a URL path")

    def address(self, port: int) -> str:
        """`host:port`; an IPv6 address stands in brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"
