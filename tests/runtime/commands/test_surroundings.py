"""Names, text and machines as they are: other encodings, broken packages, users without a home."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samhq_runtime import Bundle
from samhq_runtime.cli import main
from samhq_runtime.commands.running import run_command
from samhq_runtime.errors import BundleError, PromptError
from samhq_runtime.file_kinds import kind_of
from samhq_runtime.files import sweep, write_whole
from samhq_runtime.fleet.prompt_files import read_jobs
from samhq_runtime.installing import install_command
from samhq_runtime.tables import printable
from tests.support.serving import IMAGE

LINE = {"box": [5, 6, 40, 50]}
NFC, NFD = (unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD"))


def prompts_file(folder: Path, content: bytes | str) -> Path:
    path = folder / "prompts.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def line(image: str, *, ascii_only: bool = True) -> str:
    return json.dumps({"image": image, **LINE}, ensure_ascii=ascii_only)


READ: dict[str, tuple[bytes, list[str]]] = {
    "a byte order mark": (b"\xef\xbb\xbf" + line("a.png").encode(), ["a.png"]),
    "line ends of Windows": (f"{line('a.png')}\r\n{line('b.png')}\r\n".encode(), ["a.png", "b.png"]),
    "a line separator in a name": (line("a\u2028b.png", ascii_only=False).encode(), ["a\u2028b.png"]),
    "NEL and form feed": (line("a\x85b.png", ascii_only=False).encode(), ["a\x85b.png"]),
    "a name that is not UTF-8": (line("caf\udce9.png").encode(), ["caf\udce9.png"]),
}


@pytest.mark.parametrize("case", READ)
def test_prompts_files_that_are_read(tmp_path: Path, case: str) -> None:
    content, names = READ[case]
    assert [job.image for job in read_jobs(prompts_file(tmp_path, content))] == names


REFUSED: dict[str, tuple[bytes, str]] = {
    "UTF-16": (line("a.png").encode("utf-16"), "UTF-16 text.*save it again"),
    "UTF-16 without a mark": (line("a.png").encode("utf-16-le"), "UTF-16 text"),
    "Latin-1": (f"{line('a.png')}\n{line('é.png', ascii_only=False)}".encode("latin-1"), r"jsonl:2: not UTF-8"),
    "compressed": (b"\x1f\x8b\x08\x00\xff\xfe\xfd", "UTF-16 text|a gzip archive"),
    "a web page": (b"<!doctype html>", "1: not JSON"),
    "a list": (f"[{line('a.png')}]".encode(), "expected an object with `image`"),
    "one object on many lines": (b'{\n"image": "a.png"}', "expected one object on each line"),
    "backslashes": (line("sub\\a.png").encode(), "expected a path with forward slashes"),
    "a drive": (line("C:/a.png").encode(), "lies outside the folder of images"),
    "NUL": (line("a\0b.png").encode(), "without NUL"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_prompts_files_that_are_refused(tmp_path: Path, case: str) -> None:
    content, complaint = REFUSED[case]
    with pytest.raises(PromptError, match=complaint) as caught:
        read_jobs(prompts_file(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux")
def test_a_folder_of_odd_names(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Composed in the prompts and decomposed on the disk, not UTF-8, a line separator, as long as names may be."""
    images, longest = tmp_path / "images", "n" * 246 + ".png"  # its result's name has 255
    images.mkdir()
    names = [(NFC, NFD), ("caf\udce9.png",) * 2, ("a\u2028b.png",) * 2, (longest,) * 2, ("e" * 251 + ".png",) * 2]
    for _, on_disk in names:
        Image.fromarray(IMAGE).save(images / on_disk, "PNG")
    prompts = prompts_file(tmp_path, "\n".join(line(stated) for stated, _ in names))
    command = [
        "predict",
        str(tiny_bundle.path),
        str(images),
        "--prompts",
        str(prompts),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "4 images segmented" in out
    assert [text.partition(": ")[2] for text in err.splitlines()[1:2]] == [  # behind the bar's line
        "its results cannot be written (File name too long)"
    ]
    assert not list((tmp_path / "out").rglob("*.partial*"))


def test_names_of_255_bytes_are_written(tmp_path: Path) -> None:
    for name in ("n" * 251 + ".png", "é" * 127, "x." + "s" * 253):
        write_whole(tmp_path / name, lambda partial: partial.write_bytes(b"1"))
        assert (tmp_path / name).read_bytes() == b"1"
    left = tmp_path / f".{'n' * 32}.12-{'0' * 32}.partial.png"
    left.touch()
    sweep(tmp_path)
    assert not left.exists()


def test_what_terminals_obey_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "a\x1b[31mred\x07\u202e")]) == 1
    err = capsys.readouterr().err
    assert "a\\x1b[31mred\\x07\\u202e: no such folder" in err
    assert printable("é ⊙ 漢\n\t") == "é ⊙ 漢\n\t"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_terminals_of_other_encodings(tmp_path: Path, encoding: str) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "samhq_runtime", "predict", "none", "漢é.png", "--box", "1,2,3,4", "--output", "x.png"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": encoding},
        capture_output=True,
        cwd=tmp_path,
    )
    assert child.returncode == 1
    shown = "漢é".encode(encoding, "backslashreplace")
    assert child.stderr == b"error: " + shown + b".png: no such image file\n"


