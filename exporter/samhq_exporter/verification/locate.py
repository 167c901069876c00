"""Which node of a written bundle departs from the float32 graph that it was typed from."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from samhq_runtime.bundle import Bundle
from samhq_runtime.debug import Departure, locate_in_graphs

from ..model import PlainSam
from ..onnx_files import save_graph
from ..passes import simplify
from ..steps import Step
from ..tracing.modules import graphs_of
from ..tracing.trace import trace
from .emulation import runnable

Located = Callable[[Mapping[str, Departure | None]], None]


def locate(bundle: Bundle, sam: PlainSam, *, step: Step) -> Mapping[str, Departure | None]:
    """Trace the model again, in float32, and compare; bf16 through its emulation.

    Args:
        bundle: as `gate` leaves it, with the recorded image and prompts.
        sam: the model it was exported from.
        step: progress display.
    """
    with tempfile.TemporaryDirectory(dir=bundle.path) as temporary, runnable(bundle, bundle.path) as here:
        references = {}
        with step("locate"):
            for graph in graphs_of(sam):
                model = trace(graph)
                simplify(model)
                references[graph.spec.name] = Path(temporary) / f"{graph.spec.name}.onnx"
                save_graph(model, references[graph.spec.name])
            return locate_in_graphs(bundle, here.graph_files, references)
