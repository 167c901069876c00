"""C and C++ beside predicting, as Python does it: embeddings and HQ tokens as files, orders of colours, thresholds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from samhq_runtime import Bundle, Predictor
from samhq_runtime.errors import CheckpointError, EmbeddingError
from samhq_runtime.hq_token import read_hq_token
from samhq_runtime.masks.rle import encode_rle
from samhq_runtime.masks.upscale import upscale_masks
from tests.support.cpp_programs import run
from tests.support.embeddings import DAMAGE, picture

FORMATS: dict[str, Sequence[int]] = {"RGB": (0, 1, 2), "BGR": (2, 1, 0), "RGBA": (0, 1, 2, 3), "BGRA": (2, 1, 0, 3)}
BOX = [5, 6, 40, 50]


def save_in_cpp(
    programs: Path, bundle: Bundle, image: NDArray[np.uint8], output: Path, *, name: str = "RGB", float16: bool = False
) -> None:
    height, width = image.shape[:2]
    four = np.concatenate([image, np.full((height, width, 1), 7, np.uint8)], axis=2)
    pixels = output.with_name("pixels")
    pixels.write_bytes(four[..., list(FORMATS[name])].tobytes())
    number = list(FORMATS).index(name)
    run(
        [
            programs / "extras",
            "save",
            bundle.path,
            pixels,
            *map(str, (height, width, number)),
            output,
            str(int(float16)),
        ]
    )


def load_in_cpp(programs: Path, bundle: Bundle, *files: Path, threshold: str = "default") -> list[tuple[str, str]]:
    """Status of each file, and the run lengths of a mask, or what went wrong."""
    lines = run([programs / "extras", "load", bundle.path, threshold, *files]).splitlines()
    return [(status, text) for status, _, text in (line.partition(" ") for line in lines)]


def counts_of(mask: NDArray[Any]) -> str:
    return str(json.loads(encode_rle(mask))["counts"])


@pytest.mark.parametrize("name", ["tiny_bundle", "demo_bundle_fp16", "sam2_bundle"])
def test_embeddings_are_pythons(programs: Path, request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """The same file, to the byte, in both dtypes; each side has the same mask of the other's."""
    bundle: Bundle = request.getfixturevalue(name)
    python, cpp = tmp_path / "python.safetensors", tmp_path / "cpp.safetensors"
    with Predictor(bundle, threads=1) as predictor:
        for float16 in (False, True):
            encoded = predictor.encode(picture())
            predictor.save_embedding(python, image=encoded, float16=float16)
            save_in_cpp(programs, bundle, picture(), cpp, float16=float16)
            assert cpp.read_bytes() == python.read_bytes()
            mask = predictor.predict(box=BOX, multimask_output=False, image=predictor.load_embedding(cpp))[0]
            assert load_in_cpp(programs, bundle, python) == [("SAMHQ_OK", counts_of(mask[0]))]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpp.safetensors", "pixels", "python.safetensors"]


