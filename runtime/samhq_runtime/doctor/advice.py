"""What this processor could do, and which package or flag makes use of it; gains are those of recorded benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..installing import install_command
from ..machine.processor import (
    cpu_flags,
    cpu_quota,
    describe_cpu,
    memory_limit,
    physical_cores,
    usable_cores,
)
from .children import ON_GPU, ProbeResult

# vit_b's encoder on two cores: `peers` and `int8_encoder` of `benchmarks/results/`, shown in docs/benchmarks.md and
# docs/precision.md. A test compares these with the records.
FASTER = {"openvino": 1.2, "bf16": 2.2, "int8": 1.5}
_MEASURED = "as fast as ONNX Runtime in float32 where it was measured (vit_b's encoder, AMD EPYC without AMX)"
_BF16 = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16"}
_INT8 = {"amx_int8": "AMX-INT8", "avx512_vnni": "AVX512-VNNI", "avx_vnni": "AVX-VNNI"}


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The processor and what this process gets of it.

    Attributes:
        model: its name.
        physical_cores, usable_cores: of the machine; logical ones that this process may run on.
        quota: processors' worth of time that the container may use; None without a limit.
        memory_limit: bytes that the container may use; None without a limit.
        bf16, int8: the instructions it has to multiply such numbers, in words; the quickest first.
    """

    model: str
    physical_cores: int | None
    usable_cores: int | None
    quota: float | None
    memory_limit: int | None
    bf16: tuple[str, ...]
    int8: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """What would be faster, by how much, and what to do for it."""

    what: str
    do: str


def describe_processor() -> Processor:
    flags = cpu_flags()
    return Processor(
        model=describe_cpu()["model"],
        physical_cores=physical_cores(),
        usable_cores=usable_cores(),
        quota=cpu_quota(),
        memory_limit=memory_limit(),
        bf16=tuple(words for flag, words in _BF16.items() if flag in flags),
        int8=tuple(words for flag, words in _INT8.items() if flag in flags),
    )


def find_advice(processor: Processor, providers: Mapping[str, ProbeResult]) -> list[Advice]:
    """For running bundles on the CPU; nothing where a GPU works, which is faster than any of it."""
    if any(providers[name].status == "works" for name in ON_GPU):
        return []
    openvino = providers["openvino"].status == "works"
    return [*_openvino(openvino), *_bf16(processor, openvino), *_int8(processor), *_quota(processor)]


def _openvino(works: bool) -> Iterator[Advice]:
    if not works:
        yield Advice(
            f"OpenVINO does not run here: {FASTER['openvino']} times {_MEASURED}, in float32 too",
            f"{install_command('openvino')}; then `samhq tune BUNDLE`, or --providers auto",
        )


def _bf16(processor: Processor, openvino: bool) -> Iterator[Advice]:
    if processor.bf16:
        amx = "; AMX should give more" if "AMX-BF16" in processor.bf16 else ""
        yield Advice(
            f"this processor multiplies in bfloat16 ({', '.join(processor.bf16)}): {FASTER['bf16']} times "
            f"{_MEASURED}{amx}; masks change a little (docs/benchmarks.md)",
            ("" if openvino else "with OpenVINO installed: ")
            + "`samhq tune BUNDLE --min-iou 0.98` if that is close enough, or --providers openvino:bf16/cpu",
        )


def _int8(processor: Processor) -> Iterator[Advice]:
    if processor.int8:
        yield Advice(
            f"this processor multiplies in int8 ({', '.join(processor.int8)}): {FASTER['int8']} times as "
            "fast as float32 where it was measured (vit_b's encoder, ONNX Runtime, AVX512-VNNI); masks change a little "
            "(docs/precision.md)",
            "`samhq-export --precision int8`, and `samhq tune BUNDLE --sibling INT8_BUNDLE` to compare",
        )


def _quota(processor: Processor) -> Iterator[Advice]:
    cores, quota = processor.usable_cores or 1, processor.quota
    if quota and quota < cores:
        yield Advice(
            f"this container sees {cores} cores and may use the time of {quota:g}: as many threads as cores wait for "
            "each other",
            f"threads={max(1, round(quota))}, which `samhq tune` tries, or pin the container to cores (--cpuset-cpus)",
        )
