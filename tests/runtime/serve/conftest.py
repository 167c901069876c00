"""A server of the tiny bundle, and the Predictor whose answers it should give."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from samhq_runtime import Bundle, Predictor
from tests.support.serving import IMAGE, Running, running


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle) -> Iterator[Running]:
    with running(tiny_bundle) as server:
        yield server


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        yield predictor
