"""`samhq`: the same answer as the API, and one line for every way to fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle, Predictor
from samhq_runtime.cli import main
from samhq_runtime.frames.image_files import read_image
from samhq_runtime.manifest import MANIFEST_NAME
from samhq_runtime.masks.overlay import draw_comparison, draw_overlay

BOX = ("--box", "5,6,40,50")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.mark.parametrize(
    ("arguments", "prompts"),
    [
        (BOX, {"box": (5, 6, 40, 50), "multimask_output": False}),
        (
            (*BOX, "--point", "20,30", "--negative-point", "1,2", "--point", "9,9.5", "--multimask"),
            {
                "box": (5, 6, 40, 50),
                "point_coords": [(20, 30), (9, 9.5), (1, 2)],
                "point_labels": [1, 1, 0],
                "multimask_output": True,
            },
        ),
        (
            ("--point", "20,30", "--hq-token-only"),
            {"point_coords": [(20, 30)], "point_labels": [1], "hq_token_only": True, "multimask_output": False},
        ),
    ],
)
def test_predict_writes_what_the_predictor_says(
    tiny_bundle: Bundle,
    image: Path,
    arguments: tuple[str, ...],
    prompts: dict[str, object],
    capsys: pytest.CaptureFixture[str],
) -> None:
    mask, overlay = image.with_name("mask.png"), image.with_name("overlay.png")
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(read_image(image))
        expected, iou, _ = predictor.predict(**prompts)  # type: ignore[arg-type]
    command = ["predict", str(tiny_bundle.path), str(image), *arguments, "--output", str(mask)]
    assert main([*command, "--overlay", str(overlay)]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(mask)), expected[0] * np.uint8(255))
    boxes = np.array([prompts["box"]]) if "box" in prompts else None
    np.testing.assert_array_equal(
        np.asarray(Image.open(overlay)), draw_overlay(read_image(image), expected.astype(bool), boxes)
    )
    assert f"predicted IoU {iou[0]:.3f}" in capsys.readouterr().out


def test_predict_beside_sam(tiny_bundle: Bundle, image: Path) -> None:
    """Three panels: the image with its box, SAM's mask, SAM-HQ's, each under its name."""
    mask, beside = image.with_name("mask.png"), image.with_name("beside.png")
    command = ["predict", str(tiny_bundle.path), str(image), *BOX, "--output", str(mask), "--compare-sam", str(beside)]
    assert main(command) == 0
    pixels = read_image(image)
    with Predictor(tiny_bundle) as predictor:
        predictor.set_image(pixels)
        asked = {"box": (5, 6, 40, 50), "multimask_output": False}
        masks = {
            "SAM": predictor.predict(**asked, sam_tokens_only=True)[0].astype(bool),
            "SAM-HQ": predictor.predict(**asked)[0].astype(bool),
        }
    assert (masks["SAM"] != masks["SAM-HQ"]).any()
    expected = draw_comparison(pixels, masks, np.array([[5, 6, 40, 50]]))
    np.testing.assert_array_equal(np.asarray(Image.open(beside)), expected)
    height, width = pixels.shape[:2]
    for index, masks_of_panel in enumerate(masks.values(), 1):
        panel = expected[-height:, index * (width + 2) : index * (width + 2) + width]
        np.testing.assert_array_equal(panel, draw_overlay(pixels, masks_of_panel))


@pytest.mark.parametrize(("size", "fits"), [(64, True), (63, False)])
def test_predict_with_a_tuned_hq_token(
    tiny_bundle: Bundle, image: Path, capsys: pytest.CaptureFixture[str], size: int, fits: bool
) -> None:
    token, mask = image.with_name("tuned.npy"), image.with_name("mask.png")
    np.save(token, np.random.default_rng(1).normal(size=size).astype(np.float32))
    command = ["predict", str(tiny_bundle.path), str(image), *BOX, "--hq-token", str(token), "--output", str(mask)]
    assert main(command) == (0 if fits else 1)
    if not fits:
        assert capsys.readouterr().err.startswith("error: tuned.npy: hq_token: got float32 (63,), expected 64")
        assert not mask.exists()
        return
    expected = []
    for hq_token in (token, None):
        with Predictor(tiny_bundle, hq_token=hq_token) as predictor:
            predictor.set_image(read_image(image))
            expected.append(predictor.predict(box=(5, 6, 40, 50), multimask_output=False)[0][0])
    np.testing.assert_array_equal(np.asarray(Image.open(mask)), expected[0] * np.uint8(255))
    assert (expected[0] != expected[1]).any()


def test_inspect_shows_the_manifest(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tiny_bundle.path)]) == 0
    out, err = capsys.readouterr()
    manifest = tiny_bundle.manifest
    tensors = [t.name for g in manifest.graphs.values() for t in (*g.spec.inputs, *g.spec.outputs)]
    for text in ("complete and unchanged", manifest.variant, manifest.precision, *manifest.files, *tensors):
        assert text in out
    assert not err


def test_inspect_finds_damage(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    (bundle / "mask_decoder.onnx").write_bytes(b"x")
    assert_fails(["inspect", str(bundle)], "damaged or changed", capsys)
    (bundle / MANIFEST_NAME).write_text(json.dumps({"schema_version": 99}))
    assert_fails(["inspect", str(bundle)], "schema 99", capsys)


BAD_INPUTS: dict[str, tuple[list[str], str]] = {
    "no bundle": (["nowhere", "image.png", *BOX], "no such folder"),
    "bundle is the image": (["image.png", "image.png", *BOX], "no such folder"),
    "folder without manifest": ([".", "image.png", *BOX], "manifest.json is missing"),
    "no image": (["BUNDLE", "nowhere.png", *BOX], "no such image file"),
    "image is a folder": (["BUNDLE", ".", *BOX], "no such image file"),
    "image is empty": (["BUNDLE", "empty.png", *BOX], "cannot be read as an image"),
    "image is text": (["BUNDLE", "text.png", *BOX], "cannot be read as an image"),
    "image is cut": (["BUNDLE", "cut.png", *BOX], "cannot be read as an image"),
    "image is cut early": (["BUNDLE", "cut.jpg", *BOX], "cannot be read as an image"),
    "image without pixels": (["BUNDLE", "zero.png", *BOX], "cannot be read as an image"),
    "image of floats": (["BUNDLE", "floats.tiff", *BOX], "which value is white is not known"),
    "no prompt": (["BUNDLE", "image.png"], "no prompt"),
    "NaN box": (["BUNDLE", "image.png", "--box", "nan,0,9,9"], "NaN"),
    "infinite point": (["BUNDLE", "image.png", "--point", "inf,0"], "infinity"),
    "swapped box": (["BUNDLE", "image.png", "--box", "9,9,1,1"], "swapped"),
    "unknown provider": (["BUNDLE", "image.png", *BOX, "--providers", "gpu"], "unknown provider gpu"),
    "empty provider": (["BUNDLE", "image.png", *BOX, "--providers", ""], "unknown provider"),
    "output folder missing": (["BUNDLE", "image.png", *BOX, "--output", "no/where.png"], "cannot be written"),
    "output is a folder": (["BUNDLE", "image.png", *BOX, "--output", "folder"], "cannot be written"),
    "output below a file": (["BUNDLE", "image.png", *BOX, "--output", "text.png/m.png"], "Not a directory"),
    "output is here": (["BUNDLE", "image.png", *BOX, "--output", "."], "cannot be written"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input(
    tiny_bundle: Bundle, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    folder = image.parent
    Image.open(image).save(folder / "cut.jpg")
    for name, source, kept in (("cut.png", "image.png", 0.7), ("cut.jpg", "cut.jpg", 0.05)):
        data = (folder / source).read_bytes()
        (folder / name).write_bytes(data[: int(kept * len(data))])
    (folder / "empty.png").touch()
    (folder / "zero.png").write_bytes(without_pixels((folder / "image.png").read_bytes()))
    Image.new("F", (20, 10)).save(folder / "floats.tiff")
    (folder / "text.png").write_text("not a picture")
    (folder / "folder").mkdir()
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    words, complaint = BAD_INPUTS[case]
    arguments = [str(tiny_bundle.path) if word == "BUNDLE" else word for word in words]
    assert_fails(["predict", "--output", "mask.png", *arguments], complaint, capsys)
    assert sorted(folder.rglob("*")) == before


def without_pixels(png: bytes) -> bytes:
    """The same file with a width of 0, and a checksum that says so too."""
    header = b"IHDR" + bytes(4) + png[20:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16", "CMYK"])
def test_images_that_are_not_rgb(tiny_bundle: Bundle, tmp_path: Path, mode: str) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    image = Image.fromarray(grey)
    image.convert("RGB").save(tmp_path / "RGB.tiff")
    odd = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else image.convert("RGB").convert(mode)
    assert odd.mode == mode
    odd.save(tmp_path / "odd.tiff")
    for name in ("RGB", "odd"):
        mask = str(tmp_path / f"{name}.png")
        assert main(["predict", str(tiny_bundle.path), str(tmp_path / f"{name}.tiff"), *BOX, "--output", mask]) == 0
    same = np.asarray(Image.open(tmp_path / "RGB.png")) == np.asarray(Image.open(tmp_path / "odd.png"))
    assert same.mean() >= (0.9 if mode == "P" else 1)  # a palette of few colours is another picture


@pytest.mark.parametrize("file", ["mask_decoder.onnx", "image_encoder.onnx", MANIFEST_NAME])
def test_a_bundle_with_one_flipped_bit(
    tiny_bundle: Bundle, image: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(tiny_bundle.path, image.with_name("bundle"))
    data = bytearray((bundle / file).read_bytes())
    data[data.index(b"pixel_std") + 30 if file == MANIFEST_NAME else len(data) // 2] ^= 1
    (bundle / file).write_bytes(data)
    mask = image.with_name("mask.png")
    assert_fails(["predict", str(bundle), str(image), *BOX, "--output", str(mask)], f"{file}: damaged", capsys)
    assert not mask.exists()


def test_disk_full(
    tiny_bundle: Bundle, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def save(self: Image.Image, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    mask = image.with_name("mask.png")
    mask.write_bytes(b"an earlier mask")
    monkeypatch.setattr(Image.Image, "save", save)
    command = ["predict", str(tiny_bundle.path), str(image), *BOX, "--output", str(mask)]
    assert_fails(command, "mask.png: cannot be written (No space left on device)", capsys)
    assert sorted(image.parent.iterdir()) == [image, mask]
    assert mask.read_bytes() == b"an earlier mask"


@pytest.mark.parametrize("provider", ["cuda", "tensorrt,cpu"])
def test_provider_that_is_not_here(
    tiny_bundle: Bundle, image: Path, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has GPU providers")
    mask = image.with_name("mask.png")
    command = ["predict", str(tiny_bundle.path), str(image), *BOX, "--output", str(mask), "--providers", provider]
    assert_fails(command, "is not in this onnxruntime", capsys)
    assert not mask.exists()


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["segment"],
        ["inspect"],
        ["predict", "b", "i", "--box", "1,2,3,4"],  # no --output
        ["predict", "b", "i", "--output", "m", "--box", "1,2,3"],
        ["predict", "b", "i", "--output", "m", "--box", "a,b,c,d"],
        ["predict", "b", "i", "--output", "m", "--point", "1 2"],
    ],
)
def test_usage_errors(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


def assert_fails(argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and one line on stderr, none on stdout."""
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert complaint in err


def test_large_images_by_option(
    tiny_bundle: Bundle, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One image, and the same in a folder."""
    (image.parent / "prompts.jsonl").write_text(json.dumps({"image": image.name, "box": [5, 6, 40, 50]}))
    one = [str(image), *BOX, "--output", str(image.with_name("mask.png"))]
    many = [str(image.parent), "--prompts", str(image.parent / "prompts.jsonl"), "--output", str(image.parent / "out")]
    for arguments in (one, many):
        with monkeypatch.context() as patch, warnings.catch_warnings():
            patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
            command = ["predict", str(tiny_bundle.path), *arguments]
            assert main(command) == 1
            assert "image.png: more than 0 megapixels; if you trust it, give --max-image-mp" in capsys.readouterr().err
            assert main([*command, "--max-image-mp", "0"]) == 1
            assert "--max-image-mp: got 0.0" in capsys.readouterr().err
            assert main([*command, "--max-image-mp", "1"]) == 0
