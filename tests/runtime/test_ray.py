"""The same folder on a local Ray cluster, with a worker killed in the middle, and the server behind Ray Serve."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet_folders import BOX, make_folder, results, run
from serving import Running, http_body, infer_http, send

from samhq_runtime import Bundle, Predictor

ray = pytest.importorskip("ray", reason="pip install 'samhq-export[ray]'")

IMAGES = int(os.environ.get("SAMHQ_RAY_IMAGES", "60"))


@pytest.fixture(scope="module", autouse=True)
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cluster for the module: as many CPUs as the actors take, and one for the reader."""
    import samhq_runtime

    paths = [str(Path(samhq_runtime.__file__).parent.parent), str(Path(__file__).parent)]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(paths)}}
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def test_every_image_once_though_a_worker_is_killed(tiny_bundle: Bundle, tmp_path: Path, capsys: Any) -> None:
    folder = make_folder(tmp_path, IMAGES)
    assert run(tiny_bundle, folder, output="serial") == 0
    killed: list[int] = []
    killer = threading.Thread(target=kill_a_worker, args=(folder / "ray", killed))
    killer.start()
    assert run(tiny_bundle, folder, "--ray", "local", "--workers", "2", "--worker-cpus", "1", output="ray") == 0
    killer.join()
    assert killed
    assert f"{IMAGES} images segmented, 0 were done already" in capsys.readouterr().out
    assert results(folder / "ray") == results(folder / "serial")


def kill_a_worker(output: Path, killed: list[int]) -> None:
    """Once a tenth of the images is done, kill one of the processes that write there."""
    for _ in range(6000):
        if len(list(output.rglob("*.png.json"))) >= IMAGES // 10:
            break
        time.sleep(0.01)
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and b"MapWorker" in (process / "cmdline").read_bytes() and not killed:
            os.kill(int(process.name), signal.SIGKILL)
            killed.append(int(process.name))


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
    serve.run(deployment(tiny_bundle.path, ServeOptions(threads=1), replicas=1, cpus=0.5))
    try:
        got = infer_http(Running(None, 8765, 0), {"image": image, "box": box})  # type: ignore[arg-type]
        with Predictor(tiny_bundle, threads=1) as predictor:
            predictor.set_image(image)
            np.testing.assert_array_equal(got["masks"], predictor.predict(box=box)[0])
        body, length = http_body({"image": image})
        headers = {"Inference-Header-Content-Length": str(length)}
        assert send(8765, "POST", "/v2/models/samhq/infer", body, headers)[0] == 400
    finally:
        serve.shutdown()
