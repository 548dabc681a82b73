"""Which function draws which kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from combiner_service.garments.attributes import Attributes
from combiner_service.garments.drawing.accessories import bag, hat, shoe
from combiner_service.garments.drawing.coats import coat
from combiner_service.garments.drawing.legs import shorts, trousers
from combiner_service.garments.drawing.shape import Shape
from combiner_service.garments.drawing.skirts import dress, skirt
from combiner_service.garments.drawing.tops import hoodie, long_sleeved_shirt, t_shirt, tank_top

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
    """The shape of a garment; the generator varies what is no attribute."""
    return _SHAPES[attributes["kind"]](attributes, rng)
