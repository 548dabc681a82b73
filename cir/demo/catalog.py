"""The drawn catalog: every kind in every colour and pattern, with a price, and its manifest."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cir.demo.drawing import COLOURS, KINDS, PATTERNS, draw_garment

_BASE_PRICE = {
    "dress": 49.0,
    "shirt": 35.0,
    "t-shirt": 15.0,
    "hoodie": 42.0,
    "trousers": 45.0,
    "shorts": 25.0,
    "skirt": 32.0,
    "shoes": 65.0,
}


@dataclass(frozen=True, slots=True)
class Garment:
    """One item; `seed` fixes how it is drawn."""

    id: str
    kind: str
    colour: str
    pattern: str
    price: float
    seed: int


def garments(seed: int = 1) -> Iterator[Garment]:
    """Every combination once, always the same for a seed."""
    rng = random.Random(seed)  # noqa: S311  # prices, not secrets
    for kind in KINDS:
        for colour in COLOURS:
            for pattern in PATTERNS:
                price = round(_BASE_PRICE[kind] * rng.uniform(0.7, 1.5)) - 0.05
                yield Garment(
                    f"{kind}-{colour}-{pattern}", kind, colour, pattern, price, rng.randrange(2**31)
                )


def write_catalog(folder: Path, *, seed: int = 1, on_picture: Callable[[], None] = lambda: None) -> Path:
    """Draw the catalog into a folder; returns the manifest's path (JSON Lines)."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    for garment in garments(seed):
        name = f"{garment.id}.png"
        picture = draw_garment(garment.kind, garment.colour, garment.pattern, seed=garment.seed)
        picture.save(pictures / name, compress_level=1)
        row = {
            "id": garment.id,
            "image": f"pictures/{name}",
            "kind": garment.kind,
            "colour": garment.colour,
            "pattern": garment.pattern,
            "price": garment.price,
        }
        rows.append(json.dumps(row))
        on_picture()
    manifest = folder / "garments.jsonl"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest
