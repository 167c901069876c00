"""ONNX Runtime's execution providers as data: names, memory, what we set and what we refuse."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..contract import GraphSpec
from ..errors import ConfigError
from ..nvidia.profiles import profiles_of

_GPU = "for NVIDIA GPUs install 'samhq-export[gpu]' in an environment without [cpu]"
_PRECISION = "precision is the graph's; export the bundle in another --precision"
_GRAPHS = "it needs inputs and outputs at fixed addresses; build engines (`samhq engine`), they use CUDA graphs"

NOT_ON_CPU = frozenset({"bf16"})  # precisions whose graphs need a GPU: the CPU provider lacks the kernels


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One row.

    Attributes:
        execution_provider: ONNX Runtime's name.
        memory: where its outputs are kept, as ONNX Runtime calls that device; None keeps plain arrays.
        beside: the provider that runs small graphs on the same device, of sizes that change; itself by default.
        plugin: the package it comes in where onnxruntime itself does not have it.
        profile: prefix of its options for the smallest, usual and largest shapes of dynamic inputs.
        defaults: options set unless the user sets them.
        refused: options that contradict what a bundle promises, and why.
        install: how to get it.
    """

    execution_provider: str
    memory: str | None = "cuda"
    beside: str = ""
    plugin: str = ""
    profile: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    install: str = _GPU

    def plugin_library(self) -> str:
        """The plug-in's file; ModuleNotFoundError if there is none for this provider, or it is not installed."""
        if not self.plugin:
            raise ModuleNotFoundError(self.execution_provider)
        return str(importlib.import_module(self.plugin).get_library_path())


PROVIDERS = {
    "cpu": Provider(execution_provider="CPUExecutionProvider", memory=None),
    "cuda": Provider(
        execution_provider="CUDAExecutionProvider",
        defaults={"use_tf32": "0"},  # float32 graphs compute in float32
        refused={"enable_cuda_graph": _GRAPHS},
    ),
    "tensorrt": Provider(
        execution_provider="TensorrtExecutionProvider",
        beside="cuda",  # an engine for every new size of an image would take seconds
        profile="trt",
        refused={
            **dict.fromkeys(("trt_fp16_enable", "trt_bf16_enable", "trt_int8_enable"), _PRECISION),
            "trt_cuda_graph_enable": _GRAPHS,
        },
    ),
    "rtx": Provider(
        execution_provider="NvTensorRTRTXExecutionProvider",
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        profile="nv",
        refused={"enable_cuda_graph": _GRAPHS},
        install="pip install onnxruntime-ep-nv-tensorrt-rtx-cu13 (or -cu12), beside onnxruntime 1.23 or newer",
    ),
}


def require_known(providers: Sequence[str]) -> None:
    """Raise ConfigError for a name that is not in the table, or no name at all."""
    unknown = [name for name in providers if name not in PROVIDERS]
    if unknown or not providers:
        raise ConfigError(
            f"unknown provider {', '.join(unknown) or '(none given)'}; choose from {', '.join(PROVIDERS)}"
        )
    plugins = [name for name in providers if PROVIDERS[name].plugin]
    if plugins and len(providers) > 1:
        raise ConfigError(f"provider {plugins[0]}: stands alone; ONNX Runtime orders plug-ins apart from its own")


def options_of(name: str, spec: GraphSpec, wanted: Mapping[str, str]) -> dict[str, str]:
    """All options of one provider for one graph: ours, the profile of its dynamic sizes, and on top the user's.

    Raises:
        ConfigError: an option this project refuses.
    """
    row = PROVIDERS[name]
    for option in wanted:
        if option in row.refused:
            raise ConfigError(f"provider option {name}.{option}: refused; {row.refused[option]}")
    profile = _profile_options(row.profile, spec) if row.profile else {}
    if any(option in profile for option in wanted):  # half of a profile of ours and half of another fit nothing
        profile = {}
    return {**row.defaults, **profile, **wanted}


def device_id_of(options: Mapping[str, str]) -> int:
    """The `device_id` among the options; ConfigError if it is no number."""
    text = options.get("device_id", "0")
    if not text.isdecimal():
        raise ConfigError(f"provider option device_id: got {text!r}, expected a number such as 0")
    return int(text)


def _profile_options(prefix: str, spec: GraphSpec) -> dict[str, str]:
    """The default profile of our own engines, as `input:1x2,other:3x4`, so that no prompt count builds a new engine."""
    (profile,) = profiles_of(spec, {})
    if not profile:
        return {}
    shapes = {
        kind: ",".join(f"{name}:{'x'.join(map(str, getattr(bounds, kind)))}" for name, bounds in profile.items())
        for kind in ("min", "opt", "max")
    }
    return {f"{prefix}_profile_{kind}_shapes": text for kind, text in shapes.items()}
