"""What the served model takes and returns, declared once: metadata, request checks and answers derive from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import Array, ModelSizes
from ..frames.image_files import encode_png
from ..frames.prompts import encode_prompts
from ..masks.choice import MaskChoice
from ..masks.rle import encode_rle
from .errors import Reason, RequestError
from .tensors import BYTES, Tensor, bytes_array

NUMBERS = ("FP32", "FP64", "FP16", "INT64", "INT32", "INT16", "UINT8")  # accepted where metadata say FP32

MAX_NAMES = 32  # inputs, outputs, or parameters


@dataclass(frozen=True)
class TensorInfo:
    """Name, datatype and shape of one input or output; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class InferRequest:
    """One request, whatever protocol brought it.

    `outputs` are the names asked for; none means the default ones. Those in `as_json` go back as text.
    """

    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    parameters: Mapping[str, Any]
    as_json: Sequence[str] = ()

    @property
    def nbytes(self) -> int:
        """Of all inputs."""
        return sum(tensor.nbytes for tensor in self.inputs.values())


def infer_request(
    inputs: Sequence[Tensor], outputs: Sequence[str], parameters: Mapping[str, Any], as_json: Sequence[str] = ()
) -> InferRequest:
    """RequestError if an input or output is named twice."""
    for names in ([tensor.name for tensor in inputs], outputs):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise RequestError(f"named more than once: {', '.join(twice[:MAX_NAMES])}")
    return InferRequest({tensor.name: tensor for tensor in inputs}, outputs, parameters, as_json)


def require_few(kind: str, count: int) -> None:
    """RequestError for more inputs, outputs or parameters than any request needs, before they are looked at."""
    if count > MAX_NAMES:
        raise RequestError(f"{kind}: got {count}, expected at most {MAX_NAMES}")


@dataclass(frozen=True)
class PromptSet:
    """B prompts as `Predictor.predict` takes them, all in their batched form, with what else decides a mask.

    Attributes:
        arrays: `point_coords` (B,N,2), `point_labels` (B,N), `box` (B,4), `mask_input` (B,1,L,L): those given.
        options: keyword arguments of `Predictor.predict`.
    """

    arrays: Mapping[str, Array]
    options: Mapping[str, bool]

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: slice) -> PromptSet:
        return PromptSet({name: array[rows] for name, array in self.arrays.items()}, self.options)

    @property
    def kind(self) -> tuple[object, ...]:
        """Sets of the same kind (and image) can share a decoder call: same options, tensors and points a prompt."""
        return (tuple(self.options.items()), tuple((name, a.shape[1:]) for name, a in self.arrays.items()))


@dataclass(frozen=True)
class Segmentation:
    """What B prompts gave, K masks each, as `Predictor.predict` returns it.

    `masks` (B,K,H,W) bool, `iou_predictions` (B,K), `low_res_logits` (B,K,L,L). K is 1, or 3 for `multimask_output` of
    a SAM 2 or a plain SAM.
    """

    masks: Array
    iou_predictions: Array
    low_res_logits: Array


IMAGE_BYTES = TensorInfo("image_bytes", BYTES, (1,))
IMAGE = TensorInfo("image", "UINT8", (-1, -1, 3))
_PROMPTS = {"point_coords": 3, "point_labels": 2, "box": 2, "mask_input": 4}  # rank of the batched form
_OPTIONS = {"multimask_output": True, "hq_token_only": False}  # defaults of `Predictor.predict`
# Parameters that Triton's clients send with any request. There are no sequences here, and nobody comes before others.
_TIMEOUT = "timeout"  # in microseconds
_UNHEEDED = ("priority", "sequence_id", "sequence_start", "sequence_end", "triton_enable_empty_final_response")
_MICRO = 1_000_000
DEFAULT_OUTPUTS = ("masks", "iou_predictions")

_ENCODERS: dict[str, Callable[[Segmentation], Array]] = {
    "masks": lambda s: s.masks,
    "masks_packed": lambda s: np.packbits(s.masks, axis=-1),
    "masks_rle": lambda s: _each_mask(s.masks, encode_rle),
    "masks_png": lambda s: _each_mask(s.masks, lambda mask: encode_png(mask.astype(np.uint8) * 255)),
    "iou_predictions": lambda s: s.iou_predictions,
    "low_res_logits": lambda s: s.low_res_logits,
    "original_hw": lambda s: np.array(s.masks.shape[-2:], np.int64),
}

_COMPRESSED = {"masks_rle", "masks_png"}
_COMPRESSION_COST = 50


def model_inputs(sizes: ModelSizes) -> tuple[TensorInfo, ...]:
    side = sizes.low_res_size
    return (
        IMAGE_BYTES,
        IMAGE,
        TensorInfo("point_coords", "FP32", (-1, -1, 2)),
        TensorInfo("point_labels", "FP32", (-1, -1)),
        TensorInfo("box", "FP32", (-1, 4)),
        TensorInfo("mask_input", "FP32", (-1, 1, side, side)),
    )


def model_outputs(sizes: ModelSizes) -> tuple[TensorInfo, ...]:
    side = sizes.low_res_size
    return (
        TensorInfo("masks", "BOOL", (-1, -1, -1, -1)),
        TensorInfo("masks_packed", "UINT8", (-1, -1, -1, -1)),
        TensorInfo("masks_rle", BYTES, (-1, -1)),
        TensorInfo("masks_png", BYTES, (-1, -1)),
        TensorInfo("iou_predictions", "FP32", (-1, -1)),
        TensorInfo("low_res_logits", "FP32", (-1, -1, side, side)),
        TensorInfo("original_hw", "INT64", (2,)),
    )


