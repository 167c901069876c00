"""TLS on both ports, with a certificate that may be renewed, and files that are no pair."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from samhq_runtime import Bundle
from samhq_runtime.errors import ConfigError
from samhq_runtime.serve.messages import MESSAGES
from samhq_runtime.serve.options import ServeOptions
from samhq_runtime.serve.tls import Certificate
from tests.support.certificates import write_certificate
from tests.support.serving import running, send


def live_over_https(port: int, trusted: bytes) -> bool:
    context = ssl.create_default_context(cadata=trusted.decode())
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def live_over_grpc(port: int, trusted: bytes) -> bool:
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(trusted)) as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=30)
        return bool(MESSAGES["ServerLiveResponse"].FromString(answer).live)


def test_both_protocols_and_a_renewed_certificate(tiny_bundle: Bundle, tmp_path: Path) -> None:
    cert, key = write_certificate(tmp_path)
    with running(tiny_bundle, tls_cert=cert, tls_key=key) as server:
        assert server.certificate is not None
        first = cert.read_bytes()
        assert live_over_https(server.http_port, first)
        assert live_over_grpc(server.grpc_port, first)
        with pytest.raises((OSError, http.client.HTTPException)):
            send(server.http_port, "GET", "/v2")  # in the clear
        write_certificate(tmp_path)
        server.certificate.read()
        assert live_over_https(server.http_port, cert.read_bytes())
        assert live_over_grpc(server.grpc_port, cert.read_bytes())
        with pytest.raises(ssl.SSLCertVerificationError):
            live_over_https(server.http_port, first)


def other_key(folder: Path) -> None:
    kept = (folder / "cert.pem").read_bytes()
    write_certificate(folder)
    (folder / "cert.pem").write_bytes(kept)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (other_key, "KEY_VALUES_MISMATCH"),
        (lambda folder: (folder / "cert.pem").write_text("no PEM"), "no certificate chain and its key"),
        (lambda folder: (folder / "key.pem").write_text("no PEM"), "no certificate chain and its key"),
        (lambda folder: (folder / "key.pem").unlink(), "cannot be read (No such file or directory)"),
        (lambda folder: (folder / "cert.pem").unlink(), "(No such file or directory)"),
        (lambda folder: write_certificate(folder, passphrase=b"secret"), "has a passphrase"),
    ],
)
def test_no_pair(tmp_path: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    """One line, also when it is read again."""
    certificate = Certificate(*write_certificate(tmp_path))
    spoil(tmp_path)
    for read in (certificate.read, lambda: Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")):
        with pytest.raises(ConfigError) as error:
            read()
        assert complaint in str(error.value)
        assert "\n" not in str(error.value)


def test_one_of_two_files() -> None:
    with pytest.raises(ConfigError, match="expected both"):
        ServeOptions(tls_cert=Path("cert.pem"))
