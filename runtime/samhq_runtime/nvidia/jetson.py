"""Jetson boards: their TensorRT is a part of JetPack, which pip neither installs nor replaces."""

from __future__ import annotations

from pathlib import Path

from ..installing import install_command

JETPACK_TENSORRT = (
    "TensorRT comes with JetPack: sudo apt install nvidia-jetpack, and make the environment with "
    "`python3 -m venv --system-site-packages`; no package of pip's fits this board"
)
_RELEASE = Path("/etc/nv_tegra_release")  # Jetson Linux writes it


def on_jetson() -> bool:
    return _RELEASE.is_file()


def engine_extra() -> str:
    """The command that installs what running engines needs of Python packages."""
    return install_command("jetson") if on_jetson() else f"{install_command('trt')} (or [rtx])"
