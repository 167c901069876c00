"""`manifest.json`: what a bundle is, what its files hash to, and what its graphs take and return."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..contract import (
    NO_FUSION,
    NUM_TOKEN_MASKS,
    SAM,
    GraphSpec,
    ModelSizes,
    TensorSpec,
    image_encoder_spec,
    mask_decoder_spec,
)
from ..errors import BundleError
from ..file_kinds import stand_in_of
from ..files import sha256_of, write_text
from .checks import require_content, require_plain, require_profiles, unique_names
from .entries import EngineEntry, FileEntry, GraphEntry
from .seal import require_seal, sealed

MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 1
_MAX_BYTES = 4 << 20  # as in C++


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`; `files` covers every file of the bundle but the manifest itself."""

    variant: str
    precision: str
    token_fusion: str
    sizes: ModelSizes
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    mask_threshold: float
    opset: int
    precision_policy: Mapping[str, Any]
    graphs: Mapping[str, GraphEntry]
    files: Mapping[str, FileEntry]
    checkpoint: Mapping[str, str]
    tools: Mapping[str, str]
    parity: Mapping[str, Any]
    schema_version: int = SCHEMA_VERSION
    engines: Mapping[str, EngineEntry] = field(default_factory=dict)

    @property
    def lasting_files(self) -> dict[str, FileEntry]:
        """All but engines, which may be built again."""
        engines = {entry.file for entry in self.engines.values()}
        return {name: entry for name, entry in self.files.items() if name not in engines}

    def to_json(self) -> str:
        content = asdict(self)
        content["graphs"] = {name: _graph_json(entry) for name, entry in self.graphs.items()}
        if not self.engines:
            del content["engines"]
        if self.sizes.family == SAM:  # as manifests were before there was another
            del content["sizes"]["family"]
        return sealed(content)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Parse and validate; BundleError names the first thing that is wrong."""
        try:
            content = json.loads(text, object_pairs_hook=unique_names)
            require_plain(content)
            _require_schema(content.pop("schema_version"))
            require_seal(text)
            del content["manifest_sha256"]
            require_content(content)
            content["sizes"] = ModelSizes(**{"token_masks": NUM_TOKEN_MASKS, **content["sizes"]})
            for name in ("pixel_mean", "pixel_std"):
                content[name] = tuple(map(float, content[name]))
            content["mask_threshold"] = float(content["mask_threshold"])
            content["graphs"] = {name: _graph_entry(name, entry) for name, entry in content["graphs"].items()}
            content["files"] = {name: FileEntry(**entry) for name, entry in content["files"].items()}
            engines = content.pop("engines", {})
            content["engines"] = {
                name: _engine_entry(name, entry, content["graphs"]) for name, entry in engines.items()
            }
            manifest = cls(**content)
            manifest._require_contract()
        except (ArithmeticError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as e:
            raise BundleError(f"{MANIFEST_NAME}: not a manifest of this project ({e}); export the bundle again") from e
        return manifest

    def _require_contract(self) -> None:
        """The recorded inputs and outputs must be the ones this version of the runtime feeds and reads."""
        if (self.token_fusion == NO_FUSION) is self.sizes.has_hq:
            raise ValueError(f"token fusion {self.token_fusion} with {self.sizes.token_masks} token masks")
        for make_spec in (image_encoder_spec, mask_decoder_spec):
            specs = [make_spec(self.sizes, embeddings_dtype=dtype) for dtype in ("float32", "float16")]
            name = specs[0].name
            if name not in self.graphs or self.graphs[name].spec not in specs:
                raise BundleError(
                    f"{MANIFEST_NAME}: {name} is not the graph this runtime knows; export the bundle again"
                )


def read_manifest(bundle: Path) -> Manifest:
    """The manifest of a bundle folder, parsed but with no file hashed yet."""
    path = bundle / MANIFEST_NAME
    if not path.is_file():
        raise BundleError(f"{bundle}: not a bundle, {MANIFEST_NAME} is missing; make one with `samhq-export`")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: {path.stat().st_size} bytes are too many for a manifest")
        data = path.read_bytes()
        if (stand_in := stand_in_of(path)) is not None:
            raise BundleError(f"{path}: {stand_in}")
        return Manifest.from_json(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise BundleError(f"{path}: cannot be read ({e})") from e


def manifest_sha256(bundle: Path) -> str:
    """What a bundle folder's content is known by: the hash of its manifest, which has those of all other files."""
    return sha256_of(bundle / MANIFEST_NAME)


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Replace the manifest of a bundle folder in one step; OSError leaves the old one."""
    write_text(bundle / MANIFEST_NAME, manifest.to_json())


def _require_schema(version: object) -> None:
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME}: schema {version}, this runtime reads schema {SCHEMA_VERSION}; "
            "install the samhq-export that wrote the bundle, or export it again"
        )


def _graph_json(entry: GraphEntry) -> dict[str, Any]:
    cpu_file = {"cpu_file": entry.cpu_file} if entry.cpu_file else {}
    return {
        "file": entry.file,
        **cpu_file,
        "inputs": _io_json(entry.spec.inputs),
        "outputs": _io_json(entry.spec.outputs),
    }


def _io_json(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
    return [asdict(spec) for spec in specs]


def _graph_entry(name: str, entry: Mapping[str, Any]) -> GraphEntry:
    spec = GraphSpec(name, tuple(_io(entry["inputs"])), tuple(_io(entry["outputs"])))
    return GraphEntry(entry["file"], spec, entry.get("cpu_file"))


def _engine_entry(name: str, content: Mapping[str, Any], graphs: Mapping[str, GraphEntry]) -> EngineEntry:
    entry = EngineEntry(**content)
    if entry.graph not in graphs:
        raise ValueError(f"engine {entry.file!r} of {entry.graph!r}")
    require_profiles(name, entry.profiles, graphs[entry.graph].spec)
    return entry


def _io(items: list[dict[str, Any]]) -> Iterator[TensorSpec]:
    for item in items:
        yield TensorSpec(item["name"], item["dtype"], tuple(item["shape"]), item["optional"])
