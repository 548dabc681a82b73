"""Items of a catalog, and finding those that have the attributes asked for."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from garments.vocabulary import BASE, KINDS, Attributes, combinations, matches

_PRICES: Mapping[str, float] = {
    "t-shirt": 15.0,
    "long-sleeved shirt": 29.0,
    "tank top": 12.0,
    "hoodie": 42.0,
    "coat": 119.0,
    "dress": 49.0,
    "skirt": 32.0,
    "trousers": 45.0,
    "shorts": 25.0,
    "hat": 22.0,
    "shoe": 65.0,
    "bag": 79.0,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One garment of a catalog; `seed` decides its image."""

    id: str
    attributes: Attributes
    price: float
    seed: int

    @property
    def image(self) -> str:
        """The image's path in the catalog's folder."""
        return f"images/{self.id}.jpg"


def catalog_items(size: int, seed: int) -> tuple[Item, ...]:
    """`size` items, the same for a seed: all kinds equally often, and of a kind no combination of attributes
    twice before each was there once."""
    rng = random.Random(f"catalog/{seed}")  # noqa: S311  # images, not secrets
    decks: dict[str, list[dict[str, str]]] = {kind: [] for kind in KINDS}
    items: list[Item] = []
    for number in range(size):
        kind = KINDS[number % len(KINDS)]
        if not decks[kind]:
            decks[kind] = list(combinations(kind))
            rng.shuffle(decks[kind])
        attributes = decks[kind].pop()
        words = "-".join(attributes[name] for name in ("colour", "pattern", "kind")).replace(" ", "-")
        price = round(_PRICES[kind] * rng.uniform(0.7, 1.5)) - 0.05
        items.append(Item(f"{words}-{number:05d}", attributes, price, seed_of("catalog", seed, number)))
    return tuple(items)


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts alike, in every process."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Shelf:
    """Items, sorted by kind, colour and pattern."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.items = tuple(items)
        self._by_base: dict[tuple[str, ...], list[Item]] = defaultdict(list)
        for item in self.items:
            self._by_base[_base(item.attributes)].append(item)

    def with_all(self, wanted: Attributes) -> list[Item]:
        """Every item that has all attributes of `wanted`, kind, colour and pattern among them, in order."""
        found = self._by_base.get(_base(wanted), ())
        return [item for item in found if matches(item.attributes, wanted)]


def _base(attributes: Attributes) -> tuple[str, ...]:
    return tuple(attributes[name] for name in BASE)
