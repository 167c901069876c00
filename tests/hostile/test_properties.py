"""Whatever comes in, a result or one of our own errors comes out: hypothesis, bounded, the same in every run.

`python -m benchmarks hostile` does the same from seeds, for as long as it is told to.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.contract import Array
from samhq_runtime.errors import ImageError, SamHqError
from samhq_runtime.fleet.prompt_files import read_jobs
from samhq_runtime.frames.image_files import decode_image, read_image
from tests.support.fuzz import ODD, PYTHON_ONLY, Target, file_targets, predicted, shown, with_engine
from tests.support.serving import IMAGE


def bounded(examples: int) -> Callable[[Any], Any]:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


@contextmanager
def nothing_else() -> Iterator[None]:
    """Our errors, and warnings of Pillow's about damaged tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
            event("a result")
        except SamHqError:
            event("refused")


NUMBERS = st.integers() | st.floats(width=64) | st.integers(-(10**400), 10**400)
ATOMS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(ODD)
JSON = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
DTYPES = npst.scalar_dtypes() | npst.unicode_string_dtypes(max_len=3) | npst.byte_string_dtypes(max_len=3)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = DTYPES.flatmap(lambda dtype: npst.arrays(dtype, SHAPES))
ANYTHING = JSON | ARRAYS | st.sampled_from(PYTHON_ONLY)
PIXEL = st.integers(-5, 90) | st.floats(-1e3, 1e3)


@st.composite
def prompts_with_something_else(draw: st.DrawFn) -> dict[str, Any]:
    points = draw(st.lists(st.tuples(PIXEL, PIXEL, st.integers(-1, 1)), max_size=3))
    box = [draw(st.integers(0, 40)), draw(st.integers(0, 30)), draw(st.integers(41, 80)), draw(st.integers(31, 60))]
    given = {
        "point_coords": [[x, y] for x, y, _ in points],
        "point_labels": [label for *_, label in points],
        "box": box,
    }
    for name in draw(st.lists(st.sampled_from([*given, "mask_input"]), max_size=2)):
        given[name] = draw(ANYTHING)
    return {name: given[name] for name in given if draw(st.integers(0, 3))}


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """A copy with some fields replaced, removed or added, however deep."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(0, 2))):
        holder = content
        key = draw(st.sampled_from(_keys(holder)))
        while draw(st.integers(0, 4)) and _keys(holder[key]):
            holder = holder[key]
            key = draw(st.sampled_from(_keys(holder)))
        match draw(st.integers(0, 3)):
            case 0 if len(holder) > 1:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[draw(st.text(max_size=6))] = draw(JSON)
            case _:
                holder[key] = draw(JSON)
    return content


def _keys(content: Any) -> list[Any]:
    return sorted(content) if isinstance(content, dict) else [*range(len(content))] if isinstance(content, list) else []


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        yield predictor


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@bounded(60)
@given(prompts=prompts_with_something_else())
def test_prompts(predictor: Predictor, prompts: dict[str, Any]) -> None:
    with nothing_else():
        predicted(predictor, prompts)


LINE = {"image": "a.png", "box": [[1, 2, 30, 40]], "point_coords": [[3, 4]], "point_labels": [1]}


@bounded(25)
@given(lines=st.lists(changed(LINE), min_size=1, max_size=2))
def test_files_of_prompts(scratch: Path, lines: list[dict[str, Any]]) -> None:
    path = scratch / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    with nothing_else():
        assert all(isinstance(job.arguments(), dict) for job in read_jobs(path))


def _pictures() -> dict[str, bytes]:
    """A file of every mode that Pillow writes in each format."""
    modes = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16")
    formats = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "ICO", "TGA", "SGI", "PCX", "JPEG2000", "DDS")
    picture, pictures = Image.fromarray(IMAGE).resize((20, 16)), {}
    for mode in modes:
        through = {"LAB": "RGB", "PA": "P", "I;16": "I"}.get(mode, "RGB")
        for kind in formats:
            buffer = io.BytesIO()
            try:
                picture.convert(through).convert(mode).save(buffer, kind)
            except (OSError, ValueError, KeyError):
                continue
            pictures[f"{mode} {kind}"] = buffer.getvalue()
    return pictures


PICTURES = _pictures()
DAMAGE = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 9), st.binary(max_size=9)), max_size=4)


def test_there_are_pictures_of_every_kind(scratch: Path) -> None:
    assert len(PICTURES) > 50
    path = scratch / "whole"
    for content in PICTURES.values():
        path.write_bytes(content)
        assert _rank_of(path) in (3, "white is not known")


def _rank_of(path: Path) -> object:
    try:
        return read_image(path).ndim
    except ImageError as e:
        return "white is not known" if "which value is white is not known" in str(e) else str(e)


@bounded(120)
@given(name=st.sampled_from(sorted(PICTURES)), damage=DAMAGE)
def test_pictures(scratch: Path, name: str, damage: list[tuple[int, int, bytes]]) -> None:
    """As a file of one's own, and as a client's."""
    content = bytearray(PICTURES[name])
    for place, length, piece in damage:
        start = place % (len(content) + 1)
        content[start : start + length] = piece
    path = scratch / "picture"
    path.write_bytes(content)
    readers: tuple[Callable[[], Array], ...] = (lambda: read_image(path), lambda: decode_image(bytes(content)))
    for read in readers:
        with nothing_else():
            pixels = read()
            assert (pixels.dtype, pixels.ndim, pixels.shape[-1]) == (np.uint8, 3, 3)


@bounded(60)
@given(data=st.data())
def test_manifests(tiny_bundle: Bundle, manifest: dict[str, Any], data: st.DataObject) -> None:
    with nothing_else():
        shown(tiny_bundle, data.draw(changed(manifest)))


@pytest.fixture(scope="module")
def manifest(tiny_bundle: Bundle) -> dict[str, Any]:
    return with_engine(tiny_bundle)


class Drawn:
    """Takes a `Generator`'s place: hypothesis chooses, and makes small what fails."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integers(self, low: int, high: int | None = None, size: int | None = None, dtype: type = int) -> Any:
        low, high = (0, low) if high is None else (int(low), high)
        if size is None:
            return self._data.draw(st.integers(low, int(high) - 1))
        return np.frombuffer(self._data.draw(st.binary(min_size=size, max_size=size)), dtype)


@pytest.fixture(scope="module")
def targets(tiny_bundle: Bundle, tiny_checkpoint: Path, scratch: Path) -> dict[str, Target]:
    return file_targets(tiny_bundle, tiny_checkpoint, scratch)


@pytest.mark.parametrize("name", ["external data", "checkpoint", "weights"])
@bounded(25)
@given(data=st.data())
def test_graphs_and_weights(targets: dict[str, Target], name: str, data: st.DataObject) -> None:
    drawn: Any = Drawn(data)
    with nothing_else():
        targets[name](drawn)
