"""The documentation holds: its links, paths, names, commands and tables are those of this checkout."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.registry import BENCHMARKS
from samhq_exporter.architecture import VARIANTS
from samhq_exporter.cli import build_parser as export_parser
from samhq_exporter.precision.policy import PRECISIONS
from samhq_exporter.weights.released import RELEASES
from samhq_runtime.cli import build_parser as runtime_parser
from samhq_runtime.contract import ModelSizes, image_encoder_spec, mask_decoder_spec
from samhq_runtime.session.ort_providers import PROVIDERS
from tests.test_imports import MAY_IMPORT

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
FOLDERS = ("benchmarks", "deploy", "docs", "exporter", "runtime", "tests")
SOURCES = (".py", ".md", ".hpp", ".cpp", ".h", ".c")
ELSEWHERE = {"samhq/1/model.py"}  # in a Triton repository
ROOMS = [init.parent for init in sorted(ROOT.glob("*/samhq_*/*/__init__.py"))]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@each_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    for target in (t for t in targets if "://" not in t):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index_once() -> None:
    linked = re.findall(r"^\| \[[^]]+\]\(([\w.]+)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8"), re.M)
    assert sorted(linked) == sorted(page.name for page in DOCS if page.name != "README.md")


@each_page
def test_named_files_exist(page: Path) -> None:
    """`docs/x.md`, `tests/...`, and the ends of paths such as `passes/half.py`."""
    paths = [
        *FOLDERS,
        *(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*")),
    ]
    names = set(re.findall(r"`([\w./-]+/[\w.-]*)`", page.read_text(encoding="utf-8")))
    ours = {name for name in names if name.split("/")[0] in FOLDERS or name.endswith(SOURCES)} - ELSEWHERE
    missing = {n for n in ours if "NAME" not in n and not any(f"/{p}".endswith(f"/{n.rstrip('/')}") for p in paths)}
    assert not missing


@each_page
def test_named_modules_exist(page: Path) -> None:
    """`samhq_runtime.room.module.name`, as far as it goes: modules by their files, the rest by a name in the last."""
    for dotted in set(re.findall(r"`(samhq_(?:exporter|runtime)(?:\.\w+)+)", page.read_text(encoding="utf-8"))):
        module, _, name = dotted.rpartition(".")
        if not exists(dotted):
            assert exists(module), dotted
            assert re.search(rf"\b{name}\b", source(module)), dotted


def exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@each_page
def test_shell_blocks_are_shell(page: Path) -> None:
    for block in blocks(page, "bash"):
        checked = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), block


@each_page
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.mark.parametrize("package", ["runtime", "exporter"])
def test_architecture_page_has_the_rooms_and_what_they_import(package: str) -> None:
    """In the order, and with the last column, of `test_imports.MAY_IMPORT`."""
    section = ARCHITECTURE.read_text(encoding="utf-8").partition(f"### `{package}/samhq_{package}`")[2]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\|([^|]*)\|$", section.partition("\n### ")[0], flags=re.MULTILINE)
    rooms = {room: row for room, row in MAY_IMPORT.items() if room.startswith(f"{package}.") and "__" not in room}
    assert [(f"{package}.{room}", row.strip(" `")) for room, row in rows] == list(rooms.items())


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_room_says_what_enters_and_leaves(room: Path) -> None:
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert re.search(r"^In: .*Out: .*[Ii]mports ", docstring or "", flags=re.MULTILINE | re.DOTALL)


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return set(action.choices)


@pytest.mark.parametrize(
    ("page", "pattern", "names"),
    [
        ("README.md", r"samhq ([\w-]+)", subcommands(runtime_parser())),
        ("README.md", r"samhq-export ([\w-]+)", subcommands(export_parser())),
        ("README.md", r"`([\w-]+)`", PRECISIONS),
        ("docs/precision.md", r"(?<=\| )([\w-]+)(?= \|)", PRECISIONS),
        ("docs/predict.md", r"`(\w+)`", PROVIDERS),
        ("docs/checkpoints.md", r"`(\w+)`", {*VARIANTS, *RELEASES} - {"demo"}),
        ("docs/architecture.md", r"`(\w+)`", VARIANTS),
        ("docs/architecture.md", r"`([\w-]+)`", PRECISIONS),
    ],
)
def test_page_names_every_one(page: str, pattern: str, names: Collection[str]) -> None:
    """What was added to a table of the code is in the docs too."""
    missing = set(names) - set(re.findall(pattern, (ROOT / page).read_text(encoding="utf-8")))
    assert not missing


def test_install_page_names_every_extra() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = re.findall(r"^\| `([\w-]+)` \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(extras)


@each_page
def test_named_benchmarks_exist(page: Path) -> None:
    names = re.findall(r"python -m benchmarks ([a-z]\w+)", page.read_text(encoding="utf-8"))
    assert set(names) <= {*BENCHMARKS, "tables"}


def test_bundle_page_has_the_contract() -> None:
    """The table of tensors is that of `contract.py`, in the letters that the page introduces."""
    sizes = ModelSizes(image_size=9000, embedding_size=100, embed_dim=880, token_masks=5)
    letters = {9000: "S", 100: "G", 400: "L", 880: "C", 110: "C / 8"}
    rows = [
        (
            tensor.name,
            f"optional {kind}" if tensor.optional else kind,
            tensor.dtype,
            [letters.get(d, d) for d in tensor.shape],
        )
        for spec in (image_encoder_spec(sizes), mask_decoder_spec(sizes))
        for kind, tensors in (("input", spec.inputs), ("output", spec.outputs))
        for tensor in tensors
    ]
    text = (ROOT / "docs" / "bundle.md").read_text(encoding="utf-8")
    table = text.partition("<!-- contract: begin -->")[2].partition("<!-- contract: end -->")[0]
    shown = [tuple(cell.strip(" `") for cell in line.split("|")[2:6]) for line in table.strip().splitlines()[2:]]
    assert shown == [(*row[:3], f"({', '.join(map(str, row[3]))})") for row in rows]
