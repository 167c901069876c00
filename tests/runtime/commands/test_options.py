"""What all commands read from their arguments."""

from __future__ import annotations

import argparse

import pytest

from samhq_exporter.cli import main as export_main
from samhq_runtime import __version__
from samhq_runtime.cli import build_parser, main
from samhq_runtime.commands.options import with_negative_values


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--box", "-5,10,20,30"], ["--box=-5,10,20,30"]),
        (["--point", "-1,4", "--point", "-.5,2"], ["--point=-1,4", "--point=-.5,2"]),
        (["--box=-5,1,2,3", "-1"], ["--box=-5,1,2,3", "-1"]),
        (["--multimask", "--output", "x.png"], ["--multimask", "--output", "x.png"]),
        (["a", "-1"], ["a", "-1"]),
        ([], []),
    ],
)
def test_with_negative_values(arguments: list[str], expected: list[str]) -> None:
    assert with_negative_values(arguments) == expected


def test_a_box_that_begins_left_of_the_image() -> None:
    words = ["predict", "bundle", "a.jpg", "--output", "m.png", "--box", "-5,10,20,30", "--point", "-1,4"]
    options = build_parser().parse_args(with_negative_values(words))
    assert options.box == (-5, 10, 20, 30)
    assert options.point == [(-1, 4)]


@pytest.mark.parametrize(("command", "name"), [(main, "samhq"), (export_main, "samhq-export")])
def test_version(command: object, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command(["--version"])  # type: ignore[operator]
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"{name} {__version__}\n"


def test_every_command_that_opens_a_bundle_takes_a_key() -> None:
    """But `sign`, which makes what the others check, and `doctor`, which reads the manifest and loads nothing."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    options = {name: {action.dest for action in parser._actions} for name, parser in commands.choices.items()}
    opening = {name for name, found in options.items() if found & {"bundle", "bundles"}}
    assert {"predict", "bench"} <= opening
    assert {name for name, found in options.items() if "verify_key" in found} == opening - {"sign", "doctor"}
