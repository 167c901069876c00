"""Damaged inputs without end, and processes killed at random: what is refused, what is wrong, what is left behind.

    python -m benchmarks hostile BUNDLE --cases 100000 --seed 1 --docs

Cases go to the library in this process, and over HTTP and gRPC to a server in a process of its own, under a limit of
address space, with a client beside it whose every answer is compared. Exports and folder runs are killed with SIGKILL
at random moments; the next run must leave what an uninterrupted one leaves, and nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.measure.fleet import make_folder
from benchmarks.recording import Record, described
from samhq_runtime import Predictor, load_bundle
from samhq_runtime.bench.memory import host_memory
from samhq_runtime.files import sha256_of
from samhq_runtime.tables import format_table
from tests.support.fuzz import Outcome, damaged, odd_json, run, targets_of
from tests.support.hostile import Neighbour, Server, server_process
from tests.support.models import save_checkpoint, tiny_sam
from tests.support.serving import BOX, IMAGE, INFER, grpc_request, http_body, png, send

_STATUSES = {200: "accepted", 400: "refused", 403: "refused", 404: "refused", 413: "refused", 415: "refused"}
_CODES = {"OK": "accepted", "INVALID_ARGUMENT": "refused", "NOT_FOUND": "refused", "RESOURCE_EXHAUSTED": "refused"}
_DAMAGED_HTTP = {405, 411, 505}  # of heads that are no longer a request for inference
_CASES = ("damaged inputs to", "cases", "refused", "raw exceptions", "wrong", "after 3 tenths", "at the end", "peak")
_PARTS = 10  # after each the resident memory is read
_RUNS_OF_A_FOLDER = 5  # that are begun, and mostly killed, before the one that finishes


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--cases", type=int, default=10_000, help="of damaged inputs, library and server together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50, help="of exports, and of folder runs")


def measure(options: argparse.Namespace, record: Record) -> None:
    setting = {"bundle": described(options.bundle), "cases": options.cases, "seed": options.seed}
    record.require_setting({**setting, "kills": options.kills})
    first = options.seed * 1_000_000
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "library": lambda: fuzz_library(options.bundle, range(first, first + options.cases // 14)),
        "server": lambda: _fuzz_a_server(options.bundle, range(first, first + options.cases // 4)),
        "export": lambda: kill_exports(options.kills, options.seed),
        "folder": lambda: kill_folders(options.bundle, options.kills, options.seed),
    }
    for name, step in steps.items():
        if name not in record.content:
            record.content[name] = step()
            record.save()


def breaches(content: Mapping[str, Any]) -> list[str]:
    wrong = [f"{name}: {text}" for name in ("library", "server") for text in content[name]["raw"][:10]]
    wrong += [f"server: {text}" for text in content["server"]["wrong"][:10]]
    return wrong + [
        f"{name}: {content[name][key]} runs with {key}"
        for name in ("export", "folder")
        for key in ("different", "left_behind")
        if content[name][key]
    ]


def fuzz_library(bundle: Path, seeds: range) -> dict[str, Any]:
    """Seven targets a seed."""
    outcome, resident = Outcome(), []
    with tempfile.TemporaryDirectory() as scratch, Predictor(bundle, threads=1) as predictor:
        predictor.set_image(IMAGE)
        checkpoint = save_checkpoint(tiny_sam(), Path(scratch) / "tiny.pth")
        targets = targets_of(load_bundle(bundle), checkpoint, Path(scratch), predictor)
        for part in range(_PARTS):
            run(targets, seeds[part::_PARTS], outcome)
            resident.append((host_memory().resident or 0) / 2**20)
    return {
        "cases": outcome.cases.total(),
        "refused": outcome.refused.total(),
        "raw": outcome.raw,
        "by_target": {name: {"cases": outcome.cases[name], "refused": outcome.refused[name]} for name in targets},
        "resident_mb": [round(mb) for mb in resident],
        "peak_mb": round((host_memory().peak or 0) / 2**20),
    }


def _fuzz_a_server(bundle: Path, seeds: range) -> dict[str, Any]:
    with server_process(bundle) as server:
        return fuzz_server(server, bundle, seeds)


def fuzz_server(server: Server, bundle: Path, seeds: range) -> dict[str, Any]:
    """Two cases a seed, one over each protocol, with a well-behaved client beside them."""
    counts: Counter[str] = Counter()
    raw: list[str] = []
    resident = []
    with Neighbour(server, bundle) as neighbour:
        for part in range(_PARTS):
            for seed in seeds[part::_PARTS]:
                _both_protocols(server, seed, counts, raw)
            resident.append(round(server.resident_mb()))
    return {
        "cases": 2 * len(seeds),
        "refused": counts["refused"],
        "no_request": counts["no request"],
        "raw": raw,
        "wrong": neighbour.complaints,
        "beside": neighbour.answers,
        "slowest_beside_s": round(neighbour.slowest_s, 2),
        "resident_mb": resident,
        "peak_mb": round(server.peak_mb()),
    }


def _both_protocols(server: Server, seed: int, counts: Counter[str], raw: list[str]) -> None:
    rng = np.random.default_rng(seed)
    for protocol, case in (("http", _over_http), ("grpc", _over_grpc)):
        outcome, text = case(server, rng)
        counts[outcome] += 1
        if outcome == "raw":
            raw.append(f"{protocol}, seed {seed}: {text}"[:300])


def _over_http(server: Server, rng: np.random.Generator) -> tuple[str, str]:
    """JSON with odd values, then damaged bytes of a body, then damaged bytes of all that goes over the wire."""
    body, length = http_body({"image_bytes": png(IMAGE), "box": BOX}, ["masks_rle", "iou_predictions"])
    way = rng.integers(0, 3)
    if way == 0:
        head = json.dumps(odd_json(json.loads(body[:length]), rng)).encode("utf-8", "replace")
        body, length = head + body[length:], len(head)
    elif way == 1:
        body = damaged(body, rng)
    else:
        return _over_a_socket(server, damaged(_request(body, length), rng))
    status, _, answer = send(server.http_port, "POST", INFER, body, {"Inference-Header-Content-Length": str(length)})
    json.loads(answer[:2000]) if status != 200 else None
    return _STATUSES.get(status, "raw"), f"{status} {answer[:200]!r}"


def _request(body: bytes, length: int) -> bytes:
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def _over_a_socket(server: Server, data: bytes) -> tuple[str, str]:
    with socket.create_connection(("127.0.0.1", server.http_port), timeout=30) as connection, suppress(OSError):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
        if answer.startswith(b"HTTP/1.1 "):
            status = int(answer[9:12])
            known = "no request" if status in _DAMAGED_HTTP else _STATUSES.get(status, "raw")
            return known, repr(answer[:300])
    return "no request", ""


def _over_grpc(server: Server, rng: np.random.Generator) -> tuple[str, str]:
    request = grpc_request({"image_bytes": png(IMAGE), "box": BOX}, ["masks_rle", "iou_predictions"])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        try:
            call(damaged(request.SerializeToString(), rng), timeout=30)
        except grpc.RpcError as e:
            return _CODES.get(e.code().name, "raw"), f"{e.code().name} {e.details()}"
    return "accepted", ""


def kill_exports(kills: int, seed: int) -> dict[str, Any]:
    """Replacing a bundle by another is killed again and again, then done once more."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        weights = save_checkpoint(tiny_sam(), folder / "weights.pth")
        output = folder / "outputs" / "out"
        command = [sys.executable, "-m", "samhq_exporter", "--checkpoint", str(weights), "--output", str(output)]
        command.append("--overwrite")
        start = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        whole_s, expected = time.monotonic() - start, _contents(output)
        counts: Counter[str] = Counter()
        while counts["killed"] < kills:
            counts["runs"] += 1
            counts["killed"] += _killed(command, moments.uniform(0.1, 1.0) * whole_s)
            counts["left_beside_before"] += len(list(output.parent.iterdir())) > 1
            counts["different"] += output.exists() and _contents(output) != expected
        subprocess.run(command, check=True, capture_output=True)
        counts["different"] += _contents(output) != expected
        return _kill_figures(counts, len(list(output.parent.iterdir())) - 1)


