"""Files that are not what their names say."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save as safetensors_bytes

from samhq_exporter.weights.checkpoint import load_checkpoint
from samhq_runtime.errors import CheckpointError


def archive(**entries: bytes) -> Callable[[Path, bytes], None]:
    def write(path: Path, _content: bytes) -> None:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in entries.items():
                file.writestr(name.replace("__", "/").replace("_dot_", "."), content)

    return write


def text(content: str | bytes) -> Callable[[Path, bytes], None]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda path, _: (path.write_bytes(data), None)[1]


MISNAMED: dict[str, tuple[str, Callable[[Path, bytes], object], str]] = {
    "empty": ("m.pth", text(""), "empty"),
    "zeros": ("m.pth", text(bytes(5000)), "zeros only"),
    "a web page": ("m.pth", text("\n<!DOCTYPE html><html><title>Google Drive - Virus scan"), r"a web page \(HTML\)"),
    "an error of a store": ("m.pth", text('<?xml version="1.0"?><Error><Code>AccessDenied'), "an XML text"),
    "a web page as safetensors": ("m.safetensors", text("<html>" + "x" * 3000), r"a web page \(HTML\)"),
    "Git LFS": ("m.pth", text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 379335069\n"), "git lfs"),
    "Git LFS as safetensors": ("m.safetensors", text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "git-annex": ("m.pth", text("/annex/objects/SHA256E-s3--0.pth\n"), "git annex get"),
    "DVC": ("m.pth", text("outs:\n- md5: 0\n  size: 3\n"), "dvc pull"),
    "a message": ("m.pth", text("Too many requests"), "a text"),
    "JSON": ("m.pth", text('{"message": "Bad credentials"}'), "a JSON text"),
    "safetensors as .pth": ("m.pth", Path.write_bytes, r"a safetensors file, by its content; name it m\.safetensors"),
    "torch.save as .safetensors": (
        "m.safetensors",
        lambda p, _: torch.save({"a": torch.zeros(1)}, p),
        r"written by torch\.save, by its content; name it m\.pth",
    ),
    "gzip": ("m.pth", text(b"\x1f\x8b\x08\0"), "a gzip archive; unpack it"),
    "a zip of the weights": ("m.pth", archive(folder__sam_dot_pth=b"0"), r"a zip archive with folder/sam\.pth in it"),
    "a zip of something else": ("m.pth", archive(readme_dot_txt=b"0"), "a zip archive of 1 other files"),
    "npz": ("m.pth", lambda p, _: np.savez(p.open("wb"), a=np.zeros(1)), r"NumPy arrays \(\.npz\)"),
    "npy": ("m.pth", lambda p, _: np.save(p.open("wb"), np.zeros(1)), "a NumPy array"),
    "TorchScript": ("m.pth", archive(m__constants_dot_pkl=b"", m__data_dot_pkl=b""), "a TorchScript model"),
    "a TensorRT engine": ("m.pth", text(b"ftrt" + bytes(64) + b"\x01"), "a TensorRT engine"),
    "cut": ("m.pth", lambda p, _: (torch.save({"a": torch.zeros(99)}, p), p.write_bytes(p.read_bytes()[:700])), "cut"),
}


@pytest.mark.parametrize("case", MISNAMED)
def test_what_the_file_is(tmp_path: Path, case: str) -> None:
    name, write, complaint = MISNAMED[case]
    write(tmp_path / name, safetensors_bytes({"a": torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(tmp_path / name)
    assert name in str(caught.value)
    assert "may hold code" not in str(caught.value)
