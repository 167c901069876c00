"""The files of a bundle folder, against the hashes of its manifest."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from ..errors import BundleError
from ..files import sha256_of
from ..manifest import MANIFEST_NAME, FileEntry, Manifest
from ..nvidia.rebuild import rebuild_command
from .damage import absence_of, damage_of
from .external_data import external_files

Stamp = tuple[int, int, int]


def verify_files(bundle: Path, manifest: Manifest) -> None:
    """Every listed file is inside the bundle, present, of its size and hash, and every graph and engine is listed."""
    listed = [("graph", file) for entry in manifest.graphs.values() for file in (entry.file, entry.cpu_file) if file]
    listed += [("engine", entry.file) for entry in manifest.engines.values()]
    for kind, file in listed:
        if file not in manifest.files:
            raise BundleError(f"{MANIFEST_NAME}: {kind} file {file!r} is not in its list of hashed files")
    for name, expected in manifest.files.items():
        path = _inside(bundle, name)
        if not path.is_file():
            cure = _rebuild(bundle, manifest, name) or "copy the bundle again or export it again"
            raise BundleError(f"{bundle}: {name} is missing{absence_of(path)}; {cure}")
        try:
            if path.stat().st_size != expected.bytes or sha256_of(path) != expected.sha256:
                damage, cure = damage_of(path, expected)
                raise BundleError(f"{path}: {damage}; {_rebuild(bundle, manifest, name) or cure}")
        except OSError as e:
            raise BundleError(f"{path}: cannot be read ({e.strerror or e})") from e
    for kind, file in listed:
        if kind == "graph":
            _require_listed_weights(bundle, file, manifest)


def _require_listed_weights(bundle: Path, graph: str, manifest: Manifest) -> None:
    """Every file that a graph takes weights from lies beside it and is hashed: backends load whatever it names."""
    try:
        files = external_files(bundle / graph)
    except (ValueError, RecursionError) as e:
        raise BundleError(
            f"{bundle / graph}: refused, not a graph of this project ({e}); export the bundle again"
        ) from e
    for file in sorted(files):
        beside = (PurePosixPath(graph).parent / file).as_posix()
        if {"/", "\\"} & set(file) or beside not in manifest.files:  # those are inside, and hashed
            raise BundleError(
                f"{bundle / graph}: refused, it takes weights from {file!r}, which is not a hashed file of this bundle"
            )


def _rebuild(bundle: Path, manifest: Manifest, name: str) -> str:
    """The command that builds an engine file again; empty for other files."""
    for entry in manifest.engines.values():
        if entry.file == name:
            return rebuild_command(bundle, manifest.graphs[entry.graph].spec, entry)
    return ""


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """Hash and size of every file below `folder`, by relative POSIX path, in a stable order."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): FileEntry(sha256_of(p), p.stat().st_size) for p in files}


def _inside(bundle: Path, name: str) -> Path:
    """`bundle / name`, refused if the name leads out of the bundle.

    The file itself may be a link to elsewhere, as caches and stores of large files make them: what is loaded is what
    was hashed. A folder may not, for then the name says nothing of where the file lies.
    """
    relative = PurePosixPath(name)
    path = bundle / relative
    if relative.is_absolute() or ".." in relative.parts or PureWindowsPath(name).drive:
        raise BundleError(f"{MANIFEST_NAME}: refused, {name!r} lies outside the bundle")
    if not _resolved(path.parent).is_relative_to(_resolved(bundle)):
        raise BundleError(
            f"{MANIFEST_NAME}: refused, {name!r} lies outside the bundle, in a folder that is a link; link the files "
            "instead, or copy the bundle with `cp -rL`"
        )
    return path


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as e:  # links in a circle
        raise BundleError(f"{path}: links that lead nowhere ({e}); copy the bundle again") from e


def stamps_of(bundle: Path, manifest: Manifest) -> dict[Path, Stamp]:
    """The files that sessions read while they run, by absolute path; engines are read once, and may be built again."""
    files = [_inside(bundle, name).absolute() for name in manifest.lasting_files]
    return {path: stamp for path in files if (stamp := stamp_of(path)) is not None}


def stamp_of(path: Path) -> Stamp | None:
    """Inode, size and time of the last change; None if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
