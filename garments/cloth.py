"""Colours and patterns of cloth, each a little different from garment to garment."""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Rgb = tuple[int, int, int]

CLOTH: Mapping[str, Rgb] = {
    "red": (204, 28, 40),
    "orange": (240, 122, 22),
    "yellow": (246, 210, 48),
    "green": (40, 138, 62),
    "turquoise": (42, 190, 188),
    "blue": (34, 78, 188),
    "purple": (116, 50, 156),
    "pink": (246, 142, 186),
    "brown": (112, 68, 38),
    "black": (30, 30, 34),
    "grey": (134, 137, 141),
    "white": (242, 242, 239),
}
_LIGHT = ("white", "yellow")
_CREAM: tuple[Rgb, ...] = ((250, 249, 245), (247, 240, 222))
_INK: tuple[Rgb, ...] = ((38, 40, 48), (40, 48, 84), (70, 50, 40))
_LEATHER: tuple[Rgb, ...] = ((92, 58, 36), (44, 40, 40), (150, 104, 62))
_METAL: tuple[Rgb, ...] = ((212, 178, 96), (190, 194, 200), (70, 66, 62))


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one garment."""

    cloth: Rgb
    mark: Rgb
    accent: Rgb  # the second colour of a pattern that has two
    inside: Rgb
    trim: Rgb
    leather: Rgb
    sole: Rgb
    metal: Rgb


def palette_of(colour: str, rng: random.Random) -> Palette:
    """The colours of a garment whose attribute `colour` is given."""
    cloth = _varied(CLOTH[colour], rng)
    mark = rng.choice(_INK if colour in _LIGHT else _CREAM)
    accent = (238, 186, 40) if colour not in ("yellow", "orange") else (208, 60, 50)
    bright = brightness(cloth)
    sole = (246, 245, 240) if rng.random() < 0.8 else (58, 54, 52)
    return Palette(
        cloth=cloth,
        mark=mark,
        accent=accent,
        inside=shaded(cloth, 0.50 if bright > 60 else 0.45),
        trim=shaded(cloth, 0.80) if bright > 60 else mixed(cloth, (255, 255, 255), 0.13),
        leather=rng.choice(_LEATHER if bright > 60 else _LEATHER[::2]),
        sole=sole,
        metal=rng.choice(_METAL[:2] if bright < 90 else _METAL),
    )


def brightness(colour: Rgb) -> float:
    """Luma, 0 to 255 (ITU-R BT.601)."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


def shaded(colour: Rgb, factor: float) -> Rgb:
    """The colour in `factor` times the light."""
    red, green, blue = (min(255, round(value * factor)) for value in colour)
    return red, green, blue


