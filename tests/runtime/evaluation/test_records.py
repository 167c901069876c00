"""Images that were measured are not measured again: interrupted runs, torn and damaged files of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samhq_runtime import Bundle
from samhq_runtime.errors import ConfigError
from samhq_runtime.evaluation import evaluate
from tests.support.eval_datasets import SCENES


@pytest.mark.parametrize("stop_after", [1, 3, SCENES + 2])
def test_interrupted_run_goes_on_where_it_stopped(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, stop_after: int
) -> None:
    options: dict[str, Any] = {"providers": [("cpu",), ("half",)], "worst": 0}
    expected = evaluate([tiny_bundle], dataset, **options)
    fake.images, fake.stop_after = 0, stop_after
    with pytest.raises(KeyboardInterrupt):
        evaluate([tiny_bundle], dataset, output=tmp_path / "out", **options)
    assert not (tmp_path / "out" / "report.json").exists()
    fake.stop_after = 10**9
    notices: list[str] = []
    shown: list[float] = []
    report = evaluate(
        [tiny_bundle],
        dataset,
        output=tmp_path / "out",
        progress=lambda fraction, phase: shown.append(fraction),
        notice=notices.append,
        **options,
    )
    assert report == expected
    assert fake.images == 2 * SCENES
    assert notices == [f"{stop_after} of {2 * SCENES} images were measured in an earlier run"]
    assert shown == sorted(shown)
    assert (shown[0], shown[-1]) == (stop_after / (2 * SCENES), 1)
    assert (tmp_path / "out" / "report.json").read_text() == expected.to_json()


@pytest.mark.parametrize("cut", [1, 30, 10**6])
def test_torn_last_line_is_measured_again(
    tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path, cut: int
) -> None:
    expected = evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)
    (records,) = tmp_path.glob("records-*.jsonl")
    content = records.read_bytes()
    records.write_bytes(content[: max(9, len(content) - cut)])  # at most all but the start of the first line
    fake.images = 0
    assert evaluate([tiny_bundle], dataset, output=tmp_path, worst=0) == expected
    assert fake.images == (1 if cut < 10**6 else SCENES)
    assert records.read_bytes() == content


def test_damaged_line_is_an_error(tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path) -> None:
    evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)
    (records,) = tmp_path.glob("records-*.jsonl")
    lines = records.read_bytes().split(b"\n")
    for number, damaged in ((1, b"{}"), (3, b"\0" * 20), (3, b'{"image": "1.png"}')):
        records.write_bytes(b"\n".join([*lines[: number - 1], damaged, *lines[number:]]))
        with pytest.raises(ConfigError, match=f"line {number} is damaged"):
            evaluate([tiny_bundle], dataset, output=tmp_path, worst=0)


def test_records_serve_the_run_they_belong_to(tiny_bundle: Bundle, dataset: Path, fake: Any, tmp_path: Path) -> None:
    def images(**options: Any) -> int:
        fake.images = 0
        evaluate([tiny_bundle], dataset, output=tmp_path / "out", worst=0, **options)
        return int(fake.images)

    assert images(limit=1) == 1
    assert images(limit=3) == 2
    assert images() == 1
    assert images(threads=2) == 0
    for options in ({"prompts": "point"}, {"multimask_output": True}, {"providers": [("half",)]}):
        assert (images(**options), images(**options)) == (SCENES, 0)
    image = dataset.with_name("1.png")
    image.write_bytes(image.read_bytes() + b" ")
    assert images() == SCENES
