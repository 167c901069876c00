"""`samhq engine --report`: the kernels of engines, in tables."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from ..nvidia.plan import ATTENTION, KINDS, SOFTMAX, Kernel, Program
from ..nvidia.roofline import PEAKS, Estimate, Peak, estimate, peak_of
from ..tables import format_table

_LARGEST = 5
_TYPED = frozenset(KINDS[:3])  # kinds whose arithmetic has a type


def add_report_options(engine: argparse.ArgumentParser) -> None:
    engine.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="NAME",
        help=f"with --report: estimate for this GPU, of {', '.join(PEAKS)} (default: all); repeatable",
    )


def report(options: argparse.Namespace) -> None:
    """Print what the bundle's engines consist of."""
    peaks = [peak_of(name) for name in options.gpu or PEAKS]  # before the plans are read
    from ..engine import report_engines

    reports = report_engines(options.bundle, target=options.target, graphs=tuple(options.graph))
    texts = []
    for engine in reports:
        outputs = {name for program in engine.programs for name in _outputs(program)}
        for program in engine.programs:
            title = f"{engine.entry.file}, program for compute capability {', '.join(program.capabilities)}"
            texts.append("\n\n".join([title, *describe_program(program, peaks, outputs)]))
    print("\n\n".join(texts))


def describe_program(program: Program, peaks: Sequence[Peak], outputs: set[str]) -> Iterator[str]:
    """Tables of kernels by kind, of the largest intermediates and of the estimates; remarks where they need some."""
    yield format_table(("kernels", "number", "GFLOP", "MB read and written"), list(_kinds(program)))
    if alone := program.count(SOFTMAX):
        yield f"{alone} softmax kernels stand alone: these attentions write their scores to memory."
    if unknown := sum(kernel.open for kernel in program.kernels):
        yield (
            f"{unknown} of {len(program.kernels)} kernels have sizes that the profile leaves open: neither their "
            "arithmetic nor their bytes are counted. Build with one size, such as --prompts 1 --points 2 "
            "--combinations 1, to see them."
        )
    yield format_table(("largest intermediates", "shape", "type", "MB"), list(_largest(program, outputs)))
    rows = [_estimate_row(peak, estimate(program, peak)) for peak in peaks]
    yield format_table(("roofline estimate", "ms", "arithmetic", "memory", "launches"), rows)


def _kinds(program: Program) -> Iterator[tuple[str, ...]]:
    for kind in KINDS:
        found = [kernel for kernel in program.kernels if kernel.kind == kind]
        for dtype in sorted({kernel.dtype for kernel in found}) if kind in _TYPED else [""]:
            some = [kernel for kernel in found if not dtype or kernel.dtype == dtype]
            if some:
                yield _row(f"{kind} {dtype}".strip(), some)
        if kind == ATTENTION and not found:
            yield _row(kind, found)
    yield _row("all", program.kernels)


def _row(label: str, kernels: Sequence[Kernel]) -> tuple[str, ...]:
    flop, nbytes = sum(kernel.flop for kernel in kernels), sum(kernel.nbytes for kernel in kernels)
    return label, str(len(kernels)), f"{flop / 1e9:.1f}", f"{nbytes / 1e6:.1f}"


def _largest(program: Program, outputs: set[str]) -> Iterator[tuple[str, ...]]:
    tensors = {name: tensor for kernel in program.kernels for name, tensor in kernel.writes.items()}
    inner = [(tensor, name) for name, tensor in tensors.items() if name not in outputs and tensor.nbytes]
    for tensor, name in sorted(inner, key=lambda pair: -pair[0].nbytes)[:_LARGEST]:
        yield name, " x ".join(map(str, tensor.dims)), tensor.dtype, f"{tensor.nbytes / 1e6:.1f}"


def _outputs(program: Program) -> Iterator[str]:
    """What no kernel reads."""
    read = {name for kernel in program.kernels for name in kernel.reads}
    yield from (name for kernel in program.kernels for name in kernel.writes if name not in read)


def _estimate_row(peak: Peak, found: Estimate | str) -> tuple[str, ...]:
    if isinstance(found, str):
        return peak.product, found, "-", "-", "-"
    parts = (found.arithmetic, found.memory, found.launches)
    return peak.product, f"{1e3 * found.seconds:.2f}", *(f"{1e3 * part:.2f}" for part in parts)
