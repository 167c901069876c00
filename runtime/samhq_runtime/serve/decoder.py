"""A process that decodes image files for the server, so that a file that takes too long, or too much, ends with it.

Over a socket: an empty message once it can begin; then image files in, `answer_of` back. It ends with the server, at
the other end of the socket.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..contract import ModelFrame
from ..errors import ImageError
from .errors import Reason, RequestError, message_of
from .images import FittedImage, fitted
from .logs import configure_logging
from .options import MEGA, ServeOptions

_HEAD = struct.Struct("<5I")  # height and width of the image, and of the pixels after it; bytes of one value
_BASE_BYTES = 700 * MEGA  # addresses of the interpreter and its libraries
_BYTES_PER_PIXEL = 40  # while a progressive file is decoded, turned and copied
LIMITS = ("max_image_mp", "max_image_side", "max_aspect", "white_point", "log_format", "log_level")


def answer_of(content: bytes, frame: ModelFrame, limits: ServeOptions) -> bytes:
    """What `read_answer` reads."""
    try:
        image = fitted(content, frame, limits)
    except (ImageError, RequestError) as e:
        reason = e.reason if isinstance(e, RequestError) else Reason.INVALID
        return json.dumps([reason.value, message_of(e)]).encode()
    except MemoryError:
        return json.dumps([Reason.TOO_LARGE.value, "image: needs more memory than an image file may"]).encode()
    return _HEAD.pack(*image.original_hw, *image.pixels.shape[:2], image.pixels.itemsize) + image.pixels.tobytes()


def read_answer(answer: bytes) -> FittedImage:
    """The image of an `answer_of`; the error it stands for is raised."""
    if answer.startswith(b"["):
        reason, message = json.loads(answer)
        raise RequestError(message, reason=Reason(reason))
    height, width, *shape, size = _HEAD.unpack_from(answer)
    dtype: DTypeLike = np.uint8 if size == 1 else np.float32
    pixels = np.frombuffer(answer, dtype, offset=_HEAD.size)
    return FittedImage(pixels.reshape(*shape, 3), (height, width))


def main(socket: int, frame: ModelFrame, given: dict[str, Any]) -> None:
    os.nice(given.pop("nice"))
    limits = ServeOptions(**given)
    _log_each_kind_once(limits)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    _bound_memory(_BASE_BYTES + _BYTES_PER_PIXEL * limits.max_image_mp * MEGA)
    connection = Connection(socket)
    with suppress(EOFError, OSError):  # the server is gone
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(answer_of(connection.recv_bytes(), frame, limits))


def _log_each_kind_once(options: ServeOptions) -> None:
    """Notices about images, such as dark ones of 16 bits: clients must not be able to fill the log with them."""
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        known = record.msg in seen
        seen.add(record.msg)
        return not known

    configure_logging(options.log_format, options.log_level).addFilter(is_new)


def _bound_memory(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY or size < most:
        resource.setrlimit(resource.RLIMIT_AS, (size, most))


if __name__ == "__main__":
    main(int(sys.argv[1]), ModelFrame(**json.loads(sys.argv[2])), json.loads(sys.argv[3]))
