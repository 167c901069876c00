"""How every command of this project ends: a result, or one clear message and a non-zero exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper

from ..errors import SamHqError
from ..installing import does_not_load, install_command
from ..tables import printable

_OURS = ("samhq_runtime", "samhq_exporter")


def run_command(command: Callable[[], None], *, extras: str) -> int:
    """Run `command`, which needs our `extras`; 0 if it returns, 1 after an expected failure, 130 after Ctrl-C.

    Anything else is a bug of ours and keeps its traceback. A command that Ctrl-C may leave with some of its results
    says which, through `interrupted`.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter of a file name is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        command()
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt as e:
        _fail(str(e) or "interrupted; nothing was written")
        return 130
    except Exception as e:
        message = _message(e, extras)
        if message is None:
            raise
        return _fail(message)
    return 0


def _message(error: Exception, extras: str) -> str | None:
    """What the user is told; None for a bug of ours."""
    if isinstance(error, SamHqError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is missing: {install_command(extras)}"
    package = _broken_package(error)
    if package is not None:
        return does_not_load(package, error, install_command(extras))
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, OSError):
        # numpy counts what it could not write and drops the reason.
        reason = error.strerror or f"a file is not whole ({error}); is the disk full?"
        return f"{error.filename or 'file system'}: {reason}"
    return None


def _broken_package(error: Exception) -> str | None:
    """The package of others that raised `error` while it was imported; None if none did."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if frame.f_code.co_name == "<module>" and package not in _OURS:
            return package
    if isinstance(error, ImportError):  # an extension module of its own
        return (error.name or "a package").partition(".")[0]
    return None


def _fail(message: str) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return 1
