"""The deployment examples: they parse, and what they say agrees with the command they start."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from samhq_runtime.cli import build_parser
from samhq_runtime.serve.options import LEAVE_S
from tests.support.required import required

DEPLOY = Path(__file__).parent.parent / "deploy"
PATHS = {"/v2/health/ready", "/v2/health/live"}


def documents(name: str) -> dict[str, Any]:
    yaml: Any = required("yaml", install="samhq-export[test]")
    return {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / name).read_text())}


def require_known(value: Any, known: Any, *, where: str) -> None:
    """`known` has the fields that may be there: dicts of fields, one-element lists for lists, types for values."""
    if isinstance(known, dict):
        assert isinstance(value, dict), f"{where}: expected fields"
        unknown = [] if str in known else sorted(set(value) - set(known))
        assert not unknown, f"{where}: unknown {', '.join(unknown)}"
        for field, content in value.items():
            require_known(content, known.get(field, known.get(str)), where=f"{where}.{field}")
    elif isinstance(known, list):
        assert isinstance(value, list), f"{where}: expected a list"
        for i, item in enumerate(value):
            require_known(item, known[0], where=f"{where}[{i}]")
    else:
        assert isinstance(value, known), f"{where}: got {value!r}"


# The fields of the APIs that a deployment like ours may use, with their types; {str: ...} takes any name.
_LABELS = {str: str}
_METADATA = {"name": str, "namespace": str, "labels": _LABELS, "annotations": _LABELS}
_PROBE = {
    "httpGet": {"path": str, "port": (int, str)},
    **dict.fromkeys(("failureThreshold", "periodSeconds", "timeoutSeconds", "initialDelaySeconds"), int),
}
_CONTAINER = {
    "name": str,
    "image": str,
    "args": [str],
    "ports": [{"name": str, "containerPort": int, "protocol": str}],
    "resources": {"requests": _LABELS, "limits": _LABELS},
    **dict.fromkeys(("startupProbe", "readinessProbe", "livenessProbe"), _PROBE),
    "lifecycle": {"preStop": {"exec": {"command": [str]}}},
    "securityContext": {
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {"drop": [str], "add": [str]},
    },
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
_POD = {
    "terminationGracePeriodSeconds": int,
    "securityContext": {"runAsNonRoot": bool, "runAsUser": int, "seccompProfile": {"type": str}},
    "containers": [_CONTAINER],
    "volumes": [{"name": str, "persistentVolumeClaim": {"claimName": str, "readOnly": bool}}],
}
_TEMPLATE = {"metadata": _METADATA, "spec": _POD}
_MODEL = {"modelFormat": {"name": str, "version": str}, "protocolVersion": str, "runtime": str, "storageUri": str}
_SPECS: dict[str, Any] = {
    "Deployment": {"replicas": int, "selector": {"matchLabels": _LABELS}, "template": _TEMPLATE},
    "Service": {"selector": _LABELS, "ports": [{"name": str, "port": int, "targetPort": (int, str)}]},
    "ServingRuntime": {
        "supportedModelFormats": [{"name": str, "version": str, "autoSelect": bool}],
        "protocolVersions": [str],
        "containers": [_CONTAINER],
    },
    "InferenceService": {"predictor": {"model": _MODEL}},
}
RESOURCES = {
    kind: {"apiVersion": str, "kind": str, "metadata": _METADATA, "spec": spec} for kind, spec in _SPECS.items()
}


def serve_options(arguments: list[str]) -> Any:
    """Parsed by the command itself: an option that is gone would end the test."""
    return build_parser().parse_args(["serve", *arguments])


@pytest.mark.parametrize("name", ["kubernetes.yaml", "kserve.yaml"])
def test_every_field_is_known(name: str) -> None:
    for kind, document in documents(name).items():
        require_known(document, RESOURCES[kind], where=kind)


@pytest.mark.parametrize(
    ("field", "misspelt", "complaint"),
    [
        ("replicas", "replicsa", "Deployment.spec: unknown replicsa"),
        ("containerPort", "containerProt", r"ports\[0\]: unknown containerProt"),
    ],
)
def test_a_misspelt_field_is_found(field: str, misspelt: str, complaint: str) -> None:
    yaml: Any = required("yaml", install="samhq-export[test]")
    text = (DEPLOY / "kubernetes.yaml").read_text().replace(f"{field}:", f"{misspelt}:")
    with pytest.raises(AssertionError, match=complaint):
        require_known(next(iter(yaml.safe_load_all(text))), RESOURCES["Deployment"], where="Deployment")


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
    assert template["spec"]["terminationGracePeriodSeconds"] > pause + options.grace_s + LEAVE_S
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
    assert int(service["TimeoutStopSec"]) > options.grace_s + LEAVE_S


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "samhq.service"
    unit.write_text((DEPLOY / "samhq.service").read_text().replace("/opt/samhq/venv/bin/samhq", "/bin/true"))
    child = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")


def test_dockerfile_starts_the_server() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert lines[-1] == 'ENTRYPOINT ["samhq", "serve", "--host=0.0.0.0"]'
    assert serve_options(["--host=0.0.0.0", "/bundle"]).host == "0.0.0.0"
    (installed,) = re.findall(r"\.\[\$\{EXTRA\},([\w,]+)\]", "\n".join(lines))
    extras = {*installed.split(","), *re.findall(r"ARG EXTRA=(\w+)", "\n".join(lines)), "gpu"}
    optional = (DEPLOY.parent / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    assert extras <= set(re.findall(r"^([\w-]+) = \[", optional.partition("\n[project.")[0], re.MULTILINE))
    assert f"EXPOSE {serve_options(['bundle']).http_port} {serve_options(['bundle']).grpc_port}" in lines


def test_the_image_gets_what_its_build_needs() -> None:
    """`.dockerignore` leaves out all but what the build backend reads."""
    lines = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines.index("*") < min(lines.index(f"!{name}") for name in kept)
    assert kept == {"exporter", "runtime", "pyproject.toml", "README.md", "LICENSE"}
    assert all((DEPLOY.parent / name).exists() for name in kept)
