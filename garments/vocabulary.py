"""Attributes of a garment with their values and words, combinations and their splits, and edits of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
    """Return true if a garment has all attributes that are asked for."""
    return all(attributes.get(name) == value for name, value in wanted.items())


MARKS: Mapping[str, str] = {
    "striped": "stripes",
    "dotted": "dots",
    "checked": "checks",
    "floral": "flowers",
    "zigzag": "zigzags",
}
"""What a pattern puts on the cloth; plain has none."""

SLEEVE_THINGS: Mapping[str, str] = {
    "sleeveless": "no sleeves",
    "short-sleeved": "short sleeves",
    "long-sleeved": "long sleeves",
}
NECK_THINGS: Mapping[str, str] = {"round": "a round neck", "v-neck": "a v-neck"}

_PLURAL = ("trousers", "shorts")


def noun_phrase(kind: str, adjectives: Sequence[str] = ()) -> str:
    """The kind with its article: "a red dress", "an orange hat", "red trousers"."""
    words = " ".join((*adjectives, kind))
    if kind in _PLURAL:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def adjectives_of(attributes: Attributes) -> list[str]:
    """Length, sleeve, colour and pattern as adjectives, as far as they are given, in their usual order."""
    return [attributes[name] for name in ("length", "sleeve", "colour", "pattern") if name in attributes]


@dataclass(frozen=True, slots=True)
class Edit:
    """One attribute that is to have another value."""

    attribute: str
    value: str


def changed(wanted: Attributes, edit: Edit) -> dict[str, str]:
    """Return the attributes that are asked for after an edit: those that it does not name stay.

    With a new kind, colour and pattern stay, and so do the finer attributes that both kinds have; those that
    only the new kind has are open: a garment is right with any value of them.
    """
    values = {**wanted, edit.attribute: edit.value}
    return {name: values[name] for name in names_of(values["kind"]) if name in values}


def all_changed(wanted: Attributes, edits: Iterable[Edit]) -> dict[str, str]:
    """Return the attributes that are asked for after several edits, the one of the kind first."""
    values = dict(wanted)
    for edit in sorted(edits, key=lambda edit: edit.attribute != "kind"):
        values = changed(values, edit)
    return values


def possible_edits(wanted: Attributes, attribute: str) -> tuple[Edit, ...]:
    """The edits of one attribute that change something; empty for one that the kind does not have."""
    if attribute not in names_of(wanted["kind"]):
        return ()
    return tuple(Edit(attribute, value) for value in VALUES[attribute] if value != wanted.get(attribute))
