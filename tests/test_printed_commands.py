"""Every command that README, docs and deployment files print is one that works: parsed by the program it is for."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from benchmarks.__main__ import parse as parse_benchmark
from benchmarks.registry import BENCHMARKS
from samhq_exporter.cli import build_parser as export_parser
from samhq_runtime.cli import build_parser as runtime_parser
from samhq_runtime.commands.options import with_negative_values

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DEPLOY = [ROOT / "deploy" / "Dockerfile", ROOT / "deploy" / "samhq.service"]
FOLDERS = ("benchmarks", "deploy", "docs", "exporter", "runtime", "tests")
SHELLS = ("bash", "sh", "shell", "console")
PROGRAMS = {"samhq": runtime_parser(), "samhq-export": export_parser()}
# Programs of others, whose options stand in the text too.
OTHERS = {"curl", "docker", "grpcurl", "gunicorn", "openssl", "pkg-config", "polygraphy", "pytest", "ruff"}
OTHERS |= {"tritonserver", "trtexec"}
# Options in the text that are of other programs.
FOREIGN = {"--cache-config", "--run-slow", "--run-released", "--fp16", "--sam-from"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def shell_blocks(page: Path) -> Iterator[str]:
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        if language in SHELLS:
            yield block


def commands_of(block: str) -> Iterator[list[str]]:
    """Words of every command; the lines of a here-document are its input."""
    block = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", block, flags=re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines():
        for command in re.split(r" && | \|\| | \| |; ", re.sub(r"(^|\s)#\s.*", "", line)):
            words = shlex.split(command.removeprefix("$ "))
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # variables of the command
                del words[0]
            if words:
                yield words


@each_page
def test_every_line_of_shell_works(page: Path) -> None:
    for block in shell_blocks(page):
        for words in commands_of(block):
            require_works(words)


def require_works(words: list[str]) -> None:
    if words[0] in PROGRAMS:
        if "..." not in words:
            parsed(words[0], words[1:])
    elif words[0] == "python":
        require_module(words)
    else:
        assert re.fullmatch(r"[a-z][a-z0-9+-]*|\.", words[0]), f"{shlex.join(words)}: begins with no program"
    require_paths(words)


def parsed(program: str, arguments: list[str]) -> argparse.Namespace:
    message = StringIO()
    try:
        with redirect_stderr(message):
            return PROGRAMS[program].parse_args(with_negative_values(arguments))
    except SystemExit as e:
        raise AssertionError(f"{program} {shlex.join(arguments)}: {message.getvalue()}") from e


def require_module(words: list[str]) -> None:
    """`python -m MODULE ...`: pip with extras that exist, a benchmark with its options, a module of ours."""
    assert words[1] == "-m", words
    module, arguments = words[2], words[3:]
    if module == "pip":
        require_extras(shlex.join(words))
    elif module == "benchmarks":
        require_benchmark(arguments)
    elif module.startswith(("samhq_", "tests.")):
        path = module.replace(".", "/")
        assert any((ROOT / folder / f"{path}.py").is_file() for folder in ("exporter", "runtime", ".")), module
    else:
        assert module in ("pytest", "venv"), words


def require_benchmark(arguments: list[str]) -> None:
    name, *options = arguments
    if name == "tables":
        assert set(options) <= set(BENCHMARKS)
    elif "--help" not in options and name != "--list":
        parse_benchmark(BENCHMARKS[name], BENCHMARKS[name].load(), options)


def require_extras(text: str) -> None:
    """Of this project's, in whatever form it is named."""
    for extras in re.findall(r"(?:^|[\s'\"/.]|samhq-export)\[([a-z,-]+)\]", text):
        assert set(extras.split(",")) <= known_extras(), text


def known_extras() -> set[str]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def require_paths(words: list[str]) -> None:
    """Arguments that name files of the repository, but those that are written."""
    written = {words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--output", "-o", "--plot", "-B")}
    for word in set(words[1:]) - written:
        if word.split("/")[0] in FOLDERS and "/" in word and "*" not in word:
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("path", [*PAGES, *DEPLOY], ids=lambda path: path.name)
def test_every_install_line_names_extras_that_exist(path: Path) -> None:
    """In the text too; and none asks an index for this project, which is on none."""
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"pip install[^\n`]*", text):
        require_extras(line)
        assert not re.search(r"install ['\"]?samhq", line), line


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Of all its subcommands too."""
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for child in action.choices.values() for option in options_of(child)}
    return found


@each_page
def test_options_in_the_text_exist(page: Path) -> None:
    """`--name` in backticks is an option of some command of ours; `samhq NAME ...` names a subcommand that has it."""
    ours = {option for parser in PROGRAMS.values() for option in options_of(parser)}
    benchmarks = {option for name in BENCHMARKS for option in benchmark_options(name)}
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for span in re.findall(r"`([^`\n]+)`", text):
        given, words = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", span)), span.split()
        assert given <= ours | benchmarks | FOREIGN or words[0] in OTHERS, span
        if words[0] == "samhq" and len(words) > 1 and words[1].isalpha() and words[1].islower():
            assert given <= options_of(subcommand(PROGRAMS["samhq"], words[1])), span


def subcommand(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    (action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    child: argparse.ArgumentParser = action.choices[name]
    return child


def benchmark_options(name: str) -> set[str]:
    parser = argparse.ArgumentParser()
    BENCHMARKS[name].load().add_options(parser)
    return options_of(parser) | {"--output", "--resume", "--overwrite", "--docs"}


def test_what_the_deployment_files_run() -> None:
    """`ENTRYPOINT` and `ExecStart`; the YAML files are in test_deploy."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    unit = (ROOT / "deploy" / "samhq.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=(.+)$", unit, re.M)
    words = shlex.split(line)
    parsed(Path(words[0]).name, words[1:])
    (entry,) = re.findall(r"^ENTRYPOINT (\[.+\])$", dockerfile, re.M)
    words = [*json.loads(entry), "BUNDLE"]
    parsed(words[0], words[1:])


@pytest.mark.parametrize(
    "words",
    [
        ["samhq", "predict", "BUNDLE"],
        ["samhq", "serve", "BUNDLE", "--prot", "v3"],
        ["samhq-export", "--precision", "fp2"],
        ["python", "-m", "pip", "install", "-e", ".[all]"],
        ["python", "-m", "benchmarks", "peers", "--nothing"],
        ["python", "-m", "samhq_exporter.demo.nothing"],
        ["Only", "its", "headers"],
        ["ruff", "check", "tests/none.py"],
    ],
)
def test_what_is_wrong_is_found(words: list[str]) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        require_works(words)
