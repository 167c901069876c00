"""The documentation's request with curl, as it is printed, against a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.serving import Running

SERVING = Path(__file__).parents[3] / "docs" / "serving.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("side", [60, 1500])  # the larger one is longer than the argument of a command may be
def test_the_example_answers(server: Running, tmp_path: Path, side: int) -> None:
    (example,) = re.findall(r"^```bash\n(curl .*?)^```", SERVING.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.jpg", quality=95)
    assert side < 100 or (tmp_path / "cat.jpg").stat().st_size > 2**20
    command = example.replace("localhost:8000", f"127.0.0.1:{server.http_port}")
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    (masks,) = json.loads(done.stdout)["outputs"]
    assert (masks["name"], masks["shape"]) == ("masks_rle", [1, 1])
