"""Image files, through Pillow."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..contract import Array
from ..errors import ConfigError, ImageError, SamHqError
from ..files import write_whole
from ..flags import flag_of
from ..installing import unavailable
from ..whole_numbers import require_whole
from .jpeg import require_scans

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# What bytes from elsewhere may be: the usual pictures, no format that runs a program or names other files.
_SAFE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_JPEG_FORMATS = ("JPEG", "MPO")
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")  # formats whose 16-bit grey some versions of Pillow open as 32-bit integers
WHITE = 65535
_TWELVE_BITS = 4095
_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_UNDER_ALPHA = (255, 255, 255)
_MEGA = 1_000_000
_REFUSED = 2  # times MAX_IMAGE_PIXELS; Pillow warns from once
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip


def read_image(path: Path, *, white_point: int = WHITE) -> NDArray[np.uint8]:
    """An image file as (H,W,3) uint8 RGB, turned as its EXIF orientation says; grey and palette become RGB.

    Sixteen bits a pixel become eight: `white_point` and what is above it is white. Cameras with 10, 12 or 14 bits store
    1023, 4095 or 16383 for it. What is transparent is seen over white. Of animations it is the first picture.

    Raises:
        ConfigError: a white point out of 1 to 65535.
        ImageError: missing, unreadable, damaged, without pixels, of values whose white is not known, or larger than
            `allow_megapixels`.
    """
    white_point = require_white_point(white_point)
    if not path.is_file():
        raise ImageError(f"{path}: no such image file")
    with _opened(path, str(path)) as image:
        if image.format in _JPEG_FORMATS:
            require_scans(path.read_bytes(), str(path))
        return _as_rgb(image, white_point, name=path.name)


def require_white_point(value: int) -> int:
    """The value of white in images of 16 bits, or ConfigError."""
    return require_whole(flag_of("white_point"), value, 1, WHITE, f"1 to {WHITE}")


def allow_megapixels(megapixels: float) -> None:
    """Read images of up to so many megapixels in this process, instead of Pillow's 179.

    Raises:
        ConfigError: not a number above 0.
    """
    if not 0 < megapixels < math.inf:
        raise ConfigError(f"{flag_of('max_image_mp')}: got {megapixels}, expected a number of megapixels above 0")
    pillow = _pillow()
    pillow.MAX_IMAGE_PIXELS = math.ceil(megapixels * _MEGA / _REFUSED)
    warnings.filterwarnings("ignore", category=pillow.DecompressionBombWarning)


def max_pixels() -> int | None:
    """Of an image that `read_image` reads; None if there is no limit."""
    limit = _pillow().MAX_IMAGE_PIXELS
    return None if limit is None else _REFUSED * limit


def decode_image(
    encoded: bytes, *, white_point: int = WHITE, check_hw: Callable[[tuple[int, int]], object] = lambda hw: None
) -> NDArray[np.uint8]:
    """As `read_image`, from the bytes of a JPEG, PNG, WebP, BMP or TIFF file.

    `check_hw` is called with the height and width before any pixel is decoded, and may raise.
    """
    require_scans(encoded, "image")
    with _opened(BytesIO(encoded), "image", trusted=False) as image:
        check_hw((image.height, image.width))
        return _as_rgb(image, white_point)


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """(H,W) grey or (H,W,3) RGB pixels as the bytes of a PNG file."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pillow() -> Any:
    try:
        from PIL import Image
    except Exception as e:  # a broken native package raises whatever its loader does
        raise unavailable("Pillow", e, "pip install Pillow", use="images are read with it") from e
    return Image


@contextmanager
def _opened(file: Path | BytesIO, name: str, *, trusted: bool = True) -> Iterator[PillowImage]:
    pillow = _pillow()
    if not trusted:
        pillow.init()  # Pillow registers its formats when first needed, and fails on the name of one that is not
    formats = None if trusted else [name for name in _SAFE_FORMATS if name in pillow.OPEN]
    try:
        with pillow.open(file, formats=formats) as image:
            yield image
    except Exception as e:  # plug-ins raise whatever a damaged file makes them stumble over
        if isinstance(e, (MemoryError, SamHqError)) and not isinstance(e, ImageError):
            raise  # it says nothing of the file
        if trusted and isinstance(e, pillow.DecompressionBombError):
            raise ImageError(
                f"{name}: more than {(max_pixels() or 0) / _MEGA:.0f} megapixels; if you trust it, "
                "give --max-image-mp to `samhq predict` or `samhq eval`, or call allow_megapixels in Python"
            ) from e
        # Pillow's own words for a file it does not know are the address of an object in memory.
        reason = "of no known format" if isinstance(e, pillow.UnidentifiedImageError) else e
        raise ImageError(
            f"{name}: cannot be read as an image ({reason}); expected PNG, JPEG or another common format"
        ) from e


def _as_rgb(image: PillowImage, white_point: int = WHITE, name: str = "image") -> NDArray[np.uint8]:
    sixteen_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I)
    if not sixteen_bits and image.mode[0] in ("I", "F"):
        raise ImageError(f"pixels of mode {image.mode}: which value is white is not known; save 8 or 16 bits a channel")
    image = _upright(image)
    if sixteen_bits:
        return _from_sixteen_bits(np.asarray(image), white_point, name)
    return np.asarray((_over_white(image) if _shows_through(image) else image).convert("RGB"))


def _from_sixteen_bits(values: Array, white_point: int, name: str) -> NDArray[np.uint8]:
    """(H,W) -> (H,W,3), rounded; dark ones are left as they are, with a notice."""
    brightest = int(values.max(initial=0))
    if 0 < brightest <= _TWELVE_BITS and white_point == WHITE:
        _log.warning(
            "%s: 16 bits a pixel, of which the brightest has %d of %d; if white is %d (12 bits), give --white-point",
            name, brightest, WHITE, _TWELVE_BITS,
        )  # fmt: skip
    scaled = (np.minimum(values.astype(np.uint32), white_point) * 255 + white_point // 2) // white_point
    return np.repeat(scaled.astype(np.uint8)[..., None], 3, axis=2)


def _shows_through(image: PillowImage) -> bool:
    return image.mode in _WITH_ALPHA or "transparency" in image.info


def _over_white(image: PillowImage) -> PillowImage:
    """What shows through is white: colours under full transparency are what some program left there."""
    from PIL import Image

    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*_UNDER_ALPHA, 255)), layer)


def _upright(image: PillowImage) -> PillowImage:
    """Turned as its EXIF orientation says; of all metadata only that is read, and what cannot be read says nothing."""
    from PIL import Image

    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # photos with broken metadata are photos
        return image
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(Image.Transpose[turn])


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (H,W) grey or (H,W,3) RGB pixels, complete or not at all."""
    from PIL import Image

    try:
        write_whole(path, lambda partial: Image.fromarray(pixels).save(partial, format="PNG"))
    except OSError as e:
        raise ImageError(f"{path}: cannot be written ({e.strerror or e})") from e
