"""Colours of cloth, of marks upon it and of its details, each a little different from garment to garment."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Mapping
from dataclasses import dataclass

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
