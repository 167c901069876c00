"""Procedural scenes with exact masks: textured objects that hide each other, some thin, some with holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from samhq_runtime.masks.box import box_of

from .outlines import SHAPES, THIN, Shape
from .textures import distinct_colour, surface

_SUPERSAMPLE = 2
_TRIES = 40
_MIN_AREA = 0.008  # of the image
_MIN_VISIBLE = 0.6  # of an object's own area
_COLOUR_DISTANCE = 0.45
_ANYWHERE = 0.06  # share of the tries whose object may cover others


@dataclass(frozen=True)
class Scene:
    """`image` (H,W,3) uint8, `masks` (N,H,W) bool visible parts, which do not overlap, `kinds` the N shapes' names."""

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    kinds: tuple[str, ...]

    @property
    def boxes(self) -> NDArray[np.int64]:
        """(N,4): x0, y0, x1, y1 of each mask."""
        return np.array([box_of(mask) for mask in self.masks])


@dataclass(frozen=True)
class _Place:
    """Where an object goes: a circle round it, in fractions of the image side, and its angle."""

    centre: NDArray[np.float64]
    radius: float
    angle: float

    def apart_from(self, other: _Place) -> bool:
        return float(np.linalg.norm(self.centre - other.centre)) > 0.9 * (self.radius + other.radius)


def draw_scene(seed: int, size: int = 256) -> Scene:
    """The scene of this seed; another `size` gives the same scene at another resolution."""
    rng = np.random.default_rng(seed)
    colours = [distinct_colour(rng, [], distance=0.0)]
    image = surface(rng, colours[0], size)
    masks: list[NDArray[np.bool_]] = []
    areas: list[int] = []
    kinds: list[str] = []
    wanted = int(rng.integers(3, 7))
    for kind, place in _layout(rng, wanted):
        coverage = _coverage(SHAPES[kind](rng), place, size)
        solid = coverage >= 0.5
        if not _fits(solid, masks, areas):
            continue
        colour = distinct_colour(rng, colours, distance=_COLOUR_DISTANCE)
        image = image + coverage[..., None] * (surface(rng, colour, size) - image)
        masks = [mask & ~solid for mask in masks] + [solid]
        areas.append(int(solid.sum()))
        kinds.append(kind)
        colours.append(colour)
    return Scene((image * 255 + 0.5).astype(np.uint8), np.stack(masks), tuple(kinds))


def _layout(rng: np.random.Generator, wanted: int) -> list[tuple[str, _Place]]:
    """Kinds and places of up to `wanted` objects, most of them clear of each other."""
    layout: list[tuple[str, _Place]] = []
    for _ in range(_TRIES):
        kind = str(rng.choice(list(SHAPES)))
        radius = rng.uniform(0.14, 0.26) if kind in THIN else np.exp(rng.uniform(np.log(0.09), np.log(0.24)))
        place = _Place(rng.uniform(0.7 * radius, 1 - 0.7 * radius, 2), radius, rng.uniform(0, 2 * np.pi))
        if rng.random() < _ANYWHERE or all(place.apart_from(other) for _, other in layout):
            layout.append((kind, place))
        if len(layout) == wanted:
            break
    return layout


def _fits(solid: NDArray[np.bool_], masks: list[NDArray[np.bool_]], areas: list[int]) -> bool:
    """Whether the new object is big enough and leaves enough of the earlier ones to be seen."""
    if solid.sum() < _MIN_AREA * solid.size:
        return not masks
    left = [int((mask & ~solid).sum()) for mask in masks]
    return all(n >= max(_MIN_VISIBLE * area, _MIN_AREA * solid.size) for n, area in zip(left, areas, strict=True))


def _coverage(shape: Shape, place: _Place, size: int) -> NDArray[np.float32]:
    """The share of each pixel that the shape covers, (size,size) in [0, 1]."""
    c, s = np.cos(place.angle), np.sin(place.angle)
    to_image = place.radius * np.array([[c, s], [-s, c]])
    side = _SUPERSAMPLE * size
    canvas = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(canvas)
    for part in shape:
        points = [(float(x), float(y)) for x, y in (part.points @ to_image + place.centre) * side]
        if part.width is None:
            draw.polygon(points, fill=0 if part.hole else 255)
        else:
            draw.line(points, fill=255, width=round(part.width * side), joint="curve")
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(np.asarray(small, dtype=np.float32) / 255, dtype=np.float32)
