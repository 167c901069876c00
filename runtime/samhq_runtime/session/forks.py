"""Sessions in a child process that was forked from the one that opened them.

Their threads and devices stayed with the parent: a destructor that joins such a thread waits for ever. So a child lets
go of every session without ending it, and opens its own. ONNX Runtime itself may have threads as soon as it is imported
(1.32 has), which its static destructors wait for; a child ends without those.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from typing import Protocol

from ..contract import GraphSpec
from ..errors import BackendUnavailable


class Forkable(Protocol):
    """What holds native objects."""

    def leave(self) -> None:
        """Called in the child: let go of what the parent opened, through `never_end`."""


_open: weakref.WeakSet[Forkable] = weakref.WeakSet()


def follow_forks(session: Forkable) -> None:
    """From now on call `leave` in every child process, before anything else runs there."""
    _register()
    _open.add(session)


def never_end(*natives: object) -> None:
    """Keep objects for as long as the process, its exit included: no destructor of theirs runs."""
    for native in natives:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


def left(spec: GraphSpec, what: str) -> BackendUnavailable:
    """The error for a call in a child, of a session that cannot be opened again there."""
    return BackendUnavailable(
        f"{spec.name}: opened before this process was forked, and {what} does not outlive that; open the bundle in "
        "each process (gunicorn without --preload, multiprocessing with spawn)"
    )


def _leave_all() -> None:
    _end_without_destructors()
    for session in list(_open):
        session.leave()


def _end_without_destructors() -> None:
    """Make `exit`, which Python calls when all else is done, flush and end: `_exit` is the first handler it comes to.

    Handlers run in the order opposite to their registration, so those of libraries loaded in the child still do.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit") and hasattr(libc, "__cxa_atexit"):  # glibc
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # it is called with the exit status
        getattr(libc, "__cxa_atexit")(ctypes.cast(libc.fflush, ctypes.c_void_p), None, None)


@cache
def _register() -> None:
    """Once, and only where a session was opened: the children of other programs end as they always did."""
    if hasattr(os, "register_at_fork"):  # no system without fork has it
        os.register_at_fork(after_in_child=_leave_all)
