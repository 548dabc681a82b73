"""A made-up shop: items with a kind, a colour and a pattern, and features that show them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np

from combiner_service.combiner import Float32
from combiner_training.adapt.dataset import CatalogItems

KINDS = ("dress", "hat", "skirt", "coat", "shoe")
COLOURS = ("red", "green", "blue", "black", "white", "yellow")
PATTERNS = ("plain", "striped", "dotted")
LENGTHS = ("short", "long")
DIMENSION = 32


def payloads(count: int = 600, *, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a manifest; skirts and coats alone have a length, and the price follows from the kind."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind, colour, pattern = rng.choice(KINDS), rng.choice(COLOURS), rng.choice(PATTERNS)
        row: dict[str, Any] = {"kind": kind, "colour": colour, "pattern": pattern}
        if kind in ("skirt", "coat"):
            row["length"] = rng.choice(LENGTHS)
        words = " ".join(word for word in (row.get("length", ""), colour, pattern, kind) if word)
        rows.append(
            {
                **row,
                "title": f"a {words}",
                "price": 10 * KINDS.index(kind) + rng.random(),
                "sku": f"x{number}",
            }
        )
    return rows


def features_of(rows: list[dict[str, Any]], *, seed: int = 0) -> Float32:
    """Raw features: a direction for each value, and noise."""
    random_ = np.random.default_rng(seed)
    directions = {
        value: random_.standard_normal(DIMENSION) for value in (*KINDS, *COLOURS, *PATTERNS, *LENGTHS)
    }
    noise = 0.3 * random_.standard_normal((len(rows), DIMENSION))
    shown = [sum(directions[value] for value in row.values() if value in directions) for row in rows]
    result: Float32 = (np.array(shown) + noise).astype(np.float32)
    return result


def shop(rows: list[dict[str, Any]], features: Float32) -> CatalogItems:
    """The items of the shop."""
    names = tuple(f"item-{number}" for number in range(len(rows)))
    return CatalogItems("shop", names, tuple(rows), features, "made-up", {}, {})


def troubled(
    rows: list[dict[str, Any]], *, missing: float = 0.0, wrong: float = 0.0, doubled: float = 0.0
) -> list[dict[str, Any]]:
    """The rows with values of kind, colour, pattern and length taken away, replaced and doubled."""
    values: Mapping[str, tuple[str, ...]] = {
        "kind": KINDS,
        "colour": COLOURS,
        "pattern": PATTERNS,
        "length": LENGTHS,
    }
    rng = random.Random(7)
    made = []
    for row in rows:
        changed = dict(row)
        for name in (name for name in values if name in row):
            other = rng.choice([value for value in values[name] if value != row[name]])
            drawn = rng.random()
            if drawn < missing:
                del changed[name]
            elif drawn < missing + wrong:
                changed[name] = other
            elif drawn < missing + wrong + doubled:
                changed[name] = [row[name], other]
        made.append(changed)
    return made
