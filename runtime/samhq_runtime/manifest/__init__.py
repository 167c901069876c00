"""`manifest.json` as data: what a bundle is, what its files hash to, what its graphs take and return.

In: the text of a manifest. Out: a checked `Manifest`. Imports the contract, files and errors.
"""

from .checks import printable
from .entries import EngineEntry, FileEntry, GraphEntry
from .manifest import MANIFEST_NAME, SCHEMA_VERSION, Manifest, manifest_sha256, read_manifest, write_manifest

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "EngineEntry",
    "FileEntry",
    "GraphEntry",
    "Manifest",
    "manifest_sha256",
    "printable",
    "read_manifest",
    "write_manifest",
]
