"""One Predictor in several threads and processes: right answers or one clear refusal, and processes that end."""

from __future__ import annotations

import copy
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samhq_runtime import Bundle, EncodedImage, Predictor
from samhq_runtime.errors import BundleError, PromptError

BOX = [5, 6, 40, 50]
_ENDS_WITHIN_S = 20


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        yield predictor


def logits(predictor: Predictor, image: EncodedImage | None = None) -> Any:
    return predictor.predict(box=BOX, image=image)[2]


def test_threads_that_name_their_image_get_its_masks(predictor: Predictor) -> None:
    expected = [logits(predictor, predictor.encode(picture(seed))) for seed in range(4)]
    assert np.abs(expected[0] - expected[1]).max() > 0.01

    def ask(seed: int) -> Any:
        return logits(predictor, predictor.encode(picture(seed)))

    with ThreadPoolExecutor(4) as pool:
        for seed, got in zip([0, 1, 2, 3] * 5, pool.map(ask, [0, 1, 2, 3] * 5), strict=True):
            np.testing.assert_array_equal(got, expected[seed])


def test_threads_that_share_the_current_image_get_theirs_or_a_refusal(predictor: Predictor) -> None:
    expected = [logits(predictor, predictor.encode(picture(seed))) for seed in range(3)]
    refusals: list[str] = []

    def ask(seed: int) -> None:
        for _ in range(8):
            predictor.set_image(picture(seed))
            time.sleep(0.002)
            try:
                np.testing.assert_array_equal(logits(predictor), expected[seed])
            except PromptError as e:
                refusals.append(str(e))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, range(3)))
    assert refusals
    assert all("image=predictor.encode(image)" in text or "no image set" in text for text in refusals)


USES: dict[str, Callable[[Predictor], object]] = {
    "predict": lambda p: p.predict(box=BOX),
    "predict_batch": lambda p: p.predict_batch(box=[BOX]),
}


@pytest.mark.parametrize("use", USES)
def test_the_current_image_belongs_to_the_thread_that_set_it(predictor: Predictor, use: str) -> None:
    predictor.set_image(picture(0))
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(PromptError, match="set by another thread; name the image"):
            pool.submit(USES[use], predictor).result()
        pool.submit(predictor.set_image, picture(1)).result()
        pool.submit(USES[use], predictor).result()
    with pytest.raises(PromptError, match="set by another thread"):
        USES[use](predictor)
    predictor.set_image(picture(0))
    USES[use](predictor)


def test_a_new_thread_is_not_taken_for_one_that_ended(predictor: Predictor) -> None:
    """Systems give the numbers of ended threads to new ones."""
    thread = threading.Thread(target=lambda: predictor.set_image(picture(0)))
    thread.start()
    thread.join()
    with ThreadPoolExecutor(1) as pool, pytest.raises(PromptError, match="another thread"):
        pool.submit(logits, predictor).result()


@pytest.mark.parametrize("image", [picture(0), "photo.jpg", object()])
def test_what_is_no_encoded_image(predictor: Predictor, image: Any) -> None:
    with pytest.raises(PromptError, match="expected what"):
        predictor.predict(box=BOX, image=image)


@pytest.mark.parametrize("again", [lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy])
def test_a_predictor_is_pickled_as_path_and_options(tiny_bundle: Bundle, again: Callable[[Any], Any]) -> None:
    token = np.random.default_rng(4).normal(size=(1, 64)).astype(np.float32)
    with Predictor(tiny_bundle, threads=1, hq_token=token, prompts_per_call=2) as predictor:
        assert len(pickle.dumps(predictor)) < 5000
        encoded = predictor.encode(picture(0))
        with again(predictor) as other:
            np.testing.assert_array_equal(logits(other, again(encoded)), logits(predictor, encoded))
            with pytest.raises(PromptError, match="no image set"):
                other.predict(box=BOX)
    assert again(tiny_bundle).manifest == tiny_bundle.manifest


