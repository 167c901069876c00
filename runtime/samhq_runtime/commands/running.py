"""How every command of this project ends: a result, or one clear message and a non-zero exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper

from ..errors import SamHqError
from ..installing import install_command


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
    except SamHqError as e:
        return _fail(str(e))
    except ModuleNotFoundError as e:
        return _fail(f"{e.name} is missing: {install_command(extras)}")
    except MemoryError:
        return _fail("out of memory")
    except BrokenPipeError:
        return 1
    except OSError as e:
        # numpy counts what it could not write and drops the reason.
        return _fail(f"{e.filename or 'file system'}: {e.strerror or f'a file is not whole ({e}); is the disk full?'}")
    except KeyboardInterrupt as e:
        _fail(str(e) or "interrupted; nothing was written")
        return 130
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
