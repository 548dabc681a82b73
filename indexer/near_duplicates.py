"""Pairs of items that look alike, found with the store's own search in a finished version."""

from __future__ import annotations

import json
from pathlib import Path

from indexer.errors import IndexingError
from vector_store.contract import CatalogReader, SearchOptions

_PAGE = 256
# Alike items of one item that are listed: a catalog of one picture a thousand times stays readable.
NEIGHBOURS = 100


async def write_near_duplicates(reader: CatalogReader, path: Path, cosine: float) -> int:
    """Write a line {"a", "b", "cosine", "image_a", "image_b"} for each pair of at least `cosine`; returns how
    many there are.

    Every pair comes once, `a` before `b`; of each item the 100 nearest are considered. Raises
    `IndexingError` when the file cannot be written.
    """
    pairs: set[tuple[str, str]] = set()
    options = SearchOptions(score_threshold=cosine)
    try:
        with path.open("w", encoding="utf-8") as file:
            cursor = ""
            while True:
                items, cursor = await reader.scroll(limit=_PAGE, after=cursor, with_features=True)
                for item in items:
                    if item.features is None:
                        continue
                    for hit in await reader.query(item.features, limit=NEIGHBOURS + 1, options=options):
                        first, second = sorted((item, hit.item), key=lambda one: one.id)
                        if first.id == second.id or (first.id, second.id) in pairs:
                            continue
                        pairs.add((first.id, second.id))
                        line = {
                            "a": first.id,
                            "b": second.id,
                            "cosine": round(hit.score, 6),
                            "image_a": first.image,
                            "image_b": second.image,
                        }
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
                if not cursor:
                    return len(pairs)
    except OSError as error:
        raise IndexingError(
            f"near-duplicate report {path} cannot be written: {error.strerror}; name another file with "
            "--near-duplicates"
        ) from error
