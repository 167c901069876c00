"""A whole run: what is left to do, all of it done, what the images have in common written, a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..callbacks import Show
from ..formats import ImageResult
from ..frames.image_names import image_file
from .jobs import ImageJob
from .output import read_record, result_of, write_report
from .segmenter import FleetOptions, Segmenter

# Image and error message, or nothing, of each job.
Run = Callable[[Sequence[ImageJob], FleetOptions], Iterable[tuple[str, str]]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """How a run went.

    Attributes:
        segmented, done_already: how many images.
        failed: why, by image.
        left_out: lines about prompts and images that were left out, by reason.
        objects: in all images that are done.
        seconds: of this run.
    """

    segmented: int
    done_already: int
    failed: Mapping[str, str]
    left_out: Mapping[str, Sequence[str]]
    objects: int
    seconds: float


def segment_images(
    jobs: Sequence[ImageJob],
    options: FleetOptions,
    run: Run,
    *,
    left_out: Mapping[str, Sequence[str]],
    show: Show = lambda fraction, phase: None,
) -> Report:
    """Do what is not done yet; `write_formats` then writes what is of all images.

    Args:
        jobs: all of the run, in order.
        run: does some of them.
        left_out: for the report, which is also written into the folder of results.
        show: called after each image.
    """
    start = time.monotonic()
    options.outputs.sweep()
    todo = [job for job in jobs if not _is_done(job, options)]
    failed: dict[str, str] = {}
    for number, (image, error) in enumerate(run(todo, options), 1):
        if error:
            failed[image] = error
        show(number / len(todo), image)
    options.outputs.sweep()  # of workers that died on the way
    report = Report(
        segmented=len(todo) - len(failed),
        done_already=len(jobs) - len(todo),
        failed=failed,
        left_out=left_out,
        objects=sum(job.count for job in jobs if job.image not in failed),
        seconds=round(time.monotonic() - start, 3),
    )
    write_report(options.output, asdict(report))
    return report


def write_formats(jobs: Sequence[ImageJob], options: FleetOptions) -> None:
    """Write what is of all images that are done; ConfigError if it cannot be written."""
    options.outputs.write_run(lambda: _results(jobs, options))


def in_this_process(jobs: Sequence[ImageJob], options: FleetOptions) -> Iterator[tuple[str, str]]:
    """One image after the other; see `Run`."""
    if jobs:
        segmenter = Segmenter(options)
        for job in jobs:
            yield job.image, segmenter.run(job)


def _is_done(job: ImageJob, options: FleetOptions) -> bool:
    return read_record(options.output, job) is not None and options.outputs.are_there(job.image)


def _results(jobs: Iterable[ImageJob], options: FleetOptions) -> Iterator[ImageResult]:
    """What is there of the images, in order."""
    for job in jobs:
        record: dict[str, Any] | None = read_record(options.output, job)
        if record is not None:
            yield result_of(record, image_file(options.images, job.image))
