"""The same folder on a local Ray cluster, with a worker killed in the middle, and the server behind Ray Serve."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.measure.fleet import kill_a_worker
from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import BackendUnavailable
from tests.support.fleet_folders import BOX, make_folder, results, run
from tests.support.required import required
from tests.support.serving import Running, http_body, infer_http, send

ray = required("ray", install="samhq-export[ray]")

IMAGES = int(os.environ.get("SAMHQ_RAY_IMAGES", "60"))


@pytest.fixture(scope="module", autouse=True)
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster for the module: as many CPUs as the actors take, and one for the reader."""
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "120"  # busy machines start it slowly
    import samhq_runtime

    paths = [str(Path(samhq_runtime.__file__).parent.parent), str(Path(__file__).parents[3])]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def test_every_image_once_though_a_worker_is_killed(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, IMAGES)
    assert run(tiny_bundle, folder, output="serial") == 0
    done_at_kill: list[int] = []
    killer = threading.Thread(target=kill_one_worker, args=(folder / "ray", done_at_kill), daemon=True)
    killer.start()
    assert run(tiny_bundle, folder, "--ray", "local", "--workers", "2", "--worker-cpus", "0.5", output="ray") == 0
    killer.join(60)
    assert len(done_at_kill) == 1
    assert 0 < done_at_kill[0] < IMAGES
    assert f"{IMAGES} images segmented, 0 were done already" in capsys.readouterr().out
    assert_same(results(folder / "ray"), results(folder / "serial"))


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Same images, prompts and masks to the bit; predicted IoU but for the rounding of other thread numbers."""
    for name, content in expected.items():
        np.testing.assert_allclose(found[name].pop("iou_predictions"), content.pop("iou_predictions"), atol=1e-5)
    assert found == expected


def kill_one_worker(output: Path, done_at_kill: list[int]) -> None:
    """Once a tenth of the images is done, kill one of this cluster's actors."""
    while len(list(output.rglob("*.png.json"))) < IMAGES // 10:
        time.sleep(0.01)
    if kill_a_worker(os.getpid()):
        done_at_kill.append(len(list(output.rglob("*.png.json"))))


def test_local_starts_a_cluster_of_its_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """As a command, without the cluster of this module; one image fails and is named."""
    folder = make_folder(tmp_path, 3)
    (folder / "images" / "b" / "1.png").write_bytes(b"no image")
    command = [sys.executable, "-m", "samhq_runtime", "predict", str(tiny_bundle.path), str(folder / "images")]
    command += ["--prompts", str(folder / "prompts.jsonl"), "--output", str(folder / "out")]
    command += ["--ray", "local", "--workers", "1", "--worker-cpus", "0.5"]
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    child = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert child.returncode == 1
    assert "b/1.png: " in child.stderr
    assert "1 of 3 images could not be segmented" in child.stderr
    assert child.stdout.endswith("2 images segmented, 0 were done already\n")
    assert sorted(results(folder / "out")) == ["a/0.png", "a/2.png", "b/1.png"]


def test_auto_finds_the_cluster_that_runs_here() -> None:
    code = "from samhq_runtime.fleet.ray_data import _connect; _connect('auto', needed_cpus=1)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)


def test_no_cluster_at_that_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from samhq_runtime.fleet.ray_data import _connect

    def refuse(**options: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(BackendUnavailable, match="--ray auto: no Ray cluster there \\(Could not find"):
        _connect("auto", needed_cpus=1)


def test_workers_that_never_fit_are_refused(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, 1)
    assert run(tiny_bundle, folder, "--ray", "local", "--workers", "3", "--worker-cpus", "1") == 1
    assert "this cluster has 3 CPUs, of which the pipeline itself needs some" in capsys.readouterr().err


def test_ray_serve_speaks_the_same_protocol(tiny_bundle: Bundle) -> None:
    from ray import serve

    from samhq_runtime.fleet.ray_serve import deployment
    from samhq_runtime.serve.options import ServeOptions

    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    box = np.array([BOX], np.float32)
    serve.start(http_options={"host": "127.0.0.1", "port": 8765})
    serve.run(deployment(tiny_bundle.path, ServeOptions(threads=1, log_format="json"), replicas=1, cpus=0.5))
    try:
        got = infer_http(Running(None, 8765, 0), {"image": image, "box": box})  # type: ignore[arg-type]
        with Predictor(tiny_bundle, threads=1) as predictor:
            predictor.set_image(image)
            np.testing.assert_array_equal(got["masks"], predictor.predict_batch(box=box)[0])
        body, length = http_body({"image": image})
        headers = {"Inference-Header-Content-Length": str(length)}
        headers["X-Request-Id"] = "of-a-test"
        status, answered, _ = send(8765, "POST", "/v2/models/samhq/infer", body, headers)
        assert (status, answered["X-Request-Id"]) == (400, "of-a-test")
        assert {"request_id": "of-a-test", "status": 400, "level": "info"}.items() <= logged("of-a-test").items()
    finally:
        serve.shutdown()


def logged(request_id: str) -> dict[str, Any]:
    """The access line of a request, where Ray keeps what its workers say."""
    folder = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    deadline = time.monotonic() + 30
    while True:
        lines = [line for file in folder.glob("worker-*.err") for line in file.read_text().splitlines()]
        found = [json.loads(line) for line in lines if request_id in line and line.startswith("{")]
        if found:
            return found[0]
        assert time.monotonic() < deadline, "no line in Ray's files"
        time.sleep(0.1)
