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


def _saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


HOLE = np.dstack([np.full((4, 6, 3), (10, 200, 30), np.uint8), np.zeros((4, 6), np.uint8)])
HOLE[:, 3:, 3] = 255  # the left half is transparent


def test_what_is_transparent_is_seen_over_white(tmp_path: Path) -> None:
    palette = Image.fromarray(HOLE[..., :3]).quantize(4)
    index = palette.getpixel((0, 0))
    expected = np.full((4, 6, 3), (10, 200, 30), np.uint8)
    expected[:, :3] = 255
    for name, options in (("a.png", {}), ("a.webp", {"lossless": True}), ("a.tiff", {})):
        np.testing.assert_array_equal(read_image(_saved(tmp_path, Image.fromarray(HOLE), name, **options)), expected)
    all_of_it = read_image(_saved(tmp_path, palette, "palette.png", transparency=index))
    np.testing.assert_array_equal(all_of_it, np.full((4, 6, 3), 255, np.uint8))
    half = HOLE.copy()
    half[..., 3] = 51
    grey = np.rint((half[..., :3] * 51.0 + 255 * 204) / 255)
    assert np.abs(read_image(_saved(tmp_path, Image.fromarray(half), "half.png")) - grey).max() <= 1


def test_of_an_animation_the_first_picture_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tiff"):
        path = _saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], lossless=True)
        assert (read_image(path) == (255, 0, 0)).all(), name


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (65_500, 2), (2, 65_500)])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_narrow_and_long_pictures(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    picture = read_image(_saved(tmp_path, Image.new("RGB", size, (9, 99, 199)), f"a.{suffix}"))
    assert picture.shape == (size[1], size[0], 3)
    assert np.abs(picture.astype(int) - (9, 99, 199)).max() <= 4  # JPEG rounds


@pytest.mark.parametrize(("bits", "white"), [(10, 1023), (12, 4095), (14, 16383), (16, 65535)])
def test_the_white_point_of_16_bits(tmp_path: Path, bits: int, white: int) -> None:
    values = np.array([[0, white // 2, white, 2**bits - 1]], np.uint16)
    picture = read_image(_saved(tmp_path, Image.fromarray(values), "a.png"), white_point=white)
    assert picture[0, :, 0].tolist() == [0, round(white // 2 * 255 / white), 255, 255]


def test_values_above_the_white_point_are_white(tmp_path: Path) -> None:
    path = _saved(tmp_path, Image.fromarray(np.array([[4095, 5000, 65535]], np.uint16)), "a.png")
    assert (read_image(path, white_point=4095) == 255).all()


@pytest.mark.parametrize("white_point", [0, -1, 65536])
def test_white_points_that_are_none(tmp_path: Path, white_point: int) -> None:
    with pytest.raises(ConfigError, match="--white-point: got"):
        read_image(_saved(tmp_path, Image.fromarray(RGB), "a.png"), white_point=white_point)


@pytest.mark.parametrize(("brightest", "said"), [(4095, True), (4096, False), (0, False)])
def test_a_dark_picture_of_16_bits_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, brightest: int, said: bool
) -> None:
    path = _saved(tmp_path, Image.fromarray(np.array([[0, brightest]], np.uint16)), "dark.png")
    read_image(path)
    assert ("dark.png: 16 bits a pixel" in caplog.text and "--white-point" in caplog.text) is said
    caplog.clear()
    read_image(path, white_point=4095)
    assert not caplog.text
