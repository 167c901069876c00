"""When engines are checked on the GPU: after a build, on request, and before a first use without either."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from ..bundle import NOT_ON_CPU, Bundle
from ..bundle.reference import REFERENCE_NAME, Reference, load_reference
from ..callbacks import Notice
from ..contract import IMAGE_ENCODER, MASK_DECODER
from ..errors import BackendUnavailable, ConfigError
from ..manifest import EngineEntry, read_manifest, write_manifest
from ..nvidia.flavour import Flavour, TensorRT
from ..nvidia.options import EngineOptions
from ..session import Session
from .parity import against_onnx, against_pytorch, require_close, run_reference
from .store import write_errors

_log = logging.getLogger(__name__)
_REFUSED = (
    "they were not added to the bundle; build with another --optimization-level, export in another --precision, "
    "or report this with the GPU's name"
)
_UNFIT = "do not use them: build them again, or export in another --precision"
_checked: set[tuple[str, str, str]] = set()  # bundle, engine's file name (it holds its hash), GPU


def require_checkable(tensorrt: TensorRT, options: EngineOptions) -> bool:
    """Whether engines of this build can be run here; asked before the build, which takes minutes.

    Raises:
        BackendUnavailable: they could, but for a missing package.
    """
    gpu = tensorrt.gpu
    if gpu is None or not tensorrt.flavour.serves(gpu.compute_capability, options.compute_capabilities):
        return False
    try:
        from ..session import trt  # noqa: F401
    except BackendUnavailable as e:
        raise BackendUnavailable(f"{e}; or build without the check on this GPU: --no-verify") from e
    return True


def check_engines(bundle: Bundle, engines: Mapping[str, EngineEntry], notice: Notice) -> dict[str, Any]:
    """Run engines against the recorded PyTorch results and the ONNX graphs.

    Args:
        bundle: its graphs and recording; the engines' files may lie in a folder in it.
        engines: by graph; the other graph of the two runs as ONNX.
        notice: gets one-line remarks.

    Returns:
        What the manifest records of the check; empty, after a notice, if there is nothing to check with.

    Raises:
        ParityError: they compute something else.
    """
    reference = load_reference(bundle.path)
    if reference is None:
        notice(f"not verified: the bundle has no {REFERENCE_NAME}; export it again with this version")
        return {}
    precision = bundle.manifest.precision
    has_onnx = importlib.util.find_spec("onnxruntime") is not None and precision not in NOT_ON_CPU
    reason = f"{precision} graphs do not run on the CPU" if precision in NOT_ON_CPU else "onnxruntime is missing"
    if not has_onnx and len(engines) < 2:
        notice(f"not verified: {reason}, and one engine alone is checked together with the other graph; build both")
        return {}
    if not has_onnx:
        notice(f"{reason}: verified against the recorded PyTorch results only")
    return _check(bundle, engines, reference, has_onnx=has_onnx)


def verify_engines(bundle: Bundle, flavour: Flavour, notice: Notice) -> dict[str, EngineEntry]:
    """Check the bundle's engines of one flavour on this GPU and note it in the manifest.

    Raises:
        ConfigError: there are none.
        ParityError: they compute something else; the manifest stays as it was.
    """
    engines = {key: e for key, e in bundle.manifest.engines.items() if e.flavour == flavour.name}
    if not engines:
        raise ConfigError(
            f"{bundle.path}: no {flavour.product} engines to verify; build them: {_build(bundle, flavour)}"
        )
    parity = check_engines(bundle, {e.graph: e for e in engines.values()}, notice)
    checked = {key: replace(entry, parity=parity) for key, entry in engines.items()}
    if parity:
        manifest = read_manifest(bundle.path)
        with write_errors(bundle.path):
            write_manifest(bundle.path, replace(manifest, engines={**manifest.engines, **checked}))
    return checked


def check_first_use(bundle: Bundle, providers: Mapping[str, Sequence[str]], encode: Session, decode: Session) -> None:
    """Check engines that were never checked on this GPU against the recorded PyTorch results, once per process.

    Args:
        bundle: theirs.
        providers: by graph; one or both run engines.
        encode, decode: the sessions.

    Raises:
        ParityError: they compute something else.
    """
    from ..session.trt import TrtSession

    sessions = {IMAGE_ENCODER: encode, MASK_DECODER: decode}
    engines = {graph: session for graph, session in sessions.items() if isinstance(session, TrtSession)}
    entries = [bundle.engine(graph, providers[graph]) for graph in engines]
    name = next(iter(engines.values())).gpu.name
    marks = {(str(bundle.path), entry.file, name) for entry in entries}
    if all(entry.parity.get("gpu") == name for entry in entries) or marks <= _checked:
        return
    reference = load_reference(bundle.path)
    if reference is None:
        _log.warning("%s: engines not verified on this GPU, and no %s to do it with", bundle.path, REFERENCE_NAME)
        return
    outputs = run_reference(bundle, reference, encode, decode)
    require_close(bundle, [against_pytorch(reference, outputs)], _UNFIT)
    _checked.update(marks)


def _check(
    bundle: Bundle, engines: Mapping[str, EngineEntry], reference: Reference, *, has_onnx: bool
) -> dict[str, Any]:
    from ..session.trt import TrtSession

    graphs = (IMAGE_ENCODER, MASK_DECODER)
    with ExitStack() as stack:
        onnx = [stack.enter_context(bundle.open(graph)) for graph in graphs] if has_onnx else []
        opened = {
            graph: stack.enter_context(TrtSession(bundle.path, bundle.manifest, entry))
            for graph, entry in engines.items()
        }
        sessions: list[Session] = [opened.get(graph) or onnx[index] for index, graph in enumerate(graphs)]
        outputs = run_reference(bundle, reference, *sessions)
        found = [against_pytorch(reference, outputs)]
        if onnx:
            found.append(against_onnx(outputs, run_reference(bundle, reference, *onnx)))
    gpu = next(iter(opened.values())).gpu
    return {"gpu": gpu.name, "compute_capability": gpu.compute_capability, **require_close(bundle, found, _REFUSED)}


def _build(bundle: Bundle, flavour: Flavour) -> str:
    return f"samhq engine {bundle.path} --target {flavour.name}"