def test_orders_of_colours(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.save_embedding(tmp_path / "rgb", image=predictor.encode(picture()))
    for name in ("BGR", "RGBA", "BGRA"):
        save_in_cpp(programs, tiny_bundle, picture(), tmp_path / name, name=name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "rgb").read_bytes(), name


def test_embeddings_that_are_refused(programs: Path, tiny_bundle: Bundle, plain_bundle: Bundle, tmp_path: Path) -> None:
    """What Python refuses, for the same reason."""
    files = [tmp_path / str(number) for number in range(len(DAMAGE))]
    with Predictor(tiny_bundle, threads=1) as predictor:
        predictor.save_embedding(tmp_path / "good", image=predictor.encode(picture()))
        for file, (damage, _) in zip(files, DAMAGE.values(), strict=True):
            shutil.copy(tmp_path / "good", file)
            damage(file)
            with pytest.raises(EmbeddingError):
                predictor.load_embedding(file)
    answers = load_in_cpp(programs, tiny_bundle, tmp_path / "good", *files)
    assert [status for status, _ in answers] == ["SAMHQ_OK", *["SAMHQ_ERROR_EMBEDDING"] * len(files)]
    for file, (_, complaint), (_, message) in zip(files, DAMAGE.values(), answers[1:], strict=True):
        assert str(file) in message
        assert complaint.replace("expected {'image_embeddings'", "expected image_embeddings") in message
    ((status, message),) = load_in_cpp(programs, plain_bundle, tmp_path / "good")
    assert (status, "of another bundle" in message) == ("SAMHQ_ERROR_EMBEDDING", True)


def test_an_embedding_that_cannot_be_written(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "pixels").write_bytes(picture().tobytes())
    arguments = [tiny_bundle.path, tmp_path / "pixels", "60", "80", "0"]
    run([programs / "extras", "save", *arguments, tmp_path / "no folder" / "x", "0"], code=1)
    (tmp_path / "folder").mkdir()
    run([programs / "extras", "save", *arguments, tmp_path / "folder", "0"], code=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pixels"]


def test_a_threshold_of_ones_own(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "image.safetensors"
    with Predictor(tiny_bundle, threads=1) as predictor:
        encoded = predictor.encode(picture())
        predictor.save_embedding(path, image=encoded)
        logits = predictor.predict(box=BOX, multimask_output=False, image=encoded)[2]
        threshold = float(np.quantile(logits, 0.7))
        frame = tiny_bundle.manifest.sizes.frame
        mask = upscale_masks(logits[None], encoded.original_hw, frame, threshold=threshold)[0, 0]
    assert 0 < mask.sum() < mask.size
    assert load_in_cpp(programs, tiny_bundle, path, threshold=repr(threshold)) == [("SAMHQ_OK", counts_of(mask))]


def test_cancellation(programs: Path, tiny_bundle: Bundle) -> None:
    """Before a call and in the middle of it, from another thread."""
    run([programs / "extras", "cancel", tiny_bundle.path])


def tokens_for(bundle: Bundle) -> dict[str, Callable[[Path], object]]:
    """Writers of files with an HQ token, good and bad ones."""
    size, fusion = bundle.manifest.sizes.embed_dim, bundle.manifest.token_fusion
    token = np.random.default_rng(5).normal(0, 0.1, (1, size)).astype(np.float32)
    names = {"decoder": "mask_decoder.hf_token.weight", "sam2": "sam_mask_decoder.hf_token.weight"}

    def npy(values: NDArray[Any]) -> Callable[[Path], object]:
        return lambda path: np.save(path, values)

    def tensors(values: dict[str, NDArray[Any]], **metadata: str) -> Callable[[Path], object]:
        return lambda path: save_file(values, path, metadata or None)

    return {
        "f4.npy": npy(token),
        "f8.npy": npy(token.astype(np.float64)[0]),
        "f2.npy": npy(token.astype(np.float16)),
        "alone.safetensors": tensors({"anything": token}),
        "own.safetensors": tensors({"hq_token": token, "other": token + 1}, token_fusion=fusion, note="line\nline"),
        "state.safetensors": tensors({names["decoder"]: token, "other": np.zeros(3, np.int64)}),
        "half.safetensors": tensors({"hq_token": token.astype(np.float16)}),
        "fusion.safetensors": tensors({"hq_token": token}, token_fusion="sum" if fusion != "sum" else "hadamard"),
        "family.safetensors": tensors({"hq_token": token}, family="sam2"),
        "other family.safetensors": tensors({names["sam2"]: token}),
        "two.safetensors": tensors({"a": token, "b": token}),
        "short.npy": npy(token[:, 1:]),
        "NaN.npy": npy(np.full_like(token, np.nan)),
        "ints.npy": npy(np.ones((1, size), np.int32)),
        "large.npy": npy(np.full((1, size), 1e300)),
        "damaged.npy": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\xff\xff{"),
        "damaged.safetensors": lambda path: path.write_bytes(b"\x08" + b"\0" * 7 + b"{" * 8),
        "missing.npy": lambda path: None,
        "loop.npy": lambda path: path.symlink_to(path),
        "loop.safetensors": lambda path: path.symlink_to(path),
        "memory.npy": lambda path: path.symlink_to("/proc/self/mem"),  # is there, but nobody can read it
        "memory.safetensors": lambda path: path.symlink_to("/proc/self/mem"),
    }


UNREADABLE = {
    "loop.npy": "cannot be read (Too many levels of symbolic links)",
    "loop.safetensors": "cannot be read (Too many levels of symbolic links)",
    "memory.npy": "cannot be read (Input/output error)",
    "memory.safetensors": "cannot be read as an HQ token (Input/output error)",
}


def test_hq_tokens_of_files(programs: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Those that Python reads, and the fusion and the family that it checks."""
    manifest, expected = tiny_bundle.manifest, {}
    for name, write in tokens_for(tiny_bundle).items():
        write(tmp_path / name)
        try:
            (token,) = read_hq_token(
                tmp_path / name, embed_dim=manifest.sizes.embed_dim, token_fusion=manifest.token_fusion
            )
            expected[name] = [float(token[0]), float(token[-1])]
        except CheckpointError:
            expected[name] = []
    assert [name for name, values in expected.items() if values] == list(expected)[:7]
    lines = run([programs / "extras", "tokens", tiny_bundle.path, *(tmp_path / name for name in expected)]).splitlines()
    for (name, values), line in zip(expected.items(), lines, strict=True):
        status, _, rest = line.partition(" ")
        assert status == ("SAMHQ_OK" if values else "SAMHQ_ERROR_HQ_TOKEN"), (name, line)
        assert (
            [np.float32(text) for text in rest.split()] == [np.float32(v) for v in values] if values else name in rest
        )
        assert name not in UNREADABLE or UNREADABLE[name] in rest
