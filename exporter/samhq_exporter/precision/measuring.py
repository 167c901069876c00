"""Policies completed by what calibration images show: islands of float16 and scales of quantized products."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, ModelSizes
from samhq_runtime.errors import GraphError
from samhq_runtime.frames.geometry import preprocess

from ..architecture import PIXEL_MEAN, PIXEL_STD
from ..passes.matching import matches_any
from ..passes.quantize import NUMBERS, activations_of, weight_of
from ..scenes.sample_prompts import prompt_feeds
from .calibration import CalibrationImage
from .clipping import activation_scale
from .islands import SAFETY, float16_islands, require_half_io
from .options import PrecisionOptions
from .policy import TABLE, PrecisionPolicy
from .ranges import RangeRecorder


@dataclass(frozen=True)
class Ranges:
    """What was measured on calibration images.

    Attributes:
        largest: the largest magnitude of every value, by graph and value name.
        layers: the products that are quantized, and the scale of each of their activations; the encoder's alone.
        origin: how many images of which kind, for the manifest.
    """

    largest: Mapping[str, Mapping[str, float]]
    layers: Mapping[str, tuple[float, ...]]
    origin: Mapping[str, object]


def measure(models: Mapping[str, ir.Model], sizes: ModelSizes, folder: Path, options: PrecisionOptions) -> Ranges:
    """Run both simplified float32 graphs on every calibration image.

    Args:
        models: encoder and decoder by name; not changed.
        sizes: of the model.
        folder: where the instrumented graphs lie meanwhile.
        options: the precision, whose quantized layers' scales are wanted, and what to measure on.

    Raises:
        GraphError: no layer to quantize, or values that are infinite or NaN in float32 already.
    """
    row = TABLE[options.precision]
    fragment = row.quantized.get(IMAGE_ENCODER)
    encoder = models[IMAGE_ENCODER]
    nodes = [] if fragment is None else quantizable_nodes(encoder, fragment, options.keep_fp32)
    inputs = {str(value.name) for node in nodes for value in activations_of(node)}
    images = options.calibration.images
    with _recorders(models, folder, sampled=inputs) as (encode, decode):
        for load in images:
            _run(encode, decode, load, sizes)
        scales = {
            v: activation_scale(encode.magnitudes(v), encode.largest[v], options.clipping, NUMBERS[row.number])
            for v in inputs
        }
        largest = {IMAGE_ENCODER: encode.largest, MASK_DECODER: decode.largest}
    layers = {str(node.name): tuple(scales[str(v.name)] for v in activations_of(node)) for node in nodes}
    return Ranges(largest, layers, {"images": len(images), "source": options.calibration.source})


def quantizable_nodes(model: ir.Model, fragment: str, keep_fp32: tuple[str, ...]) -> list[ir.Node]:
    """The products whose name has `fragment` and that are quantized, less those the user keeps in float32.

    All with a constant weight. Those of attention stay: fused kernels never write their scores to memory, which gains
    more than int8 would, and most values of a softmax lie below one int8 step.

    Raises:
        GraphError: there is none: a stale policy, or all of them are kept in float32.
    """
    found = [node for node in model.graph if fragment in (node.name or "") and weight_of(node) is not None]
    nodes = [node for node in found if not matches_any(node, keep_fp32)]
    if not nodes:
        raise GraphError(
            f"{model.graph.name}: no layer to quantize among {len(found)} MatMul nodes named *{fragment}*; "
            "keep fewer in float32, or export with another --precision"
        )
    return nodes


def completed(policy: PrecisionPolicy, model: ir.Model, ranges: Ranges, options: PrecisionOptions) -> PrecisionPolicy:
    """The stated policy of `model` with its measured part.

    Raises:
        GraphError: an output that must be float16 does not fit it.
    """
    name, row, origin = str(model.graph.name), TABLE[options.precision], dict(ranges.origin)
    if policy.compute == "float16":
        require_half_io(model, ranges.largest[name], row.half_io)
        policy = replace(policy, measured_islands=float16_islands(model, ranges.largest[name], policy))
        origin["safety"] = SAFETY
    if name == IMAGE_ENCODER and ranges.layers:
        policy = replace(policy, number=row.number, quantized_layers=dict(ranges.layers))
        origin["clipping"] = options.clipping
    return replace(policy, ranges=origin)


@contextmanager
def _recorders(
    models: Mapping[str, ir.Model], folder: Path, *, sampled: Collection[str]
) -> Iterator[tuple[RangeRecorder, RangeRecorder]]:
    """Encoder and decoder; `sampled` are values of the encoder."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        RangeRecorder(models[IMAGE_ENCODER], Path(temporary), sampled=sampled) as encode,
        RangeRecorder(models[MASK_DECODER], Path(temporary)) as decode,
    ):
        yield encode, decode


def _run(encode: RangeRecorder, decode: RangeRecorder, load: Callable[[], CalibrationImage], sizes: ModelSizes) -> None:
    sample = load()
    hw = (sample.image.shape[0], sample.image.shape[1])
    features = encode.run({"input_image": preprocess(sample.image, sizes.frame, PIXEL_MEAN, PIXEL_STD)})
    for feeds in prompt_feeds(sizes, hw, sample.boxes):
        decode.run({**features, **feeds})