def require_inputs(request: InferRequest) -> None:
    """Exactly one image, known inputs of fitting datatypes, known outputs; RequestError names the first that is not."""
    known = (IMAGE_BYTES.name, IMAGE.name, *_PROMPTS)
    unknown = [name for name in request.inputs if name not in known]
    if unknown:
        raise RequestError(f"unknown input {', '.join(unknown[:MAX_NAMES])}; expected {', '.join(known)}")
    if (IMAGE_BYTES.name in request.inputs) == (IMAGE.name in request.inputs):
        raise RequestError(f"expected exactly one of {IMAGE_BYTES.name} (an image file) and {IMAGE.name} (its pixels)")
    for name, tensor in request.inputs.items():
        allowed = {IMAGE_BYTES.name: (BYTES,), IMAGE.name: ("UINT8",)}.get(name, NUMBERS)
        if tensor.datatype not in allowed:
            raise RequestError(f"{name}: got datatype {tensor.datatype}, expected {' or '.join(allowed)}")
    unknown = [name for name in request.outputs if name not in _ENCODERS]
    if unknown:
        raise RequestError(f"unknown output {', '.join(unknown)}; expected {', '.join(_ENCODERS)}")


def read_prompts(request: InferRequest, sizes: ModelSizes, *, max_prompts: int, max_points: int) -> PromptSet:
    """The request's prompts, validated; PromptError or RequestError says what is wrong with them."""
    given = {name: request.inputs[name].data for name in _PROMPTS if name in request.inputs}
    _require_sizes(given, max_prompts=max_prompts, max_points=max_points)
    prompts = encode_prompts(  # for its checks alone, so the frame does not matter
        **given,
        original_hw=(sizes.image_size, sizes.image_size),
        sizes=sizes,
    )
    if not len(prompts):
        raise RequestError("no prompts: got an empty batch, expected at least one; leave the request out")
    arrays = {name: _batched(array, _PROMPTS[name], len(prompts)) for name, array in given.items()}
    return PromptSet(arrays, _options(request.parameters))


def masks_per_prompt(prompts: PromptSet, sizes: ModelSizes) -> int:
    """K."""
    return MaskChoice(sizes=sizes, **prompts.options).masks


def _require_sizes(given: Mapping[str, Array], *, max_prompts: int, max_points: int) -> None:
    """Before anything is made of them."""
    most = max((len(array) for name, array in given.items() if array.ndim == _PROMPTS[name]), default=1)
    if most > max_prompts:
        raise RequestError(f"got {most} prompts, expected at most {max_prompts} a request", reason=Reason.TOO_LARGE)
    coords = given.get("point_coords")
    if coords is not None and coords.ndim > 1 and coords.shape[-2] > max_points:
        raise RequestError(
            f"point_coords: got {coords.shape[-2]} points in a prompt, expected at most {max_points}",
            reason=Reason.TOO_LARGE,
        )


def join(prompts: Sequence[PromptSet]) -> PromptSet:
    """Sets of the same kind as one."""
    names = prompts[0].arrays
    return PromptSet({name: np.concatenate([p.arrays[name] for p in prompts]) for name in names}, prompts[0].options)


def concatenate(parts: Sequence[Segmentation]) -> Segmentation:
    """What the prompts of all parts gave, as one."""
    if len(parts) == 1:
        return parts[0]
    return Segmentation(
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.iou_predictions for part in parts]),
        np.concatenate([part.low_res_logits for part in parts]),
    )


def answer(result: Segmentation, outputs: Sequence[str]) -> list[Tensor]:
    """The tensors asked for, in that order."""
    return [Tensor(name, _ENCODERS[name](result)) for name in outputs or DEFAULT_OUTPUTS]


def answer_bytes(result: Segmentation, outputs: Sequence[str]) -> int:
    """What making the answer goes through, in bytes; compressing counts as many times as it is slower than copying."""
    times = _COMPRESSION_COST if set(outputs) & _COMPRESSED else 1
    return times * (result.masks.nbytes + result.low_res_logits.nbytes)


def _batched(array: Array, rank: int, batch: int) -> Array:
    while array.ndim < rank:
        array = array[None]
    return np.broadcast_to(array, (batch, *array.shape[1:]))


def timeout_of(parameters: Mapping[str, Any]) -> float:
    """Seconds that the request itself allows, infinity if it does not say; RequestError for what is no time."""
    value = parameters.get(_TIMEOUT, 0)
    if type(value) is not int or value < 0:
        raise RequestError(f"parameter {_TIMEOUT}: got {value!r}, expected microseconds, a whole number")
    return value / _MICRO if 0 < value < _MICRO * _MICRO else math.inf


def _options(parameters: Mapping[str, Any]) -> dict[str, bool]:
    given = {name: value for name, value in parameters.items() if name not in (_TIMEOUT, *_UNHEEDED)}
    unknown = [name for name in given if name not in _OPTIONS]
    if unknown:
        raise RequestError(f"unknown parameter {', '.join(unknown)}; expected {', '.join(_OPTIONS)}")
    for name, value in given.items():
        if not isinstance(value, bool):
            raise RequestError(f"parameter {name}: got {value!r}, expected true or false")
    return {**_OPTIONS, **given}


def _each_mask(masks: Array, encode: Callable[[Array], bytes]) -> Array:
    """(B,K,H,W) -> (B,K) of dtype object."""
    flat = masks.reshape(-1, *masks.shape[-2:])
    return bytes_array([encode(mask) for mask in flat]).reshape(masks.shape[:2])
