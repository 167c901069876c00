"""Where all lines of a server's log go: its own, uvicorn's, gRPC's and Python's warnings, on stderr in one format.

A line has its time (UTC), level, logger and message, the id of the request it belongs to, and the `fields` that were
given with it (`extra={"fields": {...}}`): in text as name=value, in JSON under names of their own. Whatever a client
wrote into it stays on one line, without control characters.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from datetime import datetime, timezone
from typing import Any

from ..tables import printable
from .access_log import current_id

log = logging.getLogger(__name__)

_OTHERS = ("uvicorn", "grpc", "asyncio")  # their warnings; at `debug` all they have to say


def configure_logging(log_format: str, level: str) -> logging.Handler:
    """Send everything to stderr, through the handler that is returned; the names are those of `ServeOptions`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_FORMATTERS[log_format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _OTHERS:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(logging.WARNING, root.level))
    logging.captureWarnings(True)
    threading.excepthook = _log_thread
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes past Python's logging
    return handler


class TextFormatter(logging.Formatter):
    """For people: `2026-11-25T12:00:00.000Z INFO logger: message name=value`, tracebacks indented below.

    Fields that the message has as a word are not repeated.
    """

    def format(self, record: logging.LogRecord) -> str:
        message = _on_one_line(record.getMessage())
        texts = {name: _on_one_line(str(value)) for name, value in _facts(record).items()}
        facts = [f"{name}={text}" for name, text in texts.items() if text not in message.split(" ")]
        head = f"{_time(record)} {record.levelname} {record.name}: {message}"
        trace = printable(_trace(self, record)).splitlines()
        return "\n".join([" ".join([head, *facts]), *(f"  {line}" for line in trace)])


class JsonFormatter(logging.Formatter):
    """For machines: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        trace = _trace(self, record)
        return json.dumps({**line, "traceback": trace} if trace else line, default=str)


_FORMATTERS = {"text": TextFormatter, "json": JsonFormatter}


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    request_id = current_id()
    return {**({"request_id": request_id} if request_id else {}), **getattr(record, "fields", {})}


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _on_one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _log_thread(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread else "a thread"
    error = ended.exc_value or ended.exc_type()
    log.error("%s ended", name, exc_info=(ended.exc_type, error, ended.exc_traceback))
