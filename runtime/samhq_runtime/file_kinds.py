"""What a file is by its first bytes, where its name promises something else: a web page, a pointer, an archive."""

from __future__ import annotations

from pathlib import Path

_HEAD = 1024  # bytes that are looked at

# (offset, bytes, what it is and what to do), first match wins.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself; run `git annex get`"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it"),
    (0, b"BZh", "a bzip2 archive; unpack it"),
    (0, b"\xfd7zXZ\0", "an xz archive; unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (0, b"Rar!", "a RAR archive; unpack it"),
    (257, b"ustar", "a tar archive; unpack it"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes; another format than PyTorch's"),
    (0, b"\x93NUMPY", "a NumPy array (.npy)"),
    (0, b"GGUF", "a GGUF file"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"ftrt", "a TensorRT engine, which no weights can be read from; give what it was built of"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x7fELF", "a Linux program or library"),
)
LINE_ENDINGS = (
    "git changed them: switch that off (`git config core.autocrlf false`, `* -text` in .gitattributes) and check it "
    "out again"
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def stand_in_of(path: Path) -> str | None:
    """What stands in the place of the file itself, and what to do: a pointer, a page, an archive, nothing."""
    kind = kind_of(path)
    return kind if kind is not None and ";" in kind else None


def kind_of(path: Path) -> str | None:
    """What the file surely is and what to do, such as "a web page (HTML), ..."; None if its first bytes do not tell.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "empty; copy or download it again"
    if not head.strip(b"\0") and not _rest_of(path).strip(b"\0"):
        return "zeros only, a file that was made and never filled; copy or download it again"
    for offset, magic, kind in _MAGIC:
        if head[offset:].startswith(magic):
            return kind
    return _text_kind(head)


def _rest_of(path: Path) -> bytes:
    """Enough of the end to tell a file of zeros from one that begins with some."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _HEAD))
        return file.read()


def _text_kind(head: bytes) -> str | None:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES) or (text.startswith(b"<?xml") and b"<html" in text):
        return "a web page (HTML), perhaps of a login, a warning or an error; download the file itself"
    if text.startswith(b"<?xml"):
        return "an XML text"
    if text.startswith(b"outs:") or b"\nouts:" in text:
        return "a DVC pointer, not the file itself; run `dvc pull`"
    if text.startswith((b"{", b"[")) and _is_text(head):
        return "a JSON text"
    return "a text" if _is_text(head) else None


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as e:
        if e.start < len(head) - 4:  # else a letter that the head cuts
            return False
        text = head[: e.start].decode("utf-8")
    return all(letter.isprintable() or letter in "\r\n\t\f\v\ufeff" for letter in text)