def mixed(first: Rgb, second: Rgb, share: float) -> Rgb:
    """`share` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _varied(colour: Rgb, rng: random.Random) -> Rgb:
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    hue = (hue + rng.uniform(-0.010, 0.010)) % 1
    saturation = min(1.0, saturation * rng.uniform(0.90, 1.06))
    value = min(1.0, value * rng.uniform(0.92, 1.06))
    red, green, blue = (round(part * 255) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


Mask = NDArray[np.uint8]
"""uint8 (height, width): 255 where the mark is."""
_Pen = ImageDraw.ImageDraw

_SOFTER = 0.6
_SMOOTH = 3  # drawn larger and reduced, so that edges are smooth


@dataclass(frozen=True, slots=True)
class Pattern:
    """Tiles that repeat: of the marks and, for some patterns, of their accents. All have one shape."""

    tiles: tuple[Mask, ...]


def pattern_of(name: str, size: tuple[int, int], rng: random.Random) -> Pattern | None:
    """Return the pattern for an image of `size` (width, height); None for plain cloth."""
    if name == "plain":
        return None
    draw, period, accented = _PATTERNS[name]
    side = max(5, round(size[1] * period * rng.uniform(0.88, 1.14)))
    variant = rng.randrange(3)
    shift = rng.randrange(side), rng.randrange(side)
    tiles = (_tile(draw, side, variant, accent) for accent in (False, True)[: 1 + accented])
    return Pattern(tuple(np.roll(tile, shift, axis=(0, 1)) for tile in tiles))


def turned(pattern: Pattern, degrees: float, box: tuple[int, int, int, int]) -> tuple[Image.Image, ...]:
    """The pattern's masks (L) over a box of the image, turned counter-clockwise."""
    wide, high = box[2] - box[0], box[3] - box[1]
    # What a turn brings in from outside the box.
    edge = 1 + math.ceil(max(wide, high) / 2 * math.sin(math.radians(min(90.0, abs(degrees)))))
    masks = []
    for tile in pattern.tiles:
        rows, columns = (-(-(length + 2 * edge) // tile.shape[0]) for length in (high, wide))
        spread = Image.fromarray(np.tile(tile, (rows, columns))[: high + 2 * edge, : wide + 2 * edge])
        cut = spread.rotate(degrees).crop((edge, edge, edge + wide, edge + high))
        # A turn leaves steps along the edges; smoothing them afterwards is cheaper than turning smoothly.
        masks.append(cut.filter(ImageFilter.BoxBlur(_SOFTER)) if degrees else cut)
    return tuple(masks)


@lru_cache(maxsize=256)
def _tile(draw: Callable[[_Pen, int, int, bool], None], side: int, variant: int, accent: bool) -> Mask:
    large = side * _SMOOTH
    tile = Image.new("L", (large, large), 0)
    draw(ImageDraw.Draw(tile), large, variant, accent)
    return np.asarray(tile.reduce(_SMOOTH))


def _stripes(pen: _Pen, side: int, variant: int, accent: bool) -> None:
    wide = round(side * (0.34, 0.42, 0.38)[variant])
    pen.rectangle((0, 0, side, wide - 1), fill=255)


def _dots(pen: _Pen, side: int, variant: int, accent: bool) -> None:
    radius = side * (0.17, 0.19, 0.21)[variant]
    for x, y in ((0.25, 0.25), (0.75, 0.75)):
        _disc(pen, x * side, y * side, radius, 255)


def _checks(pen: _Pen, side: int, variant: int, accent: bool) -> None:
    wide = round(side * (0.36, 0.42, 0.30)[variant])
    half = 135
    pen.rectangle((0, 0, side, wide), fill=half)
    pen.rectangle((0, 0, wide, side), fill=half)
    pen.rectangle((0, 0, wide, wide), fill=255)


def _zigzag(pen: _Pen, side: int, variant: int, accent: bool) -> None:
    wide = side * (0.30, 0.34, 0.26)[variant]
    for top in (-side, 0, side):
        low, high = top + side * 0.15, top + side * 0.85
        upper = ((0, high), (side / 2, low), (side, high))
        pen.polygon([*upper, *((x, y + wide) for x, y in reversed(upper))], fill=255)


def _flowers(pen: _Pen, side: int, variant: int, accent: bool) -> None:
    places = ((0.27, 0.30, 0.160), (0.76, 0.74, 0.145), (0.80, 0.22, 0.085), (0.24, 0.80, 0.075))
    for number, (x, y, radius) in enumerate(places):
        start = variant * 0.7 + number * 0.5
        if accent:
            _disc(pen, x * side, y * side, radius * side * 0.52, 255)
            continue
        for petal in range(5):
            angle = start + petal * 2 * math.pi / 5
            away = radius * side * 0.78
            _disc(
                pen,
                x * side + away * math.cos(angle),
                y * side + away * math.sin(angle),
                radius * side * 0.56,
                255,
            )


def _disc(pen: _Pen, x: float, y: float, radius: float, fill: int) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


# How one tile is drawn, its side in heights of the image, and whether it has accents.
_PATTERNS: Mapping[str, tuple[Callable[[_Pen, int, int, bool], None], float, bool]] = {
    "striped": (_stripes, 0.074, False),
    "dotted": (_dots, 0.092, False),
    "checked": (_checks, 0.088, False),
    "floral": (_flowers, 0.200, True),
    "zigzag": (_zigzag, 0.100, False),
}
