"""`config.pbtxt` of the three models, derived from the IO contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..contract import GraphSpec, ModelSizes, TensorSpec
from ..errors import ConfigError
from ..serve.options import ServeOptions
from ..serve.signature import model_inputs, model_outputs
from ..serve.tensors import BYTES

BACKENDS = ("onnxruntime", "tensorrt")
# Of `ServeOptions`, those that the pipeline heeds; connections, queues, times and tokens are Triton's own business.
LIMITS = ("white_point", "max_prompts", "max_points", "max_image_mp", "max_image_side", "max_aspect", "max_mask_mp")
DEVICES = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
_TYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "int64": "TYPE_INT64"}
_BACKEND_LINES = {"onnxruntime": 'backend: "onnxruntime"', "tensorrt": 'platform: "tensorrt_plan"'}
_WARM_UP_SIZE = 1  # of every dynamic dimension
_WARM_UP_POINTS = 2  # a box


@dataclass(frozen=True, kw_only=True)
class TritonOptions:
    """What to write.

    Attributes:
        name: of the pipeline; the graphs' models are called `<name>_image_encoder` and `<name>_mask_decoder`.
        backend: that runs the graphs; tensorrt takes the engines of the bundle.
        device: where the graphs run; auto leaves it to Triton.
        instances: of each graph, and of the pipeline, so that many requests are worked on at once.
        max_images: most images that the encoder takes together.
        queue_delay_us: how long an image may wait for others.
        response_cache: let Triton keep encoded images, if it was started with `--cache-config`.
        limits: of requests and images, as `samhq serve` has them; those of `LIMITS` are written.
        overwrite: replace models of the same names.
    """

    name: str = "samhq"
    backend: str = "onnxruntime"
    device: str = "auto"
    instances: int = 1
    max_images: int = 4
    queue_delay_us: int = 2000
    response_cache: bool = False
    limits: ServeOptions = field(default_factory=ServeOptions)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "_").replace(".", "_").isidentifier():
            raise ConfigError(f"--name: got {self.name!r}, expected letters, digits, _, - and .")
        if min(self.instances, self.max_images) < 1 or self.queue_delay_us < 0:
            raise ConfigError("--instances and --max-images: expected at least 1; --queue-delay-us: at least 0")
        if self.backend == "tensorrt" and self.device == "cpu":
            raise ConfigError("--backend tensorrt runs on GPUs alone; choose --device gpu, or --backend onnxruntime")


def encoder_config(spec: GraphSpec, options: TritonOptions) -> str:
    """Images are batched by Triton: the first dimension is left out, as its configurations do."""
    inputs = {i.name: i.shape[1:] for i in spec.inputs}
    return _join(
        _head(f"{options.name}_{spec.name}", options, max_batch_size=options.max_images),
        _tensors("input", _graph_tensors(spec.inputs, skip=1)),
        _tensors("output", _graph_tensors(spec.outputs, skip=1)),
        f"dynamic_batching {{ max_queue_delay_microseconds: {options.queue_delay_us} }}",
        _instances(options.instances, DEVICES[options.device]),
        "response_cache { enable: true }" if options.response_cache else "",
        _warm_up(spec.inputs, inputs, batch_size=1),
    )


def decoder_config(spec: GraphSpec, options: TritonOptions) -> str:
    """Its inputs share no first dimension (prompts, images, masks), so Triton does not batch it: requests do."""
    required = tuple(i for i in spec.inputs if not i.optional)
    sizes = {"points": _WARM_UP_POINTS}
    warm = {i.name: [sizes.get(d, _WARM_UP_SIZE) if isinstance(d, str) else d for d in i.shape] for i in required}
    return _join(
        _head(f"{options.name}_{spec.name}", options, max_batch_size=0),
        _tensors("input", _graph_tensors(required, skip=0)),
        _tensors("output", _graph_tensors(spec.outputs, skip=0)),
        _instances(options.instances, DEVICES[options.device]),
        _warm_up(required, warm, batch_size=0),
    )


def pipeline_config(sizes: ModelSizes, options: TritonOptions) -> str:
    """Takes and returns what `samhq serve` does; a Python model that calls the other two."""
    inputs = [(i.name, _type_of(i.datatype), i.shape) for i in model_inputs(sizes)]
    outputs = [(o.name, _type_of(o.datatype), o.shape) for o in model_outputs(sizes)]
    return _join(
        f'name: "{options.name}"\nbackend: "python"\nmax_batch_size: 0',
        _tensors("input", inputs, "optional: true"),
        _tensors("output", outputs),
        _instances(options.instances, "KIND_CPU"),
        _parameter("models_prefix", options.name),
        *(_parameter(name, str(getattr(options.limits, name))) for name in LIMITS),
    )


def limits_of(parameters: Mapping[str, Mapping[str, str]]) -> ServeOptions:
    """What `pipeline_config` wrote, out of Triton's JSON of it; ConfigError for a limit that is none."""
    texts = {name: parameters[name]["string_value"] for name in LIMITS if name in parameters}
    wrong = [f"{name} {text!r}" for name, text in texts.items() if not text.isdecimal()]
    if wrong:
        raise ConfigError(f"config.pbtxt: parameter {wrong[0]}: expected a number")
    return ServeOptions(**{name: int(text) for name, text in texts.items()})  # type: ignore[arg-type]


def _parameter(name: str, text: str) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{text}" }} }}'


def _head(name: str, options: TritonOptions, *, max_batch_size: int) -> str:
    return f'name: "{name}"\n{_BACKEND_LINES[options.backend]}\nmax_batch_size: {max_batch_size}'


def _graph_tensors(specs: Iterable[TensorSpec], *, skip: int) -> list[tuple[str, str, Sequence[int]]]:
    return [(s.name, _TYPES[s.dtype], [-1 if isinstance(d, str) else d for d in s.shape[skip:]]) for s in specs]


def _type_of(datatype: str) -> str:
    return "TYPE_STRING" if datatype == BYTES else f"TYPE_{datatype}"


def _tensors(kind: str, tensors: Iterable[tuple[str, str, Sequence[int]]], more: str = "") -> str:
    blocks = [
        f'{kind} {{ name: "{name}" data_type: {data_type} dims: [ {_dims(shape)} ] {more}'.rstrip() + " }"
        for name, data_type, shape in tensors
    ]
    return "\n".join(blocks)


def _instances(count: int, kind: str) -> str:
    return f"instance_group {{ count: {count} kind: {kind} }}"


def _warm_up(specs: Iterable[TensorSpec], shapes: Mapping[str, Sequence[int | str]], *, batch_size: int) -> str:
    """One request of zeros when the model is loaded, so that the first real one is not the slow one."""
    lines = [
        f'  inputs {{ key: "{spec.name}" value {{ data_type: {_TYPES[spec.dtype]} '
        f"dims: [ {_dims(shapes[spec.name])} ] zero_data: true }} }}"
        for spec in specs
    ]
    size = f"  batch_size: {batch_size}\n" if batch_size else ""
    return "model_warmup {\n" + '  name: "zeros"\n' + size + "\n".join(lines) + "\n}"


def _dims(shape: Sequence[int | str]) -> str:
    return ", ".join(map(str, shape))


def _join(*parts: str) -> str:
    return "\n".join(part for part in parts if part) + "\n"
