"""TLS for both protocols, from one certificate and its key, which may be renewed while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from ..errors import ConfigError
from .options import ServeOptions
from .tokens import read_secret


def certificate_of(options: ServeOptions) -> Certificate | None:
    """What the options name; ConfigError as `Certificate.read` says."""
    return Certificate(options.tls_cert, options.tls_key) if options.tls_cert and options.tls_key else None


class Certificate:
    """A chain in PEM and its key without passphrase, as both protocols take them."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self.context = _context()
        self.read()

    def read(self) -> None:
        """Take what is in the files now, for new connections.

        Raises:
            ConfigError: they cannot be read, or are no certificate and its key; then the old ones stay.
        """
        try:
            chain, key = self._cert.read_bytes(), read_secret(self._key)
            self._load(_context())
        except OSError as e:  # ssl.SSLError among them
            raise ConfigError(
                f"--tls-cert {self._cert}, --tls-key {self._key}: no certificate chain and its key, both in PEM "
                f"({getattr(e, 'reason', None) or e.strerror or e})"
            ) from e
        self._load(self.context)
        self._grpc = grpc.ssl_server_certificate_configuration([(key, chain)])

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Asked for the certificate at every connection."""
        return grpc.dynamic_ssl_server_credentials(self._grpc, lambda: self._grpc, False)

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._cert, self._key, password=self._no_passphrase)

    def _no_passphrase(self) -> str:
        raise ConfigError(f"--tls-key {self._key}: has a passphrase; expected a key without, that few can read")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
