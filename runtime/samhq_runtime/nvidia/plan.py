"""A TensorRT plan read without TensorRT and without a GPU: its kernels, what each reads and writes, and its arithmetic.

The compiler behind current TensorRT versions (Myelin) leaves its programs in the plan as text:

    header { ... }  descriptors { tensor={ dims={ 12 4096 64 } name="q" type=half ... } ... }  main { ... }

A block whose header says which GPUs it is for is a whole program, one line of `main` per kernel. The blocks behind it
are the insides of its fused products, in the order of the number that such a kernel has as `binary`. None of this is
documented by NVIDIA; it was read from plans of TensorRT-RTX 1.7, and a plan that looks otherwise is refused, not
guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..errors import BundleError

ATTENTION, PRODUCT, CONVOLUTION, SOFTMAX = "fused attention", "matrix product", "convolution", "softmax"
NORM, POINTWISE, MOVE = "normalization", "pointwise", "data movement"
KINDS = (ATTENTION, PRODUCT, CONVOLUTION, SOFTMAX, NORM, POINTWISE, MOVE)
DTYPES = {
    "float": ("float32", 4), "half": ("float16", 2), "bf16": ("bfloat16", 2), "bfloat16": ("bfloat16", 2),
    "int8": ("int8", 1), "fp8_e4m3": ("float8", 1), "fp8": ("float8", 1), "int32": ("int32", 4), "int64": ("int64", 8),
    "bool": ("bool", 1),
}  # fmt: skip
_MOVES = frozenset({"Cast", "Conc", "Gath", "Move", "Repl", "Resh", "Slic", "Tran"})  # of a generated kernel's name
_HEADER, _MAIN, _END = b"header {\n", b"\nmain {\n", b"\n}\n"
_NODE = re.compile(r"^ *(\w+)=\{ (.*) \}$")
_FIELD = re.compile(r'(\w+)\s*=\s*(\{[^}]*\}|"[^"]*"|\S+)')
_ITEM = re.compile(r'"([^"]*)"|([^\s{}]+)')


@dataclass(frozen=True)
class PlanTensor:
    """Sizes that a profile leaves open are the compiler's own names."""

    dims: tuple[int | str, ...]
    dtype: str
    itemsize: int

    @property
    def static(self) -> bool:
        return all(isinstance(size, int) for size in self.dims)

    @property
    def size(self) -> int:
        """Elements; 0 if a dimension is open."""
        return prod(int(n) for n in self.dims) if self.static else 0

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch.

    Attributes:
        kind: one of `KINDS`.
        name: the compiler's.
        layers: names of the network's layers it computes.
        reads, writes: tensors by name.
        dtype: of the operands of a product, convolution or attention; else of what is written.
        flop: arithmetic of products, convolutions and attention; 0 for all else, and where a size is open.
        open: whether a size of its tensors is open, so that `flop` and bytes do not count them.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    reads: Mapping[str, PlanTensor]
    writes: Mapping[str, PlanTensor]
    dtype: str
    flop: int

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for side in (self.reads, self.writes) for tensor in side.values())

    @property
    def open(self) -> bool:
        return not all(tensor.static for side in (self.reads, self.writes) for tensor in side.values())


@dataclass(frozen=True)
class Program:
    """What runs on one group of GPUs, `capabilities` such as `("8.0", "8.6")`."""

    capabilities: tuple[str, ...]
    kernels: tuple[Kernel, ...]

    def count(self, kind: str) -> int:
        return sum(kernel.kind == kind for kernel in self.kernels)

    def products(self, dtype: str) -> list[Kernel]:
        """Matrix products of operands of a type."""
        return [kernel for kernel in self.kernels if kernel.kind == PRODUCT and kernel.dtype == dtype]


def read_plan(data: bytes, name: str) -> list[Program]:
    """The programs of a plan; `name` is for messages.

    Raises:
        BundleError: there is no text in it, or none that is understood.
    """
    groups: list[list[_Block]] = []
    for block in map(_Block, _texts(data)):
        if block.capabilities:
            groups.append([block])
        elif groups:
            groups[-1].append(block)
    programs = [Program(first.capabilities, tuple(_kernels(first, inside))) for first, *inside in groups]
    if not any(program.kernels for program in programs):
        raise BundleError(f"{name}: this plan does not hold its kernels as text, as those of TensorRT-RTX 1.7 do")
    return programs


class _Block:
    """One text: the header's fields, tensors by name, and the lines of `main`."""

    def __init__(self, text: str) -> None:
        header, _, rest = text.partition("\ndescriptors {")
        descriptors, _, self.main = rest.partition("\nmain {")
        fields = dict(_FIELD.findall(header))
        found = (n.removeprefix("sm") for n in _items(fields.get("accelerators", "")) if n.startswith("sm"))
        self.capabilities = tuple(f"{n[:-1]}.{n[-1]}" for n in found)
        self.tensors = dict(_tensors(descriptors))

    def nodes(self) -> Iterator[tuple[str, dict[str, str], str]]:
        """Operator, fields and the whole line of every node."""
        for line in self.main.replace("\n[ONNX", " [ONNX").split("\n"):
            found = _NODE.match(line)
            if found:
                yield found.group(1), dict(_FIELD.findall(found.group(2))), line


