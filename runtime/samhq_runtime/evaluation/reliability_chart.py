"""Predicted against measured IoU as an SVG: a few lines of text, where a plotting library would be 130 MB."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from .summary import IouCalibration

CHART_NAME = "calibration.svg"

_SIDE, _LEFT, _TOP = 320, 52, 16
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#bf8700", "#57606a")
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_chart(curves: Sequence[tuple[str, IouCalibration]]) -> str:
    """An SVG with a curve for each named calibration; on the diagonal, predictions are right on average."""
    height = _TOP + _SIDE + 46 + 18 * len(curves)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _SIDE + 20}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" fill="none" stroke="#57606a"/>',
        f'<path d="M{_point(0, 0)} L{_point(1, 1)}" stroke="#8c959f" stroke-dasharray="4"/>',
        *_axes(),
    ]
    for index, (name, calibration) in enumerate(curves):
        lines += _curve(name, calibration, _COLOURS[index % len(_COLOURS)], row=index)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _axes() -> Iterator[str]:
    for tick in _TICKS:
        x, y = _LEFT + tick * _SIDE, _TOP + (1 - tick) * _SIDE
        yield f'<text x="{x:.0f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{tick:g}</text>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{tick:g}</text>'
    middle = _TOP + _SIDE / 2
    yield f'<text x="{_LEFT + _SIDE / 2}" y="{_TOP + _SIDE + 34}" text-anchor="middle">predicted IoU</text>'
    yield f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">measured IoU</text>'


def _curve(name: str, calibration: IouCalibration, colour: str, *, row: int) -> Iterator[str]:
    """A dot per bin that holds objects, larger for more of them, joined by a line; and an entry of the legend."""
    bins = [b for b in calibration.bins if b.objects]
    most = max((b.objects for b in bins), default=1)
    points = [(_point(b.mean_predicted_iou or 0.0, b.mean_iou or 0.0), b) for b in bins]
    if points:
        path = " L".join(point for point, _ in points)
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for point, b in points:
        x, y = point.split()
        radius = 2 + 5 * (b.objects / most) ** 0.5
        hint = f"{b.objects} objects predicted in {b.lower:g} to {b.upper:g}"
        yield f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{colour}"><title>{hint}</title></circle>'
    y_legend = _TOP + _SIDE + 54 + 18 * row
    error = calibration.expected_error
    text = f"{name}: " + ("no finite predictions" if error is None else f"calibration error {100 * error:.2f} points")
    yield f'<circle cx="{_LEFT + 4}" cy="{y_legend - 4}" r="4" fill="{colour}"/>'
    yield f'<text x="{_LEFT + 14}" y="{y_legend}">{escape(text)}</text>'


def _point(predicted: float, measured: float) -> str:
    """x and y of the drawing; predictions beyond [0, 1] lie on its edge."""
    x, y = (min(max(value, 0.0), 1.0) for value in (predicted, measured))
    return f"{_LEFT + x * _SIDE:.1f} {_TOP + (1 - y) * _SIDE:.1f}"
