"""Energy of x86 processor packages and their memory: the Linux kernel's powercap files (energy_uj, microjoules)."""

from __future__ import annotations

from pathlib import Path

_ZONES = "sys/class/powercap"
_OUTER = ("package", "dram")  # `core` and `uncore` lie inside `package`, `psys` around it


class RaplCounter:
    """One zone. The kernel's counter starts again at `max_energy_range_uj`; this one does not."""

    def __init__(self, zone: Path, name: str) -> None:
        self.name = name
        self._file = zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._total = 0

    def joules(self) -> float:
        """Since this object was made; call it at least once per wrap of the counter (minutes at full load)."""
        now = int(self._file.read_text())
        self._total += now - self._last if now >= self._last else now + self._range - self._last
        self._last = now
        return self._total / 1e6


def rapl_counters(root: Path = Path("/")) -> list[RaplCounter]:
    """Counters of all packages and their memory that this user may read; the kernel allows it to root alone."""
    counters = []
    for zone in sorted((root / _ZONES).glob("*rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith(_OUTER):
                number = zone.name.split(":")[1]
                counters.append(RaplCounter(zone, name if name.startswith("package") else f"{name}-{number}"))
        except (OSError, ValueError):
            continue
    return counters