def test_a_pickled_bundle_that_is_not_there(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = pickle.dumps(Bundle(tmp_path / "gone", tiny_bundle.manifest))
    with pytest.raises(BundleError, match="no such folder"):
        pickle.loads(data)


MULTIPROCESSING = """
import multiprocessing, sys
import numpy as np
from samhq_runtime import Predictor

def answer(predictor, image):
    predictor.set_image(image)
    return predictor.predict(box=[5, 6, 40, 50])[2]

def child(predictor, image, queue):
    queue.put(answer(predictor, image))
    predictor.close()

if __name__ == "__main__":
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    predictor = Predictor(sys.argv[2], threads=2)
    expected = answer(predictor, image)
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    children = [context.Process(target=child, args=(predictor, image, queue)) for _ in range(2)]
    for process in children:
        process.start()
    for _ in children:
        np.testing.assert_array_equal(queue.get(timeout=30), expected)
    for process in children:
        process.join(10)
    np.testing.assert_array_equal(answer(predictor, image), expected)  # and the parent goes on
    sys.exit([process.exitcode for process in children] != [0, 0])
"""
FORKED = """
import os, sys
import numpy as np
from samhq_runtime import Predictor, SamHqError

image = np.zeros((60, 80, 3), np.uint8)
predictor = Predictor(sys.argv[2], providers=(sys.argv[1],), threads=2)
predictor.set_image(image)
for use in (False, True):
    child = os.fork()
    if child == 0:
        try:
            if use:
                predictor.set_image(image)
        except SamHqError as e:
            print(e)
        sys.exit(3)  # all the way through Python's end and the libraries'
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
predictor.set_image(image)
"""


def run(code: str, *arguments: object, folder: Path) -> str:
    script = folder / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tiny_bundle: Bundle, tmp_path: Path, method: str) -> None:
    run(MULTIPROCESSING, method, tiny_bundle.path, folder=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
@pytest.mark.parametrize(
    ("provider", "said"), [("cpu", ""), ("openvino", "image_encoder: opened before this process was forked")]
)
def test_a_forked_child_ends_by_itself(tiny_bundle: Bundle, tmp_path: Path, provider: str, said: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    printed = run(FORKED, provider, tiny_bundle.path, folder=tmp_path)
    assert printed.startswith(said)
    assert bool(printed) is bool(said)


POOLS = """
import sys
import joblib
import numpy as np
import torch
from samhq_runtime import Predictor

class Logits(torch.utils.data.Dataset):
    def __init__(self, predictor):
        self.predictor = predictor

    def __len__(self):
        return 4

    def __getitem__(self, seed):
        return answer(self.predictor, seed)

def answer(predictor, seed):
    predictor.set_image(np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    return predictor.predict(box=[5, 6, 40, 50])[2]

if __name__ == "__main__":
    predictor = Predictor(sys.argv[1], threads=1)
    expected = [answer(predictor, seed) for seed in range(4)]
    got = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(answer)(predictor, seed) for seed in range(4))
    np.testing.assert_array_equal(got, expected)
    for method in ("fork", "spawn"):
        loader = torch.utils.data.DataLoader(
            Logits(predictor), num_workers=2, multiprocessing_context=method, timeout=120, batch_size=2
        )
        np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), expected)
    print(len(expected))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_joblib_and_a_data_loader(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A Predictor as an argument, and in the data set of workers, forked and started anew."""
    pytest.importorskip("joblib")
    assert run(POOLS, tiny_bundle.path, folder=tmp_path) == "4\n"


APPLICATION = """
import os
import numpy as np
from samhq_runtime import Predictor

predictor = Predictor(os.environ["BUNDLE"], threads=2)
encoded = predictor.encode(np.zeros((60, 80, 3), np.uint8))

def application(environ, start_response):
    image = predictor.encode(np.zeros((60, 80, 3), np.uint8)) if environ["PATH_INFO"] == "/encode" else encoded
    logits = predictor.predict(box=[5, 6, 40, 50], image=image)[2]
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    return [logits.tobytes()]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no fork")
def test_gunicorn_with_preload(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Two workers, 200 requests, and an end within moments of SIGTERM."""
    pytest.importorskip("gunicorn")
    (tmp_path / "wsgi.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "gunicorn", "wsgi:application", "--preload", "--workers", "2"]
    command += ["--threads", "2", "--bind", "127.0.0.1:0", "--env", f"BUNDLE={tiny_bundle.path}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=tmp_path, stderr=log)
    try:
        port = _port_of(tmp_path / "log")
        urls = [f"http://127.0.0.1:{port}/{'encode' if i % 10 == 0 else ''}" for i in range(200)]
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(_get, urls))
        server.send_signal(signal.SIGTERM)
        assert server.wait(_ENDS_WITHIN_S) == 0
    finally:
        server.kill()
    assert {body for _, body in answers} == {answers[0][1]}
    assert len({process for process, _ in answers}) == 2
    assert "SIGKILL" not in (tmp_path / "log").read_text()


def _get(url: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.headers["X-Process"], answer.read()


def _port_of(log: Path) -> int:
    for _ in range(200):
        if found := re.search(r"Listening at: http://127.0.0.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.1)
    raise TimeoutError(log.read_text())
