"""Hat, shoe and bag."""

from __future__ import annotations

import random

import numpy as np

from garments.drawing.shape import (
    Fill,
    Part,
    Shape,
    Stroke,
    both_sides,
    ellipse,
    flipped,
    lowered,
    mirrored,
    path,
)
from garments.vocabulary import Attributes


def hat(attributes: Attributes, rng: random.Random) -> Shape:
    """A hat with a wide brim and a band, seen a little from above."""
    tall = rng.uniform(-0.02, 0.03)
    crown = path(
        ((0, 0.30 - tall), (0.08, 0.29 - tall), (0.14, 0.33 - tall), (0.172, 0.45), (0.182, 0.575)),
        ((0.182, 0.575), (0.10, 0.612), (0, 0.622)),
    )
    band = path(
        ((0, 0.565), (0.10, 0.556), (0.178, 0.52)),
        ((0.178, 0.52), (0.183, 0.578)),
        ((0.183, 0.578), (0.10, 0.614), (0, 0.624)),
    )
    brim = path(
        ((0, 0.50), (0.20, 0.515), (0.31, 0.55), (0.352, 0.60), (0.30, 0.665), (0.16, 0.705), (0, 0.715)),
    )
    dent = path(((-0.07, 0.325 - tall), (0, 0.35 - tall), (0.07, 0.325 - tall)))
    return Shape(
        (Part(mirrored(brim)), Part(mirrored(crown)), Part(mirrored(band), Fill.LEATHER)),
        (
            Stroke(dent, 0.010, -0.4),
            Stroke(
                path(((-0.30, 0.645), (-0.16, 0.682), (0, 0.692), (0.16, 0.682), (0.30, 0.645))), 0.004, -0.5
            ),
            Stroke(
                path(((-0.185, 0.60), (-0.10, 0.632), (0, 0.642), (0.10, 0.632), (0.185, 0.60))), 0.016, -0.35
            ),
        ),
    )


def shoe(attributes: Attributes, rng: random.Random) -> Shape:
    """A laced shoe from the side, its toe to the left or to the right."""
    upper = path(
        ((-0.300, 0.62), (-0.312, 0.52), (-0.295, 0.42), (-0.275, 0.375)),
        ((-0.275, 0.375), (-0.20, 0.395), (-0.10, 0.365), (-0.065, 0.345)),
        ((-0.065, 0.345), (-0.01, 0.415), (0.06, 0.475), (0.15, 0.51)),
        ((0.15, 0.51), (0.26, 0.535), (0.325, 0.585), (0.325, 0.63)),
        ((0.325, 0.63), (-0.300, 0.635)),
    )
    collar = path(
        ((-0.275, 0.375), (-0.20, 0.395), (-0.10, 0.365), (-0.065, 0.345)),
        ((-0.065, 0.345), (-0.14, 0.335), (-0.22, 0.345), (-0.275, 0.375)),
    )
    sole = path(
        ((-0.312, 0.615), (-0.10, 0.63), (0.15, 0.625), (0.335, 0.605)),
        ((0.335, 0.605), (0.345, 0.64), (0.325, 0.675)),
        ((0.325, 0.675), (0.10, 0.688), (-0.15, 0.688), (-0.305, 0.68)),
        ((-0.305, 0.68), (-0.322, 0.65), (-0.312, 0.615)),
    )
    tongue = path(
        ((-0.075, 0.35), (-0.055, 0.315), (-0.02, 0.33)),
        ((-0.02, 0.33), (0.03, 0.40), (0.10, 0.47)),
        ((0.10, 0.47), (0.06, 0.49)),
    )
    heel = path(
        ((-0.302, 0.615), (-0.312, 0.52), (-0.298, 0.43)),
        ((-0.298, 0.43), (-0.245, 0.46), (-0.225, 0.54), (-0.22, 0.625)),
    )
    laces = [
        Stroke(path(((x, y), (x - 0.055, y + 0.045))), 0.012, 0.9)
        for x, y in ((-0.03, 0.385), (0.005, 0.422), (0.045, 0.455), (0.09, 0.48))
    ]
    toe = Stroke(path(((0.205, 0.525), (0.185, 0.57), (0.20, 0.622))), 0.005, -0.65)
    side = Stroke(
        path(((-0.085, 0.40), (-0.03, 0.47), (0.02, 0.55), (0.10, 0.60), (0.19, 0.60))), 0.005, -0.55
    )
    groove = Stroke(path(((-0.31, 0.655), (0, 0.664), (0.335, 0.645))), 0.004, -0.35)
    parts: tuple[Part, ...] = (
        Part(tongue, Fill.TRIM),
        Part(collar, Fill.INSIDE),
        Part(upper),
        Part(heel, Fill.TRIM),
        Part(sole, Fill.SOLE),
    )
    strokes: tuple[Stroke, ...] = (*laces, toe, side, groove)
    if rng.random() < 0.5:
        parts = tuple(Part(flipped(part.outline), part.fill) for part in parts)
        strokes = tuple(Stroke(flipped(each.line), each.width, each.tone) for each in strokes)
    return Shape(parts, strokes)


def bag(attributes: Attributes, rng: random.Random) -> Shape:
    """A handbag with a handle, a flap and a clasp."""
    high = rng.uniform(0.10, 0.17)
    outer = path(((0, high), (0.085, high + 0.02), (0.135, high + 0.10), (0.15, 0.42)))
    inner = path(((0, high + 0.028), (0.068, high + 0.045), (0.110, high + 0.115), (0.124, 0.42)))
    arch = mirrored(np.concatenate([outer, inner[::-1]]))
    body = path(
        ((0, 0.39), (0.185, 0.39)),
        ((0.185, 0.39), (0.212, 0.40), (0.22, 0.43)),
        ((0.22, 0.43), (0.245, 0.60), (0.262, 0.76)),
        ((0.262, 0.76), (0.258, 0.805), (0.22, 0.82)),
        ((0.22, 0.82), (0, 0.825)),
    )
    flap = path(((0.216, 0.41), (0.225, 0.47), (0.18, 0.545), (0.09, 0.585), (0, 0.592)))
    return Shape(
        (
            Part(arch, Fill.LEATHER),
            Part(mirrored(body)),
            *(Part(ellipse(x, 0.425, 0.02, 0.026), Fill.METAL) for x in (-0.137, 0.137)),
            Part(ellipse(0, 0.585, 0.026, 0.03), Fill.METAL),
        ),
        (
            *both_sides(Stroke(flap, 0.008, -0.75), Stroke(lowered(flap, 0.008), 0.010, -0.3)),
            *both_sides(Stroke(path(((0.25, 0.78), (0.0, 0.79))), 0.004, -0.4)),
        ),
    )
