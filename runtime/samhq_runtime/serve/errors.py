"""Why a request is refused, in words both protocols translate to their own status codes."""

from __future__ import annotations

from enum import Enum

from ..errors import ImageError, PromptError, SamHqError


class Reason(Enum):
    """The kinds of refusal; `http_server` and `grpc_server` hold one table each from these to their codes."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


class RequestError(SamHqError):
    """A request that is not served; the server itself is fine."""

    def __init__(self, message: str, *, reason: Reason = Reason.INVALID) -> None:
        super().__init__(message)
        self.reason = reason


def reason_of(error: BaseException) -> Reason:
    """What an exception raised while serving a request means to the client; a failed GPU is not its fault."""
    if isinstance(error, RequestError):
        return error.reason
    return Reason.INVALID if isinstance(error, (PromptError, ImageError)) else Reason.INTERNAL
