"""Jetson boards: which one, its power mode and clocks, and what it draws, from files and from `tegrastats`.

Formats: INA3221 channels as in the Linux kernel's hwmon/ina3221 (inN_input in mV, currN_input in mA); nvpmodel's
/etc/nvpmodel.conf and status file and tegrastats' `RAIL 123mW/120mW` as in NVIDIA's Jetson Linux Developer Guide.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..machine.system_files import read_fact

_INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")  # whole module; boards without one are the sum of their rails
_TEGRASTATS_RAIL = re.compile(r"(?P<rail>[A-Z][A-Z0-9_]*) (?P<now>\d+)(?:mW)?/(?P<average>\d+)(?:mW)?(?=\s|$)")
_TEGRASTATS_RAM = re.compile(r"\bRAM (?P<used>\d+)/(?P<total>\d+)MB")


def describe_jetson(root: Path = Path("/")) -> dict[str, Any]:
    """Board, Jetson Linux release, power mode, GPU clock in MHz and power rails; empty elsewhere."""
    release = read_fact(root / "etc/nv_tegra_release").splitlines()
    if not release and not (root / "etc/nvpmodel.conf").is_file():
        return {}
    found = {
        "board": read_fact(root / "proc/device-tree/model").rstrip("\0"),
        "jetson_linux": release[0].lstrip("# ") if release else "",
        "power_mode": power_mode(root),
        "gpu_mhz": gpu_mhz(root),
        "power_rails": sorted(rail_watts(root)),
    }
    return {name: value for name, value in found.items() if value}


def power_mode(root: Path = Path("/")) -> str:
    """Name of the nvpmodel power mode, such as `MAXN` or `MODE_30W`; empty if it is not known."""
    status = re.search(r"pmode:(\d+)", read_fact(root / "var/lib/nvpmodel/status"))
    if not status:
        return ""
    models = re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", read_fact(root / "etc/nvpmodel.conf"))
    number = int(status[1])
    return {int(i): name for i, name in models}.get(number, f"mode {number}")


def gpu_mhz(root: Path = Path("/")) -> float | None:
    """Clock of the integrated GPU now."""
    folders = sorted(
        path for path in root.glob("sys/class/devfreq/*") if path.name.endswith((".gpu", ".gv11b", ".ga10b"))
    )
    text = read_fact(folders[0] / "cur_freq") if folders else ""
    return int(text) / 1e6 if text.isdigit() else None


def rail_watts(root: Path = Path("/")) -> dict[str, float]:
    """Watts per labelled rail of the board's INA3221 monitors; empty where they cannot be read."""
    watts = {}
    for label in sorted(root.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[123]_label")):
        rail, channel = read_fact(label), label.name[2]
        millivolts, milliamperes = (read_fact(label.parent / f"{kind}{channel}_input") for kind in ("in", "curr"))
        if rail and rail != "NC" and millivolts.isdigit() and milliamperes.isdigit():
            watts[rail] = int(millivolts) * int(milliamperes) / 1e6
    return watts


def parse_tegrastats(line: str) -> dict[str, float]:
    """Watts per rail in one line of `tegrastats`: the value of now, not its running average."""
    without_memory = _TEGRASTATS_RAM.sub("", line)
    return {m["rail"]: int(m["now"]) / 1000 for m in _TEGRASTATS_RAIL.finditer(without_memory) if m["rail"] != "SWAP"}


def total_watts(rails: dict[str, float]) -> float:
    """What the module draws: its input rail, or the sum of its rails where there is none."""
    inputs = [rails[name] for name in _INPUT_RAILS if name in rails]
    return inputs[0] if inputs else sum(rails.values())
