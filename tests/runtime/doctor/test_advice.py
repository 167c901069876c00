"""What the doctor says of the processor; every gain is that of a record."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from samhq_runtime import doctor
from samhq_runtime.cli import main
from samhq_runtime.doctor.advice import FASTER, Processor, find_advice
from samhq_runtime.doctor.children import PROBES, ProbeResult

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
WORKS, ABSENT = ProbeResult("works", "1.0"), ProbeResult("absent", "")
PLAIN = Processor(model="Plain CPU", physical_cores=4, usable_cores=8, quota=None, memory_limit=None, bf16=(), int8=())
XEON = replace(PLAIN, bf16=("AMX-BF16", "AVX512-BF16"), int8=("AMX-INT8", "AVX512-VNNI"))


@pytest.mark.parametrize(
    ("processor", "works", "expected"),
    [
        (PLAIN, ["cpu", "openvino"], []),
        (PLAIN, ["cpu"], ["OpenVINO does not run here: 1.2 times.*install.*openvino"]),
        (
            XEON,
            ["cpu", "openvino"],
            ["AMX-BF16, AVX.*2.2 times.*AMX should give more.*--min-iou", "AMX-INT8.*1.5 times"],
        ),
        (XEON, ["cpu"], ["OpenVINO", "with OpenVINO installed: `samhq tune", "int8"]),
        (
            replace(PLAIN, bf16=("AVX512-BF16",)),
            ["openvino"],
            [r"\(AVX512-BF16\): 2.2 times as fast as [^;]*; masks"],
        ),
        (replace(PLAIN, quota=2.5), ["openvino"], ["sees 8 cores and may use the time of 2.5.*threads=2, "]),
        (replace(PLAIN, quota=8.0), ["openvino"], []),
        (XEON, ["cpu", "cuda"], []),  # a GPU is faster than all of it
    ],
)
def test_advice(processor: Processor, works: list[str], expected: list[str]) -> None:
    found = find_advice(processor, {**dict.fromkeys(PROBES, ABSENT), **dict.fromkeys(works, WORKS)})
    assert len(found) == len(expected)
    for advice, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, f"{advice.what}; {advice.do}"), advice


def test_gains_are_those_of_the_records() -> None:
    peers = json.loads((RESULTS / "peers.json").read_text())
    assert peers["setting"]["variant"] == "vit_b"
    features = peers["measured"][0]["machine"]["cpu"]["features"]
    assert ("avx512_bf16" in features, "amx_bf16" in features) == (True, False)  # as the words say
    rows: dict[str, Any] = {
        row["champion"]: row["times_faster"]["value"]
        for row in peers["sections"]["encoder"]["opponents"]
        if row["name"] == "ours"
    }
    assert round(rows["ours OpenVINO"], 1) == FASTER["openvino"]
    assert round(rows["ours OpenVINO bf16"], 1) == FASTER["bf16"]
    int8 = json.loads((RESULTS / "int8_encoder.json").read_text())
    assert round(median(int8["fp32_seconds"]) / median(int8["int8_seconds"]), 1) == FASTER["int8"]


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "probe", lambda name, timeout: WORKS if name == "cpu" else ABSENT)
    monkeypatch.setattr(doctor, "ask_driver", lambda timeout: {"driver": None, "cuda": None, "gpus": []})
    monkeypatch.setattr(doctor, "describe_processor", lambda: replace(XEON, quota=1.5, memory_limit=2 * 10**9))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for row in (
        r"in bfloat16 +\| +AMX-BF16, AVX512-BF16",
        r"physical +\| +4 ",
        r"share of them +\| +1.5 ",
        "2.0 GB",
    ):
        assert re.search(row, out), out
    assert out.count("\nfaster: ") == 4
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["processor"]["model"] == "Plain CPU"
    assert len(report["advice"]) == 4
