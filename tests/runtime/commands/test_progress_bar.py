"""One line or one bar per graph, and a terminal that is gone."""

from __future__ import annotations

import io
import sys

import pytest

from samhq_runtime.commands.progress_bar import _PlainBar, open_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_line() -> None:
    stream = io.StringIO()
    bar = open_bar("image_encoder", stream)
    bar.show(0.5, "Timing kernels")
    bar.close()
    assert stream.getvalue().startswith("image_encoder ...")
    assert stream.getvalue().endswith(" s\n")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("tqdm", [True, False])
def test_bar_on_a_terminal(tqdm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if tqdm:
        pytest.importorskip("tqdm")
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("samhq_runtime.commands.progress_bar._REDRAW_SECONDS", 0)
    stream = Terminal()
    bar = open_bar("image_encoder", stream)
    bar.show(0.25, "Timing kernels")
    bar.show(0.5, "Timing kernels")
    bar.close()
    assert "50%" in stream.getvalue()
    assert "image_encoder" in stream.getvalue()


def test_closed_stderr_does_not_end_a_build() -> None:
    class Closed(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    bar = _PlainBar("image_encoder", Closed())
    bar.show(0.5, "Timing kernels")
    bar.close()
