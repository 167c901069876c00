"""The images in several processes of this machine, each with one loaded bundle."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from ..errors import ConfigError, SamHqError
from ..flags import flag_of
from ..machine.processor import usable_cores
from .jobs import ImageJob
from .output import write_failure
from .segmenter import FleetOptions, Segmenter

_READY = "ready"
_CONTEXT = multiprocessing.get_context("spawn")  # threads of ONNX Runtime do not outlive a fork


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: ImageJob | None = None  # what it works at; None while it loads the bundle


def run(jobs: Sequence[ImageJob], options: FleetOptions, *, workers: int) -> Iterator[tuple[str, str]]:
    """Image and error message (or nothing) of every job, as they are done.

    A process that dies, of too little memory say, is replaced; the image it worked at is one that failed.

    Raises:
        SamHqError: the bundle cannot be loaded.
        ConfigError: a process died while it loaded the bundle.
    """
    threads = options.threads or max(1, (usable_cores() or 1) // workers)
    options = replace(options, threads=threads)
    waiting = deque(jobs)
    pool = [_start(options) for _ in range(min(workers, len(jobs)))]
    try:
        while pool:
            for connection in wait([worker.connection for worker in pool]):
                worker = next(worker for worker in pool if worker.connection is connection)
                answer = _answer(worker, options)
                if worker.job is not None:
                    yield worker.job.image, answer
                if not worker.process.is_alive() or not waiting:
                    _end(worker)
                    pool.remove(worker)
                    if waiting:
                        pool.append(_start(options))
                else:
                    worker.job = waiting.popleft()
                    with suppress(OSError):  # it was killed just now; the next `recv` says so
                        worker.connection.send(worker.job)
    finally:
        for worker in pool:
            _end(worker)


def _answer(worker: _Worker, options: FleetOptions) -> str:
    """What a process says of its image; of one that died, how it did."""
    try:
        answer = worker.connection.recv()
    except (EOFError, OSError):
        worker.process.join()
        how = f"the process that segmented it {_ending(worker.process.exitcode)}"
        if worker.job is None:
            raise ConfigError(
                f"{flag_of('workers')}: a process that loaded the bundle {_ending(worker.process.exitcode)}; if memory "
                "is short, ask for fewer"
            ) from None
        with suppress(OSError):
            write_failure(options.output, worker.job, how)
        return how
    if isinstance(answer, SamHqError):
        raise answer
    return str(answer)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with {exit_code}"


def _start(options: FleetOptions) -> _Worker:
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_work, args=(theirs, options), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.terminate()
    worker.process.join()


def _work(connection: Connection, options: FleetOptions) -> None:
    """Segments what comes, until nothing does any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that was started
    try:
        segmenter = Segmenter(options)
    except SamHqError as e:
        connection.send(e)
        return
    connection.send(_READY)
    with suppress(EOFError, BrokenPipeError):
        while True:
            connection.send(segmenter.run(connection.recv()))
