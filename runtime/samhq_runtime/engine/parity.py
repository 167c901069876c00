"""The gate on the target: engines against what PyTorch computed at export, and against the bundle's own ONNX graphs.

A builder picks kernels for one GPU, and some have been wrong on some GPUs without a word. Only running the engine
where it will run finds that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..bundle import Bundle
from ..bundle.reference import Reference, sample
from ..contract import NUM_SAM_TOKENS, Array
from ..errors import ParityError
from ..frames.geometry import preprocess
from ..parity import Tolerance, mask_overlap, relative_error
from ..session import Session, Tensor

Outputs = dict[str, list[Array]]  # by output name, one array per case


# Wider than those of the export: other kernels, other order of sums. A wrong kernel is off by far more.
TOLERANCES = {
    "fp32": Tolerance(relative=5e-3, iou=0.999),
    "fp16": Tolerance(relative=1e-1, iou=0.97),
    "bf16": Tolerance(relative=2e-1, iou=0.95),
    "int8": Tolerance(relative=3e-1, iou=0.90),
}


@dataclass(frozen=True)
class Closeness:
    """How close a set of results is to one reference.

    Attributes:
        against: `pytorch` or `onnx`.
        mask_iou: per token mask, over all prompts together.
        relative: per output, largest error over the reference's range.
    """

    against: str
    mask_iou: Mapping[str, float]
    relative: Mapping[str, float]

    def breaches(self, tolerance: Tolerance) -> list[str]:
        """What is out of tolerance, in words; NaN always is."""
        bad = [
            f"mask {name} against {self.against}: IoU {iou:.4f}, at least {tolerance.iou} required"
            for name, iou in self.mask_iou.items()
            if not iou >= tolerance.iou
        ]
        return bad + [
            f"{name} against {self.against}: relative error {error:.1e}, at most {tolerance.relative:.0e} allowed"
            for name, error in self.relative.items()
            if not error <= tolerance.relative
        ]


def tolerance_of(precision: str) -> Tolerance:
    """Of a bundle's precision; mixed ones are named by their coarsest type first."""
    return next((t for name, t in TOLERANCES.items() if precision.startswith(name)), TOLERANCES["int8"])


def run_reference(bundle: Bundle, reference: Reference, encode: Session, decode: Session) -> Outputs:
    """Every output of both graphs for the recorded image and prompts, and for a mask prompt of their own."""
    manifest = bundle.manifest
    input_image = preprocess(reference.image, manifest.sizes.image_size, manifest.pixel_mean, manifest.pixel_std)
    features: Mapping[str, Tensor] = encode.keep({"input_image": input_image})
    outputs: Outputs = {name: [np.asarray(tensor)] for name, tensor in features.items()}
    cases = [case.feeds(manifest.sizes) for case in reference.cases]
    for feeds in cases:
        for name, array in decode({**features, **feeds}).items():
            outputs.setdefault(name, []).append(array)
    refined = decode({**features, **cases[0], **_mask_prompt(outputs["low_res_logits"][0])})
    for name, array in refined.items():
        outputs[name].append(array)
    return outputs


def against_pytorch(reference: Reference, outputs: Outputs) -> Closeness:
    """Held against the recording, at the places it has; the mask prompt is not in it."""
    count = len(reference.cases)
    want: Outputs = {name: [array] for name, array in reference.features.items()}
    for name in reference.cases[0].outputs:
        want[name] = [case.outputs[name] for case in reference.cases]
    got = {name: [sample(name, array) for array in outputs[name][:count]] for name in want}
    return _compare("pytorch", got, want)


def against_onnx(outputs: Outputs, expected: Outputs) -> Closeness:
    """Held against the graphs' own results, all of them."""
    return _compare("onnx", outputs, expected)


def require_close(bundle: Bundle, found: list[Closeness], advice: str) -> dict[str, Any]:
    """The figures, as the manifest keeps them.

    Raises:
        ParityError: out of tolerance.
    """
    tolerance = tolerance_of(bundle.manifest.precision)
    breaches = [text for closeness in found for text in closeness.breaches(tolerance)]
    if breaches:
        more = f" and {len(breaches) - 1} more" if len(breaches) > 1 else ""
        raise ParityError(f"these engines compute something else on this GPU: {breaches[0]}{more}; {advice}")
    return {c.against: {"mask_iou": dict(c.mask_iou), "relative": dict(c.relative)} for c in found}


def _mask_prompt(logits: Array) -> dict[str, Array]:
    return {"mask_input": logits[:, :1].astype(np.float32), "has_mask_input": np.ones(1, np.float32)}


def _compare(against: str, got: Outputs, want: Outputs) -> Closeness:
    joined = {name: tuple(_join(side[name]) for side in (got, want)) for name in want}
    both, either = (counts.sum(axis=0) for counts in mask_overlap(*joined["low_res_logits"]))  # over the prompts
    iou = np.where(either == 0, 1.0, both / np.maximum(either, 1))
    names = [*(f"sam_{i}" for i in range(NUM_SAM_TOKENS)), "hq"][: len(iou)]
    return Closeness(
        against,
        {name: float(value) for name, value in zip(names, iou, strict=True)},
        {name: relative_error(*pair) for name, pair in joined.items()},
    )


def _join(arrays: list[Array]) -> Array:
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
