"""How a garment lies: turned, scaled, swayed and placed in the picture."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from combiner_service.garments.drawing.shape import Part, Points, Shape, Stroke
from combiner_service.garments.scene import Size

_USUAL = 0.72  # of the picture's height, a usual garment's larger side; small ones are seen from nearer
_MOST = 0.95  # of the picture's width and height that a garment covers


@dataclass(frozen=True, slots=True)
class Pose:
    """A shape in pixels, its box at the origin; `corner` is where the box lies in the picture.

    `degrees` says how far the shape was turned clockwise.
    """

    shape: Shape
    corner: tuple[int, int]
    degrees: float


def posed(shape: Shape, size: Size, rng: random.Random) -> Pose:
    """The shape in one of the ways in which it can lie in a picture of `size`, always wholly within."""
    degrees = rng.gauss(0, 4.5)
    angle, lean = math.radians(degrees), rng.uniform(-0.03, 0.03)
    scale, stretch = rng.uniform(0.86, 1.03), rng.uniform(0.96, 1.04)
    sway, phase, period = rng.uniform(0.001, 0.006), rng.uniform(0, 6.28), rng.uniform(5, 9)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def move(points: Points) -> Points:
        x, y = points[:, 0], points[:, 1] - 0.5
        swayed = x * stretch + lean * y + sway * np.sin(period * y + phase)
        placed = np.stack([swayed, y / stretch + sway * np.sin(period * x + phase)], axis=1)
        turned: Points = placed @ matrix
        return turned

    moved = [move(part.outline) for part in shape.parts]
    top = np.min([line.min(axis=0) for line in moved], axis=0)
    extent = np.max([line.max(axis=0) for line in moved], axis=0) - top
    whole = np.array(size, dtype=np.float64)
    scale *= (_USUAL / max(extent)) ** 0.4
    factor = min(scale * size[1], *(whole * _MOST / extent))
    spare = (whole - extent * factor) / 2
    place = spare * (1 + np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6)]))
    corner = np.floor(place)
    shift = place - corner - top * factor

    return Pose(
        Shape(
            tuple(
                Part(line * factor + shift, part.fill) for part, line in zip(shape.parts, moved, strict=True)
            ),
            tuple(
                Stroke(move(stroke.line) * factor + shift, stroke.width * factor, stroke.tone)
                for stroke in shape.strokes
            ),
            shape.left_angle,
            shape.right_angle,
        ),
        (int(corner[0]), int(corner[1])),
        degrees,
    )
