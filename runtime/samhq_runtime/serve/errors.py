"""Why a request is refused, in words both protocols translate to their own status codes."""

from __future__ import annotations

from enum import Enum

from ..errors import ImageError, PromptError, SamHqError

_MAX_MESSAGE = 500  # characters; twelve bytes each at worst, and clients take 8 KB


class Reason(Enum):
    """The kinds of refusal; `http_server` and `grpc_server` hold one table each from these to their codes."""

    INVALID = "invalid"
    NOT_FOUND = "not_found"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
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


def stopping() -> RequestError:
    """What a server that ends tells those it will not answer any more."""
    return RequestError("the server is stopping; ask another one", reason=Reason.BUSY)


def reason_of(error: BaseException) -> Reason:
    """What an exception raised while serving a request means to the client; a failed GPU is not its fault."""
    if isinstance(error, RequestError):
        return error.reason
    if isinstance(error, MemoryError):
        return Reason.BUSY
    return Reason.INVALID if isinstance(error, (PromptError, ImageError)) else Reason.INTERNAL


def message_of(error: BaseException) -> str:
    """What the client is told, cut to a length that fits into the trailers of a gRPC answer."""
    if reason_of(error) is Reason.INTERNAL:
        return "internal error; the server's log has it"
    text = str(error) or "out of memory; ask again later"
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ..."
