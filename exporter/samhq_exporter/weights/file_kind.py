"""Is a weights file what its name says? Its bytes are looked at before a reader guesses."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

from samhq_runtime.errors import CheckpointError
from samhq_runtime.file_kinds import kind_of

_PICKLE = b"\x80"
_EXPECTED = "expected a state dict saved with torch.save or safetensors"


def require_safetensors(path: Path) -> None:
    """CheckpointError for a file named `.safetensors` that surely is something else."""
    head = _head(path)
    if _is_safetensors(path, head):
        return
    _require_no_other_kind(path)
    if head.startswith(b"PK\x03\x04") or _is_pickle(head):
        raise CheckpointError(
            f"{path.name}: written by torch.save, by its content; name it {path.stem}.pth instead of .safetensors"
        )


def require_torch(path: Path) -> None:
    """CheckpointError for a file that surely was not written by `torch.save` of tensors."""
    head = _head(path)
    if _is_safetensors(path, head):
        raise CheckpointError(
            f"{path.name}: a safetensors file, by its content; name it {path.stem}.safetensors instead"
        )
    _require_no_other_kind(path)
    if head.startswith(b"PK\x03\x04"):
        _require_torch_archive(path)


def _require_no_other_kind(path: Path) -> None:
    kind = kind_of(path)
    if kind:
        raise CheckpointError(f"{path.name}: {kind} ({path.stat().st_size} bytes; {_EXPECTED})")


def _head(path: Path) -> bytes:
    """As far as the brace that a safetensors file has after its first number."""
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as e:
        raise CheckpointError(f"{path}: cannot be read ({e.strerror}); check the file and its permissions") from e


def _is_pickle(head: bytes) -> bool:
    return head.startswith(_PICKLE) and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Eight bytes, the length of a JSON object, and its brace."""
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length <= path.stat().st_size - 8


def _require_torch_archive(path: Path) -> None:
    try:
        if not is_zipfile(path):
            raise CheckpointError(
                f"{path.name}: cut short, an archive of torch.save without its end ({path.stat().st_size} bytes); "
                "copy or download it again"
            )
        with ZipFile(path) as archive:
            names = archive.namelist()
    except (BadZipFile, ValueError, NotImplementedError, OSError):
        return  # whoever reads it says so
    inner = {name.partition("/")[2] for name in names}  # of the one folder that torch.save makes
    if "constants.pkl" in inner:
        raise CheckpointError(
            f"{path.name}: a TorchScript model (torch.jit.save), whose code is not run; save the state dict of the "
            "model it was made of"
        )
    if "data.pkl" not in inner:
        raise CheckpointError(f"{path.name}: {_other_archive(names)}")


def _other_archive(names: list[str]) -> str:
    weights = [name for name in names if name.endswith((".pth", ".pt", ".safetensors"))]
    if weights:
        return f"a zip archive with {weights[0]} in it; unpack it and give that file"
    if names and all(name.endswith(".npy") for name in names):
        return f"NumPy arrays (.npz); {_EXPECTED}"
    if any(name.endswith((".pt2", "archive_format")) for name in names):
        return f"a model of torch.export; {_EXPECTED}"
    found = f" ({names[0]!r}{', ...' if len(names) > 1 else ''})" if names else ""
    return f"a zip archive of {len(names)} other files{found}; {_EXPECTED}"
