"""The masks of the C++ library are those of `Predictor`, to the bit, from any number of threads."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from samhq_runtime import Predictor
from samhq_runtime.bundle import Bundle
from tests.support.cpp_programs import TESTS, Case, read_results, run, write_cases
from tests.support.reference import ALL_PROMPTS, photographs, prompts_for

BOOLEANS = (False, True)
LINES_KB = 2_000_000  # of addresses, for images of two million pixels: what they take grows with their pixels alone


def cases_of(bundle: Bundle, images: Sequence[NDArray[np.uint8]]) -> list[Case]:
    """Every kind of prompt and option on every image, and several objects at once on the first one."""
    sizes = bundle.manifest.sizes
    cases = []
    for number, image in enumerate(images):
        for kind, multimask, hq_only in itertools.product(ALL_PROMPTS, BOOLEANS, BOOLEANS[: 1 + sizes.has_hq]):
            prompts = prompts_for(image, kind, sizes.low_res_size)
            cases.append(Case(number, prompts, {"multimask_output": multimask, "hq_token_only": hq_only}))
    rng = np.random.default_rng(4)
    corner = rng.uniform(0, 100, (11, 2))  # more objects than are decoded at once
    boxes = np.concatenate([corner, corner + rng.uniform(1, 90, (11, 2))], axis=1)
    points = {"point_coords": rng.uniform(0, 200, (11, 3, 2)), "point_labels": rng.integers(-1, 2, (11, 3))}
    masks = rng.normal(0, 6, (11, 1, sizes.low_res_size, sizes.low_res_size)).astype(np.float32)
    one_point = {"point_coords": [[[40.5, 30]]], "point_labels": [[1]]}
    batches: list[dict[str, Any]] = [
        {"box": boxes},
        points,
        {"box": boxes, **points},
        {"box": boxes, **one_point},
        {"box": boxes, "mask_input": masks},
        {"mask_input": masks},
        {"box": boxes, "mask_input": masks[:1]},
    ]
    cases += [Case(0, prompts, {"multimask_output": True}) for prompts in batches]
    cases += [Case(0, prompts, {"return_logits": True}) for prompts in batches[:2]]
    if sizes.has_hq:
        token = rng.normal(0, 0.1, sizes.embed_dim).astype(np.float32)
        cases += [Case(0, prompts, hq_token=token) for prompts in batches[:2]]
    return cases


def predict_in_cpp(
    programs: Path,
    bundle: Bundle,
    folder: Path,
    images: Sequence[NDArray[np.uint8]],
    cases: Sequence[Case],
    *,
    threads: int = 1,
) -> list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    folder.mkdir(exist_ok=True)
    write_cases(folder / "cases", images, cases)
    run([programs / "cases", bundle.path, folder / "cases", folder / "results", str(threads)])
    return read_results(folder / "results", cases)


def assert_same_as_python(
    bundle: Bundle, images: Sequence[NDArray[np.uint8]], cases: Sequence[Case], results: Sequence[Any]
) -> None:
    tokens = [case.hq_token for case in cases if case.hq_token is not None]
    usual, tuned = Predictor(bundle), Predictor(bundle, hq_token=tokens[0] if tokens else None)
    encoded = [usual.encode(image) for image in images]
    for case, (masks, iou, low_res) in zip(cases, results, strict=True):
        predictor = usual if case.hq_token is None else tuned
        predictor.set_encoded(encoded[case.image])
        options = {"multimask_output": False, **case.options}
        expected_masks, expected_iou, expected_low_res = predictor.predict_batch(**case.prompts, **options)
        np.testing.assert_array_equal(low_res, expected_low_res.reshape(low_res.shape))
        np.testing.assert_array_equal(iou, expected_iou.reshape(iou.shape))
        if case.options.get("return_logits"):  # sums of doubles, rounded once: the last bit may differ
            np.testing.assert_array_max_ulp(masks, expected_masks.reshape(masks.shape))
        else:
            np.testing.assert_array_equal(masks, expected_masks.reshape(masks.shape))


def test_masks_are_pythons_to_the_bit(programs: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    images = list(photographs().values())
    cases = cases_of(demo_bundle, images)
    results = predict_in_cpp(programs, demo_bundle, tmp_path, images, cases)
    assert sum(0 < np.count_nonzero(masks) < masks.size for masks, _, _ in results) >= 50  # neither empty nor full
    assert_same_as_python(demo_bundle, images, cases, results)


def test_images_of_awkward_shapes(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    sizes = [(1, 1), (1, 300), (300, 1), (2, 999), (127, 129)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    point = {"point_coords": [[0.5, 0.5]], "point_labels": [1]}
    box = {"box": [[0, 0, 1, 1]]}
    cases = [
        Case(number, prompts, {"multimask_output": multimask})
        for number, prompts, multimask in itertools.product(range(len(images)), (point, box), BOOLEANS)
    ]
    assert_same_as_python(tiny_bundle, images, cases, predict_in_cpp(programs, tiny_bundle, tmp_path, images, cases))


def test_the_installed_library(installed: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    """Optimised as users have it: what the sanitised build computes is not what they run."""
    library = installed / "lib"
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{installed / 'include'}", "-pthread"]
    run(
        [
            "c++",
            *flags,
            TESTS / "cases.cpp",
            f"-L{library}",
            "-lsamhq",
            f"-Wl,-rpath,{library}",
            "-o",
            tmp_path / "cases",
        ]
    )
    images = [photographs()["portrait 300 x 200"]]
    cases = cases_of(demo_bundle, images)
    assert_same_as_python(
        demo_bundle, images, cases, predict_in_cpp(tmp_path, demo_bundle, tmp_path / "work", images, cases)
    )
    lines = [np.zeros((1, 2_000_000, 3), np.uint8), np.zeros((2_000_000, 1, 3), np.uint8)]
    write_cases(tmp_path / "lines", lines, [Case(number, {"box": [[0, 0, 1, 1]]}) for number in (0, 1)])
    limited = ["sh", "-c", f'ulimit -v {LINES_KB}; exec "$@"', "sh", tmp_path / "cases"]
    run([*limited, demo_bundle.path, tmp_path / "lines", tmp_path / "result", "1"])


@pytest.mark.parametrize("name", ["plain_bundle", "tiny_bundle", "demo_bundle_fp16", "hq_sam2_bundle"])
def test_other_bundles(programs: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    """A plain SAM, random weights (masks full of edges), float16 between the graphs, SAM 2; on the smallest picture."""
    bundle: Bundle = request.getfixturevalue(name)
    images = [photographs()["portrait 300 x 200"]]
    cases = cases_of(bundle, images)
    assert_same_as_python(bundle, images, cases, predict_in_cpp(programs, bundle, tmp_path, images, cases))


@pytest.mark.parametrize("name", ["sam2_bundle", pytest.param("hiera_tiny_bundle", marks=pytest.mark.released)])
def test_sam_2(programs: Path, tmp_path: Path, request: pytest.FixtureRequest, name: str) -> None:
    """Squashed pictures, clamped logits, the fallback where the single mask is not stable; a released size too."""
    bundle: Bundle = request.getfixturevalue(name)
    pictures = photographs()
    images = [pictures["portrait 300 x 200"], pictures["landscape 400 x 600"][::2, ::2], pictures["square 512"][::4]]
    cases = cases_of(bundle, images)
    assert len(cases) >= 30
    assert_same_as_python(bundle, images, cases, predict_in_cpp(programs, bundle, tmp_path, images, cases))


def test_eight_threads_on_one_handle(programs: Path, demo_bundle: Bundle, tmp_path: Path) -> None:
    images = [photographs()["portrait 300 x 200"], photographs()["landscape 400 x 600"][::2, ::2]]
    cases = [case for case in cases_of(demo_bundle, images) if not case.options.get("return_logits")][::4]
    assert_same_as_python(
        demo_bundle, images, cases, predict_in_cpp(programs, demo_bundle, tmp_path, images, cases, threads=8)
    )