def _texts(data: bytes) -> Iterator[str]:
    start = data.find(_HEADER)
    while start >= 0:
        following = data.find(_HEADER, start + 1)
        main = data.find(_MAIN, start)
        end = data.find(_END, main)
        if 0 <= main < end and (following < 0 or end < following):
            yield data[start : end + len(_END)].decode("latin1")
        start = following


def _tensors(descriptors: str) -> Iterator[tuple[str, PlanTensor]]:
    for line in descriptors.split("\n"):
        fields = dict(_FIELD.findall(line.partition("={")[2]))
        if "name" in fields and "is_scratchspace" not in fields:
            dims = tuple(int(n) if n.isdecimal() else n for n in _items(fields.get("dims", "")))
            dtype, itemsize = DTYPES.get(fields.get("type", ""), (fields.get("type", "?"), 0))
            yield fields["name"].strip('"'), PlanTensor(dims, dtype, itemsize)


def _items(text: str) -> list[str]:
    return [quoted or bare for quoted, bare in _ITEM.findall(text)]


def _kernels(block: _Block, inside: Sequence[_Block]) -> Iterator[Kernel]:
    for operator, fields, line in block.nodes():
        if operator in ("function", "runtime_fusion", "fully_connected", "corrltn"):
            reads = _named(block, fields.get("input_args") or fields.get("input", ""))
            writes = _named(block, fields.get("output_args") or fields.get("output", ""))
            name = fields["name"].strip('"')
            kind, dtype, flop = _work(operator, name, fields, reads, writes, inside)
            layers = tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", line))
            yield Kernel(kind=kind, name=name, layers=layers, reads=reads, writes=writes, dtype=dtype, flop=flop)


def _named(block: _Block, text: str) -> dict[str, PlanTensor]:
    return {name: block.tensors[name] for name in _items(text) if name in block.tensors}


def _work(
    operator: str,
    name: str,
    fields: Mapping[str, str],
    reads: Mapping[str, PlanTensor],
    writes: Mapping[str, PlanTensor],
    inside: Sequence[_Block],
) -> tuple[str, str, int]:
    """Kind, type of the arithmetic, and FLOP."""
    written = next(iter(writes.values())).dtype if writes else ""
    tensors = list(reads.values())
    if operator == "runtime_fusion":
        number = int(fields["binary"])
        for within in _within(inside[number]) if number < len(inside) else ():
            return within
        return (CONVOLUTION if fields.get("backbone") == "conv" else PRODUCT), written, 0
    if operator in ("fully_connected", "corrltn"):
        return _product(operator, fields, tensors, list(writes.values()))
    if "_mha" in name:
        return ATTENTION, tensors[0].dtype, _attention_flop(tensors, list(writes.values()))
    return kind_of_generated(name), written, 0


def _within(block: _Block) -> Iterator[tuple[str, str, int]]:
    """The product or convolution that a fused kernel is built around."""
    for operator, fields, _ in block.nodes():
        if operator in ("fully_connected", "corrltn"):
            sides = [list(_named(block, fields[side]).values()) for side in ("input", "output")]
            yield _product(operator, fields, *sides)


def _product(
    operator: str, fields: Mapping[str, Any], reads: Sequence[PlanTensor], writes: Sequence[PlanTensor]
) -> tuple[str, str, int]:
    kind = CONVOLUTION if operator == "corrltn" else PRODUCT
    a, b, out = reads[0], reads[1], writes[0]
    if not (a.static and b.static and out.static):
        return kind, a.dtype, 0
    if kind == CONVOLUTION:  # weights are (C_out, C_in, height, width)
        return kind, a.dtype, 2 * out.size * prod(int(n) for n in b.dims[1:])
    summed = int(a.dims[-2 if fields.get("trA") == "true" else -1])
    return kind, a.dtype, 2 * out.size * summed


def _attention_flop(reads: Sequence[PlanTensor], writes: Sequence[PlanTensor]) -> int:
    """Q (B, T, d), K of (B, keys, d) values in whatever order, output (B, T, d)."""
    q, k, out = reads[0], reads[1], writes[0]
    if not (q.static and k.static and out.static):
        return 0
    keys = k.size * int(q.dims[-2]) // q.size
    return 2 * keys * (q.size + out.size)


def kind_of_generated(name: str) -> str:
    """Of a kernel that the compiler generated, whose name lists its steps: `__myl_CastMeanSubMul`."""
    steps = re.findall(r"[A-Z][a-z]*", name.removeprefix("__myl_"))
    if {"Maxr", "Exp"} <= set(steps):
        return SOFTMAX
    if "Mean" in steps:
        return NORM
    return MOVE if steps and set(steps) <= _MOVES else POINTWISE
