"""Shirts, tops, hoodies and coats."""

from __future__ import annotations

import random

import numpy as np

from garments.drawing.shape import (
    Fill,
    Part,
    Points,
    Run,
    Shape,
    Stroke,
    both_sides,
    ellipse,
    flipped,
    lowered,
    mirrored,
    path,
    turned,
)
from garments.vocabulary import Attributes

_SHOULDER = (0.205, 0.20)
_SHORT_SLEEVE_TILT, _LONG_SLEEVE_TILT = 34.0, 12.0

_ROUND: Run = ((0.082, 0.165), (0.07, 0.205), (0.04, 0.232), (0, 0.24))
_V_NECK: Run = ((0.082, 0.165), (0, 0.40))
_BACK: Run = ((0.082, 0.165), (0.05, 0.178), (0, 0.182))


def t_shirt(attributes: Attributes, rng: random.Random) -> Shape:
    """A t-shirt with a round or v-shaped neck."""
    return _shirt(attributes["neckline"], short_sleeve(), rng, hem=0.84)


def long_sleeved_shirt(attributes: Attributes, rng: random.Random) -> Shape:
    """A shirt with long sleeves and cuffs, and a round or v-shaped neck."""
    return _shirt(attributes["neckline"], long_sleeve(), rng, hem=0.86)


def _shirt(neckline: str, sleeve: tuple[Part, ...], rng: random.Random, *, hem: float) -> Shape:
    neck = path(_ROUND if neckline == "round" else _V_NECK)
    body = path(
        ((0.082, 0.165), (0.205, 0.205)),
        ((0.205, 0.205), (0.185, 0.27), (0.198, 0.35)),
        ((0.198, 0.35), (0.188, 0.50), (0.192, 0.66), (0.20, hem - 0.01)),
        ((0.20, hem - 0.01), (0.10, hem + 0.005), (0, hem + 0.008)),
    )
    front = np.concatenate([neck[::-1], body])
    long = len(sleeve) > 1
    left, right, angles = sleeves(sleeve, rng, 7.0 if long else 5.0, long=long)
    rib = 0.016
    return Shape(
        (
            Part(mirrored(np.concatenate([path(_BACK)[::-1], neck])), Fill.INSIDE),
            *left,
            *right,
            Part(mirrored(front)),
        ),
        (
            *both_sides(
                Stroke(lowered(neck, rib / 2), rib, -0.34),
                Stroke(lowered(neck, rib), 0.003, -0.7),
                Stroke(path(((0.205, 0.205), (0.185, 0.27), (0.198, 0.35))), 0.004, -0.75),
                Stroke(path(((0.197, 0.36), (0.15, 0.40), (0.11, 0.47))), 0.008, -0.22),
            ),
            Stroke(
                path([(x, hem - 0.008 - 0.45 * x * x) for x in (-0.2, -0.1, 0, 0.1, 0.2)]),
                0.003,
                -0.5,
            ),
        ),
        *angles,
    )


def short_sleeve() -> tuple[Part, ...]:
    """The right sleeve of a t-shirt; it reaches below the body, which hides its end."""
    return (
        Part(
            path(
                ((0.15, 0.24), (0.205, 0.203)),
                ((0.205, 0.203), (0.24, 0.216), (0.272, 0.248)),
                ((0.272, 0.248), (0.345, 0.395)),
                ((0.345, 0.395), (0.30, 0.425), (0.252, 0.44)),
                ((0.252, 0.44), (0.203, 0.352)),
                ((0.203, 0.352), (0.15, 0.37)),
            ),
            Fill.RIGHT,
        ),
    )


def long_sleeve() -> tuple[Part, ...]:
    """A long right sleeve and its cuff; it reaches below the body, which hides its end."""
    sleeve = path(
        ((0.15, 0.24), (0.205, 0.203)),
        ((0.205, 0.203), (0.236, 0.214), (0.264, 0.256)),
        ((0.264, 0.256), (0.30, 0.42), (0.325, 0.58), (0.345, 0.76)),
        ((0.345, 0.76), (0.275, 0.775)),
        ((0.275, 0.775), (0.252, 0.60), (0.232, 0.47), (0.203, 0.355)),
        ((0.203, 0.355), (0.15, 0.37)),
    )
    cuff = path(
        ((0.349, 0.752), (0.352, 0.80)), ((0.352, 0.80), (0.28, 0.815)), ((0.28, 0.815), (0.271, 0.767))
    )
    return Part(sleeve, Fill.RIGHT), Part(cuff, Fill.TRIM)


