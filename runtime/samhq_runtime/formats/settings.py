"""What the files of a folder were made with: runs that go on may not mix them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import write_json

SETTINGS = "settings"


def require_settings(output: Path, settings: Mapping[str, Any], *, name: str = SETTINGS) -> None:
    """Write `name`.json into a folder, or hold what it says against `settings`.

    Raises:
        ConfigError: the folder has results of others, or cannot be written.
    """
    path = output / f"{name}.json"
    try:
        if not path.exists():
            write_json(path, settings)
            return
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{output}: cannot be written ({e.strerror or e}); choose another --output") from e
    except ValueError as e:
        raise ConfigError(f"{path}: damaged ({e}); remove it if all results are of these settings") from e
    if found != settings:
        raise ConfigError(f"{output}: has results of other settings ({found}); choose another --output")
