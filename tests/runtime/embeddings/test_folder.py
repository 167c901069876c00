"""A folder of embeddings: what is encoded, kept, dropped, and shared between processes and commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, EmbeddingFolder, EncodedImage, Predictor
from samhq_runtime.cli import main
from samhq_runtime.errors import ConfigError, EmbeddingError
from samhq_runtime.frames.image_files import read_image

BOX = ("--box", "5,6,40,50")


class Counting(Predictor):
    """How often it encodes."""

    encoded = 0

    def encode(self, image: np.ndarray) -> EncodedImage:
        self.encoded += 1
        return super().encode(image)


@pytest.fixture
def predictor(tiny_bundle: Bundle) -> Counting:
    return Counting(tiny_bundle, threads=1)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "images" / name for name in ("a.png", "b/a.png", "c.PNG", "d.bmp")]
    for seed, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return paths


def test_an_image_is_encoded_once(predictor: Counting, images: list[Path], tmp_path: Path) -> None:
    folder = EmbeddingFolder(predictor, tmp_path / "kept")
    first, again = (folder.encode(images[0]) for _ in range(2))
    renamed = images[0].rename(tmp_path / "another.png")
    EmbeddingFolder(predictor, tmp_path / "kept").encode(renamed)
    assert predictor.encoded == 1
    np.testing.assert_array_equal(again.features["hq_features"], first.features["hq_features"])
    folder.encode(images[1])
    folder.encode(renamed, white_point=4095)
    for _ in range(2):
        folder.encode(read_image(renamed))
    assert predictor.encoded == 4
    renamed.write_bytes(images[2].read_bytes())  # under the same name another image
    assert np.abs(folder.encode(renamed).features["hq_features"] - first.features["hq_features"]).max() > 0.01


def test_what_was_used_last_is_kept(predictor: Counting, images: list[Path], tmp_path: Path) -> None:
    unlimited = EmbeddingFolder(predictor, tmp_path / "kept")
    unlimited.encode(images[0])
    entry = unlimited.size
    folder = EmbeddingFolder(predictor, tmp_path / "kept", max_bytes=int(2.5 * entry))
    for image in (images[1], images[0], images[2]):  # images[0] is used again
        folder.encode(image)
    assert [folder.path_of(image).exists() for image in images] == [True, False, True, False]
    assert folder.size == 2 * entry
    EmbeddingFolder(predictor, tmp_path / "kept", max_bytes=1).encode(images[3])
    assert folder.size == 0


@pytest.mark.parametrize("float16", [False, True])
def test_a_miss_answers_what_a_hit_does(predictor: Counting, images: list[Path], tmp_path: Path, float16: bool) -> None:
    folder = EmbeddingFolder(predictor, tmp_path / "kept", float16=float16)
    first, again = (folder.encode(images[0]) for _ in range(2))
    for name, array in first.features.items():
        np.testing.assert_array_equal(array, again.features[name])


def test_damaged_embeddings_are_made_again(
    predictor: Counting, images: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = EmbeddingFolder(predictor, tmp_path / "kept")
    folder.encode(images[0])
    path = folder.path_of(images[0])
    path.write_bytes(path.read_bytes()[:-1])
    folder.encode(images[0])
    folder.encode(images[0])
    assert predictor.encoded == 2
    assert "cut off" in caplog.text


def test_folders_that_cannot_be_written(
    predictor: Counting, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be a folder of embeddings"):
        EmbeddingFolder(predictor, tmp_path / "file")
    with pytest.raises(ConfigError, match="max_bytes: got 0"):
        EmbeddingFolder(predictor, tmp_path / "kept", max_bytes=0)
    folder = EmbeddingFolder(predictor, tmp_path / "kept")
    (tmp_path / "kept").rmdir()
    assert folder.encode(images[0]).original_hw == (40, 60)  # with a warning
    with pytest.raises(EmbeddingError, match="cannot be written"):
        folder.add(images[0])


WORKER = """
import sys, random
from pathlib import Path
from samhq_runtime import EmbeddingFolder, Predictor
bundle, kept, limit, seed, *images = sys.argv[1:]
with Predictor(bundle, threads=1) as predictor:
    folder = EmbeddingFolder(predictor, kept, max_bytes=int(limit))
    random.seed(int(seed))
    for _ in range(20):
        image = random.choice(images)
        encoded = folder.encode(image)
        assert encoded.original_hw == (40, 60)
