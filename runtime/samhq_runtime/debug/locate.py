"""The first node whose result departs from the reference.

Values are marked as outputs a few at a time: sixteen, evenly spread over what the departing output is computed from,
then sixteen between the last good and the first bad one, until they are neighbours. Bad values in another branch are
followed up to where they begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Bundle
from ..bundle.reference import REFERENCE_NAME, load_reference
from ..contract import IMAGE_ENCODER, MASK_DECODER, Array
from ..errors import BundleError
from ..frames.geometry import preprocess
from ..parity import EXPORT_TOLERANCES, tolerance_of
from .graph import GraphFile
from .sides import Side, compute, errors_of, onnx_side, tensorrt_side

_PROBES = 16
_GRAPHS = (IMAGE_ENCODER, MASK_DECODER)


@dataclass(frozen=True, kw_only=True)
class Departure:
    """The first node of a graph that departs.

    Attributes:
        graph: image encoder or mask decoder.
        node: its name, and its operator.
        error: the largest error of its result over the reference's range; infinite for NaN and overflow.
        before: the largest error among the values it reads.
        pattern: what `--keep-fp32` takes to keep the part that holds the node in float32.
    """

    graph: str
    node: str
    operator: str
    error: float
    before: float
    pattern: str


def locate_in_graphs(
    bundle: Bundle, files: Mapping[str, Path], references: Mapping[str, Path]
) -> dict[str, Departure | None]:
    """Compare graphs with float32 ones on the CPU, both on the same inputs.

    Args:
        bundle: whose recorded image and prompts are run, and whose precision says what departs.
        files: encoder and decoder as they are run.
        references: the same graphs in float32; their nodes have the same names.

    Returns:
        By graph; None where no output departs by more than the tolerance of the export.
    """
    graphs = {name: (GraphFile(files[name]), GraphFile(references[name])) for name in _GRAPHS}
    feeds = _feeds(bundle, graphs[IMAGE_ENCODER][1])
    found = {}
    for name, (graph, reference) in graphs.items():
        sides = onnx_side(graph, feeds[name]), onnx_side(reference, feeds[name])
        found[name] = _Search(bundle, graph, reference, *sides).run(name)
    return found


def locate_in_engine(bundle: Bundle) -> dict[str, Departure | None]:
    """Compare what TensorRT computes on this GPU with the same graph under ONNX Runtime on the CPU."""
    graphs = {name: GraphFile(file) for name, file in bundle.graph_files.items()}
    feeds = _feeds(bundle, graphs[IMAGE_ENCODER])
    found = {}
    for name, graph in graphs.items():
        sides = tensorrt_side(graph, feeds[name]), onnx_side(graph, feeds[name])
        found[name] = _Search(bundle, graph, graph, *sides).run(name)
    return found


class _Search:
    """Bisection over the values that both graphs have."""

    def __init__(self, bundle: Bundle, graph: GraphFile, reference: GraphFile, candidate: Side, truth: Side) -> None:
        self.graph, self.candidate, self.truth = graph, candidate, truth
        self.common = graph.floats & reference.floats & graph.producers.keys() & reference.producers.keys()
        self.limit = tolerance_of(bundle.manifest.precision, EXPORT_TOLERANCES).relative
        self.known: dict[str, float] = {}

    def run(self, name: str) -> Departure | None:
        departing = self._bad([output for output in self.graph.outputs if output in self.common])
        before: list[str] = []
        while departing:
            value = self._first(self.graph.ancestors(departing[:1], self.common))
            before = self._read_by(value)
            departing = self._bad(before)
            if not departing:
                return self._departure(name, value, before)
        return None

    def _first(self, values: Sequence[str]) -> str:
        """The first departing one between a departing last one and the good ones before it."""
        good, bad = -1, len(values) - 1
        while bad - good > 1:
            step = max(1, -(-(bad - good) // (_PROBES + 1)))
            probes = range(good + step, bad, step)
            departing = self._bad([values[i] for i in probes])
            bad = min((i for i in probes if values[i] in departing), default=bad)
            good = max((i for i in probes if i < bad), default=good)
        return values[bad]

    def _read_by(self, value: str) -> list[str]:
        """The nearest common values that the node of `value` is computed from."""
        found, waiting = set(), list(self.graph.producers[value].input)
        while waiting:
            name = waiting.pop()
            if name in self.common:
                found.add(name)
            elif name in self.graph.producers:
                waiting.extend(self.graph.producers[name].input)
        return sorted(found)

    def _bad(self, names: Sequence[str]) -> list[str]:
        new = [name for name in names if name not in self.known]
        if new:
            self.known |= dict.fromkeys(new, 0.0) | errors_of(self.candidate, self.truth, new)
        return [name for name in names if self.known[name] > self.limit]

    def _departure(self, graph: str, value: str, before: Sequence[str]) -> Departure:
        node = self.graph.producers[value]
        return Departure(
            graph=graph,
            node=node.name,
            operator=node.op_type,
            error=self.known[value],
            before=max((self.known[name] for name in before), default=0.0),
            pattern=pattern_of(node.name),
        )


def pattern_of(node: str) -> str:
    """A pattern of `--keep-fp32` for the module around a node: what comes next would overflow as well."""
    *modules, _ = node.split("/")
    if len(modules) < 2:
        return f"{node}*"
    return "/".join(modules[: max(2, len(modules) - 1)]) + "/"


def _feeds(bundle: Bundle, encoder: GraphFile) -> dict[str, dict[str, Array]]:
    """The recorded image; the first recorded prompts on what `encoder` makes of it."""
    recorded = load_reference(bundle.path)
    if recorded is None:
        raise BundleError(f"{bundle.path}: has no {REFERENCE_NAME} to run; export it again with this version")
    manifest = bundle.manifest
    frame = manifest.sizes.frame
    pixels = {"input_image": preprocess(recorded.image, frame, manifest.pixel_mean, manifest.pixel_std)}
    features = compute(onnx_side(encoder, pixels), encoder.outputs)
    return {IMAGE_ENCODER: pixels, MASK_DECODER: {**features, **recorded.prompts[0].feeds(manifest.sizes)}}
