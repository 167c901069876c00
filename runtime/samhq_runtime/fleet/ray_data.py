"""The images as a Ray Data pipeline: a pool of actors, each with one loaded bundle."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import ray
import ray.data

from ..errors import BackendUnavailable, ConfigError, reason_of
from .jobs import ImageJob
from .segmenter import FleetOptions, Segmenter

_BATCH = 8  # images that travel to an actor together: their names and prompts, a few hundred bytes
_LOCAL = "local"


def run(
    jobs: Sequence[ImageJob],
    options: FleetOptions,
    *,
    address: str,
    workers: int,
    worker_cpus: float,
    worker_gpus: float,
) -> Iterator[tuple[str, str]]:
    """Image and error message (or nothing) of every job, as they are done.

    A worker that dies is replaced and its images are done again; their files are renamed into place, so each is there
    once and complete.

    Args:
        jobs: what to do.
        options: how; folders must be shared by all nodes.
        address: of a Ray cluster; `local` starts one in this machine, `auto` finds the one that runs here.
        workers: actors.
        worker_cpus, worker_gpus: what each actor takes; fractions are allowed.

    Raises:
        BackendUnavailable: no cluster at that address.
        ConfigError: the cluster can never have that many workers.
    """
    _connect(address, needed_cpus=workers * worker_cpus)
    _require_room(workers, worker_cpus, worker_gpus)
    threads = options.threads or max(1, int(worker_cpus))
    items = [{"image": job.image, "asked": json.dumps(job.asked())} for job in jobs]
    dataset = ray.data.from_items(items, override_num_blocks=max(1, min(len(items) // _BATCH, 4 * workers)))
    done = dataset.map_batches(
        _Actor,
        fn_constructor_args=(replace(options, threads=threads),),
        batch_size=_BATCH,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=worker_cpus,
        num_gpus=worker_gpus,
    )
    for row in done.iter_rows():
        yield row["image"], row["error"]


class _Actor:
    def __init__(self, options: FleetOptions) -> None:
        self._segmenter = Segmenter(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        jobs = [ImageJob(i, **json.loads(a)) for i, a in zip(batch["image"], batch["asked"], strict=True)]
        return {"image": batch["image"], "error": [self._segmenter.run(job) for job in jobs]}


def _connect(address: str, *, needed_cpus: float) -> None:
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == _LOCAL:  # one CPU more than the actors take: Ray Data reads its input with it
            ray.init(num_cpus=math.ceil(needed_cpus) + 1, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as e:
        raise BackendUnavailable(f"--ray {address}: no Ray cluster there ({reason_of(e)})") from e
    ray.data.DataContext.get_current().enable_progress_bars = False


def _require_room(workers: int, cpus: float, gpus: float) -> None:
    """Ray Data waits for ever for actors that never fit; refuse them instead."""
    total = ray.cluster_resources()
    if total.get("CPU", 0) <= workers * cpus or total.get("GPU", 0) < workers * gpus:
        raise ConfigError(
            f"{workers} workers of {cpus:g} CPUs and {gpus:g} GPUs: this cluster has {total.get('CPU', 0):g} CPUs, of "
            f"which the pipeline itself needs some, and {total.get('GPU', 0):g} GPUs; give --workers, --worker-cpus "
            "and --worker-gpus that fit"
        )
