"""Bearer tokens: who may call a server that was given a file of them."""

from __future__ import annotations

import hmac
import logging
import re
import stat
from hashlib import sha256
from pathlib import Path

from ..errors import ConfigError
from .errors import Reason, RequestError

log = logging.getLogger(__name__)

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750
CHALLENGE = 'Bearer realm="samhq"'  # of the header WWW-Authenticate


class Tokens:
    """Those of a file; without one, everybody may call. Only their hashes are kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._hashes: list[bytes] = []
        self.read()

    def read(self) -> None:
        """Take what is in the file now.

        Raises:
            ConfigError: it cannot be read, has no token, or something that is none; the tokens stay as they were.
        """
        if self._file is not None:
            self._hashes = [sha256(token).digest() for token in _tokens_of(self._file)]

    def require(self, authorization: str | None) -> None:
        """RequestError unless it is that header with one of the tokens, in time that does not tell how near it came."""
        if self._file is None:
            return
        scheme, _, token = (authorization or "").partition(" ")
        given = sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        known = [hmac.compare_digest(given, one) for one in self._hashes]
        if scheme.lower() != "bearer" or not any(known):
            raise RequestError(
                "expected the header Authorization with `Bearer` and a token of this server",
                reason=Reason.UNAUTHENTICATED,
            )


def _tokens_of(file: Path) -> list[bytes]:
    """One a line; empty lines and what follows a `#` at the start of a line are left out."""
    lines = [line.strip() for line in read_secret(file).decode("utf-8", "replace").splitlines()]
    tokens = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for number, token in tokens.items():
        if not _TOKEN.fullmatch(token):
            raise ConfigError(
                f"{file}: line {number} is no token; expected one a line, of letters, digits and -._~+/ (make one: "
                "openssl rand -hex 32)"
            )
    if not tokens:
        raise ConfigError(f"{file}: no token in it; expected one a line (make one: openssl rand -hex 32)")
    return [token.encode() for token in tokens.values()]


def read_secret(file: Path) -> bytes:
    """Its content; a notice in the log if everybody on this machine can read it. ConfigError if we cannot."""
    try:
        content, mode = file.read_bytes(), file.stat().st_mode
    except OSError as e:
        raise ConfigError(f"{file}: cannot be read ({e.strerror})") from e
    if mode & stat.S_IROTH:
        log.warning("%s: every user of this machine can read it; chmod o-r keeps it to those who should", file)
    return content
