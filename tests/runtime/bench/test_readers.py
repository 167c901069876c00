"""What a machine tells about itself: RAPL, Jetson monitors and modes, NVML, memory, clocks; samples of each format.

Layouts and values follow the Linux kernel's documentation of powercap, hwmon/ina3221, cpufreq and proc(5), and lines of
`tegrastats` and `nvpmodel` that NVIDIA's guides and forum show.
"""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from samhq_runtime.bench import energy
from samhq_runtime.bench.jetson import describe_jetson, parse_tegrastats, power_mode, rail_watts, total_watts
from samhq_runtime.bench.machine import describe_machine
from samhq_runtime.bench.memory import HostMemory, host_memory, reset_peak
from samhq_runtime.bench.rapl import rapl_counters
from samhq_runtime.machine.processor import describe_cpu

CONF = """
# MAXN is the NONE power model to release all constraints
< POWER_MODEL ID=0 NAME=MAXN >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MODE_30W >
GPU MAX_FREQ 612000000
"""
ORIN_NANO = (
    "09-17-2026 02:10:03 RAM 1488/7620MB (lfb 105x4MB) SWAP 253/12002MB (cached 2MB) "
    "CPU [0%@1036,0%@1036,1%@1036,1%@1036,0%@729,0%@729] GR3D_FREQ 62%@612 cpu@47.875C gpu@50.218C tj@50.218C "
    "VDD_IN 4654mW/4541mW VDD_CPU_GPU_CV 560mW/521mW VDD_SOC 1484mW/1446mW"
)
AGX_ORIN = (
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU [90%@2201,100%@2201] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 APE 174 CV0@73.625C CPU@77.281C "
    "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW"
)
NANO_R32 = "RAM 2448/3956MB (lfb 2x4MB) CPU [5%@1479,off] GR3D_FREQ 99% POM_5V_IN 5241/4982 POM_5V_GPU 2015/1800"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def ina(number: int, rails: dict[str, tuple[int, int]]) -> dict[str, str]:
    """Files of one INA3221: channel label, millivolts, milliamperes."""
    folder = f"sys/bus/i2c/drivers/ina3221/1-004{number}/hwmon/hwmon{number}"
    files = {}
    for channel, (rail, (millivolts, milliamperes)) in enumerate(rails.items(), start=1):
        values = {"in{}_label": rail, "in{}_input": str(millivolts), "curr{}_input": str(milliamperes)}
        files.update({f"{folder}/{name.format(channel)}": value for name, value in values.items()})
    return files | {f"{folder}/in7_label": "sum of shunt voltages"}


@pytest.fixture
def agx_orin(tmp_path: Path) -> Path:
    rails = {"VDD_GPU_SOC": (19864, 180), "VDD_CPU_CV": (19872, 80), "VIN_SYS_5V0": (5040, 800)}
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
        "etc/nvpmodel.conf": CONF,
        "var/lib/nvpmodel/status": "pmode:0002",
        "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
        "sys/class/devfreq/17000000.gpu/cur_freq": "612000000",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
    }
    return write(tmp_path, files | ina(0, rails) | ina(1, {"NC": (0, 0), "VDDQ_VDD2_1V8AO": (5024, 100)}))


def test_jetson_describes_itself(agx_orin: Path) -> None:
    found = describe_jetson(agx_orin)
    assert found["board"] == "NVIDIA Jetson AGX Orin Developer Kit"
    assert found["jetson_linux"].startswith("R36 (release), REVISION: 4.3")
    assert (found["power_mode"], found["gpu_mhz"]) == ("MODE_30W", 612.0)
    assert found["power_rails"] == ["VDDQ_VDD2_1V8AO", "VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"]


def test_rails_of_two_monitors(agx_orin: Path) -> None:
    rails = rail_watts(agx_orin)
    assert rails == pytest.approx(
        {"VDD_GPU_SOC": 3.57552, "VDD_CPU_CV": 1.58976, "VIN_SYS_5V0": 4.032, "VDDQ_VDD2_1V8AO": 0.5024}
    )
    assert total_watts(rails) == pytest.approx(9.69968)


def test_monitors_only_root_may_read(agx_orin: Path) -> None:
    for path in agx_orin.glob("sys/bus/i2c/drivers/ina3221/*/hwmon/*/in*_input"):
        path.unlink()
    assert rail_watts(agx_orin) == {}


def test_nothing_of_it_elsewhere(tmp_path: Path) -> None:
    assert describe_jetson(tmp_path) == {}
    assert rapl_counters(tmp_path) == []
    with energy.open_meters(tmp_path) as meters:
        assert [name for name in meters if not name.startswith("gpu")] == []


@pytest.mark.parametrize(
    ("status", "mode"), [("pmode:0000", "MAXN"), ("pmode:0002 fmode:quiet", "MODE_30W"), ("pmode:0009", "mode 9")]
)
def test_power_mode(tmp_path: Path, status: str, mode: str) -> None:
    assert power_mode(write(tmp_path, {"etc/nvpmodel.conf": CONF, "var/lib/nvpmodel/status": status})) == mode
    assert power_mode(tmp_path / "elsewhere") == ""