def sleeves(
    right: tuple[Part, ...], rng: random.Random, swing: float, *, long: bool
) -> tuple[tuple[Part, ...], tuple[Part, ...], tuple[float, float]]:
    """Left and right sleeves, each swung a little around its shoulder, and the angles of their patterns."""
    tilt = _LONG_SLEEVE_TILT if long else _SHORT_SLEEVE_TILT
    left_swing, right_swing = rng.uniform(-swing, swing / 2), rng.uniform(-swing, swing / 2)
    side = {Fill.RIGHT: Fill.LEFT}
    left = tuple(
        Part(flipped(turned(part.outline, left_swing, _SHOULDER)), side.get(part.fill, part.fill))
        for part in right
    )
    swung = tuple(Part(turned(part.outline, right_swing, _SHOULDER), part.fill) for part in right)
    return left, swung, (-tilt + left_swing, tilt - right_swing)


def tank_top(attributes: Attributes, rng: random.Random) -> Shape:
    """A tank top: narrow straps, deep neck and armholes."""
    depth = rng.uniform(0.29, 0.33)
    neck = path(((0.088, 0.12), (0.082, 0.20), (0.058, depth - 0.02), (0, depth)))
    armhole = path(((0.135, 0.122), (0.128, 0.22), (0.142, 0.31), (0.188, 0.375)))
    body = path(
        ((0.188, 0.375), (0.178, 0.52), (0.18, 0.68), (0.19, 0.83)),
        ((0.19, 0.83), (0.09, 0.848), (0, 0.85)),
    )
    front = np.concatenate([neck[::-1], path(((0.088, 0.12), (0.135, 0.122))), armhole, body])
    back_neck = path(((0.088, 0.12), (0.075, 0.165), (0.04, 0.195), (0, 0.20)))
    back_arm = path(((0.135, 0.122), (0.148, 0.24), (0.188, 0.375)))
    return Shape(
        (
            Part(mirrored(np.concatenate([back_neck[::-1], neck])), Fill.INSIDE),
            *(Part(line, Fill.INSIDE) for line in _pair(np.concatenate([back_arm, armhole[::-1]]))),
            Part(mirrored(front)),
        ),
        (
            *both_sides(Stroke(neck, 0.012, -0.4), Stroke(armhole, 0.012, -0.4)),
            Stroke(
                path(((-0.19, 0.815), (-0.09, 0.832), (0, 0.834), (0.09, 0.832), (0.19, 0.815))), 0.003, -0.5
            ),
        ),
    )


def hoodie(attributes: Attributes, rng: random.Random) -> Shape:
    """A hoodie: hood with strings, ribbed hem and cuffs, a pocket on the belly."""
    left, right, angles = sleeves(long_sleeve(), rng, 6.0, long=True)
    body = path(
        ((0, 0.25), (0.09, 0.175)),
        ((0.09, 0.175), (0.212, 0.207)),
        ((0.212, 0.207), (0.20, 0.28), (0.21, 0.36)),
        ((0.21, 0.36), (0.212, 0.56), (0.21, 0.78)),
        ((0.21, 0.78), (0, 0.79)),
    )
    hem = path(((0, 0.785), (0.208, 0.775)), ((0.208, 0.775), (0.198, 0.84)), ((0.198, 0.84), (0, 0.85)))
    hood = path(
        ((0, 0.025), (0.075, 0.035), (0.132, 0.085), (0.152, 0.16), (0.135, 0.225), (0.07, 0.275), (0, 0.31)),
    )
    opening = path(((0, 0.07), (0.052, 0.08), (0.09, 0.125), (0.094, 0.18), (0.06, 0.235), (0, 0.275)))
    pocket = path(((0.075, 0.57), (0.145, 0.70)), ((0.145, 0.70), (0.145, 0.765)))
    string = path(((0.03, 0.272), (0.036, 0.34), (0.030, rng.uniform(0.42, 0.47))))
    return Shape(
        (
            *left,
            *right,
            Part(mirrored(body)),
            Part(mirrored(hem), Fill.TRIM),
            Part(mirrored(hood)),
            Part(mirrored(opening), Fill.INSIDE),
        ),
        (
            *both_sides(
                Stroke(opening, 0.012, -0.4),
                Stroke(pocket, 0.006, -0.75),
                Stroke(string, 0.010, 0.85),
                Stroke(path(((0.212, 0.207), (0.20, 0.28), (0.21, 0.36))), 0.004, -0.75),
            ),
            Stroke(path(((-0.075, 0.57), (0.075, 0.57))), 0.006, -0.75),
            *(Stroke(path(((x / 60, 0.788), (x / 62, 0.844))), 0.003, -0.45) for x in range(-11, 12)),
        ),
        *angles,
    )


def _pair(line: Points) -> tuple[Points, Points]:
    return line, flipped(line)


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
