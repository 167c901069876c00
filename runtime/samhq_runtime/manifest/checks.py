"""What a manifest's fields must be, whoever reads them: each check raises ValueError with the field's name.

A hash says that a manifest is the one that was written, not that whoever wrote it meant well.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..contract import FAMILIES, GraphSpec

FLAVOURS = ("tensorrt", "rtx")
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of pairs, separators of lines
_MAX_TEXT = 4096
_MAX_SIZE = 1 << 16
_MAX_BYTES = 1 << 50
_MAX_VALUE = 1e6  # of what pixels are shifted and divided by
_MIN_DEVIATION = 1e-6
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CAPABILITY = re.compile(r"\d{1,3}\.\d{1,3}")
_MOST_SHOWN = 60  # characters of a value in a message

Check = Callable[[str, Any], object]


def printable(text: str) -> str:
    """The text with escapes for what terminals obey or cannot show."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in _UNPRINTABLE else letter
        for letter in text
    )


def require_plain(value: Any, place: str = "manifest") -> None:
    """No text in it that a terminal would obey or that is no text, and no number beyond 64 bits."""
    if isinstance(value, str):
        if printable(value) != value or len(value) > _MAX_TEXT:
            raise _wrong(place, value, f"printable text of at most {_MAX_TEXT} characters")
    elif isinstance(value, int | float):
        if not abs(value) < 2**63:  # NaN neither
            raise _wrong(place, value, "a number, finite and of 64 bits")
    elif isinstance(value, dict):
        for key, item in value.items():
            require_plain(key, f"a name in {place}")
            require_plain(item, key)
    elif isinstance(value, list):
        for item in value:
            require_plain(item, place)


