"""The measured work of each case: load everything, then return the call to be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..bundle import load_bundle
from ..contract import IMAGE_ENCODER, MASK_DECODER, Array, TensorSpec
from ..frames.image_files import read_image
from ..frames.prompts import encode_prompts
from ..masks.choice import MaskChoice
from ..predictor import PROMPTS_PER_CALL, Predictor
from .cases import DECODER, ENCODER, END_TO_END, Case
from .sample_image import sample_boxes

Workload = Callable[[Case, Path, int], Callable[[], object]]


def _encoder(case: Case, image: Path, threads: int) -> Callable[[], object]:
    bundle = load_bundle(case.bundle)
    session = bundle.open(IMAGE_ENCODER, providers=case.provider, threads=threads)
    feeds = {spec.name: _values(spec, {"images": case.images}) for spec in session.spec.inputs}
    return lambda: session.keep(feeds)  # the features stay where the decoder takes them


def _decoder(case: Case, image: Path, threads: int) -> Callable[[], object]:
    """The decoder without the encoder in memory, on seeded features: its time does not depend on their values.

    Many prompts are decoded in groups, as `Predictor` does.
    """
    bundle = load_bundle(case.bundle)
    session = bundle.open(MASK_DECODER, providers=case.provider, threads=threads)
    sizes = bundle.manifest.sizes
    side = sizes.image_size
    prompts = encode_prompts(
        box=sample_boxes(case.prompts, (side, side)),
        original_hw=(side, side),
        sizes=sizes,
    )
    prompts_per_call = bundle.ways(case.provider).prompts_per_call or PROMPTS_PER_CALL
    weights = MaskChoice(sizes=sizes, multimask_output=False).weights()
    features = [s for s in session.spec.inputs if s.shape[0] == "images"]
    shared = {s.name: _values(s, {"images": case.images}) for s in features}
    groups = [
        {**shared, **group.feeds(weights, image_index=np.arange(len(group), dtype=np.int64) % case.images)}
        for group in prompts.split(prompts_per_call)
    ]
    return lambda: [session(feeds) for feeds in groups]


def _end_to_end(case: Case, image: Path, threads: int) -> Callable[[], object]:
    predictor = Predictor(case.bundle, providers=case.provider, threads=threads)
    height, width = read_image(image).shape[:2]
    boxes = sample_boxes(case.prompts, (height, width))

    def segment() -> object:
        predictor.set_image(read_image(image))
        return predictor.predict_batch(box=boxes, multimask_output=False)[0]

    return segment


def _values(spec: TensorSpec, sizes: dict[str, int]) -> Array:
    """Seeded normal values of this shape."""
    shape = [size if isinstance(size, int) else sizes[size] for size in spec.shape]
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(spec.dtype)


WORKLOADS: dict[str, Workload] = {ENCODER: _encoder, DECODER: _decoder, END_TO_END: _end_to_end}