def kill_folders(bundle: Path, kills: int, seed: int) -> dict[str, Any]:
    """A folder of images is begun and killed again and again, then finished."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch), 40)
        start = time.monotonic()
        subprocess.run(folder.command(bundle, "whole"), check=True, capture_output=True)
        whole_s, expected = time.monotonic() - start, _contents(folder.path / "whole")
        counts: Counter[str] = Counter()
        while counts["killed"] < kills:
            command = folder.command(bundle, f"killed{counts['runs'] // _RUNS_OF_A_FOLDER}")
            counts["runs"] += 1
            counts["killed"] += _killed(command, moments.uniform(0.2, 0.7) * whole_s)
        left = 0
        for output in sorted(folder.path.glob("killed*")):
            subprocess.run(folder.command(bundle, output.name), check=True, capture_output=True)
            found = _contents(output)
            counts["different"] += found != expected
            left += len(found.keys() - expected.keys())
        return _kill_figures(counts, left)


def _kill_figures(counts: Counter[str], left: int) -> dict[str, Any]:
    figures = {key: counts[key] for key in ("runs", "killed", "different", "left_beside_before")}
    return {**figures, "left_behind": left}


def _killed(command: list[str], after_s: float) -> bool:
    """Whether SIGKILL came before the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def _contents(folder: Path) -> dict[str, str]:
    """Hashes of what does not hold a time; the manifest's own is of what does."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def tables(content: Mapping[str, Any]) -> dict[str, str]:
    library, server = content["library"], content["server"]
    rows = [(f"library: {name}", row, None) for name, row in library["by_target"].items()]
    rows += [("library, in this process", library, library), ("server, HTTP and gRPC", server, server)]
    kills = [
        (name, *(str(row[key]) for key in ("runs", "killed", "different", "left_behind")))
        for name, row in (("export", content["export"]), ("folder of images", content["folder"]))
    ]
    return {
        "hostile": format_table(_CASES, [_case_row(*row) for row in rows])
        + f"\n\nThe client beside the server had {server['beside']:,} answers, the slowest after "
        f"{server['slowest_beside_s']:.2f} s.\n\n"
        + format_table(("killed", "runs", "of them by SIGKILL", "results that differ", "left behind"), kills)
    }


def _case_row(name: str, row: Mapping[str, Any], whole: Mapping[str, Any] | None) -> tuple[str, ...]:
    counts = (name, f"{row['cases']:,}", f"{row['refused']:,}")
    if whole is None:
        return (*counts, "", "", "", "", "")
    early, late = whole["resident_mb"][2], whole["resident_mb"][-1]
    memory = (f"{early} MB", f"{late} MB", f"{whole['peak_mb']} MB")
    return (*counts, str(len(whole["raw"])), str(len(whole.get("wrong", []))), *memory)
