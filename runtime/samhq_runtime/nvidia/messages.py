"""What TensorRT says while it works: errors are kept for our own message, the rest goes to `logging`."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

_log = logging.getLogger(__name__)
_LONGEST = 300
_MEMORY_SIGNS = ("OutOfMemory", "out of memory", "workspace limit")


class Messages:
    """A logger for one TensorRT module, and the errors that it received since `clear()`."""

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        self.logger = _make_logger(trt, self)

    def clear(self) -> None:
        self.errors.clear()

    def first_error(self) -> str:
        """The first error in one line: it names the cause, the ones after it are its consequences."""
        text = " ".join(self.errors[0].split()) if self.errors else "it gave no reason"
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

    @property
    def out_of_memory(self) -> bool:
        return any(sign in text for text in self.errors for sign in _MEMORY_SIGNS)


@cache
def messages_of(trt: Any) -> Messages:
    """One per module and process: TensorRT keeps a pointer to the first logger it meets for as long as it lives."""
    return Messages(trt)


def _make_logger(trt: Any, messages: Messages) -> Any:
    severity = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, text: str) -> None:
            if level in (severity.ERROR, severity.INTERNAL_ERROR):
                messages.errors.append(text)
            _log.log(logging.INFO if level == severity.WARNING else logging.DEBUG, "%s", text)

    return Logger()
