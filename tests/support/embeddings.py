"""Embeddings as files, and what may become of them; `DAMAGE` names what a reader complains of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def picture(hw: tuple[int, int] = (60, 80)) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*hw, 3), dtype=np.uint8)


def change(file: Path, **changed: Any) -> None:
    """Write the file anew, as another program might: other tensors, or other metadata."""
    with safe_open(file, framework="np") as stored:
        metadata = stored.metadata()
    tensors = load_file(file)
    for name, value in changed.items():
        if name in tensors:
            tensors[name] = value(tensors[name])
        else:
            metadata[name] = value
    save_file(tensors, file, metadata)


def truncate(file: Path, count: int) -> None:
    file.write_bytes(file.read_bytes()[:count])


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such file"),
    "a link to itself": (lambda f: (f.unlink(), f.symlink_to(f)), "cannot be read as an embedding (Too many levels"),
    "a folder": (lambda f: (f.unlink(), f.mkdir()), "cannot be read as an embedding"),
    "what nobody can read": (
        lambda f: (f.unlink(), f.symlink_to("/proc/self/mem")),
        "cannot be read as an embedding (Input/output error)",
    ),
    "empty": (lambda f: truncate(f, 0), "not a safetensors file"),
    "cut in its length": (lambda f: truncate(f, 5), "not a safetensors file"),
    "cut in its header": (lambda f: truncate(f, 40), "not a safetensors file"),
    "cut in its tensors": (lambda f: truncate(f, -7), "cut off"),
    "longer": (lambda f: f.write_bytes(f.read_bytes() + b"x"), "cut off, or written over"),
    "text": (lambda f: f.write_text("not an embedding, but long enough to have a length"), "not a safetensors file"),
    "JSON that is no header": (lambda f: f.write_bytes((4).to_bytes(8, "little") + b"[12]"), "header is damaged"),
    "a bit of its data": (lambda f: flip(f, -20), "damaged or changed"),
    "other features": (lambda f: change(f, image_embeddings=lambda a: a + 1), "damaged or changed"),
    "another size": (lambda f: change(f, original_hw="[61, 80]"), "damaged or changed"),
    "no size": (lambda f: change(f, original_hw="[0, 80]"), "how large the image was"),
    "half a size": (lambda f: change(f, original_hw="[60]"), "how large the image was"),
    "a size of three": (lambda f: change(f, original_hw="[60, 80, 3]"), "how large the image was"),
    "a size that is no JSON": (lambda f: change(f, original_hw="60 x 80"), "how large the image was"),
    "another shape": (lambda f: change(f, image_embeddings=lambda a: a[..., :4]), "expected {'image_embeddings'"),
    "other dtypes": (lambda f: change(f, image_embeddings=lambda a: a.astype(np.int32)), "header is damaged"),
    "another bundle": (lambda f: change(f, bundle_sha256="ab" * 32), "another bundle (bundle_sha256 abab"),
    "another precision": (lambda f: change(f, precision="fp16"), "another bundle (precision fp16, expected fp32)"),
    "another program's": (lambda f: save_file({"x": np.ones(3, np.float32)}, f), "not an embedding of this project"),
}
