"""How close the written graphs are, under ONNX Runtime, to the PyTorch model, on the same image and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from samhq_runtime.bundle import Bundle
from samhq_runtime.bundle.reference import PROMPTS, RecordedPrompts, Reference, sample, save_reference
from samhq_runtime.contract import IMAGE_ENCODER, MASK_DECODER, NUM_SAM_TOKENS, Array
from samhq_runtime.errors import ParityError
from samhq_runtime.frames.geometry import preprocess
from samhq_runtime.parity import (
    EXPORT_TOLERANCES,
    TOKEN_MASK_LABELS,
    Tolerance,
    breaches,
    relative_error,
    tolerance_of,
)
from samhq_runtime.parity import mask_iou as mask_iou_of
from samhq_runtime.session import open_session

from ..model import PlainSam
from ..scenes.sample_prompts import prompt_feeds

_TIE = 1e-3  # difference of predicted IoU


@dataclass(frozen=True)
class TensorParity:
    max_abs: float
    mean_abs: float
    relative: float


@dataclass(frozen=True)
class ParityReport:
    """Errors per output, mask IoU per token mask and after the choice of the best multimask candidate.

    Attributes:
        tensors: output name -> errors against PyTorch.
        mask_iou: smallest IoU over the prompts of each token mask (`sam_0` ... `sam_3`, `hq`) and of `selected`.
        ties: prompts whose best candidate differs only because PyTorch itself rates both alike, within 1e-3.
    """

    tensors: Mapping[str, TensorParity]
    mask_iou: Mapping[str, float]
    ties: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def breaches(self, tolerance: Tolerance) -> list[str]:
        """What is out of tolerance, in words; empty if the graphs may ship."""
        relative = {name: errors.relative for name, errors in self.tensors.items()}
        return breaches(tolerance, mask_iou=self.mask_iou, relative=relative, against="pytorch")


def verify(
    bundle: Bundle, sam: PlainSam, image: NDArray[np.uint8], boxes: NDArray[Any], *, record: Path | None = None
) -> ParityReport:
    """Run the bundle's graphs and `sam` on the same inputs.

    Args:
        bundle: as written to disk.
        sam: the float32 model it was exported from.
        image: (H,W,3) uint8.
        boxes: (B,4) x0, y0, x1, y1 in pixels of `image`; points and mask prompts are derived from them.
        record: file for what `sam` computes, which engines are held against on their own machine.
    """
    manifest = bundle.manifest
    input_image = preprocess(image, manifest.sizes.frame, manifest.pixel_mean, manifest.pixel_std)
    with torch.inference_mode():
        features = [t.numpy() for t in sam.encode_image(torch.from_numpy(input_image))]
    expected = dict(zip(_outputs(bundle, IMAGE_ENCODER), features, strict=True))
    prompts = list(prompt_feeds(manifest.sizes, (image.shape[0], image.shape[1]), boxes))
    references = [expected, *(_torch_decode(sam, expected, feeds, _outputs(bundle, MASK_DECODER)) for feeds in prompts)]
    got: dict[str, list[Array]] = {}
    want: dict[str, list[Array]] = {}
    for files in _forms(bundle):
        for reference, result in zip(references, _run(bundle, files, input_image, prompts), strict=True):
            for name, array in reference.items():
                got.setdefault(name, []).append(result[name])
                want.setdefault(name, []).append(array)
    if record is not None:
        sampled = {name: sample(name, array) for name, array in expected.items()}
        # Mask prompts would take more room than all the rest.
        given = [(f, r) for f, r in zip(prompts, references[1:], strict=True) if not f["has_mask_input"].any()]
        save_reference(record, Reference(image, sampled, [_recorded(*pair) for pair in given]))
    return _compare(got, want)


def _outputs(bundle: Bundle, graph: str) -> list[str]:
    return [tensor.name for tensor in bundle.manifest.graphs[graph].spec.outputs]


def _forms(bundle: Bundle) -> list[dict[str, Path]]:
    """The portable graph files, and those for ONNX Runtime's CPU provider if there are any."""
    portable = bundle.graph_files
    for_cpu = {name: bundle.path / (entry.cpu_file or entry.file) for name, entry in bundle.manifest.graphs.items()}
    return [portable] if for_cpu == portable else [portable, for_cpu]


