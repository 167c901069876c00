"""How a user installs what is missing. This package is on no index: its extras are those of where it runs from."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

_FOLDER = Path(__file__).resolve().parents[1]  # that holds the package: `runtime` in a checkout


def install_command(extras: str) -> str:
    """The command that adds `extras`, such as `cpu,serve`; it works in any folder.

    Outside a checkout this is an installed distribution, of which pip takes the extras of that name.
    """
    if _FOLDER.name == "runtime" and (_FOLDER.parent / "pyproject.toml").is_file():
        return f"python -m pip install -e {quote(f'{_FOLDER.parent}[{extras}]')}"
    return f"python -m pip install {quote(f'samhq-export[{extras}]')}"
