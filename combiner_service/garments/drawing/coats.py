"""The coat: lapels, a row of buttons, pockets; short or long."""

from __future__ import annotations

import random

from combiner_service.garments.attributes import Attributes
from combiner_service.garments.drawing.shape import (
    Fill,
    Part,
    Shape,
    Stroke,
    both_sides,
    ellipse,
    flipped,
    mirrored,
    path,
)
from combiner_service.garments.drawing.tops import long_sleeve, sleeves

_HEMS = {"short": 0.66, "long": 0.96}


def coat(attributes: Attributes, rng: random.Random) -> Shape:
    """A double-breasted coat that ends at the hip or below the knee."""
    hem = _HEMS[attributes["length"]]
    wide = 0.20 + 0.12 * (hem - 0.5)
    left, right, angles = sleeves(long_sleeve(), rng, 5.0, long=True)
    body = path(
        ((0, 0.36), (0.075, 0.155)),
        ((0.075, 0.155), (0.215, 0.205)),
        ((0.215, 0.205), (0.198, 0.28), (0.208, 0.36)),
        ((0.208, 0.36), (0.192, 0.48), (0.205, 0.6), (wide, hem)),
        ((wide, hem), (0.10, hem + 0.012), (0, hem + 0.014)),
    )
    lapel = path(
        ((0.078, 0.150), (0.118, 0.225)),
        ((0.118, 0.225), (0.088, 0.245)),
        ((0.088, 0.245), (0.122, 0.272)),
        ((0.122, 0.272), (0.07, 0.37), (0.02, 0.44)),
        ((0.02, 0.44), (0.0, 0.41)),
        ((0.0, 0.41), (0.055, 0.26), (0.060, 0.165)),
    )
    collar = path(
        ((0, 0.145), (0.05, 0.14), (0.08, 0.152)), ((0.08, 0.152), (0.06, 0.20)), ((0.06, 0.20), (0, 0.19))
    )
    rows = (0.47, 0.545, 0.62) if hem < 0.8 else (0.47, 0.555, 0.64)
    pocket_y = min(hem - 0.10, 0.66)
    return Shape(
        (
            Part(mirrored(path(((0, 0.15), (0.075, 0.155)), ((0.075, 0.155), (0, 0.42)))), Fill.INSIDE),
            *left,
            *right,
            Part(mirrored(body)),
            Part(mirrored(collar), Fill.TRIM),
            Part(flipped(lapel), Fill.TRIM),
            Part(lapel, Fill.TRIM),
            *(Part(ellipse(x, y, 0.013, 0.013), Fill.METAL) for y in rows for x in (-0.055, 0.055)),
        ),
        (
            Stroke(path(((0.012, 0.44), (0.014, 0.6), (0.016, hem + 0.012))), 0.006, -0.85),
            *both_sides(
                Stroke(path(((0.10, pocket_y), (0.175, pocket_y - 0.02))), 0.012, -0.6),
                Stroke(path(((0.215, 0.205), (0.198, 0.28), (0.208, 0.36))), 0.004, -0.75),
                Stroke(path(((wide * 0.6, hem - 0.02), (0.12, hem - 0.15))), 0.010, -0.22),
            ),
        ),
        *angles,
    )
