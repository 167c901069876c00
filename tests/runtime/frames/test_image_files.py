"""Image files of every kind of pixel as 8-bit RGB, or refused; never clipped."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from samhq_runtime.errors import ConfigError, ImageError
from samhq_runtime.frames.image_files import allow_megapixels, decode_image, read_image

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(3, axis=0)  # (3,64), black to white
RGB = RAMP[..., None].repeat(3, axis=2)
WIDE = np.linspace(0, 65535, 64).round().astype(np.uint16)[None].repeat(3, axis=0)

KINDS = {
    "grey": ("png", Image.fromarray(RAMP)),
    "RGB": ("png", Image.fromarray(RGB)),
    "RGBA": ("png", Image.fromarray(RGB).convert("RGBA")),
    "grey and alpha": ("png", Image.fromarray(RAMP).convert("LA")),
    "palette": ("png", Image.fromarray(RAMP).convert("P")),
    "CMYK": ("tiff", Image.fromarray(RGB).convert("CMYK")),
    "16-bit PNG": ("png", Image.fromarray(WIDE)),
    "16-bit TIFF": ("tiff", Image.fromarray(WIDE)),
    "16-bit TIFF of the other byte order": ("tiff", Image.frombytes("I;16B", (64, 3), WIDE.astype(">u2").tobytes())),
    "16-bit PGM": ("pgm", Image.fromarray(WIDE)),
}


def encoded(image: Image.Image, suffix: str) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format={"pgm": "PPM"}.get(suffix, suffix))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_ramp_stays_a_ramp(tmp_path: Path, kind: str) -> None:
    suffix, image = KINDS[kind]
    (tmp_path / f"ramp.{suffix}").write_bytes(encoded(image, suffix))
    got = read_image(tmp_path / f"ramp.{suffix}")
    assert (got.dtype, got.shape) == (np.uint8, (3, 64, 3))
    assert np.abs(got.astype(int) - RGB).max() <= (1 if "16" in kind else 0)  # half a level and the rounding of RAMP
    if suffix != "pgm":  # not among the formats that may come over the network
        np.testing.assert_array_equal(decode_image(encoded(image, suffix)), got)


def test_every_level_of_16_bits_goes_to_the_nearest_of_8(tmp_path: Path) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(levels).save(tmp_path / "levels.png")
    got = read_image(tmp_path / "levels.png")
    np.testing.assert_array_equal(got, np.round(levels / 257).astype(np.uint8)[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("pixels", [RAMP.astype(np.float32) / 255, RAMP.astype(np.int32)], ids=["floats", "integers"])
def test_values_whose_white_is_not_known_are_refused(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    Image.fromarray(pixels).save(tmp_path / "ramp.tiff")
    with pytest.raises(ImageError, match=r"ramp\.tiff: .*which value is white is not known; save 8 or 16 bits"):
        read_image(tmp_path / "ramp.tiff")


def test_exif_orientation_of_16_bits(tmp_path: Path) -> None:
    image = Image.fromarray(WIDE)
    exif = image.getexif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png").shape == (64, 3, 3)


def jpeg_with_exif(entry: tuple[int, int, int, bytes], *, orientation: int | None = None) -> bytes:
    """A picture with EXIF metadata of one odd entry (tag, type, count, value) and, if given, an orientation."""
    entries = [entry] if orientation is None else [(0x0112, 3, 1, orientation.to_bytes(2, "little") + b"\0\0"), entry]
    directory = b"".join(
        tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little") + value
        for tag, kind, count, value in entries
    )
    exif = b"Exif\0\0II*\0\x08\0\0\0" + len(entries).to_bytes(2, "little") + directory + b"\0\0\0\0"
    buffer = BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


ODD_ENTRIES = {
    "resolution of an undefined type": (0x011A, 7, 4, b"abcd"),
    "resolution of no type": (0x011A, 99, 1, b"\0\0\0\0"),
    "offset beyond the file": (0x011A, 5, 1, b"\xff\xff\xff\x7f"),
    "orientation as text": (0x0112, 2, 4, b"abc\0"),
    "orientation out of range": (0x0112, 3, 1, b"\x63\0\0\0"),
}


@pytest.mark.parametrize("entry", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
def test_a_photo_with_odd_metadata_is_a_photo(entry: tuple[int, int, int, bytes]) -> None:
    assert decode_image(jpeg_with_exif(entry)).shape == RGB.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_of_metadata_the_orientation_is_read(orientation: int) -> None:
    """As Pillow's own `exif_transpose`, of a picture whose other metadata that function cannot write again."""
    encoded = jpeg_with_exif(ODD_ENTRIES["resolution of an undefined type"], orientation=orientation)
    image = Image.new("RGB", (64, 3))
    image.paste(Image.open(BytesIO(encoded)))
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(decode_image(encoded), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(
    "error", [TypeError, struct.error, RuntimeError, NotImplementedError, KeyError, ZeroDivisionError]
)
def test_whatever_pillow_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def convert(*_: object) -> None:
        raise error("odd")

    Image.fromarray(RGB).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image.Image, "convert", convert)
    with pytest.raises(ImageError, match=r"photo\.png: cannot be read as an image"):
        read_image(tmp_path / "photo.png")


@pytest.fixture
def pillow_refuses_our_image(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RGB.shape[0] * RGB.shape[1] // 2 - 1)
    with warnings.catch_warnings():
        yield


@pytest.mark.usefixtures("pillow_refuses_our_image")
def test_large_images_are_read_by_those_who_say_so(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"large\.png: more than 0 megapixels; .* --max-image-mp .* allow_megapixels"):
        read_image(tmp_path / "large.png")
    with pytest.raises(ImageError, match=r"image: cannot be read"):  # of bytes the server has its own limit
        decode_image((tmp_path / "large.png").read_bytes())
    allow_megapixels(RGB.shape[0] * RGB.shape[1] / 1e6)
    np.testing.assert_array_equal(read_image(tmp_path / "large.png"), RGB)


@pytest.mark.parametrize("megapixels", [0, -1, float("nan"), float("inf")])
def test_megapixels_that_are_none(megapixels: float) -> None:
    with pytest.raises(ConfigError, match="--max-image-mp: got"):
        allow_megapixels(megapixels)
