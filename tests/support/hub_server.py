"""A stand-in for huggingface.co on this machine: one file of one repository, and the ways a server can fail."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server holds, how it shall behave, and what it was asked.

    Attributes:
        path: of the one file, as `REPOSITORY/resolve/REVISION/FILE`.
        content: its bytes; `announced` is whose hash and length the headers claim, the same unless set.
        broken_connections: how many of the next downloads end halfway through what is left.
        stalled_after: send so many bytes of a download, then nothing more, and leave the connection open.
        status: answer every request with this status instead; `get_status` every download.
    """

    path: str
    content: bytes
    announced: bytes | None = None
    broken_connections: int = 0
    stalled_after: int | None = None
    status: int | None = None
    get_status: int | None = None
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range header

    @property
    def downloads(self) -> list[str | None]:
        """The Range header of every GET of the file."""
        return [sent for method, path, sent in self.requests if method == "GET" and path.endswith(self.path)]


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port of this machine until the block ends."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        offset = self._answer()
        if offset is None:
            return
        rest = self.hub.content[offset:]
        if self.hub.broken_connections:
            self.hub.broken_connections -= 1
            rest = rest[: len(rest) // 2]
            self.close_connection = True
        if self.hub.stalled_after is not None:
            rest = rest[: self.hub.stalled_after]
        self.wfile.write(rest)
        while self.hub.stalled_after is not None:
            threading.Event().wait(0.02)  # tests replace time.sleep

    def _answer(self) -> int | None:
        """Send the headers; where the body starts, or None if there is none."""
        hub = self.hub
        hub.requests.append((self.command, self.path, self.headers.get("Range")))
        known = self.path.split("?")[0] == f"/{hub.path}"
        asked = hub.get_status if self.command == "GET" else None
        status = asked or hub.status or (200 if known else 404)
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        announced = hub.content if hub.announced is None else hub.announced
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        offset = int(match[1]) if match else 0
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {offset}-{len(announced) - 1}/{len(announced)}")
        self.send_header("Content-Length", str(len(announced) - offset))
        self.send_header("ETag", f'"{hashlib.sha256(announced).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        return offset

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Quiet."""
