"""A garment's shape: filled parts in painting order and strokes upon them.

Coordinates are in heights of the image: x from -0.375 (left) to 0.375 around the middle, y from
0 (top) to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""float64 (n, 2)."""
Run = Sequence[tuple[float, float]]

_STEPS = 7
_MIRROR = np.array([-1.0, 1.0])


class Fill(Enum):
    """Material of a part."""

    CLOTH = auto()  # colour and pattern
    LEFT = auto()  # the same, with the pattern turned as `Shape.left_angle` says
    RIGHT = auto()
    INSIDE = auto()  # the far side seen through an opening: the colour in shadow
    TRIM = auto()  # ribs, cuffs, bands: the colour, a little darker, without pattern
    LEATHER = auto()  # handles and bands
    SOLE = auto()
    METAL = auto()  # buttons and clasps


@dataclass(frozen=True, slots=True)
class Part:
    """A closed outline, float64 (n, 2), that covers what was painted before."""

    outline: Points
    fill: Fill = Fill.CLOTH


@dataclass(frozen=True, slots=True)
class Stroke:
    """A line on top: `width` in heights of the image, `tone` from -1 (dark) to 1 (light)."""

    line: Points
    width: float = 0.004
    tone: float = -0.6


@dataclass(frozen=True, slots=True)
class Shape:
    """A garment without colour. Angles, in degrees, are those of the pattern on left and right sleeve."""

    parts: tuple[Part, ...]
    strokes: tuple[Stroke, ...] = ()
    left_angle: float = 0.0
    right_angle: float = 0.0


def path(*runs: Run) -> Points:
    """A line through the runs' points: straight in a run of two, a Catmull-Rom spline in a longer one."""
    return np.concatenate([_spline(np.asarray(run, dtype=np.float64)) for run in runs])


def mirrored(line: Points) -> Points:
    """The closed outline of a right half, from top to bottom, and its mirror image."""
    return np.concatenate([line, flipped(line)[::-1]])


def flipped(line: Points) -> Points:
    """The mirror image."""
    mirror: Points = line * _MIRROR
    return mirror


def lowered(line: Points, by: float) -> Points:
    """The line, moved down."""
    below: Points = line + np.array([0.0, by])
    return below


def turned(line: Points, degrees: float, around: tuple[float, float]) -> Points:
    """The line turned clockwise (y is down) around a point."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    swung: Points = (line - around) @ matrix + around
    return swung


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """An ellipse around (x, y) with these half axes."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return np.stack([x + width * np.cos(angles), y + height * np.sin(angles)], axis=1)


def both_sides(*strokes: Stroke) -> tuple[Stroke, ...]:
    """The strokes and their mirror images."""
    return (*strokes, *(Stroke(flipped(each.line), each.width, each.tone) for each in strokes))


def _spline(points: Points) -> Points:
    if len(points) < 3:
        return points
    padded = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    before, start, end, after = (padded[shift : len(points) - 1 + shift, None] for shift in range(4))
    t = np.linspace(0, 1, _STEPS, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])
