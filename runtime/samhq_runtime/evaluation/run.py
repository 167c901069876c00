"""The whole evaluation: bundles one after the other, images one by one, everything measured kept as it comes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import __version__
from ..bundle import Bundle
from ..callbacks import Notice, Show
from ..errors import ConfigError, DatasetError
from ..files import write_text
from ..frames.image_files import max_pixels
from ..session.providers import Providers
from .dataset import Dataset, Skip
from .measure import ImageRecord, Setting, measure_image
from .open import open_dataset
from .pictures import draw_pictures
from .records import Records
from .reliability_chart import CHART_NAME, reliability_chart
from .report import REPORT_NAME, BundleReport, Report
from .subjects import Subject, open_subjects
from .summary import compare, summarise


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How bundles are measured.

    Attributes:
        setting: what is asked of every bundle.
        threads: CPU threads inside one operator; 0 means one per physical core.
        limit: only the first so many images.
        output: folder for records, report and pictures. A run into the same folder measures only what is not there.
        worst: how many of the worst cases to draw into `output`.
        progress: called with the fraction done and what is being done.
        notice: called with a line for the user: results of an earlier run that are taken over, annotations renumbered.
    """

    setting: Setting
    threads: int = 0
    limit: int | None = None
    output: Path | None = None
    worst: int = 6
    progress: Show | None = None
    notice: Notice | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: got {self.limit}, expected at least 1 image")
        if not 0 <= self.worst <= 99:
            raise ConfigError(f"worst: got {self.worst}, expected 0 to 99 pictures")


def evaluate(
    bundles: Sequence[Bundle | str | Path],
    dataset: Dataset | str | Path,
    *,
    prompts: str = "box",
    multimask_output: bool = False,
    hq_token_only: bool = False,
    providers: Sequence[Providers] = (("cpu",),),
    threads: int = 0,
    limit: int | None = None,
    output: str | Path | None = None,
    worst: int = 6,
    progress: Show | None = None,
    notice: Notice | None = None,
) -> Report:
    """Measure bundles on a dataset with ground-truth masks.

    Args:
        bundles: one or more; the others are compared with the first.
        dataset: what `open_dataset` opened, or a path for it.
        prompts, multimask_output, hq_token_only: see `Setting`.
        providers: choices of execution providers; every bundle is measured under each.
        threads, limit, output, worst, progress, notice: see `EvaluationOptions`.

    Raises:
        DatasetError: no such dataset, malformed, or without a usable object.
        ConfigError: options that cannot be honoured.
        BundleError, BackendUnavailable: as `Predictor` raises them.
    """
    setting = Setting(prompts=prompts, multimask_output=multimask_output, hq_token_only=hq_token_only)
    folder = None if output is None else Path(output)
    options = EvaluationOptions(
        setting=setting, threads=threads, limit=limit, output=folder, worst=worst, progress=progress, notice=notice
    )
    data = open_dataset(dataset) if isinstance(dataset, str | Path) else dataset
    return _evaluate(open_subjects(bundles, providers), data, options)


def _evaluate(subjects: Sequence[Subject], data: Dataset, options: EvaluationOptions) -> Report:
    if options.notice is not None:
        for line in data.notices:
            options.notice(f"{data.path}: {line}")
    names, fingerprint = list(data.names)[: options.limit], data.fingerprint()
    with ExitStack() as stack:
        keys = [_key(subject, fingerprint, options.setting) for subject in subjects]
        records = [stack.enter_context(Records(key, options.output)) for key in keys]
        steps = _Steps(options.progress, names, records)
        if options.notice is not None and steps.ready:
            options.notice(f"{steps.ready} of {steps.total} images were measured in an earlier run")
        for subject, kept in zip(subjects, records, strict=True):
            _measure(subject, data, names, options, kept, steps)
    measured = [[kept.done[name] for name in names] for kept in records]
    report = _report(subjects, data, fingerprint, options.setting, measured)
    if options.output is not None:
        curves = [(bundle.name, bundle.scores.calibration) for bundle in report.bundles]
        write_text(options.output / REPORT_NAME, report.to_json())
        write_text(options.output / CHART_NAME, reliability_chart(curves))
        draw_pictures(
            subjects,
            measured,
            data,
            options.output,
            setting=options.setting,
            threads=options.threads,
            count=options.worst,
        )
    return report


def _key(subject: Subject, fingerprint: str, setting: Setting) -> dict[str, object]:
    """What the numbers depend on: not the number of threads, nor how many images are asked for."""
    return {
        "content_sha256": subject.content_sha256(),
        "providers": subject.providers,
        "dataset": fingerprint,
        "setting": asdict(setting),
        "max_pixels": max_pixels(),
        "runtime_version": __version__,
    }


def _measure(
    subject: Subject,
    data: Dataset,
    names: Sequence[str],
    options: EvaluationOptions,
    records: Records,
    steps: _Steps,
) -> None:
    """Add a record for every image that has none."""
    left = [name for name in names if name not in records.done]
    if not left:
        return
    steps.show(subject.name)
    with subject.open(options.threads) as predictor:
        for name in left:
            records.add(measure_image(predictor, data, name, options.setting))
            steps.done(subject.name)


def _report(
    subjects: Sequence[Subject],
    data: Dataset,
    fingerprint: str,
    setting: Setting,
    measured: Sequence[Sequence[ImageRecord]],
) -> Report:
    skipped = (*data.left_out, *(skip for record in measured[0] for skip in record.skipped))
    _require_objects(data, measured, skipped)
    return Report(
        dataset={
            "path": str(data.path),
            "layout": data.layout,
            "fingerprint": fingerprint,
            "images": len(data.names),
            "images_asked_for": len(measured[0]),
        },
        setting=asdict(setting),
        bundles=tuple(
            BundleReport(
                name=subject.name,
                path=str(subject.bundle.path),
                variant=subject.bundle.manifest.variant,
                precision=subject.bundle.manifest.precision,
                content_sha256=subject.content_sha256(),
                providers=subject.providers,
                scores=summarise(records),
            )
            for subject, records in zip(subjects, measured, strict=True)
        ),
        comparisons=tuple(
            compare(subject.name, records, subjects[0].name, measured[0])
            for subject, records in zip(subjects[1:], measured[1:], strict=True)
        ),
        skipped=skipped,
        runtime_version=__version__,
    )


def _require_objects(data: Dataset, measured: Sequence[Sequence[ImageRecord]], skipped: Sequence[Skip]) -> None:
    if all(any(record.objects for record in records) for records in measured):
        return
    first = skipped[0]
    raise DatasetError(
        f"{data.path}: not one object could be evaluated, {len(skipped)} were left out; "
        f"the first: {first.image}: {first.reason} ({first.detail or first.target})"
    )


class _Steps:
    """Images done of all, and the time the rest will take."""

    def __init__(self, progress: Show | None, names: Sequence[str], records: Sequence[Records]) -> None:
        self._progress = progress
        self.total = len(names) * len(records)
        self.ready = sum(name in kept.done for kept in records for name in names)
        self._measured = 0
        self._start = time.monotonic()

    def done(self, name: str) -> None:
        self.ready += 1
        self._measured += 1
        self.show(name)

    def show(self, name: str) -> None:
        if self._progress is not None:
            self._progress(self.ready / self.total, f"{self.ready}/{self.total} images, {self._left()}{name}")

    def _left(self) -> str:
        if not self._measured:
            return ""
        seconds = (time.monotonic() - self._start) / self._measured * (self.total - self.ready)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02} left, "
