"""Load test of `samhq serve` from another process, against the bare runtime doing the same work.

    python -m benchmarks serve_load BUNDLE --docs

Server and bare runtime are two processes on one CPU core, with one thread each; the clients run on the other cores. The
requests are cut into rounds, and both do each round, one after the other: overheads are ratios within a round, of which
the median is reported, so that a machine that slows down for a while does not decide the figure. The overhead in CPU
time leaves out what other processes took from the core.

Every answer is compared with the bare runtime's: the mask may differ where the logit is within rounding of zero, the
predicted IoU by rounding, nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recording import Record, described
from benchmarks.serving.answers import count_wrong
from benchmarks.serving.requests import Request, make_images, make_requests
from benchmarks.serving.sides import SERVER_CORE, Answer, Round, bare, load, server
from samhq_runtime.tables import format_table


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--serve", nargs="*", default=(), metavar="OPTION", help="such as --serve=--max-batch=8")


def measure(options: argparse.Namespace, record: Record) -> None:
    """All rounds at once."""
    names = ("requests", "rounds", "images", "concurrency", "serve")
    setting = {name: getattr(options, name) for name in names}
    record.require_setting({"bundle": described(options.bundle), **setting})
    if "server" in record.content:
        return
    images = make_images(options.images)
    requests = make_requests(options.requests, len(images))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {SERVER_CORE} or {SERVER_CORE})
    rounds, answers = run_rounds(options, images, requests)
    record.content |= {
        "wrong_answers": count_wrong(options.bundle, images, requests, answers),
        "overhead": _median(1 - bare.seconds / served.seconds for bare, served in rounds),
        "overhead_cpu": _median(1 - bare.cpu_seconds / served.cpu_seconds for bare, served in rounds),
        "bare": _figures([bare for bare, _ in rounds], len(requests)),
        "server": _figures([served for _, served in rounds], len(requests)),
    }
    record.save()


def breaches(content: Mapping[str, Any]) -> list[str]:
    wrong = content["wrong_answers"]
    return [f"{wrong} answers are not the bare runtime's"] if wrong else []


def run_rounds(
    options: argparse.Namespace, images: Sequence[bytes], requests: Sequence[Request]
) -> tuple[list[tuple[Round, Round]], list[Answer]]:
    """(bare, server) of each round, and the server's answers in the order of the requests."""
    rounds, answers = [], []
    bounds = np.linspace(0, len(requests), options.rounds + 1).astype(int)
    with (
        bare(options.bundle, images, options.concurrency) as bare_round,
        server(options.bundle, options.serve) as pid_port,
    ):
        for start, end in pairwise(bounds):
            of_bare = bare_round(requests[start:end])
            load_round = load(*pid_port, images, requests[start:end], concurrency=options.concurrency)
            of_server, got = asyncio.run(load_round)
            rounds.append((of_bare, of_server))
            answers += got
    return rounds, answers


def _median(ratios: Iterable[float]) -> float:
    return round(float(np.median(list(ratios))), 4)


def _figures(rounds: Sequence[Round], requests: int) -> dict[str, Any]:
    latencies = [latency for one in rounds for latency in one.latencies]
    return {
        "per_second": round(requests / sum(one.seconds for one in rounds), 2),
        "cpu_ms_per_request": round(sum(one.cpu_seconds for one in rounds) / requests * 1e3, 2),
        "latency_ms": {f"p{q}": round(float(np.percentile(latencies, q)) * 1e3, 1) for q in (50, 90, 99, 100)},
    }


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    setting, wrong = content["setting"], content["wrong_answers"]
    rows = [
        (
            name,
            f"{figures['per_second']:.0f}",
            f"{figures['cpu_ms_per_request']:.2f} ms",
            ", ".join(f"{figures['latency_ms'][q]:.0f} ms" for q in ("p50", "p99")),
        )
        for name, figures in (("bare runtime", content["bare"]), ("server", content["server"]))
    ]
    waiting = f"p50, p99 with {setting['concurrency']} waiting"
    table = format_table((f"{setting['requests']} requests", "a second", "CPU a request", waiting), rows)
    more = content["server"]["cpu_ms_per_request"] - content["bare"]["cpu_ms_per_request"]
    return {
        "serve_load": f"{table}\n\n{wrong or 'No'} answer{'s were' if wrong > 1 else ' was'} wrong. The overhead "
        f"is {content['overhead']:.1%} of the time and {content['overhead_cpu']:.1%} of the CPU time: "
        f"{more:.1f} ms a request."
    }
