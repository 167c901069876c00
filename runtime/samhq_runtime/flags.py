"""How options are spelt on the command line."""

from __future__ import annotations

_SPELLINGS = {"compute_capabilities": "--compute-capability"}  # the others are spelt as the option is


def flag_of(option: str) -> str:
    """`max_batch` -> `--max-batch`."""
    return _SPELLINGS.get(option, f"--{option.replace('_', '-')}")
