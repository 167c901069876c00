"""Combinations that are known not to work, or to compute wrong numbers, and what to do about each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..installing import install_command
from ..nvidia.jetson import JETPACK_TENSORRT
from .children import ON_GPU, ProbeResult
from .wrong_results import wrong_results

_SAME_MODULE = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-qnn",
    "onnxruntime-trt-rtx",
)  # fmt: skip
_TURING = 7.5


@dataclass(frozen=True)
class Facts:
    """What was found, before any judgement."""

    python: str
    platform: str
    packages: Mapping[str, str]
    driver: Mapping[str, Any]
    visible_devices: str | None
    providers: Mapping[str, ProbeResult]

    @property
    def gpus(self) -> Sequence[Mapping[str, str]]:
        return self.driver.get("gpus") or []

    @property
    def on_jetson(self) -> bool:
        return "tegra" in self.platform

    def version(self, *names: str) -> tuple[int, ...]:
        """Numbers of the first of these packages that is installed; () if none is."""
        text = next((self.packages[name] for name in names if name in self.packages), "")
        return tuple(int(number) for number in re.findall(r"\d+", text))

    @property
    def tensorrt(self) -> tuple[int, ...]:
        """Version of TensorRT (not RTX): from its packages, or as JetPack installs it, from what the probe says."""
        result = self.providers["engine:tensorrt"]
        said = re.search(r"TensorRT (\d+(?:\.\d+)*)", result.detail)
        names = [name for name in self.packages if re.match(r"tensorrt(-cu\d+)?(-bindings)?$", name)]
        found = self.version(*names)
        return found or (tuple(map(int, said.group(1).split("."))) if said else ())


@dataclass(frozen=True)
class Problem:
    """What is wrong or risky, and what to do."""

    what: str
    do: str


def find_problems(facts: Facts) -> list[Problem]:
    """All that apply, in the order of the table."""
    return [problem for rule in _RULES for problem in rule(facts)]


def _several_onnxruntimes(facts: Facts) -> Iterator[Problem]:
    found = [name for name in _SAME_MODULE if name in facts.packages]
    if len(found) > 1:
        yield Problem(
            f"{' and '.join(found)} are both installed: they are the same module, and overwrite each other's files",
            f"pip uninstall -y {' '.join(found)}, then install the one you want",
        )


def _several_tensorrts(facts: Facts) -> Iterator[Problem]:
    found = sorted({m.group(1) for name in facts.packages if (m := re.match(r"tensorrt-(cu\d+)", name))})
    if len(found) > 1:
        yield Problem(
            f"TensorRT is installed for {' and '.join(found)}: both are the module `tensorrt`",
            "uninstall all packages of one of them",
        )


def _bindings_without_libraries(facts: Facts) -> Iterator[Problem]:
    for name in facts.packages:
        match = re.match(r"(tensorrt(?:-rtx)?-cu\d+)-bindings$", name)
        if match and f"{match.group(1)}-libs" not in facts.packages:
            provider = "engine:rtx" if "-rtx-" in name else "engine:tensorrt"
            if facts.providers[provider].status == "broken":
                yield Problem(f"{name} is installed without its libraries", f"pip install {match.group(1)}-libs")


def _driver_too_old(facts: Facts) -> Iterator[Problem]:
    cuda = facts.driver.get("cuda")
    if not cuda:
        return
    newer = [
        name
        for name in facts.packages
        if (match := re.search(r"-cu(\d+)(?:-|$)", name)) and int(match.group(1)) > int(cuda.split(".")[0])
    ]
    if newer:
        yield Problem(
            f"the driver runs CUDA up to {cuda}, and {', '.join(newer)} want a newer one",
            f"update the NVIDIA driver, or install the -cu{cuda.split('.')[0]} packages instead",
        )


def _bindings_above_the_driver(facts: Facts) -> Iterator[Problem]:
    bindings, cuda = facts.version("cuda-bindings"), facts.driver.get("cuda")
    if bindings and cuda and bindings[0] > int(cuda.split(".")[0]):
        version = facts.packages["cuda-bindings"]
        yield Problem(
            f"cuda-bindings {version} is for CUDA {bindings[0]}, and the driver runs CUDA up to {cuda}",
            f"pip install 'cuda-bindings<{bindings[0]}'",
        )


def _tensorrt_of_pip_on_a_jetson(facts: Facts) -> Iterator[Problem]:
    found = [name for name in facts.packages if re.match(r"tensorrt(-cu\d+)?(-libs|-bindings)?$", name)]
    foreign = [name for name in found if name != "tensorrt"]  # JetPack's own is called that
    if facts.on_jetson and foreign:
        yield Problem(
            f"{', '.join(foreign)} of pip is installed on a Jetson and hides JetPack's TensorRT",
            f"pip uninstall -y {' '.join(found)}; {JETPACK_TENSORRT}",
        )


def _hidden_gpus(facts: Facts) -> Iterator[Problem]:
    if facts.visible_devices is not None and not facts.gpus and facts.driver.get("cuda"):
        yield Problem(
            f"CUDA_VISIBLE_DEVICES={facts.visible_devices!r} hides every GPU of this machine",
            "unset it, or set it to 0",
        )


def _gpu_unused(facts: Facts) -> Iterator[Problem]:
    if facts.gpus and not any(facts.providers[name].status == "works" for name in ON_GPU):
        install = f"{install_command('trt')} for engines, or with [gpu] in an environment without [cpu]"
        jetson = f"{install_command('jetson')}; {JETPACK_TENSORRT}"
        yield Problem(
            f"{facts.gpus[0]['name']} is here, and nothing that works uses it", jetson if facts.on_jetson else install
        )


def _cuda_libraries(facts: Facts) -> Iterator[Problem]:
    result = facts.providers["cuda"]
    if result.status == "broken" and "onnxruntime-gpu" in facts.packages and facts.gpus:
        yield Problem(
            f"onnxruntime-gpu does not find CUDA or cuDNN: {result.detail}",
            "pip install 'onnxruntime-gpu[cuda,cudnn]', or put the libraries of your CUDA on the loader's path",
        )


def _onnxruntime_with_tensorrt_11(facts: Facts) -> Iterator[Problem]:
    if facts.tensorrt[:1] >= (11,) and facts.providers["tensorrt"].status == "broken":
        yield Problem(
            "the provider `tensorrt` of onnxruntime-gpu is linked with TensorRT 10, and 11 is installed",
            "use `samhq engine` and the provider `engine`, or install tensorrt<11 beside onnxruntime-gpu",
        )


def _old_onnxruntime_with_numpy_2(facts: Facts) -> Iterator[Problem]:
    if facts.version("numpy") >= (2,) and () < facts.version("onnxruntime-gpu", "onnxruntime") < (1, 19):
        yield Problem(
            "onnxruntime before 1.19 was built for numpy 1, and numpy 2 is installed", "pip install 'numpy<2'"
        )


def _pytriton_with_numpy_2(facts: Facts) -> Iterator[Problem]:
    if "nvidia-pytriton" in facts.packages and facts.version("numpy") >= (2,):
        yield Problem("with numpy 2, nvidia-pytriton reports READY and returns empty outputs", "pip install 'numpy<2'")


def _wrong_results(facts: Facts) -> Iterator[Problem]:
    seen: dict[str, Problem] = {}
    for gpu in facts.gpus:
        for row in wrong_results(facts.tensorrt, float(gpu["compute_capability"])):
            what = (
                f"TensorRT has computed wrongly, without an error, {row.what}: issue {row.issue}; {gpu['name']} is here"
            )
            seen.setdefault(row.issue, Problem(what, row.do))
    yield from seen.values()


def _tensorrt_without_jetpack(facts: Facts) -> Iterator[Problem]:
    if facts.on_jetson and (11, 3) <= facts.tensorrt < (11, 4, 1):
        yield Problem(
            f"TensorRT {'.'.join(map(str, facts.tensorrt))} is not for JetPack: 11.3 and 11.4.0 leave Jetsons out",
            "use the TensorRT of your JetPack (10.3 in 6.x, 10.13.3.9 in 7.1), or 11.4.1 or newer with JetPack 7.2",
        )


def _python_without_onnxruntime(facts: Facts) -> Iterator[Problem]:
    if re.match(r"3\.10\b", facts.python) and not any(name in facts.packages for name in _SAME_MODULE):
        yield Problem(
            "onnxruntime is not installed, and has wheels for Python 3.10 (JetPack 6) only before 1.24",
            "pip install 'onnxruntime<1.24', or use engines alone",
        )


def _gpu_too_old(facts: Facts) -> Iterator[Problem]:
    for gpu in facts.gpus:
        if float(gpu["compute_capability"]) < _TURING and (
            facts.tensorrt >= (10, 5) or facts.providers["engine:rtx"].status != "absent"
        ):
            yield Problem(
                f"{gpu['name']} has compute capability {gpu['compute_capability']}; TensorRT since 10.5 "
                f"and TensorRT-RTX start at {_TURING}",
                "use TensorRT 10.3 or 10.4, or the provider `cuda`",
            )


def _unusable_tensorrt(facts: Facts) -> Iterator[Problem]:
    for name in ("engine:tensorrt", "engine:rtx"):
        result = facts.providers[name]
        if result.status == "broken" and facts.gpus:
            yield Problem(f"{name} does not work: {result.detail}", "follow the message; then run `samhq doctor` again")


def _hanging_or_crashing(facts: Facts) -> Iterator[Problem]:
    for name, result in facts.providers.items():
        if result.detail.startswith(("killed by", "no answer")):
            yield Problem(
                f"{name}: {result.detail}", "reinstall its package; a GPU that hangs may need a restart of the machine"
            )
    if facts.driver.get("error"):
        yield Problem(f"the NVIDIA driver: {facts.driver['error']}", "reinstall the driver and restart the machine")


_RULES: tuple[Callable[[Facts], Iterator[Problem]], ...] = (
    _several_onnxruntimes,
    _several_tensorrts,
    _bindings_without_libraries,
    _driver_too_old,
    _bindings_above_the_driver,
    _tensorrt_of_pip_on_a_jetson,
    _hidden_gpus,
    _gpu_unused,
    _cuda_libraries,
    _onnxruntime_with_tensorrt_11,
    _old_onnxruntime_with_numpy_2,
    _pytriton_with_numpy_2,
    _wrong_results,
    _tensorrt_without_jetpack,
    _python_without_onnxruntime,
    _gpu_too_old,
    _unusable_tensorrt,
    _hanging_or_crashing,
)
