"""Outlines of garments, as polygons and ellipses in a unit square (x to the right, y down)."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outline:
    """Right halves of symmetric polygons (mirrored at x = 0.5) and ellipses (left, top, right, bottom).

    `holes` are cut out again, such as a neckline.
    """

    halves: tuple[tuple[Point, ...], ...]
    ellipses: tuple[tuple[float, float, float, float], ...] = ()
    holes: tuple[tuple[float, float, float, float], ...] = ()

    def polygons(self) -> list[list[Point]]:
        """The whole polygons."""
        return [[*half, *((1 - x, y) for x, y in reversed(half))] for half in self.halves]


_NECK = (0.42, 0.07, 0.58, 0.20)

OUTLINES: dict[str, Outline] = {
    "dress": Outline(
        (((0.5, 0.10), (0.62, 0.10), (0.66, 0.28), (0.60, 0.44), (0.82, 0.94), (0.5, 0.97)),),
        holes=((0.43, 0.04, 0.57, 0.20),),
    ),
    "shirt": Outline(
        (
            ((0.5, 0.13), (0.62, 0.12), (0.72, 0.18), (0.70, 0.90), (0.5, 0.90)),
            ((0.66, 0.14), (0.76, 0.20), (0.93, 0.74), (0.82, 0.78), (0.66, 0.40)),
        ),
        holes=(_NECK,),
    ),
    "t-shirt": Outline(
        (
            ((0.5, 0.13), (0.62, 0.12), (0.72, 0.18), (0.70, 0.86), (0.5, 0.86)),
            ((0.64, 0.13), (0.76, 0.17), (0.94, 0.38), (0.82, 0.48), (0.66, 0.36)),
        ),
        holes=(_NECK,),
    ),
    "hoodie": Outline(
        (
            ((0.5, 0.22), (0.64, 0.20), (0.76, 0.26), (0.75, 0.92), (0.5, 0.92)),
            ((0.66, 0.22), (0.80, 0.28), (0.96, 0.84), (0.82, 0.88), (0.68, 0.50)),
        ),
        ellipses=((0.34, 0.04, 0.66, 0.34),),
        holes=((0.41, 0.11, 0.59, 0.30),),
    ),
    "trousers": Outline(
        (((0.5, 0.06), (0.70, 0.06), (0.76, 0.95), (0.58, 0.95), (0.5, 0.34)),),
    ),
    "shorts": Outline(
        (((0.5, 0.22), (0.74, 0.22), (0.84, 0.74), (0.56, 0.76), (0.5, 0.46)),),
    ),
    "skirt": Outline(
        (((0.5, 0.18), (0.64, 0.18), (0.64, 0.25), (0.88, 0.84), (0.5, 0.88)),),
    ),
    "shoes": Outline(
        (((0.54, 0.40), (0.68, 0.40), (0.72, 0.54), (0.94, 0.62), (0.96, 0.72), (0.54, 0.72)),),
    ),
}

# Outlines that are mirrored as a pair and must not be joined in the middle.
PAIRS = frozenset({"shoes"})
