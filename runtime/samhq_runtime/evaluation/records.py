"""What was measured so far, one line per image, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..closing import Closing
from ..errors import ConfigError
from .measure import ImageRecord


class Records(Closing):
    """Image records of one bundle under one setting; in memory, and with a folder also in a JSONL file there.

    The file's name is made of `key`, everything the numbers depend on, which is also its first line. It is made, or
    added to, when the first record comes. A last line that an interruption cut short is dropped.
    """

    def __init__(self, key: Mapping[str, Any], folder: Path | None = None) -> None:
        self.done: dict[str, ImageRecord] = {}
        self._header = json.dumps(dict(key), sort_keys=True)
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._whole = 0  # bytes of the file that are complete lines
        if folder is not None:
            self._path = folder / f"records-{hashlib.sha256(self._header.encode()).hexdigest()[:16]}.jsonl"
            if self._path.exists():
                self._read(self._path)

    def add(self, record: ImageRecord) -> None:
        """Keep a record; once this returns it outlives the process."""
        if self._path is not None:
            if self._file is None:
                self._file = self._open(self._path)
            self._write(self._file, json.dumps(record.to_json()))
        self.done[record.image] = record

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path) -> None:
        content = path.read_bytes()
        self._whole = content.rfind(b"\n") + 1
        lines = content[: self._whole].decode("utf-8", "replace").split("\n")[:-1]
        for number, line in enumerate(lines, 1):
            try:
                self._take(number, json.loads(line))
            except (ValueError, KeyError, TypeError) as e:
                raise ConfigError(f"{path}: line {number} is damaged; delete the file to measure again") from e

    def _take(self, number: int, content: Any) -> None:
        if number == 1:
            if content != json.loads(self._header):
                raise ValueError("not the records of this key")
            return
        record = ImageRecord.from_json(content)
        self.done[record.image] = record

    def _open(self, path: Path) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        file.truncate(self._whole)
        if not self._whole:
            self._write(file, self._header)
        return file

    def _write(self, file: BinaryIO, line: str) -> None:
        file.write(line.encode() + b"\n")
        file.flush()
