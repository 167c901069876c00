"""The direction of imports: one table of what each room may import, and no circle between modules.

A room is a package or module directly below `samhq_runtime` or `samhq_exporter`. A new room is a new row, below all
that it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import samhq_exporter
import samhq_runtime

# Small modules of the runtime that every room may import, and what they may import themselves.
GROUND = {
    "runtime.errors": "",
    "runtime.contract": "errors",
    "runtime.files": "",
    "runtime.file_kinds": "",
    "runtime.leftovers": "",
    "runtime.tables": "",
    "runtime.flags": "",
    "runtime.callbacks": "",
    "runtime.closing": "",
    "runtime.installing": "errors",
    "runtime.whole_numbers": "errors",
    "runtime.children": "",
}
# room: rooms it may import besides, all of them in rows above its own. `runtime` and `exporter` are the packages' own
# `__init__`. The exporter may import the runtime's rooms, never the other way round.
MAY_IMPORT = {
    **GROUND,
    "runtime.parity": "",
    "runtime.manifest": "",
    "runtime.frames": "",
    "runtime.masks": "frames",
    "runtime.formats": "frames masks",
    "runtime.nvidia": "manifest",
    "runtime.session": "manifest nvidia",
    "runtime.machine": "",
    "runtime.auto": "manifest nvidia session machine",
    "runtime.bundle": "manifest frames masks nvidia session auto",
    "runtime.engine": "parity manifest frames nvidia session bundle",
    "runtime.debug": "parity frames bundle",
    "runtime.hq_token": "",
    "runtime.sam_predictor": "frames",
    "runtime.embeddings": "frames session bundle",
    "runtime.decoding": "frames masks session embeddings",
    "runtime.batches": "frames session bundle embeddings",
    "runtime.on_device": "manifest frames masks session bundle embeddings",
    "runtime.predictor": "sam_predictor frames masks session bundle engine hq_token embeddings decoding batches "
    "on_device",
    "runtime.everything": "frames masks formats embeddings predictor",
    "runtime": "bundle embeddings predictor everything",
    "runtime.evaluation": "runtime frames masks formats session bundle predictor",
    "runtime.bench": "manifest frames masks session machine auto bundle predictor",
    "runtime.tune": "parity manifest frames masks session machine auto bundle engine predictor bench",
    "runtime.doctor": "manifest nvidia session machine engine",
    "runtime.serve": "runtime frames masks bundle embeddings predictor",
    "runtime.triton": "manifest bundle predictor serve",
    "runtime.fleet": "frames masks formats session machine embeddings predictor serve",
    "runtime.rasters": "masks",
    "runtime.comparison": "masks predictor evaluation",
    "runtime.commands": "manifest frames masks formats nvidia session auto bundle engine debug embeddings predictor "
    "everything evaluation bench tune doctor serve triton fleet rasters comparison",
    "runtime.cli": "runtime commands",
    "runtime.__main__": "cli",
    "exporter.architecture": "",
    "exporter.steps": "",
    "exporter.onnx_files": "",
    "exporter.pixel_graphs": "runtime.on_device",
    "exporter.model": "architecture",
    "exporter.scenes": "runtime.frames runtime.masks",
    "exporter.passes": "architecture",
    "exporter.weights": "architecture steps model runtime.hq_token",
    "exporter.tracing": "model",
    "exporter.precision": "architecture steps onnx_files scenes passes tracing runtime.frames",
    "exporter.bundle": "architecture onnx_files weights tracing precision runtime runtime.manifest runtime.bundle",
    "exporter.verification": "steps onnx_files model scenes passes tracing "
    "runtime.parity runtime.frames runtime.masks runtime.session runtime.bundle runtime.debug runtime.predictor",
    "exporter.config": "architecture precision runtime.nvidia",
    "exporter.additions": "steps config runtime.nvidia runtime.bundle runtime.engine runtime.triton",
    "exporter.pipeline": "steps model weights tracing precision bundle verification config additions "
    "runtime.manifest runtime.bundle runtime.engine",
    "exporter": "config pipeline",
    "exporter.training": "architecture model weights runtime.frames runtime.evaluation",
    "exporter.demo": "architecture model scenes weights verification training "
    "runtime.frames runtime.masks runtime.bundle runtime.predictor runtime.evaluation",
    "exporter.commands": "architecture weights precision verification config pipeline training runtime.nvidia "
    "runtime.commands",
    "exporter.cli": "commands runtime runtime.commands",
    "exporter.__main__": "cli",
}
PACKAGES = {"runtime": samhq_runtime, "exporter": samhq_exporter}


def modules_of(package: str) -> dict[str, Path]:
    """Every module by dotted name, `runtime` in the place of `samhq_runtime`; a package stands for its `__init__`."""
    root = Path(PACKAGES[package].__file__ or "").parent
    files = {(package, *path.relative_to(root).with_suffix("").parts): path for path in root.rglob("*.py")}
    return {".".join(parts).removesuffix(".__init__"): path for parts, path in files.items()}


MODULES = {**modules_of("runtime"), **modules_of("exporter")}


def imports_of(module: str) -> set[str]:
    """The modules of ours that `module` names in an import, anywhere in it: in functions and for type checkers too."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for name in _names(node, package):
            ours = name.removeprefix("samhq_")
            while ours and ours not in MODULES:  # a name in a module, not a module
                ours = ours.rpartition(".")[0]
            found.add(ours)
    return found - {"", module}


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith("samhq_"))
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level]
        base = ".".join([*above, *([node.module] if node.module else [])]) if node.level else str(node.module)
        if node.level or base.startswith("samhq_"):
            yield from (f"{base}.{alias.name}" for alias in node.names)


IMPORTS = {module: imports_of(module) for module in MODULES}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def named(room: str) -> set[str]:
    """The rooms in its row; those without a package are of its own package."""
    package = room.partition(".")[0]
    return {n if n.partition(".")[0] in PACKAGES else f"{package}.{n}" for n in MAY_IMPORT[room].split()}


def allowed(room: str) -> set[str]:
    return named(room) if room in GROUND else named(room) | set(GROUND)


def test_every_room_has_a_row() -> None:
    assert {room_of(module) for module in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_what_its_row_says(room: str) -> None:
    rooms = {(module, room_of(target)) for module in MODULES if room_of(module) == room for target in IMPORTS[module]}
    forbidden = {f"{module} imports {target}" for module, target in rooms if target not in {room, *allowed(room)}}
    assert not forbidden
    assert named(room) <= {target for _, target in rooms}, "names a room that it does not need"


def test_rows_name_rows_above() -> None:
    """Then no rooms can import each other in a circle."""
    above: set[str] = set()
    for room in MAY_IMPORT:
        assert allowed(room) <= above, room
        above.add(room)


def test_no_module_imports_itself_in_a_circle() -> None:
    assert cycle(IMPORTS) == []


def cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """The modules of a circle, or none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as e:
        return list(e.args[1])
    return []


def test_circles_and_function_level_imports_are_found() -> None:
    assert cycle({"a": {"b"}, "b": {"a"}})
    assert "runtime.session.ort" in IMPORTS["runtime.session.open"]
