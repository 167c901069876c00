"""Files of a bundle that change while a Predictor or a server runs it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samhq_runtime import Bundle, Predictor, load_bundle
from samhq_runtime.errors import BundleError
from tests.support.serving import IMAGE, running

BOX = [5, 6, 40, 50]
WEIGHTS = "image_encoder.onnx.data"

CHANGES: dict[str, Callable[[Path], object]] = {
    "written to in place": lambda path: path.write_bytes(path.read_bytes()),
    "replaced": lambda path: (shutil.copyfile(path, f"{path}.new"), Path(f"{path}.new").replace(path)),
    "touched": lambda path: os.utime(path, ns=(1, 1)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", [WEIGHTS, "mask_decoder.onnx"])
def test_a_changed_file_is_noticed(copy: Path, name: str, change: str) -> None:
    with Predictor(copy, threads=1) as predictor:
        predictor.set_image(IMAGE)
        time.sleep(0.01)
        CHANGES[change](copy / name)
        with pytest.raises(BundleError, match=rf"{name}: changed since it was loaded.*rename it, restart"):
            predictor.set_image(IMAGE)


def test_a_folder_that_is_gone_or_another_working_directory_is_no_change(
    copy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(copy.parent)
    with Predictor(copy.name, threads=1) as predictor:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        predictor.set_image(IMAGE)
        shutil.rmtree(copy)
        predictor.set_image(IMAGE)


@pytest.mark.skipif(sys.platform == "win32", reason="files that are mapped are not written to there")
def test_a_private_bundle_is_reached_by_nothing(copy: Path, tiny_bundle: Bundle) -> None:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        expected = predictor.predict(box=BOX)[2]
    with Predictor(load_bundle(copy, private=True), threads=1) as predictor:
        for path in copy.iterdir():
            path.write_bytes(b"")  # a session that had mapped them would be killed
        predictor.set_image(IMAGE)
        np.testing.assert_array_equal(predictor.predict(box=BOX)[2], expected)


def test_private_copies_of_files_that_changed_meanwhile(copy: Path) -> None:
    bundle = load_bundle(copy, private=True)
    (copy / WEIGHTS).write_bytes(b"x")
    with pytest.raises(BundleError, match="changed since it was loaded"):
        Predictor(bundle)


def test_a_server_says_that_it_is_not_ready_and_why(copy: Path) -> None:
    with running(load_bundle(copy)) as server:
        assert _ready(server.http_port) == (200, {"ready": True})
        os.utime(copy / WEIGHTS, ns=(1, 1))
        status, content = _ready(server.http_port)
    assert status == 503
    assert content["reason"].startswith(f"{WEIGHTS}: changed since it was loaded")


def _ready(port: int) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v2/health/ready")
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_what_would_kill_the_process_is_refused_at_the_next_call(copy: Path) -> None:
    """In a process of its own, in case it is killed all the same."""
    code = (
        "import sys, numpy as np; from samhq_runtime import Predictor, SamHqError\n"
        "p = Predictor(sys.argv[1], threads=1); i = np.zeros((9, 9, 3), np.uint8); p.set_image(i)\n"
        "open(sys.argv[1] + '/image_encoder.onnx.data', 'r+b').truncate(10)\n"
        "try: p.set_image(i)\nexcept SamHqError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(copy)], capture_output=True, text=True, check=True)
    assert "changed since it was loaded" in done.stdout
