"""Images on disk, and what a store holds afterwards."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from vector_store.base import VectorStore
from vector_store.types import Item


def jpeg(number: int, size: int = 24) -> bytes:
    """A small JPEG that differs from those of other numbers."""
    image = Image.new("RGB", (size, size), ((number * 37) % 256, (number * 91) % 256, number % 256))
    image.putpixel((number % size, number // size % size), (255, 255, 255))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    return buffer.getvalue()


def fill(folder: Path, count: int, *, start: int = 0) -> list[str]:
    """Write `count` images below `folder`, every third into a subfolder; returns their ids."""
    ids = []
    for number in range(start, start + count):
        name = f"{'sub/' if number % 3 == 0 else ''}{number:04d}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
        ids.append(name)
    return sorted(ids)


async def stored(store: VectorStore, catalog: str = "shop") -> dict[str, Item]:
    """Every item of the published version, with its features, by id."""
    async with store.open_version(catalog) as reader:
        items, cursor = await reader.scroll(limit=10_000, with_features=True)
    assert cursor == ""
    return {item.id: item for item in items}