@pytest.mark.parametrize(
    ("line", "rails", "watts"),
    [
        (ORIN_NANO, {"VDD_IN": 4.654, "VDD_CPU_GPU_CV": 0.56, "VDD_SOC": 1.484}, 4.654),  # the input feeds the others
        (AGX_ORIN, {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968}, 22.43),
        (NANO_R32, {"POM_5V_IN": 5.241, "POM_5V_GPU": 2.015}, 5.241),
        ("RAM 1488/7620MB (lfb 1x4MB) SWAP 253/12002MB CPU [0%@1036]", {}, 0),  # without root there are no rails
        ("", {}, 0),
    ],
)
def test_tegrastats(line: str, rails: dict[str, float], watts: float) -> None:
    assert parse_tegrastats(line) == pytest.approx(rails)
    assert total_watts(parse_tegrastats(line)) == pytest.approx(watts)


def test_tegrastats_is_followed() -> None:
    lines = io.StringIO(f"{AGX_ORIN}\n{ORIN_NANO}\n\n")
    reader = energy.TegrastatsReader(iter(lines.readline, ""))
    reader._thread.join()
    assert reader.watts() == pytest.approx(4.654)  # the last line that names rails


def zone(name: str, joules: float, most: float = 262143.328850) -> dict[str, str]:
    return {"name": name, "energy_uj": str(int(joules * 1e6)), "max_energy_range_uj": str(int(most * 1e6))}


def powercap(root: Path, zones: dict[str, dict[str, str]]) -> Path:
    for folder, values in zones.items():
        write(root, {f"sys/class/powercap/{folder}/{name}": text for name, text in values.items()})
    return root


def test_rapl_counts_packages_and_their_memory(tmp_path: Path) -> None:
    zones = {
        "intel-rapl": {"enabled": "1"},
        "intel-rapl:0": zone("package-0", 100),
        "intel-rapl:0:0": zone("core", 70),
        "intel-rapl:0:1": zone("dram", 10),
        "intel-rapl:1": zone("package-1", 50),
        "intel-rapl:2": zone("psys", 500),
    }
    counters = {counter.name: counter for counter in rapl_counters(powercap(tmp_path, zones))}
    assert sorted(counters) == ["dram-0", "package-0", "package-1"]
    powercap(tmp_path, {"intel-rapl:0": zone("package-0", 112.5)})
    assert counters["package-0"].joules() == pytest.approx(12.5)
    assert counters["dram-0"].joules() == 0


def test_rapl_goes_on_where_the_kernels_counter_starts_again(tmp_path: Path) -> None:
    (counter,) = rapl_counters(powercap(tmp_path, {"intel-rapl:0": zone("package-0", 990, most=1000)}))
    for reading, total in ((999, 9), (4, 14), (10, 20)):
        powercap(tmp_path, {"intel-rapl:0": zone("package-0", reading, most=1000)})
        assert counter.joules() == pytest.approx(total)


def test_meters_of_a_jetson_integrate_power(agx_orin: Path) -> None:
    with energy.open_meters(agx_orin) as meters:
        before = meters["jetson module"]()
        threading.Event().wait(0.2)
        joules = meters["jetson module"]() - before
    assert 0.9 * 0.2 * 9.69968 < joules < 2 * 0.2 * 9.69968 + 5  # at least the time waited, at most a slow machine's


def test_integration_by_trapezoids(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, watts = iter([0.0, 1.0, 3.0]), iter([2.0, 4.0, 8.0])
    monkeypatch.setattr(energy, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with energy.integrated(lambda: next(watts), interval=1e6) as meter:
        assert [meter(), meter()] == pytest.approx([3.0, 15.0])


def test_memory_of_this_process() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc here")
    before = host_memory()
    assert before.resident
    assert before.resident <= (before.peak or 0)
    block = bytearray(80 << 20)
    assert (host_memory().peak or 0) >= before.resident + (80 << 20)
    with_block = host_memory().peak or 0
    del block
    assert reset_peak()
    assert (host_memory().peak or 0) < with_block - (60 << 20)


def test_memory_from_a_status_file(tmp_path: Path) -> None:
    write(tmp_path, {"status": "Name:\tpython\nVmHWM:\t  420 kB\nVmRSS:\t  400 kB\nThreads:\t1"})
    assert host_memory(tmp_path) == HostMemory(400 * 1024, 420 * 1024)
    other = host_memory(tmp_path / "not linux")
    assert other.resident is None
    assert other.peak is None or other.peak > 1 << 20
    assert not reset_peak(tmp_path / "not linux")


def test_processor(tmp_path: Path) -> None:
    core = "model name\t: Fast CPU @ 3 GHz\ncpu MHz\t\t: {}\nflags\t\t: fpu avx2 avx512_bf16 amx_bf16\n"
    write(
        tmp_path,
        {
            "proc/cpuinfo": core.format("2445.426") + "\n" + core.format("3000.0"),
            "proc/meminfo": "MemTotal:       24722432 kB\nMemFree: 1 kB",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "3500000",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        },
    )
    found = describe_cpu(tmp_path)
    assert (found["model"], found["mhz_at_start"], found["mhz_max"]) == ("Fast CPU @ 3 GHz", 2445.426, 3500.0)
    assert (found["governor"], found["features"]) == ("powersave", ["avx2", "avx512_bf16", "amx_bf16"])
    machine = describe_machine(tmp_path)
    assert machine["memory_gb"] == 24.7
    assert "numpy" in machine["libraries"]
    json.dumps(machine)
