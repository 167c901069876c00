"""Random outlines: solid shapes, shapes with holes, thin structures.

A shape is a list of parts drawn one after the other, in a local frame where it fills about [-1, 1]^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """A filled polygon, or a polyline of `width` (a fraction of the image side); `hole` erases instead of drawing.

    `points` is (K,2), x and y in the shape's frame.
    """

    points: Points
    width: float | None = None
    hole: bool = False


Shape = list[Part]


def ellipse(rng: np.random.Generator) -> Shape:
    return [Part(_ellipse_points(1.0, rng.uniform(0.5, 1.0)))]


def polygon(rng: np.random.Generator) -> Shape:
    corners = int(rng.integers(3, 8))
    return [Part(_polar(_angles(rng, corners), rng.uniform(0.7, 1.0, corners)))]


def star(rng: np.random.Generator) -> Shape:
    arms = int(rng.integers(4, 8))
    radii = np.where(np.arange(2 * arms) % 2 == 0, 1.0, rng.uniform(0.4, 0.6))
    return [Part(_polar(np.linspace(0, 2 * np.pi, 2 * arms, endpoint=False), radii))]


def blob(rng: np.random.Generator) -> Shape:
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = np.full_like(angles, 0.8)
    for frequency in (2, 3, 5):
        radii += rng.uniform(0.0, 0.12) * np.sin(frequency * angles + rng.uniform(0, 2 * np.pi))
    return [Part(_polar(angles, radii))]


def ring(rng: np.random.Generator) -> Shape:
    aspect = rng.uniform(0.7, 1.0)
    outer, inner = _ellipse_points(1.0, aspect), _ellipse_points(1.0, aspect) * rng.uniform(0.5, 0.75)
    return [Part(outer), Part(inner, hole=True)]


def frame(rng: np.random.Generator) -> Shape:
    """A rectangle with one or two rectangular windows."""
    height, border = rng.uniform(0.6, 0.9), rng.uniform(0.14, 0.22)
    parts = [Part(_rectangle(-1, -height, 1, height))]
    edges = np.linspace(-1, 1, int(rng.integers(2, 4)))
    for left, right in pairwise(edges):
        window = _rectangle(left + border, -height + border, right - border, height - border)
        parts.append(Part(window, hole=True))
    return parts


def cheese(rng: np.random.Generator) -> Shape:
    """A disc with three round holes."""
    centres = 0.52 * _polar(np.linspace(0, 2 * np.pi, 3, endpoint=False), np.ones(3))
    holes = [Part(_ellipse_points(r, r) + c, hole=True) for r, c in zip(rng.uniform(0.2, 0.3, 3), centres, strict=True)]
    return [Part(_ellipse_points(1.0, 1.0)), *holes]


def stroke(rng: np.random.Generator) -> Shape:
    """A curved line: a wave whose amplitude and phase vary."""
    x = np.linspace(-1, 1, 64)
    y = rng.uniform(0.2, 0.6) * np.sin(rng.uniform(2.0, 5.0) * x + rng.uniform(0, 2 * np.pi))
    return [Part(np.stack([x, y], axis=1), width=_bar_width(rng, 1.4))]


def comb(rng: np.random.Generator) -> Shape:
    """A bar with teeth; half of them are forks, with a handle on the other side."""
    width, teeth = _bar_width(rng), np.linspace(-0.85, 0.85, int(rng.integers(3, 6)))
    bars = [_segment(-0.85, -0.1, 0.85, -0.1)] + [_segment(x, -0.1, x, 0.8) for x in teeth]
    if rng.random() < 0.5:
        bars.append(_segment(0, -0.1, 0, -1.0))
    return [Part(bar, width=width) for bar in bars]


def grid(rng: np.random.Generator) -> Shape:
    width, height = _bar_width(rng), rng.uniform(0.6, 0.9)
    columns, rows = np.linspace(-0.9, 0.9, int(rng.integers(3, 5))), np.linspace(-height, height, 3)
    bars = [_segment(x, -height, x, height) for x in columns] + [_segment(-0.9, y, 0.9, y) for y in rows]
    return [Part(bar, width=width) for bar in bars]


def wheel(rng: np.random.Generator) -> Shape:
    """A rim and its spokes."""
    width, spokes = _bar_width(rng), int(rng.integers(3, 6))
    rim = _ellipse_points(0.9, 0.9)
    ends = _polar(np.linspace(0, 2 * np.pi, spokes, endpoint=False), np.full(spokes, 0.9))
    return [Part(np.concatenate([rim, rim[:2]]), width=width)] + [
        Part(_segment(0, 0, x, y), width=width) for x, y in ends
    ]


SHAPES: dict[str, Callable[[np.random.Generator], Shape]] = {
    shape.__name__: shape for shape in (ellipse, polygon, star, blob, ring, frame, cheese, stroke, comb, grid, wheel)
}
THIN = ("stroke", "comb", "grid", "wheel")


def _bar_width(rng: np.random.Generator, factor: float = 1.0) -> float:
    return factor * rng.uniform(0.02, 0.032)


def _angles(rng: np.random.Generator, count: int) -> Points:
    """Increasing angles round the circle, about evenly spread."""
    return (np.arange(count) + rng.uniform(-0.25, 0.25, count)) * (2 * np.pi / count)


def _polar(angles: Points, radii: Points) -> Points:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]


def _ellipse_points(a: float, b: float) -> Points:
    return _polar(np.linspace(0, 2 * np.pi, 96, endpoint=False), np.ones(96)) * (a, b)


def _rectangle(left: float, top: float, right: float, bottom: float) -> Points:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _segment(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([(x0, y0), (x1, y1)], dtype=np.float64)
