"""Pairs of items that look alike, found with the store's own search in a finished version."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

from indexer.errors import IndexingError
from vector_store.base import CatalogVersion, SearchOptions
from vector_store.copy import iterate_pages
from vector_store.types import Item

# Alike items of one item that are listed: a catalog of one image a thousand times stays readable.
NEIGHBOURS = 100


async def write_near_duplicates(reader: CatalogVersion, path: Path, cosine: float) -> int:
    """Write a line {"a", "b", "cosine", "image_a", "image_b"} for each pair of at least `cosine`; returns how
    many there are.

    Every pair comes once, `a` before `b`; of each item the 100 nearest are considered. Raises
    `IndexingError` when the file cannot be written.
    """
    count = 0
    try:
        with path.open("w", encoding="utf-8") as file:
            async for first, second, score in _pairs(reader, cosine):
                line = {
                    "a": first.id,
                    "b": second.id,
                    "cosine": round(score, 6),
                    "image_a": first.image,
                    "image_b": second.image,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    except OSError as error:
        raise IndexingError(
            f"near-duplicate report {path} cannot be written: {error.strerror}; name another file with "
            "`near_duplicates_path`"
        ) from error
    return count


async def _pairs(reader: CatalogVersion, cosine: float) -> AsyncIterator[tuple[Item, Item, float]]:
    seen: set[tuple[str, str]] = set()
    options = SearchOptions(score_threshold=cosine)
    async for page in iterate_pages(reader, with_features=True):
        for item in page:
            if item.features is None:
                continue
            for hit in await reader.query(item.features, limit=NEIGHBOURS + 1, options=options):
                first, second = sorted((item, hit.item), key=lambda one: one.id)
                if first.id != second.id and (first.id, second.id) not in seen:
                    seen.add((first.id, second.id))
                    yield first, second, hit.score
