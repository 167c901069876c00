"""Encoded images as files: what is written, read back, and refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from samhq_runtime import Bundle, EncodedImage, Predictor
from samhq_runtime.embeddings.stored import bundle_sha256
from samhq_runtime.errors import EmbeddingError
from tests.support.embeddings import DAMAGE, flip, picture

BOX = {"box": [5, 6, 40, 50], "return_logits": True}


@pytest.fixture(scope="module")
def predictor(tiny_bundle: Bundle) -> Iterator[Predictor]:
    with Predictor(tiny_bundle, threads=1) as predictor:
        yield predictor


@pytest.fixture
def file(predictor: Predictor, tmp_path: Path) -> Path:
    predictor.set_image(picture())
    predictor.save_embedding(tmp_path / "image.safetensors")
    return tmp_path / "image.safetensors"


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("fixture", ["tiny_bundle", "plain_bundle", "demo_bundle_fp16"])
def test_masks_of_a_file_are_those_of_the_image(
    request: pytest.FixtureRequest, fixture: str, float16: bool, tmp_path: Path
) -> None:
    path = tmp_path / "image.safetensors"
    with Predictor(request.getfixturevalue(fixture), threads=1) as predictor:
        encoded = predictor.encode(picture())
        predictor.save_embedding(path, image=encoded, float16=float16)
        read = predictor.load_embedding(path)
        assert read.original_hw == (60, 80)
        expected, got = (predictor.predict(**BOX, image=image)[0] for image in (encoded, read))
        specs = predictor.bundle.manifest.graphs["image_encoder"].spec.outputs
    stored = load_file(path)  # the package's own reader
    assert {name: array.dtype for name, array in read.features.items()} == {s.name: np.dtype(s.dtype) for s in specs}
    assert all(array.dtype == (np.float16 if float16 else read.features[name].dtype) for name, array in stored.items())
    for name, array in stored.items():
        np.testing.assert_array_equal(array.astype(read.features[name].dtype), read.features[name])
    if not float16:
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(got, expected, atol=2e-2 * np.ptp(expected))


def test_metadata_say_what_it_is_of(predictor: Predictor, file: Path) -> None:
    with safe_open(file, framework="np") as stored:
        metadata = stored.metadata()
    assert json.loads(metadata["original_hw"]) == [60, 80]
    assert (metadata["precision"], metadata["bundle_sha256"]) == ("fp32", bundle_sha256(predictor.bundle))
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_refused(predictor: Predictor, file: Path, case: str) -> None:
    damage, complaint = DAMAGE[case]
    damage(file)
    with pytest.raises(EmbeddingError) as caught:
        predictor.load_embedding(file)
    assert complaint in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_bit_counts(predictor: Predictor, file: Path) -> None:
    """No flipped bit of the header goes unnoticed, nor any in a sample of the tensors."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    text = len(content[:end].rstrip())  # what follows is white space
    for at in [*range(0, text, 7), *range(end, len(content), 49999)]:
        flip(file, at)
        with pytest.raises(EmbeddingError):
            predictor.load_embedding(file)
        file.write_bytes(content)


@pytest.mark.parametrize(("value", "float16"), [(np.nan, False), (np.inf, False), (7e4, True)])
def test_what_is_not_written(predictor: Predictor, tmp_path: Path, value: float, float16: bool) -> None:
    encoded = predictor.encode(picture())
    features = {name: np.full_like(array, value) for name, array in encoded.features.items()}
    with pytest.raises(EmbeddingError, match="not written"):
        predictor.save_embedding(tmp_path / "x", image=EncodedImage(features, encoded.original_hw), float16=float16)
    assert not list(tmp_path.iterdir())


def test_of_another_model(predictor: Predictor, plain_bundle: Bundle, file: Path, tmp_path: Path) -> None:
    with Predictor(plain_bundle, threads=1) as other:
        with pytest.raises(EmbeddingError, match="an embedding of another bundle"):
            other.load_embedding(file)
        with pytest.raises(EmbeddingError, match="got features"):
            other.save_embedding(tmp_path / "x", image=predictor.encode(picture()))


def test_a_full_disk_leaves_the_earlier_file(predictor: Predictor, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("samhq_runtime.embeddings.stored.write_tensors", full)
    with pytest.raises(EmbeddingError, match=r"cannot be written \(No space left on device\)"):
        predictor.save_embedding(file)
    assert (file.read_bytes(), list(file.parent.iterdir())) == (before, [file])
