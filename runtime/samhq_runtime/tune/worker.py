"""The process that one way is tried in: python -m samhq_runtime.tune.worker JOB, and JSON on its last line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import SamHqError


@dataclass(frozen=True, kw_only=True)
class Job:
    """One try.

    Attributes:
        bundle: its folder.
        graph: which of the two is tried; empty asks for the names of the providers that are here.
        provider, threads: how.
        decoder: the provider that decodes what an encoder made, for its check.
        features: the file that an encoder's features of the recorded image go to, and a decoder's come from.
        prompts, prompts_per_call: decoded for one image, and how many together.
        min_iou: of every mask; 0 takes the tolerance of the bundle's precision.
        repeats, seconds: most calls, and after how long no more are made.
    """

    bundle: str
    graph: str = ""
    provider: str = ""
    threads: int = 0
    decoder: str = ""
    features: str = ""
    prompts: int = 1
    prompts_per_call: int = 8
    min_iou: float = 0.0
    repeats: int = 20
    seconds: float = 5.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(job: Job) -> dict[str, Any]:
    """The answer; `error` is why there is none."""
    try:
        if not job.graph:
            from ..manifest import read_manifest
            from .candidates import providers_here

            return {"providers": providers_here(read_manifest(Path(job.bundle)))}
        return _try(job)
    except SamHqError as e:
        return {"error": str(e)}
    except MemoryError:
        return {"error": "out of memory"}


def _try(job: Job) -> dict[str, Any]:
    """Time first, so that memory is that of the graph alone; then the check against PyTorch's results."""
    from ..bench.cases import RepeatOptions
    from ..bench.measuring import measure
    from ..bundle import load_bundle
    from ..bundle.reference import load_reference
    from ..contract import IMAGE_ENCODER
    from ..errors import BundleError
    from ..parity import breaches

    bundle = load_bundle(job.bundle)
    reference = load_reference(bundle.path)
    if reference is None:
        raise BundleError(f"{bundle.path}: has no recorded results to hold others against; export it again")
    side = (_Encoder if job.graph == IMAGE_ENCODER else _Decoder)(job, bundle, reference)
    repeats = RepeatOptions(repeats=job.repeats, seconds=job.seconds)
    measured = measure(side.load, replace(repeats, warm_ups=repeats.warm_ups_on(job.provider)))
    close = side.check()
    wrong = breaches(side.tolerance(), mask_iou=close.mask_iou, relative=close.relative, against="PyTorch")
    return {
        "seconds": min(measured["seconds"]),  # whatever else runs here can only add
        "load_seconds": measured["load_seconds"],
        "host_bytes": measured["host_bytes"]["peak"],
        "gpu_bytes": measured["gpu_bytes"],
        "mask_iou": min(close.mask_iou.values()),
        "wrong": wrong,
    }


class _Side:
    """What encoder and decoder have in common."""

    def __init__(self, job: Job, bundle: Any, reference: Any) -> None:
        self.job, self.bundle, self.reference = job, bundle, reference
        self.session: Any = None

    def open(self) -> None:
        self.session = self.bundle.open(self.job.graph, providers=self.job.provider, threads=self.job.threads)

    def tolerance(self) -> Any:
        from ..parity import ENGINE_TOLERANCES, Tolerance, tolerance_of

        if self.job.min_iou:
            return Tolerance(relative=float("inf"), iou=self.job.min_iou)
        return tolerance_of(self.bundle.manifest.precision, ENGINE_TOLERANCES)


class _Encoder(_Side):
    def load(self) -> Callable[[], object]:
        from ..engine.parity import reference_input

        self.open()
        feeds = {"input_image": reference_input(self.bundle, self.reference)}
        return lambda: self.session(feeds)

    def check(self) -> Any:
        import numpy as np

        from ..contract import MASK_DECODER
        from ..engine.parity import against_pytorch, run_reference

        with self.bundle.open(MASK_DECODER, providers=self.job.decoder) as decode:
            outputs = run_reference(self.bundle, self.reference, self.session, decode)
        features: dict[str, Any] = {spec.name: outputs[spec.name][0] for spec in self.session.spec.outputs}
        np.savez(self.job.features, **features)
        return against_pytorch(self.reference, outputs)


class _Decoder(_Side):
    def load(self) -> Callable[[], object]:
        from ..bench.sample_image import sample_boxes
        from ..frames.prompts import encode_prompts
        from ..masks.choice import MaskChoice

        self.open()
        sizes, hw = self.bundle.manifest.sizes, self.reference.image.shape[:2]
        prompts = encode_prompts(box=sample_boxes(self.job.prompts, hw), original_hw=hw, sizes=sizes)
        weights = MaskChoice(sizes=sizes, multimask_output=False).weights()
        features = self.features()
        groups = [{**features, **group.feeds(weights)} for group in prompts.split(self.job.prompts_per_call)]
        return lambda: [self.session(feeds) for feeds in groups]

    def check(self) -> Any:
        from ..engine.parity import against_pytorch, decode_reference

        outputs = decode_reference(self.bundle, self.reference, self.features(), self.session)
        return against_pytorch(self.reference, outputs)

    def features(self) -> Mapping[str, Any]:
        import numpy as np

        with np.load(self.job.features, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


if __name__ == "__main__":
    print(json.dumps(main(Job(**json.loads(sys.argv[1])))))
