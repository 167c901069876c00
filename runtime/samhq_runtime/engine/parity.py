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
from ..contract import Array
from ..errors import ParityError
from ..frames.geometry import preprocess
from ..parity import (
    ENGINE_TOLERANCES,
    TOKEN_MASK_LABELS,
    Tolerance,
    breaches,
    iou_of,
    mask_overlap,
    relative_error,
    tolerance_of,
)
from ..session import Session, Tensor

Outputs = dict[str, list[Array]]  # by output name, one array per call


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
        """What is out of tolerance, in words."""
        return breaches(tolerance, mask_iou=self.mask_iou, relative=self.relative, against=self.against)


def run_reference(bundle: Bundle, reference: Reference, encode: Session, decode: Session) -> Outputs:
    """Every output of both graphs for the recorded image and prompts, and for a mask prompt of their own."""
    return decode_reference(bundle, reference, encode.keep({"input_image": reference_input(bundle, reference)}), decode)


def reference_input(bundle: Bundle, reference: Reference) -> Array:
    """The recorded image as the encoder takes it."""
    manifest = bundle.manifest
    return preprocess(reference.image, manifest.sizes.frame, manifest.pixel_mean, manifest.pixel_std)


def decode_reference(bundle: Bundle, reference: Reference, features: Mapping[str, Tensor], decode: Session) -> Outputs:
    """As `run_reference`, of an image that was encoded before."""
    outputs: Outputs = {name: [np.asarray(tensor)] for name, tensor in features.items()}
    prompts = [recorded.feeds(bundle.manifest.sizes) for recorded in reference.prompts]
    for feeds in prompts:
        for name, array in decode({**features, **feeds}).items():
            outputs.setdefault(name, []).append(array)
    refined = decode({**features, **prompts[0], **_mask_prompt(outputs["low_res_logits"][0])})
    for name, array in refined.items():
        outputs[name].append(array)
    return outputs


def against_pytorch(reference: Reference, outputs: Outputs) -> Closeness:
    """Compared with the recording, which has samples, and no mask prompt."""
    count = len(reference.prompts)
    want: Outputs = {name: [array] for name, array in reference.features.items()}
    for name in reference.prompts[0].outputs:
        want[name] = [recorded.outputs[name] for recorded in reference.prompts]
    got = {name: [sample(name, array) for array in outputs[name][:count]] for name in want}
    return _compare("pytorch", got, want)


def against_onnx(outputs: Outputs, expected: Outputs) -> Closeness:
    """Compared with all results of the graphs themselves."""
    return _compare("onnx", outputs, expected)


def require_close(bundle: Bundle, found: list[Closeness], advice: str) -> dict[str, Any]:
    """The figures, as the manifest keeps them.

    Raises:
        ParityError: out of tolerance.
        BundleError: no tolerance is known for the bundle's precision.
    """
    tolerance = tolerance_of(bundle.manifest.precision, ENGINE_TOLERANCES)
    wrong = [text for closeness in found for text in closeness.breaches(tolerance)]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ParityError(f"these engines compute something else on this GPU: {wrong[0]}{more}; {advice}")
    return {c.against: {"mask_iou": dict(c.mask_iou), "relative": dict(c.relative)} for c in found}


def _mask_prompt(logits: Array) -> dict[str, Array]:
    return {"mask_input": logits[:, :1].astype(np.float32), "has_mask_input": np.ones(1, np.float32)}


def _compare(against: str, got: Outputs, want: Outputs) -> Closeness:
    joined = {name: tuple(_join(side[name]) for side in (got, want)) for name in want}
    both, either = (counts.sum(axis=0) for counts in mask_overlap(*joined["low_res_logits"]))  # over the prompts
    iou = iou_of(both, either)
    return Closeness(
        against,
        {name: float(value) for name, value in zip(TOKEN_MASK_LABELS[: len(iou)], iou, strict=True)},
        {name: relative_error(*pair) for name, pair in joined.items()},
    )


def _join(arrays: list[Array]) -> Array:
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
