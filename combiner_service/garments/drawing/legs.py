"""Trousers and shorts."""

from __future__ import annotations

import random

from combiner_service.garments.attributes import Attributes
from combiner_service.garments.drawing.shape import (
    Fill,
    Part,
    Points,
    Shape,
    Stroke,
    both_sides,
    mirrored,
    path,
)


def trousers(attributes: Attributes, rng: random.Random) -> Shape:
    """Long trousers with a fly, pockets and creases."""
    spread = rng.uniform(-0.015, 0.03)
    leg = path(
        ((0, 0.07), (0.128, 0.065)),
        ((0.128, 0.065), (0.165, 0.20), (0.178, 0.34)),
        ((0.178, 0.34), (0.175 + spread, 0.60), (0.172 + spread, 0.95)),
        ((0.172 + spread, 0.95), (0.062 + spread, 0.955)),
        ((0.062 + spread, 0.955), (0.045 + spread / 2, 0.65), (0.012, 0.36)),
        ((0.012, 0.36), (0, 0.335)),
    )
    crease = path(((0.085, 0.20), (0.112 + spread / 2, 0.55), (0.117 + spread, 0.94)))
    cuff = path(((0.062 + spread, 0.925), (0.172 + spread, 0.92)))
    return Shape(
        (Part(mirrored(leg)), Part(_band(0.04, 0.095, 0.13), Fill.TRIM)),
        (*_front(0.095, 0.20), *both_sides(Stroke(crease, 0.005, -0.35), Stroke(cuff, 0.004, -0.5))),
    )


def shorts(attributes: Attributes, rng: random.Random) -> Shape:
    """Shorts that end above the knee."""
    spread = rng.uniform(0.0, 0.03)
    leg = path(
        ((0, 0.25), (0.15, 0.245)),
        ((0.15, 0.245), (0.195, 0.40), (0.222 + spread, 0.63)),
        ((0.222 + spread, 0.63), (0.035 + spread, 0.655)),
        ((0.035 + spread, 0.655), (0.008, 0.505)),
        ((0.008, 0.505), (0, 0.49)),
    )
    cuff = path(((0.033 + spread, 0.622), (0.216 + spread, 0.598)))
    return Shape(
        (Part(mirrored(leg)), Part(_band(0.21, 0.272, 0.152), Fill.TRIM)),
        (*_front(0.272, 0.40), *both_sides(Stroke(cuff, 0.005, -0.55))),
    )


def _band(top: float, bottom: float, wide: float) -> Points:
    return mirrored(
        path(
            ((0, top + 0.004), (wide - 0.005, top)),
            ((wide - 0.005, top), (wide + 0.003, bottom)),
            ((wide + 0.003, bottom), (0, bottom + 0.004)),
        )
    )


def _front(top: float, end: float) -> tuple[Stroke, ...]:
    pocket = path(((0.075, top), (0.10, top + 0.05), (0.155, top + 0.075)))
    fly = path(((0.035, top), (0.035, end - 0.02), (0.0, end + 0.03)))
    loops = [Stroke(path(((x, top - 0.055), (x, top + 0.004))), 0.008, -0.6) for x in (-0.09, 0.09)]
    return (
        *both_sides(Stroke(pocket, 0.006, -0.6)),
        Stroke(fly, 0.004, -0.6),
        Stroke(path(((0, top), (0, end + 0.13))), 0.005, -0.75),
        Stroke(path(((-0.001, top - 0.03), (0.003, top - 0.026))), 0.014, 0.8),
        *loops,
    )
