"""A dataset's fingerprint."""

from __future__ import annotations

from pathlib import Path

from samhq_runtime.evaluation.open import open_dataset


def test_fingerprint_follows_the_files(coco: Path, pairs: Path) -> None:
    for path, changed in ((coco, coco.with_name("2.png")), (coco, coco), (pairs, pairs / "gt" / "a.png")):
        before = open_dataset(path).fingerprint()
        assert open_dataset(path).fingerprint() == before
        changed.write_bytes(changed.read_bytes() + b" ")
        assert open_dataset(path).fingerprint() != before
