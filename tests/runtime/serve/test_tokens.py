"""Bearer tokens: what needs one, what is one, and files of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from samhq_runtime import Bundle
from samhq_runtime.errors import ConfigError
from samhq_runtime.serve.tokens import Tokens
from tests.support.serving import BOX, IMAGE, INFER, Running, grpc_request, http_body, running, send

GOOD = "Bearer second-token=="
BODY, LENGTH = http_body({"image": IMAGE, "box": BOX})
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("# the first\nfirst.token\n\n  second-token==  \n")
    file.chmod(0o600)
    with running(tiny_bundle, token_file=file, allow_origin=("https://example.org",)) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "authorization", "status"),
    [
        ("POST", INFER, None, 401),
        ("POST", INFER, "Bearer wrong", 401),
        ("POST", INFER, "Bearer ", 401),
        ("POST", INFER, "Basic second-token==", 401),
        ("POST", INFER, "second-token==", 401),
        ("POST", INFER, "Bearer first.token,second-token==", 401),
        ("POST", INFER, "Bearer sch\xf6n", 401),
        ("POST", INFER, GOOD, 200),
        ("POST", INFER, "bearer first.token", 200),
        ("GET", "/metrics", None, 401),
        ("GET", "/metrics", GOOD, 200),
        ("GET", "/v2/models/samhq", None, 401),
        ("GET", "/nothing", None, 401),
        ("GET", "/v2/health/live/", None, 401),
        ("GET", "/v2/health/%6Cive", None, 200),
        ("GET", "/v2/health/live", None, 200),
        ("GET", "/v2/health/ready", None, 200),
        ("GET", "/v2/models/samhq/ready", None, 200),
    ],
)
def test_what_needs_a_token_over_http(
    guarded: Running, method: str, path: str, authorization: str | None, status: int
) -> None:
    headers = {"Inference-Header-Content-Length": str(LENGTH)}
    if authorization is not None:
        headers["Authorization"] = authorization
    got, answered, body = send(guarded.http_port, method, path, BODY if method == "POST" else b"", headers)
    assert got == status
    assert (answered["WWW-Authenticate"] or "").startswith("Bearer") == (status == 401)
    if status == 401:
        assert "Authorization" in json.loads(body)["error"]


def test_web_pages_ask_first_without_a_token(guarded: Running) -> None:
    headers = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    status, answered, _ = send(guarded.http_port, "OPTIONS", INFER, headers=headers)
    assert (status, answered["Access-Control-Allow-Headers"]) == (200, "authorization")


@pytest.mark.parametrize(
    ("rpc", "authorization", "code"),
    [
        (f"{SERVICE}/ModelInfer", None, "UNAUTHENTICATED"),
        (f"{SERVICE}/ModelInfer", "Bearer wrong", "UNAUTHENTICATED"),
        (f"{SERVICE}/ModelInfer", GOOD, "OK"),
        (f"{SERVICE}/ServerMetadata", None, "UNAUTHENTICATED"),
        (f"{SERVICE}/Nothing", None, "UNAUTHENTICATED"),
        (f"{SERVICE}/ServerLive", None, "OK"),
        ("grpc.health.v1.Health/Check", None, "OK"),
        ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", None, "UNAUTHENTICATED"),
    ],
)
def test_what_needs_a_token_over_grpc(guarded: Running, rpc: str, authorization: str | None, code: str) -> None:
    body = grpc_request({"image": IMAGE, "box": BOX}).SerializeToString() if "Infer" in rpc else b""
    metadata = [("authorization", authorization)] if authorization else []
    with grpc.insecure_channel(f"127.0.0.1:{guarded.grpc_port}") as channel:
        call = channel.unary_unary(f"/{rpc}").future(body, metadata=metadata, timeout=30)
        assert call.code().name == code


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no token in it"),
        (b"# nothing\n\n", "no token in it"),
        (b"good\nhunter two\n", "line 2 is no token"),
        (b"\xff\xfe", "line 1 is no token"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_files_without_tokens(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        Tokens(file)
    assert complaint in str(error.value)
    assert "hunter" not in str(error.value)


def test_a_file_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read leaves the old ones; what everybody can read gets a notice, which names no token."""
    file = tmp_path / "tokens"
    file.write_text("one")
    file.chmod(0o640)
    with caplog.at_level(logging.WARNING):
        tokens = Tokens(file)
        assert not caplog.messages
        file.write_text("not one")
        with pytest.raises(ConfigError):
            tokens.read()
        tokens.require("Bearer one")
        file.write_text("two")
        file.chmod(0o644)
        tokens.read()
    (notice,) = caplog.messages
    assert notice.startswith(f"{file}: every user of this machine can read it")
    tokens.require("Bearer two")
    with pytest.raises(Exception, match="Authorization"):
        tokens.require("Bearer one")


def test_metrics_may_be_public(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("one")
    with running(tiny_bundle, token_file=tmp_path / "tokens", public_metrics=True) as server:
        assert send(server.http_port, "GET", "/metrics")[0] == 200
        assert send(server.http_port, "GET", "/v2")[0] == 401