"""


def test_processes_share_a_folder(predictor: Counting, images: list[Path], tmp_path: Path) -> None:
    """Each reads whole files or none, while the others write and drop them; the limit holds in the end."""
    EmbeddingFolder(predictor, tmp_path / "kept").encode(images[0])
    limit = int(2.5 * EmbeddingFolder(predictor, tmp_path / "kept").size)
    common = [sys.executable, "-c", WORKER, str(predictor.bundle.path), str(tmp_path / "kept"), str(limit)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    children = [
        subprocess.Popen([*common, str(seed), *map(str, images)], env=environment, stderr=subprocess.PIPE, text=True)
        for seed in range(2)
    ]
    errors = [child.communicate()[1] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert errors == ["", ""]
    folder = EmbeddingFolder(predictor, tmp_path / "kept", max_bytes=limit)
    folder.encode(images[0])
    assert 0 < folder.size <= limit
    assert all(
        path.suffix == ".safetensors" and not path.name.startswith(".") for path in (tmp_path / "kept").iterdir()
    )


def test_encode_then_predict(
    tiny_bundle: Bundle, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, kept = str(tiny_bundle.path), tmp_path / "kept"
    (tmp_path / "list.txt").write_text(f"{images[0]}\nimages/d.bmp\n")
    assert main(["encode", bundle, str(tmp_path / "images"), "--embeddings", str(kept)]) == 0
    assert "4 images encoded, 0 were there already" in capsys.readouterr().out
    again = [str(tmp_path / "images/*.png"), str(tmp_path / "list.txt"), str(images[2])]
    assert main(["encode", bundle, *again, "--embeddings", str(kept)]) == 0
    assert "0 images encoded, 3 were there already" in capsys.readouterr().out
    masks = [tmp_path / f"{i}.png" for i in range(2)]
    command = ["predict", bundle, str(images[0]), *BOX, "--output"]
    assert main([*command, str(masks[0])]) == 0
    entries = {path: path.stat().st_size for path in kept.iterdir()}
    assert main([*command, str(masks[1]), "--embeddings", str(kept), "--overlay", str(tmp_path / "o.png")]) == 0
    assert masks[0].read_bytes() == masks[1].read_bytes()
    assert {path: path.stat().st_size for path in kept.iterdir()} == entries


def test_a_folder_of_images_with_embeddings(tiny_bundle: Bundle, images: list[Path], tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({"image": "a.png", "box": [5, 6, 40, 30]}))
    common = ["predict", str(tiny_bundle.path), str(images[0].parent), "--prompts", str(tmp_path / "p.jsonl")]
    for name, options in (("plain", []), ("new", ["--embeddings", str(tmp_path / "kept")])):
        assert main([*common, "--output", str(tmp_path / name), *options]) == 0
    assert len(list((tmp_path / "kept").iterdir())) == 1
    plain, new = ((tmp_path / name / "a.png.json").read_bytes() for name in ("plain", "new"))
    assert plain == new


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["encode", "BUNDLE", "nowhere", "--embeddings", "kept"], "nowhere: no such image, folder or list"),
        (["encode", "BUNDLE", "no*.png", "--embeddings", "kept"], "no*.png: no image in it"),
        (["encode", "BUNDLE", "empty", "--embeddings", "kept"], "empty: no image in it"),
        (["encode", "BUNDLE", "images", "--embeddings", "images/a.png"], "cannot be a folder of embeddings"),
        (["encode", "BUNDLE", "images", "--embeddings", "kept", "--embeddings-mb", "0"], "--embeddings-mb: got 0"),
        (["predict", "BUNDLE", "images/a.png", *BOX, "--output", "m.png", "--embeddings-mb", "1"], "give it with"),
    ],
)
def test_one_line_for_what_cannot_be(
    tiny_bundle: Bundle,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main([str(tiny_bundle.path) if word == "BUNDLE" else word for word in arguments]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert complaint in err
    assert err.count("\n") == 1


def test_one_bad_file_stops_nothing_and_the_limit_is_said(
    tiny_bundle: Bundle, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images[1].write_bytes(b"no picture")
    command = ["encode", str(tiny_bundle.path), str(tmp_path / "images"), "--embeddings", str(tmp_path / "kept")]
    assert main([*command, "--embeddings-mb", "0.001", "--float16"]) == 1
    out, err = capsys.readouterr()
    assert "3 images encoded" in out
    assert "0 of 4 are kept: --embeddings-mb 0.001 has no room for more" in out
    assert "b/a.png: cannot be read as an image" in err
    assert "1 of 4 images could not be encoded" in err
