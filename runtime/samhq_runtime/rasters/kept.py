"""Tiles that are done, kept beside the output until all are: a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import write_text
from .pieces import Piece
from .tiles import Tile

_SETTING = "setting.json"


class KeptTiles:
    """A folder with a file per tile, of one setting: the bundle, the raster, the tiles and the generator's options."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        """Open or make it.

        Raises:
            ConfigError: it holds tiles of another setting, or cannot be made.
        """
        self._folder = folder
        text = json.dumps(setting, indent=1, sort_keys=True)
        try:
            folder.mkdir(exist_ok=True)
            if not (folder / _SETTING).exists():
                write_text(folder / _SETTING, text)
            found = (folder / _SETTING).read_text(encoding="utf-8")
        except OSError as e:
            raise ConfigError(f"{folder}: cannot be written ({e.strerror or e})") from e
        if found != text:
            raise ConfigError(
                f"{folder}: has the tiles of a run with other options, of another raster or another bundle; "
                "finish it with those, or remove the folder"
            )

    def read(self, tile: Tile) -> list[Piece] | None:
        """The pieces of a tile that is done, or None; a damaged file is none."""
        from shapely import from_wkb

        try:
            rows = json.loads(self._file(tile).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return [Piece(tile, from_wkb(outline), *scores) for outline, *scores in rows]

    def write(self, tile: Tile, pieces: list[Piece]) -> None:
        from shapely import to_wkb

        rows = [(to_wkb(p.outline, hex=True), p.predicted_iou, p.stability_score) for p in pieces]
        try:
            write_text(self._file(tile), json.dumps(rows))
        except OSError as e:
            raise ConfigError(
                f"{self._folder}: cannot be written ({e.strerror or e}); the tiles that are done are kept"
            ) from e

    def remove(self) -> None:
        """Once the objects are written."""
        shutil.rmtree(self._folder)

    def _file(self, tile: Tile) -> Path:
        return self._folder / f"{tile.x}-{tile.y}.json"
