"""Who may call the HTTP server: not a web page in somebody's browser, which reaches loopback addresses too.

A page can send requests to any address (then the browser states its Origin), and can have its own name point to a
loopback address (then the browser states that name as Host).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .access_log import is_probe
from .errors import Reason, RequestError
from .options import ServeOptions
from .tokens import Tokens

Refused = Callable[[RequestError], ASGIApp]
_OF_PAGES = (
    "same-origin",
    "same-site",
    "cross-site",
)  # Sec-Fetch-Site of a browser, other than `none`: typed by a user
_REFUSED_TYPES = ("text/plain", "multipart/form-data")  # what a form sends; urlencoded is also what curl says of JSON


class Access:
    """Around the application: refuses with the answer that `refused` makes of an error."""

    def __init__(self, app: ASGIApp, options: ServeOptions, refused: Refused) -> None:
        self._app, self._options, self._refused = app, options, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # a host that starts and stops the application, not a request
            await self._app(scope, receive, send)
            return
        app = self._app
        try:
            require_access(Headers(scope=scope), scope["method"], self._options)
        except RequestError as e:
            app = self._refused(e)
        await app(scope, receive, send)


class TokenAccess:
    """Inside of what answers preflight requests, which never have a token: refuses all but health without one."""

    def __init__(self, app: ASGIApp, tokens: Tokens, public: Sequence[str], refused: Refused) -> None:
        self._app, self._tokens, self._public, self._refused = app, tokens, public, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http" and not is_probe(path) and path not in self._public:
            try:
                self._tokens.require(Headers(scope=scope).get("authorization"))
            except RequestError as e:
                app = self._refused(e)
        await app(scope, receive, send)


def require_access(headers: Headers, method: str, options: ServeOptions) -> None:
    """RequestError unless Host, Origin and Content-Type are those of a program, or of what the options allow."""
    if options.checks_host and not _known_host(headers.get("host", ""), options):
        raise RequestError(
            f"Host {headers.get('host', '')!r}: not a name of this server; allow it with --allow-host",
            reason=Reason.FORBIDDEN,
        )
    origin = headers.get("origin")
    if origin is not None:
        if not {origin, "*"} & set(options.allow_origin):
            raise RequestError(
                f"Origin {origin!r}: web pages may not call this server; allow one with --allow-origin",
                reason=Reason.FORBIDDEN,
            )
    elif headers.get("sec-fetch-site") in _OF_PAGES:
        raise RequestError("web pages may not call this server; allow one with --allow-origin", reason=Reason.FORBIDDEN)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "POST" and kind in _REFUSED_TYPES:
        raise RequestError(
            f"Content-Type {kind}: expected application/json, or application/octet-stream with binary tensors",
            reason=Reason.UNSUPPORTED,
        )


def _known_host(host: str, options: ServeOptions) -> bool:
    """Whether the name in a Host header, port left out, is an address or an allowed name."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return is_address(name.strip("[]")) or name.lower() in ("localhost", options.host, *options.allow_host)


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