BROKEN: dict[str, str] = {
    "a library is missing": "raise ImportError('libcudart.so.12: cannot open shared object file')",
    "another loader": "raise OSError('undefined symbol: cudnnCreate')",
    "built for another numpy": "raise AttributeError('_ARRAY_API not found')",
    "an unknown user": "import os; raise KeyError('getpwuid(): uid not found: 12345')",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package that is installed and does not load."""
    (tmp_path / "brokenpackage").mkdir()
    (tmp_path / "brokenpackage" / "__init__.py").write_text(BROKEN[request.param])
    monkeypatch.syspath_prepend(tmp_path)
    return str(request.param)


@pytest.mark.parametrize("broken", BROKEN, indirect=True)
def test_packages_that_do_not_load(broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        import brokenpackage  # type: ignore[import-not-found]  # noqa: F401

    assert run_command(command, extras="cpu") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: brokenpackage is installed but does not load (")
    assert install_command("cpu") in err


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_backends_that_do_not_load(tiny_bundle: Bundle, tmp_path: Path, name: str) -> None:
    """The library says so too; in a child, as this process has the real ones."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(BROKEN["a library is missing"])
    code = (
        "import sys\nfrom samhq_runtime import Predictor\nfrom samhq_runtime.errors import BackendUnavailable\n"
        "try:\n    Predictor(sys.argv[1], providers=(sys.argv[2],))\nexcept BackendUnavailable as e:\n    print(e)"
    )
    provider = "cpu" if name == "onnxruntime" else name
    child = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle.path), provider],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert child.stdout.startswith(f"{name} is installed but does not load (libcudart.so.12: cannot open"), child.stderr


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 / 0), extras="cpu")


NOBODY = """
import os, pwd, runpy, sys
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
sys.argv[0] = "samhq"
runpy.run_module("samhq_runtime", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no numbers of users")
def test_a_user_without_name_and_home(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """As in containers of some clusters."""
    Image.fromarray(np.asarray(IMAGE)).save(tmp_path / "a.png")
    command = ["predict", str(tiny_bundle.path), "a.png", "--box", "5,6,40,50", "--output", "m.png"]
    child = subprocess.run(
        [sys.executable, "-c", NOBODY, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert child.returncode == 0, child.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "m.png"]


KINDS: dict[str, tuple[bytes, str | None]] = {
    "weights": (bytes(range(256)) * 20, None),
    "zeros, then more": (bytes(2000) + b"\1", None),
    "text that ends in half a letter": (("a" * 1023 + "é").encode(), "a text"),
    "a page behind a byte order mark": ("\ufeff<HTML>".encode(), "a web page"),
    "XML": (b"<?xml version='1.0'?><net/>", "an XML text"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_files(tmp_path: Path, case: str) -> None:
    content, kind = KINDS[case]
    (tmp_path / "x").write_bytes(content)
    found = kind_of(tmp_path / "x")
    assert found is None if kind is None else (found or "").startswith(kind)


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (BundleError("a\x1b[2J"), "a\\x1b[2J"),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory"),
        (OSError("10 requested and 0 written"), "is the disk full?"),
        (MemoryError(), "out of memory"),
    ],
)
def test_ends_of_commands(error: BaseException, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(error), extras="cpu") == 1
    assert message in capsys.readouterr().err
