"""The deployment examples: they parse, and what they say agrees with the command they start."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.cli import build_parser

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
PATHS = {"/v2/health/ready", "/v2/health/live"}


def documents(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="pip install pyyaml")
    return {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / name).read_text())}


def serve_options(arguments: list[str]) -> Any:
    """Parsed by the command itself: an option that is gone would end the test."""
    return build_parser().parse_args(["serve", *arguments])


def test_kubernetes() -> None:
    found = documents("kubernetes.yaml")
    assert set(found) == {"Deployment", "Service"}
    template = found["Deployment"]["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert labels == found["Deployment"]["spec"]["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    (container,) = template["spec"]["containers"]
    options = serve_options(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": options.http_port, "grpc": options.grpc_port}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == set(ports)
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(options.http_port)
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")]
    assert {probe["path"] for probe in probes} == PATHS
    assert {probe["port"] for probe in probes} == {"http"}
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert template["spec"]["terminationGracePeriodSeconds"] > pause + options.grace_s
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts[template["spec"]["volumes"][0]["name"]] == str(options.bundle)


def test_kserve() -> None:
    found = documents("kserve.yaml")
    runtime, service = found["ServingRuntime"], found["InferenceService"]
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert model["modelFormat"]["name"] in {known["name"] for known in runtime["spec"]["supportedModelFormats"]}
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"  # the one KServe sends requests to
    options = serve_options([text.replace("{{.Name}}", service["metadata"]["name"]) for text in container["args"]])
    assert (str(options.bundle), options.model_name) == ("/mnt/models", "samhq")
    assert container["ports"][0]["containerPort"] == options.http_port == container["readinessProbe"]["httpGet"]["port"]
    assert container["readinessProbe"]["httpGet"]["path"] in PATHS


def test_systemd_unit() -> None:
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "samhq.service")
    service = unit["Service"]
    program, command, *arguments = service["ExecStart"].split()
    assert (Path(program).name, command) == ("samhq", "serve")
    options = serve_options(arguments)
    assert options.host == "127.0.0.1"
    assert int(service["TimeoutStopSec"]) > options.grace_s


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "samhq.service"
    unit.write_text((DEPLOY / "samhq.service").read_text().replace("/opt/samhq/venv/bin/samhq", "/bin/true"))
    child = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")


def test_dockerfile_starts_the_server() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert 'ENTRYPOINT ["samhq", "serve"]' in lines
    assert f"EXPOSE {serve_options(['bundle']).http_port} {serve_options(['bundle']).grpc_port}" in lines
