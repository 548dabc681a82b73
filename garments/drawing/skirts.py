"""Dresses, skirts, trousers and shorts."""

from __future__ import annotations

import random

import numpy as np

from garments.drawing.shape import Fill, Part, Points, Shape, Stroke, both_sides, lowered, mirrored, path
from garments.drawing.tops import long_sleeve, short_sleeve, sleeves
from garments.vocabulary import Attributes

_DRESS_HEMS = {"short": 0.71, "long": 0.98}
_SKIRT_HEMS = {"short": 0.50, "long": 0.86}
_WAIST = 0.42


def dress(attributes: Attributes, rng: random.Random) -> Shape:
    """A fitted top, a waist and a wide skirt."""
    hem = _DRESS_HEMS[attributes["length"]]
    wide = (0.245 if attributes["length"] == "short" else 0.285) * rng.uniform(0.92, 1.04)
    sleeve = attributes["sleeve"]
    neck = path(((0.088, 0.125), (0.084, 0.18), (0.06, 0.225), (0, 0.24)))
    shoulder = 0.135 if sleeve == "sleeveless" else 0.178
    body = path(
        ((0.088, 0.125), (shoulder, 0.14)),
        ((shoulder, 0.14), (shoulder - 0.012, 0.21), (0.155, 0.29)),
        ((0.155, 0.29), (0.135, 0.36), (0.115, _WAIST)),
        _side(wide, hem),
        _hem(wide, hem),
    )
    waves = _waves(wide, hem, rng)
    arms: tuple[Part, ...] = ()
    angles = (0.0, 0.0)
    if sleeve != "sleeveless":
        long = sleeve == "long-sleeved"
        drawn = tuple(
            Part(lowered(part.outline * (0.86, 0.92), -0.04), part.fill)
            for part in (long_sleeve() if long else short_sleeve())
        )
        left, right, angles = sleeves(drawn, rng, 6.0, long=long)
        arms = (*left, *right)
    return Shape(
        (
            Part(mirrored(np.concatenate([path(((0, 0.15), (0.088, 0.125))), neck])), Fill.INSIDE),
            *arms,
            Part(mirrored(np.concatenate([neck[::-1], body]))),
            Part(
                mirrored(
                    path(
                        ((0, _WAIST - 0.012), (0.118, _WAIST - 0.014)),
                        _belt_end(),
                        ((0.118, _WAIST + 0.022), (0, _WAIST + 0.026)),
                    )
                ),
                Fill.TRIM,
            ),
        ),
        (
            *both_sides(
                Stroke(neck, 0.010, -0.4),
                Stroke(path(((shoulder, 0.14), (shoulder - 0.012, 0.21), (0.155, 0.29))), 0.005, -0.6),
                Stroke(path(((0.07, 0.32), (0.068, 0.40))), 0.004, -0.35),
            ),
            *waves,
        ),
        *angles,
    )


def skirt(attributes: Attributes, rng: random.Random) -> Shape:
    """A waistband and pleats that open to the hem."""
    hem = _SKIRT_HEMS[attributes["length"]]
    wide = (0.26 if attributes["length"] == "short" else 0.29) * rng.uniform(0.92, 1.04)
    body = path(
        ((0, 0.14), (0.128, 0.135)),
        ((0.128, 0.135), (0.165, 0.24), (0.21, 0.36), (wide, hem)),
        _hem(wide, hem),
    )
    band = path(((0, 0.105), (0.124, 0.10)), ((0.124, 0.10), (0.13, 0.155)), ((0.13, 0.155), (0, 0.162)))
    folds = [
        Stroke(path(((start, 0.165), (start * 1.4, 0.28), (end, hem - 0.004))), 0.006, tone)
        for start, end, tone in (
            (-0.085, -wide * 0.72, -0.5),
            (-0.045, -wide * 0.38, -0.45),
            (0.0, rng.uniform(-0.02, 0.02), -0.5),
            (0.045, wide * 0.38, -0.45),
            (0.085, wide * 0.72, -0.5),
        )
    ]
    return Shape(
        (Part(mirrored(body)), Part(mirrored(band), Fill.TRIM)),
        (*folds, Stroke(path(((0.02, 0.105), (0.02, 0.158))), 0.004, -0.6)),
    )


def _side(wide: float, hem: float) -> tuple[tuple[float, float], ...]:
    length = hem - _WAIST
    return (
        (0.115, _WAIST),
        (0.115 + (wide - 0.115) * 0.38, _WAIST + length * 0.28),
        (0.115 + (wide - 0.115) * 0.72, _WAIST + length * 0.62),
        (wide, hem),
    )


def _hem(wide: float, hem: float) -> tuple[tuple[float, float], ...]:
    return (
        (wide, hem),
        (wide * 0.82, hem + 0.022),
        (wide * 0.62, hem + 0.012),
        (wide * 0.40, hem + 0.030),
        (wide * 0.18, hem + 0.018),
        (0, hem + 0.030),
    )


def _belt_end() -> tuple[tuple[float, float], ...]:
    return ((0.118, _WAIST - 0.014), (0.118, _WAIST + 0.022))


def _waves(wide: float, hem: float, rng: random.Random) -> list[Stroke]:
    def fold(start: float, end: float) -> Points:
        return path(
            ((start, _WAIST + 0.03), (start * 1.35, _WAIST + (hem - _WAIST) * 0.5), (end, hem + 0.006))
        )

    ends = [share * wide * rng.uniform(0.92, 1.05) for share in (-0.66, -0.3, 0.06, 0.38, 0.7)]
    starts = (-0.075, -0.035, 0.005, 0.04, 0.08)
    return [Stroke(fold(start, end), 0.007, -0.38) for start, end in zip(starts, ends, strict=True)]


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
