"""What a garment is: its kind, colour and pattern, and the finer attributes that its kind has."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from itertools import product
from typing import Literal

Attributes = Mapping[str, str]
"""Attribute name to value, in the order of `names_of`; all of a garment's, or those that are asked for."""

SplitName = Literal["train", "val", "test"]

KINDS = (
    "t-shirt",
    "long-sleeved shirt",
    "tank top",
    "hoodie",
    "coat",
    "dress",
    "skirt",
    "trousers",
    "shorts",
    "hat",
    "shoe",
    "bag",
)
COLOURS = (
    "red",
    "orange",
    "yellow",
    "green",
    "turquoise",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "grey",
    "white",
)
PATTERNS = ("plain", "striped", "dotted", "checked", "floral", "zigzag")
SLEEVES = ("sleeveless", "short-sleeved", "long-sleeved")
LENGTHS = ("short", "long")
NECKLINES = ("round", "v-neck")

VALUES: Mapping[str, tuple[str, ...]] = {
    "kind": KINDS,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "sleeve": SLEEVES,
    "length": LENGTHS,
    "neckline": NECKLINES,
}
BASE = ("kind", "colour", "pattern")
_FINER: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("neckline",),
    "long-sleeved shirt": ("neckline",),
    "coat": ("length",),
    "dress": ("sleeve", "length"),
    "skirt": ("length",),
}
# Of ten parts of the combinations of kind, colour and pattern.
_TEST_PARTS, _VAL_PARTS = 2, 1


def names_of(kind: str) -> tuple[str, ...]:
    """The attributes that a kind has: kind, colour, pattern, then the finer ones."""
    return (*BASE, *_FINER.get(kind, ()))


def combinations(kind: str) -> tuple[dict[str, str], ...]:
    """Every combination of attributes that a garment of this kind can have."""
    names = names_of(kind)[1:]
    return tuple(
        {"kind": kind, **dict(zip(names, values, strict=True))}
        for values in product(*(VALUES[name] for name in names))
    )


def split_of(attributes: Attributes) -> SplitName:
    """The split that a combination of kind, colour and pattern belongs to, whatever the catalog's seed.

    Seven tenths are train, one val and two test: models that are trained on train have never seen a val or
    test combination, finer attributes notwithstanding.
    """
    base = "/".join(attributes[name] for name in BASE)
    part = int.from_bytes(blake2b(base.encode(), digest_size=8).digest(), "big") % 10
    if part < _TEST_PARTS:
        return "test"
    return "val" if part < _TEST_PARTS + _VAL_PARTS else "train"


def matches(attributes: Attributes, wanted: Attributes) -> bool:
    """Whether a garment has all attributes that are asked for."""
    return all(attributes.get(name) == value for name, value in wanted.items())
