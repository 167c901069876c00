"""What the real builder compiles our graphs to, read from its plans: the gate that keeps engines fused.

One table for every size, graph and precision. A kernel more than pinned is a pass that broke a fusion, or another
builder: look at the plan's kernels (`samhq_runtime.nvidia.plan`) before a number is raised.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from samhq_exporter.architecture import VARIANTS
from samhq_exporter.onnx_files import save_graph
from samhq_exporter.precision.policy import PRECISIONS, TABLE
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER
from samhq_runtime.nvidia.options import EngineOptions
from samhq_runtime.nvidia.plan import ATTENTION, PRODUCT, SOFTMAX, Program
from samhq_runtime.nvidia.profiles import DEFAULT_RANGES, Range
from tests.support.seeded_graphs import SHORTENED, compiled, programs_of, spec_of, typed
from tests.support.tensorrt_builder import parse, require_rtx

MARGIN = 2  # kernels
LARGEST = 64e6  # bytes of one intermediate, but see `bound`
# TensorRT has no fused attention in float32: vit_b's scores of a global block; a hidden layer of vit_tiny.
LARGEST_IN_FLOAT32 = {"vit_b": 12 * 4096 * 4096 * 4, "vit_tiny": 256 * 256 * 256 * 4}
ONE_PROMPT = {name: (Range(n, n, n),) for name, n in (("prompts", 1), ("points", 2), ("combinations", 1))}
ATTENTIONS = {"demo": 5, "vit_tiny": 10, "vit_b": 12, "hiera_demo": 7, "hiera_tiny": 12}  # of an encoder, all fused
# Of the seven of a decoder in float16, those that are fused with one prompt, and with the default profile. Never the
# two from image to tokens, whose heads share one product; those from tokens to the image where prompts are several;
# those among tokens but for heads of 8 numbers.
ATTENTIONS_OF_DECODER = {
    "demo": (0, 2),
    "vit_tiny": (2, 4),
    "vit_b": (2, 4),
    "hiera_demo": (0, 3),
    "hiera_tiny": (2, 5),
}
QUANTIZED = {"demo": 20, "vit_tiny": 40, "vit_b": 48}  # products of an int8 or fp8 encoder

ENCODER = {  # kernels, products of float32 operands (stated islands: neck and HQ features of bf16)
    ("demo", "fp32"): (85, 45),
    ("demo", "fp16"): (74, 0),
    ("demo", "bf16"): (77, 5),
    ("demo", "int8"): (80, 0),
    ("demo", "fp8"): (80, 0),
    ("vit_tiny", "fp32"): (190, 65),
    ("vit_tiny", "fp16"): (145, 0),
    ("vit_tiny", "bf16"): (146, 5),
    ("vit_tiny", "int8"): (155, 0),
    ("vit_tiny", "fp8"): (155, 0),
    ("vit_b", "fp32"): (199, 101),
    ("vit_b", "fp16"): (175, 0),
    ("vit_b", "bf16"): (177, 5),
    ("vit_b", "int8"): (188, 0),
    ("vit_b", "fp8"): (188, 0),
    ("hiera_demo", "fp16"): (84, 0),
    ("hiera_tiny", "fp16"): (133, 0),
}
DECODER = {  # kernels with one prompt, and with the default profile; products of float32 operands in the two
    ("demo", "fp32"): (91, 101, 34, 44),
    ("demo", "fp16"): (95, 107, 7, 11),
    ("demo", "bf16"): (91, 101, 34, 44),
    ("demo", "int8"): (95, 107, 7, 11),
    ("demo", "fp8"): (95, 107, 7, 11),
    ("vit_tiny", "fp32"): (92, 103, 36, 44),
    ("vit_tiny", "fp16"): (89, 96, 7, 11),
    ("vit_tiny", "bf16"): (92, 103, 36, 44),
    ("vit_tiny", "int8"): (89, 96, 7, 11),
    ("vit_tiny", "fp8"): (89, 96, 7, 11),
    ("vit_b", "fp32"): (92, 103, 36, 44),
    ("vit_b", "fp16"): (89, 96, 7, 11),
    ("vit_b", "bf16"): (92, 103, 36, 44),
    ("vit_b", "int8"): (89, 96, 7, 11),
    ("vit_b", "fp8"): (89, 96, 7, 11),
    ("hiera_demo", "fp16"): (104, 110, 6, 13),
    ("hiera_tiny", "fp16"): (90, 101, 6, 13),
}
SMALL = ("demo", "hiera_demo")


def test_every_precision_has_its_rows() -> None:
    """One of SAM 2's: what differs from SAM-HQ's is not the precision."""
    sam_2 = {(size, "fp16") for size in ATTENTIONS if size.startswith("hiera")}
    cases = {(size, precision) for size in ATTENTIONS if not size.startswith("hiera") for precision in PRECISIONS}
    assert cases | sam_2 == ENCODER.keys() == DECODER.keys()


def rows(table: dict[tuple[str, str], tuple[int, ...]]) -> list[object]:
    return [pytest.param(*key, *row, marks=_marks(key[0])) for key, row in table.items()]


def _marks(size: str) -> list[pytest.MarkDecorator]:
    if size in SMALL:
        return []
    return [pytest.mark.released if size == "hiera_tiny" else pytest.mark.slow]


@pytest.mark.parametrize(("size", "precision", "kernels", "single"), rows(ENCODER))
def test_encoder(size: str, precision: str, kernels: int, single: int, tmp_path: Path) -> None:
    """Every attention in half precision is one kernel, and nothing large is written to memory; in float32 none is."""
    require_rtx()
    program = compiled(size, IMAGE_ENCODER, precision, tmp_path)
    attentions = (program.count(ATTENTION), program.count(SOFTMAX))
    assert attentions == ((0, ATTENTIONS[size]) if precision == "fp32" else (ATTENTIONS[size], 0))
    assert kernels - MARGIN <= len(program.kernels) <= kernels + MARGIN
    assert len(program.products("float32")) == single
    if precision == "fp32" and size in LARGEST_IN_FLOAT32:
        assert largest(program) == LARGEST_IN_FLOAT32[size]
    else:
        assert largest(program) <= bound(size)
    if number := {"int8": "int8", "fp8": "float8"}.get(TABLE[precision].number):
        products = program.products(number)
        assert len(products) == QUANTIZED[size]
        assert {tensor.dtype for kernel in products for tensor in kernel.writes.values()} <= {"float16"}


@pytest.mark.released
@pytest.mark.parametrize(
    ("size", "precision"),
    [
        ("vit_l of 2 blocks", "bf16"),
        ("vit_l of 2 blocks", "fp16"),
        ("vit_h of 2 blocks", "fp16"),
        ("vit_h of 2 blocks", "int8"),
        ("hiera_large of 8 blocks", "fp16"),
    ],
)
def test_attentions_of_wide_encoders(size: str, precision: str, tmp_path: Path) -> None:
    """Heads of 64, of 80 and of 72 numbers."""
    require_rtx()
    program = compiled(size, IMAGE_ENCODER, precision, tmp_path)
    assert (program.count(ATTENTION), program.count(SOFTMAX)) == (SHORTENED[size].depth, 0)
    assert largest(program) <= bound(size)


@pytest.mark.parametrize(("size", "precision", "one", "dynamic", "single", "single_dynamic"), rows(DECODER))
def test_decoder(
    size: str, precision: str, one: int, dynamic: int, single: int, single_dynamic: int, tmp_path: Path
) -> None:
    require_rtx()
    fused = ATTENTIONS_OF_DECODER[size] if TABLE[precision].compute == "float16" else (0, 0)
    cases = ((ONE_PROMPT, one, single, fused[0]), (None, dynamic, single_dynamic, fused[1]))
    for ranges, kernels, floats, attentions in cases:
        program = compiled(size, MASK_DECODER, precision, tmp_path, ranges)
        assert (program.count(ATTENTION), program.count(SOFTMAX)) == (attentions, 7 - attentions)
        assert kernels - MARGIN <= len(program.kernels) <= kernels + MARGIN
        assert len(program.products("float32")) == floats
        assert largest(program) <= LARGEST
        assert not inputs_of_attention(program) & {
            tensor.name for tensor in spec_of(size, MASK_DECODER, precision).inputs
        }


def inputs_of_attention(program: Program) -> set[str]:
    """Names of what fused attentions read.

    TensorRT 11.2 computes with wrong strides where that is a network input, transposed (NVIDIA/TensorRT issue 4826);
    `image_embeddings` are keys and values of the decoder, and a copy lies between.
    """
    return {name.partition(".")[0] for kernel in program.kernels if kernel.kind == ATTENTION for name in kernel.reads}


def bound(size: str) -> float:
    """Bytes: Hiera's first pooling block makes queries, keys, values and shortcut of eight widths before it pools."""
    arch = {**VARIANTS, **SHORTENED}[size]
    return max(LARGEST, 2 * 8 * arch.encoder_dim * (arch.image_size // 4) ** 2 if arch.hiera else 0)


def largest(program: Program) -> int:
    return max(tensor.nbytes for kernel in program.kernels for tensor in kernel.writes.values())


def test_profile_of_one_prompt_is_as_lean_as_an_engine_for_one(tmp_path: Path) -> None:
    require_rtx()
    spec = spec_of("demo", MASK_DECODER, "fp16")
    save_graph(typed("demo", MASK_DECODER, "fp16").model, tmp_path / "graph.onnx")
    ranges = {name: (*one, DEFAULT_RANGES[name]) for name, one in ONE_PROMPT.items()}
    one, dynamic = programs_of(parse(tmp_path, "graph.onnx", spec), spec, ranges)
    expected = DECODER["demo", "fp16"][:2]
    assert [len(one.kernels), len(dynamic.kernels)] == pytest.approx(expected, abs=MARGIN)
    assert not any(kernel.open for kernel in one.kernels)


def test_float8_on_blackwell(tmp_path: Path) -> None:
    """Asked for by name; the default is 8.9."""
    require_rtx()
    spec = spec_of("demo", IMAGE_ENCODER, "fp8")
    save_graph(typed("demo", IMAGE_ENCODER, "fp8").model, tmp_path / "graph.onnx")
    options = EngineOptions(compute_capabilities=("12.0",))
    (program,) = programs_of(parse(tmp_path, "graph.onnx", spec), spec, None, options)
    assert program.capabilities == ("12.0",)
    assert len(program.products("float8")) == QUANTIZED["demo"]
    assert (program.count(ATTENTION), program.count(SOFTMAX)) == (ATTENTIONS["demo"], 0)


def test_attention_of_the_model_is_not_fused_without_padding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why `pad_attention` is there, and that what is counted here would show it."""
    require_rtx()
    monkeypatch.setattr("samhq_exporter.precision.forms.pad_attention", lambda model: 0)
    program = compiled("demo", IMAGE_ENCODER, "fp16", tmp_path)
    assert (program.count(ATTENTION), program.count(SOFTMAX)) == (0, 5)
    padded = sum(kernel.flop for kernel in program.kernels if kernel.kind == PRODUCT)
    assert padded > 2e9
