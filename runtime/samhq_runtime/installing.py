"""How a user installs what is missing or does not load. On no index, our extras are those of where this runs from."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from .errors import BackendUnavailable, reason_of

_FOLDER = Path(__file__).resolve().parents[1]  # that holds the package: `runtime` in a checkout


def install_command(extras: str) -> str:
    """The command that adds `extras`, such as `cpu,serve`; it works in any folder.

    Outside a checkout this is an installed distribution, of which pip takes the extras of that name.
    """
    if _FOLDER.name == "runtime" and (_FOLDER.parent / "pyproject.toml").is_file():
        return f"python -m pip install -e {quote(f'{_FOLDER.parent}[{extras}]')}"
    return f"python -m pip install {quote(f'samhq-export[{extras}]')}"


def unavailable(package: str, error: BaseException, install: str, *, use: str = "") -> BackendUnavailable:
    """What to raise when the import of `package` fails: it is not there, or it is and does not load.

    Args:
        package: its name.
        error: what the import raised.
        install: the command that installs it.
        use: what it is for, such as `images are read with it`.
    """
    if isinstance(error, ModuleNotFoundError):
        return BackendUnavailable(f"{package} is missing{f', {use}' if use else ''}: {install}")
    return BackendUnavailable(does_not_load(package, error, install))


def does_not_load(package: str, error: BaseException, install: str) -> str:
    reason = reason_of(error) or type(error).__name__
    return (
        f"{package} is installed but does not load ({reason}); install it again, and what its libraries need: {install}"
    )
