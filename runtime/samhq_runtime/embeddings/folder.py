"""A folder of embeddings that several processes may share, the least recently used dropped beyond a limit."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import ConfigError, EmbeddingError
from ..files import sha256_of, sweep
from ..frames.image_files import WHITE, read_image
from ..whole_numbers import require_whole
from .encoded import EncodedImage
from .stored import bundle_sha256, load_embedding, save_embedding

_log = logging.getLogger(__name__)
_SUFFIX = ".safetensors"
_ABANDONED_S = 3600  # a half-written file of this age is nobody's


class Encoder(Protocol):
    """A `Predictor`, as far as it encodes."""

    bundle: Bundle

    def encode(self, image: NDArray[np.uint8]) -> EncodedImage: ...


class EmbeddingFolder:
    """Encodes images, and keeps what it encoded in a folder, under the hash of the image's bytes and of the bundle.

    Any number of processes may use one folder at a time, with bundles of their own; files appear whole. The limit is on
    all embeddings in it.
    """

    def __init__(
        self, predictor: Encoder, folder: str | Path, *, max_bytes: int | None = None, float16: bool = False
    ) -> None:
        """Use a folder, which is made if needed.

        Args:
            predictor: encodes what is not there.
            folder: where embeddings are.
            max_bytes: beyond it those used longest ago are removed; None for no limit.
            float16: write new ones in half the size, with rounded features; those that are there are read as they are.

        Raises:
            ConfigError: a limit below 1, or the folder cannot be made.
        """
        self._predictor, self._folder, self._float16 = predictor, Path(folder), float16
        self._max_bytes = None if max_bytes is None else require_whole("max_bytes", max_bytes, 1, None, "at least 1")
        self._bundle = bundle_sha256(predictor.bundle)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            sweep(self._folder, older_than_s=_ABANDONED_S)
        except OSError as e:
            raise ConfigError(f"{folder}: cannot be a folder of embeddings ({e.strerror or e})") from e

    def encode(self, image: str | Path | NDArray[np.uint8], *, white_point: int = WHITE) -> EncodedImage:
        """The encoded image: from the folder, or encoded now and kept there for the next time.

        What is damaged there is encoded again. If nothing can be written a warning says so, and the image is encoded
        all the same.

        Args:
            image: an image file that `read_image` reads, or (H,W,3) uint8 RGB.
            white_point: as `read_image` takes it.
        """
        path = self.path_of(image, white_point=white_point)
        found = self._get(path)
        if found is not None:
            return found
        encoded = self._encode(image, white_point)
        try:
            self._put(path, encoded)
        except EmbeddingError as e:
            _log.warning("%s; the image is encoded again the next time", e)
            return encoded
        return (self._get(path) or encoded) if self._float16 else encoded

    def add(self, image: str | Path | NDArray[np.uint8], *, white_point: int = WHITE) -> bool:
        """Encode an image into the folder; whether it was not there yet.

        Raises:
            EmbeddingError: the file cannot be written.
        """
        path = self.path_of(image, white_point=white_point)
        if self._get(path) is not None:
            return False
        self._put(path, self._encode(image, white_point))
        return True

    def path_of(self, image: str | Path | NDArray[np.uint8], *, white_point: int = WHITE) -> Path:
        """The file in the folder that is, or would be, this image's."""
        key = hashlib.sha256()
        if isinstance(image, np.ndarray):
            key.update(f"{image.dtype.str}{image.shape}".encode())
            key.update(np.ascontiguousarray(image).data)
        elif Path(image).is_file():  # else reading it says what is wrong
            key.update(bytes.fromhex(sha256_of(Path(image))))
        key.update(f"{self._bundle}{white_point}".encode())
        return self._folder / f"{key.hexdigest()}{_SUFFIX}"

    @property
    def size(self) -> int:
        """Bytes of all embeddings in the folder."""
        return sum(status.st_size for _, status in self._entries())

    def _encode(self, image: Any, white_point: int) -> EncodedImage:
        pixels = image if isinstance(image, np.ndarray) else read_image(Path(image), white_point=white_point)
        return self._predictor.encode(pixels)

    def _get(self, path: Path) -> EncodedImage | None:
        try:
            encoded = load_embedding(path, self._predictor.bundle)
        except EmbeddingError as e:
            if not isinstance(e.__cause__, FileNotFoundError):  # another process may drop it, and write it again
                _log.warning("%s", e)
            return None
        _used(path)
        return encoded

    def _put(self, path: Path, encoded: EncodedImage) -> None:
        save_embedding(path, encoded, self._predictor.bundle, float16=self._float16)
        _used(path)
        if self._max_bytes is None:
            return
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in entries) - self._max_bytes
        for entry, status in entries:
            if excess <= 0:
                break
            with suppress(OSError):  # open elsewhere on Windows: the next one to write tries again
                entry.unlink(missing_ok=True)
                excess -= status.st_size

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Every embedding in the folder, but those that another process drops meanwhile."""
        for path in self._folder.glob(f"[!.]*{_SUFFIX}"):
            with suppress(OSError):
                yield path, path.stat()


def _used(path: Path) -> None:
    """Now, to the nanosecond: the times that file systems write by themselves are those of the last tick of a clock."""
    now = time.time_ns()
    with suppress(OSError):  # read-only, or another process dropped it
        os.utime(path, ns=(now, now))