def unique_names(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads`: which of two values with one name is meant, parsers disagree on."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _wrong(name, value, "str")


def file_name(name: str, value: Any) -> None:
    text(name, value)
    if not value or "\\" in value:
        raise _wrong(name, value, "a path inside the bundle, with / between its parts")


def sha256(name: str, value: Any) -> None:
    text(name, value)
    if not _SHA256.fullmatch(value):
        raise _wrong(name, value, "a SHA-256, 64 hexadecimal digits")


def capability(name: str, value: Any) -> None:
    text(name, value)
    if not _CAPABILITY.fullmatch(value):
        raise _wrong(name, value, "a compute capability such as 8.9")


def whole(least: int, most: int) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not int:
            raise _wrong(name, value, "int")
        if not least <= value <= most:
            raise _wrong(name, value, f"{least} to {most}")

    return check


def number(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(name, value, "a number")


def pixel_value(name: str, value: Any) -> None:
    number(name, value)
    if abs(value) > _MAX_VALUE:
        raise _wrong(name, value, f"at most {_MAX_VALUE:g}")


def pixel_deviation(name: str, value: Any) -> None:
    pixel_value(name, value)
    if value < _MIN_DEVIATION:
        raise _wrong(name, value, f"at least {_MIN_DEVIATION:g}, not 0")


def flag(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise _wrong(name, value, "true or false")


def anything(name: str, value: Any) -> None:
    """What nothing reads, or only to show it."""


def optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def one_of(*values: str) -> Check:
    def check(name: str, value: Any) -> None:
        if value not in values:
            raise _wrong(name, value, " or ".join(values))

    return check


def each(check: Check, *, length: int | None = None) -> Check:
    """A list of so many, of any number by default."""

    def check_list(name: str, value: Any) -> None:
        if not isinstance(value, list):
            raise _wrong(name, value, "a list")
        if length is not None and len(value) != length:
            raise _wrong(name, value, f"{length} values")
        for item in value:
            check(name, item)

    return check_list


def by_name(check: Check, *, names: Check = text) -> Check:
    """A dictionary with names of the file's choice."""

    def check_dict(name: str, value: Any) -> None:
        _require_dict(name, value)
        for key, item in value.items():
            names(f"a name in {name}", key)
            check(f"{name}, {key}", item)

    return check_dict


def record(required: Mapping[str, Check], further: Mapping[str, Check] | None = None, *, open_: bool = False) -> Check:
    """A dictionary with these names; with `open_`, and others."""

    def check_record(name: str, value: Any) -> None:
        _require_dict(name, value)
        known = {**required, **(further or {})}
        missing, unknown = required.keys() - value.keys(), value.keys() - known.keys()
        if missing or (unknown and not open_):
            raise ValueError(f"{name}: missing {sorted(missing)}, unknown {sorted(unknown)}")
        for key in known.keys() & value.keys():
            known[key](f"{name}, {key}" if name else key, value[key])

    return check_record


def flag_value(name: str, value: Any) -> None:
    if isinstance(value, list):
        each(text)(name, value)
    elif not isinstance(value, str | int | float | None):
        raise _wrong(name, value, "true, false, a number, a text or a list of texts")


_DIMENSION = whole(1, _MAX_SIZE)


def dimension(name: str, value: Any) -> None:
    if not isinstance(value, str):
        _DIMENSION(name, value)


_IO = each(record({"name": text, "dtype": text, "shape": each(dimension), "optional": flag}))
_SHAPES = record({kind: each(whole(0, _MAX_SIZE)) for kind in ("min", "opt", "max")})  # a box alone has no points
_ENGINE = record(
    {
        "graph": text,
        "file": file_name,
        "graph_sha256": sha256,
        "flavour": one_of(*FLAVOURS),
        "version": text,
        "gpu": optional(text),
        "compute_capability": optional(capability),
        "profiles": each(by_name(_SHAPES)),
        "fixed_inputs": each(text),
        "flags": by_name(flag_value),
    },
    {"platform": text, "parity": by_name(anything)},
)
_CONTENT = record(
    {
        "variant": text,
        "precision": text,
        "token_fusion": text,
        "sizes": record(
            dict.fromkeys(("image_size", "embedding_size", "embed_dim"), _DIMENSION),
            {"token_masks": whole(1, 64), "family": one_of(*FAMILIES)},
        ),
        "pixel_mean": each(pixel_value, length=3),
        "pixel_std": each(pixel_deviation, length=3),
        "mask_threshold": pixel_value,
        "opset": whole(1, 1000),
        "precision_policy": by_name(record({"fp32_islands": each(text)}, open_=True)),
        "graphs": by_name(record({"file": file_name, "inputs": _IO, "outputs": _IO}, {"cpu_file": file_name})),
        "files": by_name(record({"sha256": sha256, "bytes": whole(0, _MAX_BYTES)}), names=file_name),
        "checkpoint": by_name(text),
        "tools": by_name(text),
        "parity": record(
            {},
            {
                "mask_iou": by_name(number),
                "tensors": by_name(record({"relative": number}, open_=True)),
            },
            open_=True,
        ),
    },
    {"engines": by_name(_ENGINE)},
)


def require_content(content: Any) -> None:
    """All fields of a manifest but its schema and its hash."""
    _CONTENT("", content)


def require_profiles(name: str, profiles: Sequence[Mapping[str, Any]], spec: GraphSpec) -> None:
    """Shapes of inputs that the graph has, of their rank, and smallest before usual before largest."""
    ranks = {tensor.name: len(tensor.shape) for tensor in spec.inputs}
    for profile in profiles:
        for tensor, shapes in profile.items():
            low, usual, high = (shapes[kind] for kind in ("min", "opt", "max"))
            ordered = all(a <= b <= c for a, b, c in zip(low, usual, high, strict=False))
            if tensor not in ranks or {len(low), len(usual), len(high)} != {ranks[tensor]} or not ordered:
                raise _wrong(f"{name}, profiles", {tensor: shapes}, "shapes of an input of its graph")


def _require_dict(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(name or "manifest", value, "dict")


def _wrong(name: str, value: Any, expected: str) -> ValueError:
    shown = ascii(value) if isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
    return ValueError(f"{printable(name)[:_MOST_SHOWN]}: got {shown}, expected {expected}")