def _run(
    bundle: Bundle, files: Mapping[str, Path], input_image: Array, prompts: Sequence[Mapping[str, Array]]
) -> Iterator[dict[str, Array]]:
    """What the encoder returns, then what the decoder returns for each of the prompts."""
    graphs = bundle.manifest.graphs
    with open_session(files[IMAGE_ENCODER], graphs[IMAGE_ENCODER].spec) as encode:
        encoded = encode({"input_image": input_image})
    yield encoded
    with open_session(files[MASK_DECODER], graphs[MASK_DECODER].spec) as decode:
        for feeds in prompts:
            yield decode({**encoded, **feeds})


def require_parity(report: ParityReport, precision: str) -> None:
    """Raise ParityError unless every figure is within the tolerance of `precision`."""
    wrong = report.breaches(tolerance_of(precision, EXPORT_TOLERANCES))
    if wrong:
        raise ParityError(
            f"{precision} graphs differ from PyTorch: {'; '.join(wrong)}. No bundle was written; "
            "export with --precision fp32, ask with --locate for the node that departs, or report this with the "
            "checkpoint's name"
        )


def _recorded(feeds: Mapping[str, Array], references: Mapping[str, Array]) -> RecordedPrompts:
    outputs = {name: sample(name, array[:PROMPTS]) for name, array in references.items()}
    return RecordedPrompts(feeds["point_coords"][:PROMPTS], feeds["point_labels"][:PROMPTS], outputs)


@torch.inference_mode()
def _torch_decode(
    sam: PlainSam, features: Mapping[str, Array], feeds: Mapping[str, Array], names: Sequence[str]
) -> dict[str, Array]:
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in {**features, **feeds}.items()}
    return {name: tensor.numpy() for name, tensor in zip(names, sam.decode_masks(**tensors), strict=True)}


def _compare(got: Mapping[str, list[Array]], want: Mapping[str, list[Array]]) -> ParityReport:
    merged = {name: (np.concatenate(got[name]), np.concatenate(want[name])) for name in want}
    tensors = {name: _errors(*pair) for name, pair in merged.items()}
    logits, reference = merged["low_res_logits"]
    quality, reference_quality = merged["iou_predictions"]
    masks = mask_iou_of(logits, reference).min(axis=0)
    mask_iou = {label: float(value) for label, value in zip(TOKEN_MASK_LABELS, masks, strict=False)}
    mask_iou["selected"], ties = _selected_iou(logits, quality, reference, reference_quality)
    return ParityReport(tensors, mask_iou, ties)


def _selected_iou(logits: Array, quality: Array, reference: Array, reference_quality: Array) -> tuple[float, int]:
    """Smallest IoU of best-candidate(-plus-HQ) masks, each side choosing by its own predicted IoU; ties left out."""
    rows = np.arange(len(logits))
    chosen, best = quality[:, 1:].argmax(axis=1) + 1, reference_quality[:, 1:].argmax(axis=1) + 1
    gap = reference_quality[rows, best] - reference_quality[rows, chosen]
    tie = (chosen != best) & (gap <= _TIE)
    hq, reference_hq = (masks[:, NUM_SAM_TOKENS:].sum(axis=1) for masks in (logits, reference))  # zero without one
    iou = mask_iou_of(logits[rows, chosen] + hq, reference[rows, best] + reference_hq)
    return float(iou[~tie].min(initial=1.0)), int(tie.sum())


def _errors(got: Array, want: Array) -> TensorParity:
    difference = np.abs(got.astype(np.float32) - want)
    return TensorParity(float(difference.max()), float(difference.mean()), relative_error(got, want))
