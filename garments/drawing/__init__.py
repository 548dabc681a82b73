"""Outlines of garments: one function a kind gives its shape."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from garments.drawing.accessories import bag, hat, shoe
from garments.drawing.shape import Shape
from garments.drawing.skirts import dress, shorts, skirt, trousers
from garments.drawing.tops import coat, hoodie, long_sleeved_shirt, t_shirt, tank_top
from garments.vocabulary import Attributes

_SHAPES: Mapping[str, Callable[[Attributes, random.Random], Shape]] = {
    "t-shirt": t_shirt,
    "long-sleeved shirt": long_sleeved_shirt,
    "tank top": tank_top,
    "hoodie": hoodie,
    "coat": coat,
    "dress": dress,
    "skirt": skirt,
    "trousers": trousers,
    "shorts": shorts,
    "hat": hat,
    "shoe": shoe,
    "bag": bag,
}


def shape_of(attributes: Attributes, rng: random.Random) -> Shape:
    """Return the shape of a garment; the generator varies what is not an attribute."""
    return _SHAPES[attributes["kind"]](attributes, rng)
