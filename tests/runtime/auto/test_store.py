"""Choices in the cache folder: found again, dropped with a notice where they do not hold, and what a folder may do."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from samhq_runtime import Bundle, Predictor
from samhq_runtime.auto import Way, Ways, resolve, store, stored_ways
from samhq_runtime.bundle import load_bundle
from samhq_runtime.cli import main
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.errors import ConfigError
from tests.support.bundles import change_manifest
from tests.support.gpu_machine import BOX, IMAGE

WAYS = Ways({IMAGE_ENCODER: Way(("cpu",), 2), MASK_DECODER: Way(("cpu",), 1)}, 4)


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A copy that is to be tuned, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    resolve._warn_once.cache_clear()
    return load_bundle(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def loaded(bundle: Bundle) -> tuple[Ways | None, list[str]]:
    notices: list[str] = []
    return store.load(bundle.path, notices.append), notices


def test_found_again_and_used(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded(bundle) == (None, [])
    path = store.save(bundle.path, WAYS)
    assert path.parent == tmp_path / "cache" / "samhq" / "tuned"
    assert loaded(bundle) == (WAYS, [])
    assert bundle.ways("auto") == WAYS
    assert bundle.ways("auto", threads=3).by_graph[IMAGE_ENCODER] == Way(("cpu",), 3)
    assert bundle.ways("cpu") == Ways(dict.fromkeys((IMAGE_ENCODER, MASK_DECODER), Way(("cpu",))))
    with Predictor(bundle, providers="auto") as predictor:
        assert predictor.providers == {IMAGE_ENCODER: ("cpu",), MASK_DECODER: ("cpu",)}
        assert predictor._decoding.prompts_per_call == 4
        assert Predictor(bundle, providers="auto", prompts_per_call=8)._decoding.prompts_per_call == 8


def test_default_of_commands_once_tuned(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    asked: list[object] = []
    monkeypatch.setattr(Bundle, "ways", lambda self, providers, threads=0: asked.append(providers) or WAYS)
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    box = ",".join(map(str, BOX))
    command = [
        "predict",
        str(bundle.path),
        str(tmp_path / "image.png"),
        "--box",
        box,
        "--output",
        str(tmp_path / "m.png"),
    ]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    store.save(bundle.path, WAYS)
    assert main(command) == 0
    assert capsys.readouterr().err == "as tuned for this machine: --providers cpu\n"
    assert main([*command, "--providers", "cpu"]) == 0
    assert capsys.readouterr().err == ""
    assert asked == ["cpu", "auto", "cpu"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"processor": "Slow CPU, 1 cores ()"}, "it was for processor Slow CPU, 1 cores (), this is "),
        ({"gpu": "Another Card (8.6)"}, "gpu Another Card (8.6), this is none"),
        ({"onnxruntime": "1.0.0"}, "onnxruntime 1.0.0, this is "),
        ({"openvino": "2020.1", "driver": "1.2"}, "driver 1.2, this is none; openvino 2020.1, this is "),
        ({"bundle": "0" * 64}, "another content of the bundle; run it again"),
    ],
)
def test_stale(bundle: Bundle, changed: dict[str, str], complaint: str, caplog: pytest.LogCaptureFixture) -> None:
    path = store.save(bundle.path, WAYS)
    content = json.loads(path.read_text())
    content["key"] |= changed
    path.write_text(json.dumps(content))
    ways, (notice,) = loaded(bundle)
    assert ways is None
    assert complaint in notice
    assert bundle.ways("auto") == bundle.ways("auto")  # the rule's, told once
    assert [record.message for record in caplog.records] == [notice]
    store.save(bundle.path, WAYS)
    assert loaded(bundle)[0] == WAYS


def test_another_bundle_in_its_place(bundle: Bundle) -> None:
    store.save(bundle.path, WAYS)
    change_manifest(bundle.path, lambda manifest: manifest.update(mask_threshold=0.5))
    ways, (notice,) = loaded(bundle)
    assert ways is None
    assert "another content of the bundle" in notice


def test_a_copy_of_the_bundle_is_the_same(bundle: Bundle, tmp_path: Path) -> None:
    store.save(bundle.path, WAYS)
    assert stored_ways(shutil.copytree(bundle.path, tmp_path / "copy")) == WAYS


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-40],
        lambda text: "[]",
        lambda text: "[" * 100_000,
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace('"threads": 2', '"threads": -2'),
        lambda text: text.replace('"threads": 2', '"threads": "2"'),
        lambda text: text.replace('"providers"', '"provider"'),
        lambda text: text.replace('"prompts_per_call": 4', '"prompts_per_call": 0'),
    ],
)
def test_broken_file(bundle: Bundle, damage: object) -> None:
    path = store.save(bundle.path, WAYS)
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    ways, (notice,) = loaded(bundle)
    assert ways is None
    assert "cannot be read" in notice
    path.rename(path.with_name("0" * 16 + "-00000000.json"))  # of some other bundle
    assert loaded(bundle) == (None, [])


def test_a_folder_that_cannot_be_written(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match=r"cannot be kept there .*; set XDG_CACHE_HOME"):
        store.save(bundle.path, WAYS)
    assert main(["tune", str(bundle.path)]) == 1  # before anything is measured
    assert capsys.readouterr().err.count("\n") == 1
    assert loaded(bundle) == (None, [])
    assert main(["predict", str(bundle.path), "no.png", "--box", "1,2,3,4", "--output", "x.png"]) == 1


def test_two_at_once(bundle: Bundle) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: store.save(bundle.path, WAYS), range(32)))
    (path,) = paths
    assert loaded(bundle) == (WAYS, [])
    assert list(path.parent.iterdir()) == [path]
